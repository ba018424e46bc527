//! Tests of the transport over real loopback sockets and over its in-memory twin.
//! They use the public API, and raw quinn and rustls where a peer has to misbehave.

#[cfg(test)]
mod identity;
#[cfg(test)]
mod initial;
#[cfg(test)]
mod raw;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod support;
