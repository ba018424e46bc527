//! A service with its database in a temporary folder, and short words for what a client does.

use std::collections::BTreeMap;

use bytes::Bytes;
use qpc_credential::{Rejoin, RejoinReason, StatementBody};
use qpc_delivery::{Call, Config, Delivery, DeliveryError, Pacing, RecentIds, Room, Written};
use qpc_proto::aad::{Aad, CommitBinding};
use qpc_proto::chain::{Link, Log, statements_digest};
use qpc_proto::message::{
    Accepted, ChannelKind, CommitBundle, CommitRequest, CreateChannel, DeviceRef, Enqueue,
    EnqueueAnswer, Fetch, NewEntry, Page, Statement, UploadKeyPackages,
};
use qpc_proto::roster::{Role, RosterChange};
use qpc_proto::{ChannelId, Digest, ErrorCode, Incarnation, MessageId};
use qpc_storage::{Durability, Key, Options, Outcome, Schema, Store, Tx};
use tempfile::TempDir;

use crate::mls::{self, Device};

/// 2027-01-15.
pub(crate) const NOW: u64 = 1_800_000_000_000;
pub(crate) const CHANNEL: ChannelId = ChannelId([0xcc; 16]);

pub(crate) struct World {
    pub(crate) delivery: Delivery,
    pub(crate) now_ms: u64,
    seed: u8,
    store: Store,
    _dir: TempDir,
}

/// The database in a folder, with the tables of `schema`.
pub(crate) fn store(dir: &TempDir, schema: Schema) -> Store {
    let options = Options::new(Key::from_bytes([3; 32]), vec![schema]);
    let options = options.with_durability(Durability::Process);
    Store::open(&dir.path().join("delivery.db"), &options).unwrap()
}

