//! A client of a simulated world: the real core over a real database file, crashed by dropping it.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use qpc_client::machine::{Input, Machine, Outgoing, Pool, Step, Work};
use qpc_client::view::Event;
use qpc_client::{Account, ClientError, Core, Output};
use qpc_proto::binding::ChannelBinding;
use qpc_proto::frame::{Frame, RequestFrame};
use qpc_proto::message::{Method, Page, Request, Response};
use qpc_proto::{AccountId, ChannelId, ErrorBody, ErrorCode, RequestId, Token};
use qpc_server::Peer;
use qpc_storage::{Durability, Key, Options, Store};
use rand_chacha::ChaCha8Rng;
use rand_core::RngCore as _;

use super::World;
use super::devices::SERVER;

/// A logged-in connection, with what is on its way in both directions.
pub(crate) struct Link {
    pub(crate) peer: Peer,
    pub(crate) token: Token,
    pub(crate) refresh: Token,
    pub(crate) opened_at_ms: u64,
    pub(crate) up: VecDeque<Outgoing>,
    pub(crate) down: VecDeque<Down>,
    /// The followed logs and how far each was pushed.
    pub(crate) followed: BTreeMap<ChannelId, u64>,
    /// The stream of the followed logs ended: the client opens another once some time has passed.
    pub(crate) follows_anew: bool,
}

/// What shares a stream, and so keeps its order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Lane {
    /// Sends of one client.
    Sends,
    /// Pages of the followed logs.
    Pages,
    /// A call on a stream of its own.
    Own,
}

fn lane(outgoing: &Outgoing) -> Lane {
    let method = outgoing.request.method();
    let ordered = matches!(method, Method::Enqueue | Method::Commit | Method::CreateChannel);
    if ordered { Lane::Sends } else { Lane::Own }
}

impl Link {
    /// The work whose requests or answers are on their way.
    pub(crate) fn under_way(&self) -> impl Iterator<Item = &Work> {
        let answers = self.down.iter().filter_map(|down| match down {
            Down::Answer(outgoing, _) => Some(&outgoing.work),
            Down::Page(_) => None,
        });
        self.up.iter().map(|outgoing| &outgoing.work).chain(answers)
    }

    /// A request that may arrive next: the first of its lane.
    pub(crate) fn next_up(&mut self, choice: usize) -> Option<Outgoing> {
        take_next(&mut self.up, choice, lane)
    }

    /// What may arrive next at the client: the first of its lane.
    pub(crate) fn next_down(&mut self, choice: usize) -> Option<Down> {
        take_next(&mut self.down, choice, |down| match down {
            Down::Answer(outgoing, _) => lane(outgoing),
            Down::Page(_) => Lane::Pages,
        })
    }
}

/// Takes one of those that nothing of their lane stands before.
fn take_next<T>(queue: &mut VecDeque<T>, choice: usize, lane: impl Fn(&T) -> Lane) -> Option<T> {
    let lanes: Vec<Lane> = queue.iter().map(lane).collect();
    let first = |(at, of): &(usize, &Lane)| {
        **of == Lane::Own || lanes.iter().position(|other| other == *of) == Some(*at)
    };
    let ready: Vec<usize> = lanes.iter().enumerate().filter(first).map(|(at, _)| at).collect();
    let pick = choice.checked_rem(ready.len())?;
    queue.remove(*ready.get(pick)?)
}

/// On its way to a client.
pub(crate) enum Down {
    Answer(Box<Outgoing>, Frame),
    Page(Box<Page>),
}

/// A client process.
pub(crate) struct SimClient {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) core: Option<Core>,
    pub(crate) link: Option<Link>,
    pub(crate) alarms: Vec<String>,
    /// The channels and numbers that its alarms named.
    pub(crate) named: Vec<(String, u64)>,
    /// The server knows its account no more.
    pub(crate) erased: bool,
    /// Why it said that it stopped, each time.
    pub(crate) stops: Vec<String>,
    /// How far its clock is off the world's, in milliseconds.
    pub(crate) skew_ms: i64,
    /// The operation before which it takes nothing that comes.
    pub(crate) stalled_until: u32,
    /// The operation before which it has no connection.
    pub(crate) away_until: u32,
    /// After so many steps it dies at one.
    pub(crate) dies: Option<(usize, Moment)>,
    /// When it died so.
    pub(crate) died: Option<Moment>,
    /// There is a copy of its home.
    pub(crate) copied: bool,
    /// Its home was put back from the copy.
    pub(crate) put_back: bool,
}

