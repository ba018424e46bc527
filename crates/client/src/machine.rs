//! The client without a screen and without a network: commands, answers and log pages go in;
//! requests and events come out, and leave only after the transaction is on disk.
//!
//! # How it works
//! What is to be done is never kept in a queue in memory. [`Machine::requests`] derives it, after
//! each input, from the database: a channel behind its known head is fetched, a sealed message is
//! sent, a missing KeyPackage claimed. [`Work`] names such a piece of work; at most one request of
//! each is in flight. A lost connection or a crash therefore needs no recovery: the same work is
//! derived again with the same ids and bytes, which the server answers as it did before.
//!
//! # Invariants
//! * Only the ordered reader (`inbox`) moves a cursor, and never past one that may succeed.
//! * Sealed bytes are resent as they are until an answer or the log settles them.
//! * An own Commit is put in force when the log reaches it, never at its answer.
//! * Every MLS call runs in a SAVEPOINT of the transaction that stores what comes of it.
//!
//! It reads no clock and has no randomness of its own: both come with every step.

mod account;
mod adds;
mod answers;
mod ballot;
mod branch;
mod claims;
mod commands;
mod commits;
mod contacts;
mod doctor;
mod evidence;
mod gaps;
mod gauges;
mod inbox;
mod intents;
mod ledger;
mod listed;
mod lists;
mod metadata;
mod notices;
mod outbox;
mod pending;
mod queries;
mod rejoin;
mod renewal;
mod requests;
mod reset;
mod restored;
mod revocations;
mod silence;
mod store;
mod strays;
mod successor;
mod survey;
mod take_back;
#[cfg(test)]
mod tests;
mod upkeep;
mod uploads;
mod verdicts;
mod vouch;
mod waits;
mod wary;
mod welcomes;
mod work;

use std::collections::{BTreeMap, BTreeSet};

use qpc_credential::PublicIdentity;
use qpc_mls::{Device, Engine};
use qpc_proto::binding::{ChannelBinding, Purpose};
use qpc_proto::message::{ChannelKind, Cursor, Login, LoginAnswer};
use qpc_proto::{AccountId, ChannelId, ErrorBody, ErrorCode, MessageId};
use qpc_storage::{Schema, Tx};
use rand_core::CryptoRngCore;

use crate::error::ClientError;
use crate::view::Event;
pub use commands::Started;
pub use gauges::Gauges;
pub use queries::{Standing, Target};
pub(crate) use store::{Db, LinkRow, Profile};
pub(crate) use wary::Approach;
pub use work::{Failure, Input, Outgoing, Pool, Work};

/// What a step may use: the transaction, the time, randomness; and what it says.
pub struct Step<'t> {
    pub(crate) db: Db<'t>,
    pub(crate) now_ms: u64,
    pub(crate) rng: &'t mut dyn CryptoRngCore,
    pub(crate) events: Vec<Event>,
}

impl<'t> Step<'t> {
    /// A step in a transaction.
    pub fn new(tx: &'t Tx<'t>, now_ms: u64, rng: &'t mut dyn CryptoRngCore) -> Self {
        Self { db: Db(tx), now_ms, rng, events: Vec::new() }
    }

    pub(crate) fn random<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    /// A random number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.rng.next_u64().checked_rem(bound).unwrap_or(0)
    }
}