/// As the server does before anything else in a transaction.
fn tidied(delivery: &Delivery, tx: &Tx<'_>) -> Result<(), DeliveryError> {
    if delivery.has_ids_to_put_away() { delivery.put_ids_away(tx) } else { Ok(()) }
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::over(store(&dir, qpc_delivery::schema()), dir)
    }

    /// A service with this database.
    pub(crate) fn over(store: Store, dir: TempDir) -> Self {
        Self {
            delivery: Delivery {
                incarnation: Incarnation([4; 16]),
                config: Config { pacing: Pacing::NONE, ..Config::default() },
                // Few, so that all of it goes on at the edge between memory and table.
                recent: RecentIds::keeping(4),
            },
            now_ms: NOW,
            seed: 0,
            store,
            _dir: dir,
        }
    }

    /// The server's process has ended, and another has begun.
    pub(crate) fn restart(&mut self) {
        self.delivery.recent = RecentIds::keeping(4);
    }

    /// One call of a device, in a transaction of its own.
    pub(crate) fn call<T>(
        &mut self,
        device: &Device,
        run: impl FnOnce(&Delivery, &Call<'_>) -> Result<T, DeliveryError>,
    ) -> Result<T, DeliveryError> {
        let (delivery, caller, now_ms) = (&self.delivery, device.id(), self.now_ms);
        let job = |tx: &Tx<'_>| {
            tidied(delivery, tx)?;
            let call = Call { tx, caller, now_ms };
            run(delivery, &call)
        };
        match self.store.transact(job).unwrap() {
            Outcome::Done(value) => Ok(value),
            Outcome::Refused(error) => Err(error),
            Outcome::Panicked => panic!("the service panicked"),
        }
    }

    /// The same in a read-only transaction.
    pub(crate) fn read<T>(
        &mut self,
        device: &Device,
        run: impl FnOnce(&Delivery, &Call<'_>) -> Result<T, DeliveryError>,
    ) -> Result<T, DeliveryError> {
        let (delivery, caller, now_ms) = (&self.delivery, device.id(), self.now_ms);
        self.store.reader().unwrap().read(|tx| {
            let call = Call { tx, caller, now_ms };
            run(delivery, &call)
        })
    }

    /// The server's own work, in a transaction.
    pub(crate) fn serve<T>(&mut self, run: impl FnOnce(&Delivery, (&Tx<'_>, u64)) -> T) -> T {
        let (delivery, now_ms) = (&self.delivery, self.now_ms);
        let job = |tx: &Tx<'_>| {
            tidied(delivery, tx)?;
            Ok::<T, DeliveryError>(run(delivery, (tx, now_ms)))
        };
        match self.store.transact(job).unwrap() {
            Outcome::Done(value) => value,
            Outcome::Refused(_) | Outcome::Panicked => panic!("the service panicked"),
        }
    }

    /// The server took devices off their account; `statement` says so. Returns whom it woke.
    pub(crate) fn revoke(&mut self, devices: &[&Device], statement: &Bytes) -> Vec<ChannelId> {
        let devices = ids(devices);
        self.serve(|d, at| d.revoke_devices(at, &devices, statement).unwrap())
    }

    /// One call of a device whose transaction is rolled back: refused at its end, or panicking.
    pub(crate) fn undo<T>(
        &mut self,
        device: &Device,
        panics: bool,
        run: impl FnOnce(&Delivery, &Call<'_>) -> Result<T, DeliveryError>,
    ) {
        let (delivery, caller, now_ms) = (&self.delivery, device.id(), self.now_ms);
        let job = |tx: &Tx<'_>| -> Result<(), DeliveryError> {
            tidied(delivery, tx)?;
            run(delivery, &Call { tx, caller, now_ms })?;
            assert!(!panics, "on purpose");
            Err(DeliveryError::Refused(ErrorCode::Internal, "on purpose"))
        };
        match (self.store.transact(job).unwrap(), panics) {
            (Outcome::Refused(DeliveryError::Refused(..)), false) | (Outcome::Panicked, true) => {}
            (other, _) => panic!("{other:?}"),
        }
    }

    /// Two reads of one snapshot, and a sweep of what has expired between them.
    pub(crate) fn read_around_a_sweep(
        &mut self,
        device: &Device,
        (first, second): (&Fetch, &Fetch),
    ) -> (Page, Page) {
        let (delivery, caller, now_ms) = (&self.delivery, device.id(), self.now_ms);
        let (mut reader, store) = (self.store.reader().unwrap(), &mut self.store);
        let read = reader.read(|tx| {
            let call = Call { tx, caller, now_ms };
            let before = delivery.fetch(&call, first)?;
            let swept = store
                .transact(|tx| delivery.sweep_expired(tx, now_ms, &mut Room::of(1_000)))
                .unwrap();
            assert!(matches!(swept, Outcome::Done(gone) if gone > 0));
            Ok::<_, DeliveryError>((before, delivery.fetch(&call, second)?))
        });
        read.unwrap()
    }

    /// How many rows each table has, whatever tables there are.
    pub(crate) fn rows(&mut self) -> BTreeMap<String, u64> {
        self.serve(|_, (tx, _)| {
            let names = "SELECT name FROM sqlite_schema WHERE type = 'table'";
            let mut names = tx.prepare(names).unwrap();
            let names = names.query_map([], |row| row.get::<_, String>(0)).unwrap();
            let count = |name: String| {
                let count = format!("SELECT count(*) FROM \"{name}\"");
                let count = tx.query_row(&count, [], |row| row.get::<_, u32>(0)).unwrap();
                (name, count.into())
            };
            // Where an id is kept says nothing of what happened.
            let names = names.map(Result::unwrap).filter(|name| !name.starts_with("accepted_"));
            names.map(count).collect()
        })
    }

    /// Uploads a fresh KeyPackage of each device.
    pub(crate) fn packages(&mut self, devices: &[&Device]) -> Vec<Bytes> {
        devices
            .iter()
            .map(|device| {
                self.seed = self.seed.wrapping_add(1);
                let key_package = device.key_package(self.seed, false, self.now_ms);
                let upload = UploadKeyPackages {
                    key_packages: vec![key_package.clone()],
                    last_resort: None,
                };
                self.call(device, |d, call| d.upload(call, &upload)).unwrap();
                key_package
            })
            .collect()
    }

    /// A plan that adds devices, with a Welcome for fresh KeyPackages of them.
    pub(crate) fn adding(&mut self, devices: &[&Device]) -> Plan {
        let welcome = mls::welcome(&self.packages(devices));
        let mut plan = Plan::default();
        plan.change.adds = devices.iter().map(|device| device.id()).collect();
        plan.welcome = Some(welcome);
        plan
    }

    pub(crate) fn create(
        &mut self,
        founder: &Device,
        kind: ChannelKind,
        plan: &Plan,
    ) -> Result<Written<Accepted>, DeliveryError> {
        let create = CreateChannel {
            channel: plan.channel,
            kind,
            bundle: plan.bundle(),
            retention_ms: 0,
            reset: None,
        };
        self.call(founder, |d, call| d.create_channel(call, &create))
    }

    /// A group founded by the first device, which adds the others with its first Commit.
    pub(crate) fn group(&mut self, devices: &[&Device]) {
        let plan = match devices {
            [_] => Plan::default(),
            [_, others @ ..] => self.adding(others),
            [] => panic!("nobody"),
        };
        self.create(devices[0], ChannelKind::Group, &plan).unwrap();
    }

    pub(crate) fn commit(
        &mut self,
        device: &Device,
        plan: &Plan,
    ) -> Result<Written<Accepted>, DeliveryError> {
        let request = CommitRequest { channel: plan.channel, bundle: plan.bundle() };
        self.call(device, |d, call| d.commit(call, &request))
    }

    pub(crate) fn commit_code(&mut self, device: &Device, plan: &Plan) -> ErrorCode {
        self.commit(device, plan).unwrap_err().code()
    }

    pub(crate) fn enqueue(
        &mut self,
        device: &Device,
        entries: &[NewEntry],
    ) -> Result<EnqueueAnswer, DeliveryError> {
        let enqueue = Enqueue { channel: CHANNEL, entries: entries.to_vec() };
        let written = self.call(device, |d, call| d.enqueue(call, &enqueue))?;
        let fresh = written.answer.accepted.iter().any(|a| !a.duplicate);
        let wakes: &[ChannelId] = if fresh { &[CHANNEL] } else { &[] };
        assert_eq!(written.wakes, wakes);
        Ok(written.answer)
    }

    /// Sends one message and returns why it was refused, if it was.
    pub(crate) fn say(&mut self, device: &Device, entry: NewEntry) -> Result<Accepted, ErrorCode> {
        let answer = self.enqueue(device, &[entry]).map_err(|e| e.code())?;
        match (answer.accepted.as_slice(), answer.refusal) {
            ([accepted], None) => Ok(*accepted),
            ([], Some(refusal)) => Err(refusal.code),
            other => panic!("{other:?}"),
        }
    }

    /// Posts any statement.
    pub(crate) fn state(
        &mut self,
        device: &Device,
        (id, statement): (u8, Bytes),
    ) -> Result<Written<Accepted>, DeliveryError> {
        let statement = Statement { channel: CHANNEL, statement };
        self.call(device, |d, call| d.statement(call, &statement, MessageId([id; 16])))
    }

    pub(crate) fn state_leave(
        &mut self,
        device: &Device,
        id: u8,
    ) -> Result<Written<Accepted>, DeliveryError> {
        self.state(device, (id, device.leave(CHANNEL)))
    }

    /// A rejoin of a device since its join at `join_seq`, and the KeyPackage in it, of `seed`.
    pub(crate) fn rejoin_of(&self, device: &Device, join_seq: u64, seed: u8) -> (Bytes, Bytes) {
        let key_package = device.key_package(seed, true, self.now_ms);
        let rejoin = Rejoin {
            incarnation: self.delivery.incarnation,
            join_seq,
            base_commit: join_seq,
            reason: RejoinReason::Damaged,
            key_package: key_package.clone(),
        };
        (device.state(CHANNEL, StatementBody::Rejoin(rejoin)), key_package)
    }

    /// A Commit after the one at `after` that puts devices back by what they have said.
    pub(crate) fn bringing_back(after: u64, back: &[(&Device, &(Bytes, Bytes))]) -> Plan {
        let devices: Vec<_> = back.iter().map(|(device, _)| *device).collect();
        let statements: Vec<_> = back.iter().map(|(_, (said, _))| said.clone()).collect();
        let packages: Vec<_> = back.iter().map(|(_, (_, package))| package.clone()).collect();
        let mut plan = Plan::on(after).removing(&devices).stating(&statements);
        plan.change.adds = plan.change.removes.clone();
        plan.welcome = Some(mls::welcome(&packages));
        plan
    }

    pub(crate) fn fetch(
        &mut self,
        device: &Device,
        channel: ChannelId,
        after_seq: u64,
    ) -> Result<Page, DeliveryError> {
        let fetch = Fetch { channel, after_seq, bytes_max: 0 };
        self.read(device, |d, call| d.fetch(call, &fetch))
    }

    /// The sequence numbers that a device gets from the start.
    pub(crate) fn seqs(&mut self, device: &Device) -> Vec<u64> {
        let page = self.fetch(device, CHANNEL, 0).unwrap();
        assert_eq!(page.entries.last().map(|e| e.seq), Some(page.head_seq));
        page.entries.iter().map(|entry| entry.seq).collect()
    }

    /// Checks a page against the hash chain, from the head before its first entry.
    pub(crate) fn check_chain(&self, page: &Page, before: Digest) -> Digest {
        let log = Log { incarnation: self.delivery.incarnation, channel: page.channel };
        page.entries.iter().fold(before, |head, entry| {
            assert_eq!(log.next(&head, &Link::of(entry)), entry.head);
            entry.head
        })
    }
}

/// A Commit to be.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) channel: ChannelId,
    pub(crate) id: u8,
    pub(crate) after: u64,
    pub(crate) base: u64,
    pub(crate) change: RosterChange,
    pub(crate) welcome: Option<Bytes>,
    pub(crate) statements: Vec<Bytes>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            channel: CHANNEL,
            id: 1,
            after: 0,
            base: 0,
            change: RosterChange::default(),
            welcome: None,
            statements: Vec::new(),
        }
    }
}