/// When a client dies: around the commit of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Nothing of the step is on disk.
    Before,
    /// All of it is, and nothing of what comes of it has left.
    After,
}

pub(crate) fn options() -> Options {
    Options::new(Key::from_bytes([9; 32]), Machine::schemas()).with_durability(Durability::Process)
}

pub(crate) const POOL: Pool = Pool { full: 8, refill: 4 };

impl SimClient {
    /// A client that is offline.
    pub(crate) fn over((name, path): (String, PathBuf), core: Core) -> Self {
        Self {
            name,
            path,
            core: Some(core),
            link: None,
            alarms: Vec::new(),
            named: Vec::new(),
            erased: false,
            stops: Vec::new(),
            skew_ms: 0,
            stalled_until: 0,
            away_until: 0,
            dies: None,
            died: None,
            copied: false,
            put_back: false,
        }
    }

    /// Whether it is out, and knows.
    pub(crate) fn is_stopped(&self) -> bool {
        let stopped = |core: &Core| core.machine().stopped_by().is_some();
        self.erased || self.core.as_ref().is_some_and(stopped)
    }

    /// Opens the file again after a crash.
    pub(crate) fn reopen(&mut self) -> Result<()> {
        self.core = None;
        self.link = None;
        self.core = Some(Core::open(Store::open(&self.path, &options())?, POOL)?);
        Ok(())
    }

    /// The account of this client.
    pub(crate) fn account(&self) -> Result<AccountId> {
        let who = self.core.as_ref().context("the client is down")?.machine().whoami();
        Ok(AccountId::from_hex(&who.account)?)
    }

    /// Runs a command or query.
    pub(crate) fn with<T>(
        &mut self,
        (now_ms, rng): (u64, &mut ChaCha8Rng),
        work: impl FnOnce(&mut Machine, &mut Step<'_>) -> Result<T, ClientError> + Send,
    ) -> Result<T> {
        let now_ms = now_ms.saturating_add_signed(self.skew_ms);
        let core = self.core.as_mut().context("the client is down")?;
        let (value, output) = core.with((now_ms, rng), work)?;
        self.take(output);
        Ok(value)
    }

    pub(crate) fn step(
        &mut self,
        (now_ms, rng): (u64, &mut ChaCha8Rng),
        input: Input,
    ) -> Result<()> {
        let now_ms = now_ms.saturating_add_signed(self.skew_ms);
        let dies = self.is_its_last_step();
        if dies == Some(Moment::Before) {
            return self.die(Moment::Before);
        }
        let core = self.core.as_mut().context("the client is down")?;
        let output = core.step((now_ms, rng), input)?;
        if dies == Some(Moment::After) {
            self.link = None;
            self.take(output);
            return self.die(Moment::After);
        }
        self.take(output);
        Ok(())
    }

    /// A step more; when it dies, if it dies at this one.
    fn is_its_last_step(&mut self) -> Option<Moment> {
        let (steps, moment) = self.dies.as_mut()?;
        match steps.checked_sub(1) {
            Some(rest) => {
                *steps = rest;
                None
            }
            None => Some(*moment),
        }
    }

    fn die(&mut self, moment: Moment) -> Result<()> {
        (self.dies, self.died) = (None, Some(moment));
        self.reopen()
    }

    /// Dies after what its user had it do, if that is when it dies.
    pub(crate) fn die_if_due(&mut self) -> Result<()> {
        match self.dies {
            Some((0, Moment::After)) => self.die(Moment::After),
            Some(_) | None => Ok(()),
        }
    }

    /// Puts what a step wants sent on its way.
    fn take(&mut self, output: Output) {
        for event in output.events {
            match event {
                Event::Alarm { channel, seq, text } => {
                    self.alarms.push(format!("{} at {channel:?} {seq:?}: {text}", self.name));
                    self.named.extend(channel.zip(seq));
                }
                Event::Stopped { code, .. } => self.stops.push(code),
                Event::Message(_)
                | Event::Outbox(_)
                | Event::Channel(_)
                | Event::Online
                | Event::Offline { .. }
                | Event::CaughtUp
                | Event::Notice(_) => {}
            }
        }
        if let Some(link) = self.link.as_mut() {
            link.up.extend(output.requests);
            if let Some(cursors) = output.subscribe {
                link.followed = cursors.iter().map(|c| (c.channel, c.seq)).collect();
            }
        }
    }
}

/// A request's frame under a token.
pub(crate) fn frame((request_id, request): (RequestId, &Request), token: &Token) -> RequestFrame {
    RequestFrame {
        method: request.method().as_u16(),
        token: token.clone(),
        request_id,
        body: request.encode(),
    }
}

/// What a frame answers.
pub(crate) fn decode(outgoing: &Outgoing, frame: Frame) -> Result<Result<Response, ErrorBody>> {
    match frame {
        Frame::Reply(body) => Ok(Ok(Response::decode(outgoing.request.method(), body)?)),
        Frame::Error(code, body) => Ok(Err(ErrorBody::decode(code, &body)?)),
        Frame::Request(_) | Frame::Item(_) | Frame::End => bail!("no answer"),
    }
}

impl World {
    /// Writes a message, which the invariants follow to its end. Texts must differ.
    ///
    /// # Errors
    /// When the channel takes none.
    pub fn write(&mut self, index: usize, (channel, text): (&ChannelId, &str)) -> Result<()> {
        self.user(index, |machine, step| machine.queue(step, channel, text).map(drop))?;
        self.written.insert(text.to_owned(), (index, *channel));
        Ok(())
    }

