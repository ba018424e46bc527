//! Tests of the transport over real loopback sockets and over its in-memory twin.
//! They use the public API, and raw quinn and rustls where a peer has to misbehave.

mod identity;
mod initial;
mod raw;
mod refusals;
mod sessions;
mod streams;
mod support;