impl Plan {
    /// After the Commit at `after`, which its sender has applied.
    pub(crate) fn on(after: u64) -> Self {
        Self::default().at(after, after)
    }

    /// After the Commit at `after`, by a sender that has applied the one at `base` last.
    pub(crate) fn at(self, after: u64, base: u64) -> Self {
        let id = u8::try_from(after).unwrap() + 1;
        Self { after, base, id, ..self }
    }

    /// With the Leave statements of these devices.
    pub(crate) fn carrying(mut self, leavers: &[&Device]) -> Self {
        self.statements = leavers.iter().map(|device| device.leave(CHANNEL)).collect();
        self
    }

    /// With any statements.
    pub(crate) fn stating(mut self, statements: &[Bytes]) -> Self {
        self.statements = statements.to_vec();
        self
    }

    pub(crate) fn removing(mut self, devices: &[&Device]) -> Self {
        self.change.removes = devices.iter().map(|device| device.id()).collect();
        self
    }

    pub(crate) fn with_role(mut self, device: &Device, role: Role) -> Self {
        self.change.roles.insert(device.id().account, role);
        self
    }

    pub(crate) fn aad(&self) -> Aad {
        Aad {
            commit: Some(CommitBinding {
                roster_change: self.change.digest(),
                statements: statements_digest(&self.statements),
            }),
            ..aad(self.channel, self.base)
        }
    }

