//! The Delivery Service over a real database. MLS messages are made by hand, byte by byte, so that
//! the service is tested against RFC 9420 and not against a library.

#[path = "api/commit.rs"]
mod commit;
#[path = "api/direct.rs"]
mod direct;
#[path = "api/enqueue.rs"]
mod enqueue;
#[path = "api/healing.rs"]
mod healing;
#[path = "api/key_packages.rs"]
mod key_packages;
#[path = "api/mls.rs"]
mod mls;
#[path = "api/read.rs"]
mod read;
#[path = "api/removal.rs"]
mod removal;
#[path = "api/statement.rs"]
mod statement;
#[path = "api/support.rs"]
mod support;
