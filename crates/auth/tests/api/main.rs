//! The Authentication Service over a real database: every rule, and what a peer may learn of it.
//! The `cfg(test)` tells Clippy that the helpers between the tests are tests too.

#[cfg(test)]
mod deletion;
#[cfg(test)]
mod devices;
#[cfg(test)]
mod link;
#[cfg(test)]
mod operator;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod registration;
#[cfg(test)]
mod renewal;
#[cfg(test)]
mod session;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tables;
#[cfg(test)]
mod work;
