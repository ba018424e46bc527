//! The client without a screen: commands in, events out.
//!
//! [`Client`] is what a program uses: it owns the home folder, keeps a connection, reads and sends
//! by itself, and works without a server. Beneath it, [`Core`] is the same client as a synchronous
//! state machine without network, clock or randomness of its own, for simulations. No terminal, no
//! format and no policy of presentation is in here.

#![deny(missing_docs)]

mod client;
mod clock;
mod core;
mod devices;
mod doctor;
mod driver;
mod error;
mod home;
mod join;
mod keys;
pub mod link;
pub mod machine;
mod phrase;
pub mod recover;
mod register;
pub mod view;

pub use client::{Client, EventStream};
pub use core::{Core, Output};
pub use error::{ClientError, ExitKind};
pub use home::{Home, Protection, Unlock};
pub use join::Joining;
pub use phrase::Phrase;
pub use register::{Account, Progress, Registration};
