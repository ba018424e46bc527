//! The server through its connections, over memory and over QUIC, and the program as it is started.

mod access;
mod idempotence;
mod program;
mod quic;

mod streams;
mod subscribe;
mod support;