    pub(crate) fn bundle(&self) -> CommitBundle {
        CommitBundle {
            message_id: commit_id(self.id),
            after_commit: self.after,
            payload: mls::private_message(mls::COMMIT, &self.aad(), b"commit"),
            roster_change: self.change.encode().into(),
            welcome: self.welcome.clone(),
            statements: self.statements.clone(),
        }
    }
}

/// Commits have ids apart from those of messages.
pub(crate) fn commit_id(id: u8) -> MessageId {
    let mut bytes = [id; 16];
    bytes[0] = 0xff;
    MessageId(bytes)
}

pub(crate) fn aad(channel: ChannelId, base_commit: u64) -> Aad {
    Aad { channel, base_commit, head_seq: 0, head: [0; 16], commit: None }
}

/// A message sealed after the last Commit, which its sender has applied.
pub(crate) fn message(id: u8, after: u64) -> NewEntry {
    message_on(id, after, after)
}

pub(crate) fn message_on(id: u8, after: u64, base: u64) -> NewEntry {
    NewEntry {
        message_id: MessageId([id; 16]),
        after_commit: after,
        payload: mls::private_message(mls::APPLICATION, &aad(CHANNEL, base), &[id; 40]),
    }
}

/// A message with a payload of exactly `bytes`.
pub(crate) fn sized(id: u8, bytes: usize) -> NewEntry {
    let seal = |n| mls::private_message(mls::APPLICATION, &aad(CHANNEL, 1), &vec![0; n]);
    let around = seal(bytes).len() - bytes;
    let mut entry = message(id, 1);
    entry.payload = seal(bytes - around);
    assert_eq!(entry.payload.len(), bytes);
    entry
}

pub(crate) fn ids(devices: &[&Device]) -> Vec<DeviceRef> {
    devices.iter().map(|device| device.id()).collect()
}