/// The client's state in memory: only what a restart may forget.
#[derive(Debug)]
pub struct Machine {
    pub(crate) engine: Engine,
    pub(crate) profile: Profile,
    pool: Pool,
    online: bool,
    in_flight: BTreeSet<Work>,
    pauses: BTreeMap<Work, waits::Pause>,
    /// The latest time that a step of this run had, in Unix milliseconds.
    latest_ms: Option<u64>,
    lookups: BTreeMap<String, Option<ErrorBody>>,
    /// Message rows of the batch in flight, by channel.
    batches: BTreeMap<ChannelId, Vec<u64>>,
    /// The Commit in flight, by channel: its answer must not be taken for a later one's.
    committing: BTreeMap<ChannelId, MessageId>,
    /// Commits that the server answered for; the log will show them.
    accepted_commits: BTreeSet<MessageId>,
    acked: BTreeMap<ChannelId, u64>,
    /// What the acknowledgement in flight says.
    acking: Vec<Cursor>,
    /// Channels that the server must know when it answers what is asked now.
    listing: BTreeSet<ChannelId>,
    /// Batches refused in a row because a Commit came first, by channel.
    overtaken: BTreeMap<ChannelId, u32>,
    list_due: bool,
    /// The newest identity of the own account, as in `profile`.
    own: PublicIdentity,
    own_due: bool,
    /// What the server said of itself and of this device's KeyPackages.
    told: doctor::Told,
    /// Whether the last run ended without saying so.
    unclean: bool,
    /// Channels of which a page was read in this run, after such an end.
    proven: BTreeSet<ChannelId>,
    /// The number of an entry that this program can't take.
    #[cfg(test)]
    pub(crate) poison: Option<u64>,
    /// Why nothing is sent any more.
    stopped: Option<ErrorCode>,
    /// Lists of contacts, newer than the one known here, of which somebody spoke.
    spoken_of: BTreeMap<AccountId, lists::Spoken>,
    /// What was asked before a newer list of an account came: its answer may be older than that.
    excused: BTreeSet<(Work, AccountId)>,
    /// Channels that hold all devices they should and no other, as far as is known here.
    surveyed: BTreeSet<ChannelId>,
    /// Whether this connection's list was compared with what is on disk. Until then nothing is read
    /// or sealed: this file may be an older copy, whose ratchets were used already.
    compared: bool,
    /// Channels that an invitation took this device into since that list. Until the next one
    /// nothing is sealed there: an older copy reads again an invitation that it had followed.
    unlisted: BTreeSet<ChannelId>,
    status_due: bool,
    caught_up: bool,
    /// The logs followed on this connection; `None` when it follows none yet.
    followed: Option<BTreeSet<ChannelId>>,
    upkeep: upkeep::Upkeep,
    renewal: renewal::Renewal,
}

/// What a machine counts as sent and followed.
#[derive(Debug)]
pub(crate) struct Sent {
    in_flight: BTreeSet<Work>,
    followed: Option<BTreeSet<ChannelId>>,
    compared: bool,
    unlisted: BTreeSet<ChannelId>,
    latest_ms: Option<u64>,
}

impl Machine {
    /// The machine of the account in a database.
    ///
    /// # Errors
    /// [`ClientError::NoAccount`] when there is none.
    pub fn open(tx: &Tx<'_>, pool: Pool) -> Result<Self, ClientError> {
        let profile = Db(tx).profile()?.ok_or(ClientError::NoAccount)?;
        let own = account::verified(&profile)?;
        let stopped = account::stopped(&profile, &own);
        let device = Device::new(
            profile.identity.device,
            profile.identity.certificate.clone(),
            profile.keys.device_key(),
        );
        Ok(Self {
            engine: Engine::new(device),
            profile,
            pool,
            online: false,
            in_flight: BTreeSet::new(),
            pauses: BTreeMap::new(),
            latest_ms: None,
            lookups: BTreeMap::new(),
            batches: BTreeMap::new(),
            committing: BTreeMap::new(),
            accepted_commits: BTreeSet::new(),
            acked: BTreeMap::new(),
            acking: Vec::new(),
            listing: BTreeSet::new(),
            overtaken: BTreeMap::new(),
            list_due: false,
            own,
            own_due: false,
            told: doctor::Told::default(),
            unclean: Db(tx).set_going(true)?,
            proven: BTreeSet::new(),
            #[cfg(test)]
            poison: None,
            stopped,
            spoken_of: BTreeMap::new(),
            excused: BTreeSet::new(),
            surveyed: BTreeSet::new(),
            compared: false,
            unlisted: BTreeSet::new(),
            status_due: false,
            caught_up: false,
            followed: None,
            upkeep: upkeep::Upkeep::default(),
            renewal: renewal::Renewal::default(),
        })
    }

    /// The tables that a client database holds.
    pub fn schemas() -> Vec<Schema> {
        vec![qpc_mls::schema(), store::schema()]
    }

    /// Takes one input.
    ///
    /// # Errors
    /// [`ClientError`] when this device's database or keys refused: the transaction must not
    /// commit.
    pub fn handle(&mut self, step: &mut Step<'_>, input: Input) -> Result<(), ClientError> {
        match input {
            Input::Online(answer) => self.online(step, &answer),
            Input::Offline(reason) => {
                self.offline();
                step.events.push(Event::Offline { reason });
                Ok(())
            }
            Input::Answer(work, result) => {
                self.in_flight.remove(&work);
                self.answer(step, work, result)
            }
            Input::Page(page) => self.page(step, page),
            Input::Tick => Ok(()),
            Input::Lookup(name) => {
                self.lookups.remove(&name);
                self.lookups.insert(name, None);
                Ok(())
            }
        }
    }

    /// The request that binds a connection to this device.
    pub fn login(&self, binding: &ChannelBinding) -> Login {
        let device = self.profile.identity.device;
        Login { device, proof: self.profile.keys.prove(binding, &device, Purpose::Login) }
    }

