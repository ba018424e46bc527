//! A reader's home: opened from a copy, driven until it has read everything, and what its steps
//! took. The server's part is not counted.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use qpc_client::machine::{Failure, Input, Outgoing, Pool, Work};
use qpc_client::view::{Event, MessageState};
use qpc_client::{Core, Output};
use qpc_proto::ChannelId;
use qpc_proto::RequestId;
use qpc_proto::message::{Page, Request, Response};
use qpc_sim::{Raw, World};
use qpc_storage::{Durability, Options, Store};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;

use super::number_of;
use crate::process::Usage;
use crate::stopwatch::{Stopwatch, cpu_of_this_thread};

/// As in the world, whose server has so many: none is made here.
const POOL: Pool = Pool { full: 8, refill: 4 };

/// The reader's file before anything came, and the channel.
pub(super) struct Home {
    pub(super) template: PathBuf,
    pub(super) channel: ChannelId,
}

/// What is to be read, and how it comes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Course {
    messages: u32,
    /// Entries come one by one, whatever the server's pages hold.
    alone: bool,
}

impl Course {
    /// In pages as the server sends them.
    pub(super) fn waiting(messages: u32) -> Self {
        Self { messages, alone: false }
    }

    /// One by one, each when the one before has been read.
    pub(super) fn alone(messages: u32) -> Self {
        Self { messages, alone: true }
    }
}

/// What reading took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Taken {
    pub(super) messages: u32,
    pub(super) cpu: Duration,
    pub(super) wall: Duration,
    /// Commits of the database that wrote something, as SQLite counts them.
    pub(super) transactions: u32,
    /// Bytes that reached the disk.
    pub(super) written: u64,
}

impl Home {
    /// Reads everything on a copy of the home.
    ///
    /// # Errors
    /// When a message is missing, or anything but the messages comes.
    pub(super) fn read(&self, world: &mut World, dir: &Path, course: Course) -> Result<Taken> {
        let path = dir.join("home.db");
        for suffix in ["", "-wal", "-shm", ".lock"] {
            let mut name = path.clone().into_os_string();
            name.push(suffix);
            if Path::new(&name).exists() {
                std::fs::remove_file(name)?;
            }
        }
        std::fs::copy(&self.template, &path)?;
        let options = Options { durability: Durability::Full, ..World::options() };
        let core = Core::open(Store::open(&path, &options)?, POOL)?;
        let mut reader = Reader {
            core,
            path,
            now_ms: world.now_ms,
            rng: ChaCha8Rng::seed_from_u64(9),
            course,
            channel: self.channel,
            read: 0,
            taken: Taken::default(),
            waiting: VecDeque::new(),
        };
        reader.run(world)?;
        reader.core.close()?;
        Ok(Taken { messages: reader.read, ..reader.taken })
    }
}

struct Reader {
    core: Core,
    path: PathBuf,
    now_ms: u64,
    rng: ChaCha8Rng,
    course: Course,
    channel: ChannelId,
    read: u32,
    taken: Taken,
    waiting: VecDeque<Outgoing>,
}

impl Reader {
    /// Logs in and answers what the client asks, until it has read what it should.
    fn run(&mut self, world: &mut World) -> Result<()> {
        let mut raw = world.raw();
        let login = Request::Login(self.core.machine().login(raw.binding()));
        let answer = world.ask_raw(&mut raw, (RequestId::ZERO, &login))?;
        let Ok(Response::Tokens(tokens)) = answer else { bail!("the login was refused") };
        self.step(Input::Online(tokens))?;
        while let Some(outgoing) = self.waiting.pop_front() {
            // The home is read again from its copy: the server must not think that it was.
            if outgoing.work == Work::Ack {
                continue;
            }
            self.ask(world, (&mut raw, outgoing))?;
        }
        ensure!(self.read == self.course.messages, "{} messages were read", self.read);
        Ok(())
    }

    fn ask(&mut self, world: &mut World, (raw, outgoing): (&mut Raw, Outgoing)) -> Result<()> {
        let Outgoing { work, request_id, request } = outgoing;
        let answer = world.ask_raw(raw, (request_id, &request))?;
        match answer {
            Ok(Response::Page(page)) if page.channel == self.channel => self.measured(work, page),
            answer => self.step(Input::Answer(work, answer.map_err(Failure::Refused))),
        }
    }

    /// Takes a page of the channel, and counts what that takes.
    fn measured(&mut self, work: Work, page: Page) -> Result<()> {
        if !self.course.alone {
            return self.count(Input::Answer(work, Ok(Response::Page(page))));
        }
        let entries = page.entries.clone();
        for entry in entries {
            if self.read == self.course.messages {
                self.waiting.clear();
                return Ok(());
            }
            let head_seq = entry.seq;
            self.count(Input::Page(Page { entries: vec![entry], head_seq, ..page.clone() }))?;
        }
        let nothing = Page { entries: Vec::new(), ..page };
        self.step(Input::Answer(work, Ok(Response::Page(nothing))))
    }

    fn count(&mut self, input: Input) -> Result<()> {
        let (written, commits) = (Usage::written_by_this_thread()?, self.commits()?);
        let (cpu, clock) = (cpu_of_this_thread()?, Stopwatch::start());
        self.step(input)?;
        let taken = &mut self.taken;
        taken.wall = taken.wall.saturating_add(clock.elapsed());
        taken.cpu = taken.cpu.saturating_add(cpu_of_this_thread()?.saturating_sub(cpu));
        let now = Usage::written_by_this_thread()?;
        taken.written = taken.written.saturating_add(now.saturating_sub(written));
        let commits = self.commits()?.wrapping_sub(commits);
        self.taken.transactions = self.taken.transactions.saturating_add(commits);
        Ok(())
    }

    fn step(&mut self, input: Input) -> Result<()> {
        let Output { events, requests, .. } =
            self.core.step((self.now_ms, &mut self.rng), input)?;
        self.waiting.extend(requests);
        for event in events {
            match event {
                Event::Message(message) if message.state == MessageState::Received => {
                    ensure!(number_of(&message.text)? == self.read, "out of order");
                    self.read = self.read.saturating_add(1);
                }
                Event::Alarm { text, .. } => bail!("an alarm: {text}"),
                Event::Message(_)
                | Event::Outbox(_)
                | Event::Channel(_)
                | Event::Online
                | Event::Offline { .. }
                | Event::CaughtUp
                | Event::Notice(_) => {}
                Event::Stopped { code, .. } => bail!("stopped: {code}"),
            }
        }
        Ok(())
    }

    /// How often the database was written, from its shared index of the log: SQLite's count of
    /// transactions (WAL-index format, iChange at byte 8, in the machine's order of bytes).
    fn commits(&self) -> Result<u32> {
        let mut name = self.path.clone().into_os_string();
        name.push("-shm");
        let index = std::fs::read(name)?;
        let bytes = index.get(8..12).context("the index of the log is short")?;
        Ok(u32::from_ne_bytes(bytes.try_into()?))
    }
}
