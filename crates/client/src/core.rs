//! Store and machine: one input, one commit, and only then what comes of it. Synchronous, so that
//! many clients and a server run in one thread under a seed.

use qpc_proto::message::Cursor;
use qpc_storage::{Outcome, Store};
use rand_core::{CryptoRng, RngCore};

use crate::error::ClientError;
use crate::machine::{Input, Machine, Outgoing, Pool, Step};
use crate::view::Event;

/// What a step says, now that it is on disk.
#[derive(Debug, Default)]
pub struct Output {
    /// For the screen.
    pub events: Vec<Event>,
    /// For the server.
    pub requests: Vec<Outgoing>,
    /// The followed channels changed: follow these from now on.
    pub subscribe: Option<Vec<Cursor>>,
}

/// A client's database and the machine over it.
#[derive(Debug)]
pub struct Core {
    store: Store,
    machine: Machine,
}

impl Core {
    /// Loads the machine of a database.
    ///
    /// # Errors
    /// [`ClientError::NoAccount`], or the database.
    pub fn open(mut store: Store, pool: Pool) -> Result<Self, ClientError> {
        let machine = done(store.transact(|tx| Machine::open(tx, pool))?)?;
        Ok(Self { store, machine })
    }

    /// Takes one input.
    ///
    /// # Errors
    /// [`ClientError`] when it could not be made durable: nothing of it was kept.
    pub fn step<R: RngCore + CryptoRng + Send>(
        &mut self,
        (now_ms, rng): (u64, &mut R),
        input: Input,
    ) -> Result<Output, ClientError> {
        self.with((now_ms, rng), |machine, step| machine.handle(step, input)).map(|((), out)| out)
    }

    /// Runs a command or a query in one transaction, and takes what became due by it.
    ///
    /// # Errors
    /// What `work` returned (nothing of it was kept), or the database.
    pub fn with<T, R: RngCore + CryptoRng + Send>(
        &mut self,
        (now_ms, rng): (u64, &mut R),
        work: impl FnOnce(&mut Machine, &mut Step<'_>) -> Result<T, ClientError> + Send,
    ) -> Result<(T, Output), ClientError> {
        let before = self.machine.sent();
        let machine = &mut self.machine;
        let outcome = self.store.transact(|tx| {
            let mut step = Step::new(tx, now_ms, rng);
            let value = work(machine, &mut step)?;
            let requests = machine.requests(&mut step)?;
            let subscribe = machine.subscription(&step)?;
            Ok((value, Output { events: step.events, requests, subscribe }))
        });
        let result = outcome.map_err(ClientError::from).and_then(done);
        if result.is_err() {
            self.machine.unsend(before);
        }
        result
    }

    /// Gives the database back.
    pub fn into_store(self) -> Store {
        self.store
    }

    /// The machine, for what needs no transaction.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }
}

/// The value of a committed job.
pub(crate) fn done<T>(outcome: Outcome<T, ClientError>) -> Result<T, ClientError> {
    match outcome {
        Outcome::Done(value) => Ok(value),
        Outcome::Refused(error) => Err(error),
        Outcome::Panicked => Err(ClientError::Internal("a step panicked; it was rolled back")),
    }
}
