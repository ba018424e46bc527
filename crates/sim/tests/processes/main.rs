//! The real programs: `qpc-server` and `qpc` processes that talk over QUIC on loopback, each test
//! in a folder and on a port of its own. They are killed here as a machine would kill them.

#[cfg(test)]
mod chaos;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod devices;
#[cfg(test)]
mod exits;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod library;
#[cfg(test)]
mod outbox;
#[cfg(test)]
mod person;
#[cfg(test)]
mod programs;
#[cfg(test)]
mod running;
#[cfg(test)]
mod server;
#[cfg(test)]
mod stops;
