//! The Delivery Service over a real database. MLS messages are made by hand, byte by byte, so that
//! the service is tested against RFC 9420 and not against a library.
//! The `cfg(test)` tells Clippy that the helpers between the tests are tests too.

#[cfg(test)]
mod account;
#[cfg(test)]
mod commit;
#[cfg(test)]
mod direct;
#[cfg(test)]
mod enqueue;
#[cfg(test)]
mod expiry;
#[cfg(test)]
mod gaps;
#[cfg(test)]
mod healing;
#[cfg(test)]
mod key_packages;
#[cfg(test)]
mod large;
#[cfg(test)]
mod mls;
#[cfg(test)]
mod notice;
#[cfg(test)]
mod pacing;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod proposals;
#[cfg(test)]
mod quota;
#[cfg(test)]
mod read;
#[cfg(test)]
mod rejoin;
#[cfg(test)]
mod removal;
#[cfg(test)]
mod reset;
#[cfg(test)]
mod retry;
#[cfg(test)]
mod revocation;
#[cfg(test)]
mod runs;
#[cfg(test)]
mod stale;
#[cfg(test)]
mod standing;
#[cfg(test)]
mod statement;
#[cfg(test)]
mod strangers;
#[cfg(test)]
mod support;
#[cfg(test)]
mod upgrade;
#[cfg(test)]
mod verdict;
