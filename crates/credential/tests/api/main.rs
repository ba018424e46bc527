//! The crate from outside: signed objects, KeyPackage admission, MLS messages.
//! The `cfg(test)` tells Clippy that the helpers between the tests are tests too.

#[cfg(test)]
mod batch;
#[cfg(test)]
mod corpora;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod grease;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod key_packages;
#[cfg(test)]
mod mls_messages;
#[cfg(test)]
mod objects;
#[cfg(test)]
mod seeds;
#[cfg(test)]
mod statements;
#[cfg(test)]
mod vectors;
