//! No secret is in any log at any level: the whole way runs with every event of every crate
//! recorded, and what was recorded is searched for every secret of that run in every form.

#[cfg(test)]
mod capture;
#[cfg(test)]
mod digests;
#[cfg(test)]
mod needles;
#[cfg(test)]
#[path = "../processes/programs.rs"]
mod programs;
#[cfg(test)]
mod running;
#[cfg(test)]
mod wire;
#[cfg(test)]
mod world;
