//! Store and machine: one input, one commit, and only then what comes of it. Synchronous, so that
//! many clients and a server run in one thread under a seed. A page that the program dies of,
//! panics at, or can't store a value of, is read entry by entry, until the one is set aside that it
//! can't take.

use qpc_proto::message::{Cursor, Page, Response};
use qpc_storage::{Outcome, Reader, Store};
use rand_core::{CryptoRng, RngCore};

use crate::error::ClientError;
use crate::machine::{Approach, Db, Input, Machine, Outgoing, Pool, Step, Work};
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

impl Output {
    fn add(&mut self, more: Self) {
        self.events.extend(more.events);
        self.requests.extend(more.requests);
        self.subscribe = more.subscribe.or(self.subscribe.take());
    }
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
        clock: (u64, &mut R),
        input: Input,
    ) -> Result<Output, ClientError> {
        match &input {
            Input::Page(page) | Input::Answer(_, Ok(Response::Page(page))) => {
                let page = page.clone();
                self.read(clock, (input, page))
            }
            Input::Online(_)
            | Input::Offline(_)
            | Input::Answer(..)
            | Input::Tick
            | Input::Lookup(_) => {
                let handled = self.with(clock, |machine, step| machine.handle(step, input));
                handled.map(|((), output)| output)
            }
        }
    }

    /// Reads a page whole, if nothing speaks against it.
    fn read<R: RngCore + CryptoRng + Send>(
        &mut self,
        (now_ms, rng): (u64, &mut R),
        (input, page): (Input, Page),
    ) -> Result<Output, ClientError> {
        let channel = page.channel;
        let wary = self.machine.is_wary(&channel);
        let approach = match wary {
            true => self.note((now_ms, &mut *rng), |m, s| m.begin_page(s, &page))?,
            false => Approach::Whole,
        };
        let work = if let Input::Answer(work, _) = &input { Some(work.clone()) } else { None };
        if approach == Approach::Whole {
            let whole = self.run((now_ms, &mut *rng), |machine, step| {
                machine.handle(step, input)?;
                if wary { machine.end_attempt(step, &channel) } else { Ok(()) }
            })?;
            match whole {
                Outcome::Done(((), output)) => {
                    self.machine.proved(&channel);
                    return Ok(output);
                }
                Outcome::Refused(error) if !error.is_of_value() => {
                    // It came to its end, though not a good one.
                    self.note((now_ms, rng), |m, s| m.end_attempt(s, &channel))?;
                    return Err(error);
                }
                Outcome::Refused(_) | Outcome::Panicked => {}
            }
        }
        self.read_singly((now_ms, rng), (work, page, approach))
    }

    /// Reads the entries of a page each in a transaction of its own, and sets aside what this
    /// program can't take.
    fn read_singly<R: RngCore + CryptoRng + Send>(
        &mut self,
        (now_ms, rng): (u64, &mut R),
        (work, mut page, approach): (Option<Work>, Page, Approach),
    ) -> Result<Output, ClientError> {
        let channel = page.channel;
        let entries = std::mem::take(&mut page.entries);
        let unread = self.note((now_ms, &mut *rng), |m, s| m.cursor(s, &channel))?;
        let mut output = Output::default();
        let mut aside = approach == Approach::SetAside;
        for entry in entries.into_iter().filter(|entry| entry.seq > unread) {
            let mut fails = std::mem::take(&mut aside);
            if !fails {
                self.note((now_ms, &mut *rng), |m, s| m.begin_entry(s, (&channel, entry.seq)))?;
                let single = Page { entries: vec![entry.clone()], ..page.clone() };
                let read = self.run((now_ms, &mut *rng), |machine, step| {
                    machine.handle(step, Input::Page(single))?;
                    machine.end_attempt(step, &channel)
                })?;
                match read {
                    Outcome::Done(((), more)) => output.add(more),
                    Outcome::Refused(error) if !error.is_of_value() => {
                        self.note((now_ms, rng), |m, s| m.end_attempt(s, &channel))?;
                        return Err(error);
                    }
                    Outcome::Refused(_) | Outcome::Panicked => fails = true,
                }
            }
            if fails {
                let place = (&channel, &entry);
                let passed = self.with((now_ms, &mut *rng), |m, s| m.set_entry_aside(s, place))?;
                output.add(passed.1);
            }
        }
        if let Some(work) = work {
            let answer = Input::Answer(work, Ok(Response::Page(page)));
            output.add(self.with((now_ms, rng), |m, s| m.handle(s, answer))?.1);
        }
        self.machine.proved(&channel);
        Ok(output)
    }

    /// Writes down something from which nothing follows now.
    fn note<T, R: RngCore + CryptoRng + Send>(
        &mut self,
        (now_ms, rng): (u64, &mut R),
        work: impl FnOnce(&Machine, &Step<'_>) -> Result<T, ClientError> + Send,
    ) -> Result<T, ClientError> {
        let machine = &self.machine;
        done(self.store.transact(|tx| work(machine, &Step::new(tx, now_ms, rng)))?)
    }

    /// Runs a command or a query in one transaction, and takes what became due by it.
    ///
    /// # Errors
    /// What `work` returned (nothing of it was kept), or the database.
    pub fn with<T, R: RngCore + CryptoRng + Send>(
        &mut self,
        clock: (u64, &mut R),
        work: impl FnOnce(&mut Machine, &mut Step<'_>) -> Result<T, ClientError> + Send,
    ) -> Result<(T, Output), ClientError> {
        self.run(clock, work).and_then(done)
    }

    fn run<T, R: RngCore + CryptoRng + Send>(
        &mut self,
        (now_ms, rng): (u64, &mut R),
        work: impl FnOnce(&mut Machine, &mut Step<'_>) -> Result<T, ClientError> + Send,
    ) -> Result<Outcome<(T, Output), ClientError>, ClientError> {
        let before = self.machine.sent();
        let machine = &mut self.machine;
        let outcome = self.store.transact(|tx| {
            let mut step = Step::new(tx, now_ms, rng);
            let value = work(machine, &mut step)?;
            let requests = machine.requests(&mut step)?;
            let subscribe = machine.subscription(&step)?;
            Ok((value, Output { events: step.events, requests, subscribe }))
        });
        if !matches!(outcome, Ok(Outcome::Done(_))) {
            self.machine.unsend(before);
        }
        Ok(outcome?)
    }

    /// Ends the run in order: the next one need not be wary of what it reads.
    ///
    /// # Errors
    /// The database.
    pub fn close(mut self) -> Result<(), ClientError> {
        done(self.store.transact(|tx| Ok::<_, ClientError>(Db(tx).set_going(false)?))?)?;
        Ok(self.store.close()?)
    }

    /// Gives the database back.
    pub fn into_store(self) -> Store {
        self.store
    }

    /// A further connection that reads what is committed, beside this one.
    ///
    /// # Errors
    /// Those of opening a file.
    pub fn reader(&self) -> Result<Reader, ClientError> {
        Ok(self.store.reader()?)
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