    /// Where to follow from, when the logs to be followed are not those that are.
    ///
    /// # Errors
    /// The database.
    pub fn subscription(&mut self, step: &Step<'_>) -> Result<Option<Vec<Cursor>>, ClientError> {
        if !self.online || self.stopped.is_some() {
            return Ok(None);
        }
        let wanted = |row: &store::ChannelRow| row.status.reads() && row.known_head > 0;
        let inbox = |row: &store::ChannelRow| row.kind == ChannelKind::Inbox;
        let rows = step.db.channels()?.into_iter().filter(|row| wanted(row) || inbox(row));
        let cursors: Vec<_> =
            rows.map(|row| Cursor { channel: row.channel, seq: row.cursor }).collect();
        let channels = Some(cursors.iter().map(|cursor| cursor.channel).collect());
        if self.followed == channels {
            return Ok(None);
        }
        self.followed = channels;
        Ok(Some(cursors))
    }

    /// The subscription ended: ask for another, and for what the server knows.
    pub fn resubscribe(&mut self) {
        self.followed = None;
        self.list_due = true;
    }

    fn online(&mut self, step: &mut Step<'_>, answer: &LoginAnswer) -> Result<(), ClientError> {
        self.offline();
        self.online = true;
        self.caught_up = false;
        self.upkeep.note_server_time(answer.now_ms, step.now_ms);
        (self.list_due, self.status_due, self.own_due) = (true, true, true);
        self.stopped = account::stopped(&self.profile, &self.own);
        step.events.push(Event::Online);
        let known = self.profile.incarnation;
        if known.is_some_and(|known| known != answer.incarnation) {
            let text = "the server was restored from a backup: its channels need repair";
            self.alarm(step, None, text.to_owned())?;
            self.end_all(step, text)?;
        }
        step.db.set_incarnation(&answer.incarnation)?;
        self.profile.incarnation = Some(answer.incarnation);
        self.told_time((answer.now_ms, step.now_ms));
        if answer.now_ms.abs_diff(step.now_ms) > 3_600_000 {
            let text = "this machine's clock is more than an hour off the server's: set it";
            self.alarm(step, None, text.to_owned())?;
        }
        self.ask_for_lists(step)?;
        self.open_inbox(step)
    }

    fn offline(&mut self) {
        (self.online, self.compared) = (false, false);
        self.in_flight.clear();
        self.batches.clear();
        self.accepted_commits.clear();
        self.excused.clear();
        self.followed = None;
    }

    /// What is counted as sent and followed, to go back to if a step is not kept.
    pub(crate) fn sent(&self) -> Sent {
        let (in_flight, followed) = (self.in_flight.clone(), self.followed.clone());
        let (compared, unlisted) = (self.compared, self.unlisted.clone());
        Sent { in_flight, followed, compared, unlisted, latest_ms: self.latest_ms }
    }

    /// A step was not kept: what it would have sent did not leave, and an answer that it took is
    /// asked for again.
    pub(crate) fn unsend(&mut self, before: Sent) {
        let Sent { in_flight, followed, compared, unlisted, latest_ms } = before;
        let differs = |work| self.in_flight.contains(work) != in_flight.contains(work);
        self.list_due |= differs(&Work::ListChannels);
        self.own_due |= differs(&Work::OwnDevices);
        // What the comparison found is not on disk: nothing may be sealed by it.
        self.compared &= compared;
        self.unlisted = unlisted;
        self.surveyed.clear();
        self.upkeep.look_now();
        self.renewal.look_now();
        self.in_flight.retain(|work| in_flight.contains(work));
        self.followed = followed;
        // What was to end with a clock set back did not.
        self.latest_ms = latest_ms;
    }

    /// Says something that a person should look at; what concerns a channel stays in its history,
    /// for nobody may be watching now.
    pub(crate) fn alarm(
        &self,
        step: &mut Step<'_>,
        place: Option<(ChannelId, u64)>,
        text: String,
    ) -> Result<(), ClientError> {
        if let Some((channel, seq)) = place
            && let Some(row) = step.db.channel(&channel)?
            && row.kind != ChannelKind::Inbox
        {
            let own = self.profile.identity.device;
            self.notice(step, &row, (own, seq, format!("ALARM: {text}")))?;
        }
        step.events.push(Event::Alarm {
            channel: place.map(|(channel, _)| channel.to_string()),
            seq: place.map(|(_, seq)| seq),
            text,
        });
        Ok(())
    }
}