    /// The account of a client.
    ///
    /// # Errors
    /// When there is no such client.
    pub fn account(&mut self, index: usize) -> Result<AccountId> {
        self.client(index)?.account()
    }

    /// What a client said that a person should look at.
    ///
    /// # Errors
    /// When there is no such client.
    pub fn alarms(&mut self, index: usize) -> Result<&[String]> {
        Ok(&self.client(index)?.alarms)
    }

    /// The numbers in a channel that a client's alarms named.
    ///
    /// # Errors
    /// When there is no such client.
    pub fn named(&mut self, index: usize, channel: &ChannelId) -> Result<Vec<u64>> {
        let channel = channel.to_string();
        let named = self.client(index)?.named.iter().filter(|(of, _)| *of == channel);
        Ok(named.map(|(_, seq)| *seq).collect())
    }

    /// Codes that a client said it stopped by.
    ///
    /// # Errors
    /// When there is no such client.
    pub fn stops(&mut self, index: usize) -> Result<&[String]> {
        Ok(&self.client(index)?.stops)
    }

    /// Requests that a client has sent and the server has not seen.
    ///
    /// # Errors
    /// When there is no such client.
    pub fn sent(&mut self, index: usize) -> Result<Vec<Outgoing>> {
        let link = self.client(index)?.link.as_ref();
        Ok(link.map(|link| link.up.iter().cloned().collect()).unwrap_or_default())
    }

    /// The access and the refresh token of a client, if it is connected.
    ///
    /// # Errors
    /// When there is no such client.
    pub fn tokens(&mut self, index: usize) -> Result<Vec<Token>> {
        let link = self.client(index)?.link.as_ref();
        Ok(link.map(|link| vec![link.token.clone(), link.refresh.clone()]).unwrap_or_default())
    }

    /// Runs a command or a query of a client.
    ///
    /// # Errors
    /// What `work` returned.
    pub fn user<T>(
        &mut self,
        index: usize,
        work: impl FnOnce(&mut Machine, &mut Step<'_>) -> Result<T, ClientError> + Send,
    ) -> Result<T> {
        let (now_ms, rng) = (self.now_ms, &mut self.rng);
        self.clients.get_mut(index).context("no such client")?.with((now_ms, rng), work)
    }

    /// What both ends of a new connection know.
    pub(crate) fn binding(&mut self) -> ChannelBinding {
        let mut exporter = [0; 32];
        self.rng.fill_bytes(&mut exporter);
        ChannelBinding { exporter, fingerprint: [3; 32] }
    }

    /// Makes an account and the client over it.
    pub(crate) fn register(&mut self, (name, path): (&str, PathBuf)) -> Result<()> {
        let mut store = Store::open(&path, &options())?;
        let clock = (self.now_ms, &mut self.rng);
        let account = Account::prepare(&mut store, (name, SERVER), clock)?;
        let mut raw = self.raw();
        let (id, request) = account.request(raw.binding(), None);
        let mut answer = self.ask_raw(&mut raw, (id, &request))?;
        if answer.as_ref().is_err_and(|body| body.code == ErrorCode::RequestIdConflict) {
            // As the program does, whose earlier answer was lost.
            let login = account.login(raw.binding());
            answer = self.ask_raw(&mut raw, (RequestId::ZERO, &login))?;
        }
        if let Err(body) = answer {
            bail!("registration failed: {body:?}");
        }
        account.registered(&mut store)?;
        let core = Core::open(store, POOL)?;
        self.clients.push(SimClient::over((name.to_owned(), path), core));
        Ok(())
    }
}
