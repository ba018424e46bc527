//! The Authentication Service over a real database: every rule, and what a peer may learn of it.

#[path = "api/registration.rs"]
mod registration;
#[path = "api/session.rs"]
mod session;
#[path = "api/support.rs"]
mod support;
