//! A database that was written before the log had trees of its own: nothing in it is lost.
//!
//! Its rows are those of today in yesterday's tables, with digests as they were made then.

use std::collections::BTreeMap;

use qpc_delivery::{DeliveryError, Room};
use qpc_proto::chain::{bundle_digest, sha256};
use qpc_proto::codec::Writer;
use qpc_proto::message::{
    ChannelKind, ChannelState, Cursor, Entry, EntryKind, Notice, NoticeKind, Page, inbox_channel,
};
use qpc_proto::{ChannelId, Digest, ErrorCode};
use qpc_storage::sql::{self, types::Value};
use qpc_storage::{Migration, Outcome, Schema, Store, Tx};

use crate::mls::Device;
use crate::support::{CHANNEL, NOW, Plan, World, ids, message, store};

const DIRECT: ChannelId = ChannelId([0xdd; 16]);

/// The tables as they were.
const BEFORE: Schema = Schema {
    name: "delivery",
    oldest_reader: 1,
    migrations: &[
        Migration { name: "delivery", sql: include_str!("../../migrations/0001_delivery.sql") },
        Migration { name: "revocation", sql: include_str!("../../migrations/0002_revocation.sql") },
    ],
};

/// Those that a row of today fits into, each behind those that it refers to.
const SAME: &[&str] = &[
    "channels",
    "rosters",
    "commits",
    "welcomes",
    "members",
    "leaves",
    "direct_pairs",
    "key_packages",
    "revoked",
    "posted_lists",
];

type Rows = Vec<Vec<Value>>;

fn rows(tx: &Tx<'_>, select: &str) -> sql::Result<Rows> {
    let mut statement = tx.prepare(select)?;
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| (0..columns).map(|at| row.get(at)).collect())?;
    rows.collect()
}

fn on<T>(store: &mut Store, run: impl FnOnce(&Tx<'_>) -> sql::Result<T>) -> T {
    match store.transact(run).unwrap() {
        Outcome::Done(value) => value,
        Outcome::Refused(error) => panic!("{error}"),
        Outcome::Panicked => panic!("the job panicked"),
    }
}

fn insert(tx: &Tx<'_>, table: &str, rows: Rows) -> sql::Result<()> {
    for row in rows {
        let places = vec!["?"; row.len()].join(", ");
        tx.execute(&format!("INSERT INTO {table} VALUES ({places})"), sql::params_from_iter(row))?;
    }
    Ok(())
}

/// What a message id stood for.
fn digest_then(entry: &Entry) -> Vec<u8> {
    let bundle = match entry.kind {
        EntryKind::Commit => {
            bundle_digest(&entry.roster_change, &entry.statements, &entry.welcome_hash)
        }
        EntryKind::Application | EntryKind::Statement => Digest::ZERO,
        other @ (EntryKind::Welcome | EntryKind::Notice) => panic!("no device posts {other:?}"),
    };
    let bytes = Writer::default()
        .u8(entry.kind.code())
        .u64(entry.after_commit)
        .fixed(sha256(&entry.payload))
        .fixed(bundle)
        .finish();
    sha256(&bytes).0[..16].to_vec()
}

/// The same rows in the tables of before, then opened as today; `entries` are all of the channels.
fn upgraded(world: &mut World, entries: &BTreeMap<ChannelId, Vec<Entry>>) -> World {
    let dir = tempfile::tempdir().unwrap();
    let mut old = store(&dir, BEFORE);
    for table in SAME {
        let columns = on(&mut old, |tx| rows(tx, &format!("PRAGMA table_info({table})")));
        let names: Vec<_> = columns.into_iter().map(|row| text(&row[1])).collect();
        let names = names.join(", ").replace("oldest_at_ms", "head_at_ms");
        let select = format!("SELECT {names} FROM {table}");
        let held = world.serve(|_, (tx, _)| rows(tx, &select).unwrap());
        on(&mut old, |tx| insert(tx, table, held));
    }
    let log = "SELECT (l.no << 32) | l.seq, l.kind, l.after_commit, l.accepted_at_ms, l.message_id,
                   l.head, l.welcome, iif(l.place IS NULL, p.payload, substr(p.payload, 5))
               FROM log l JOIN payloads p USING (id)";
    let log = world.serve(|_, (tx, _)| rows(tx, log).unwrap());
    on(&mut old, |tx| insert(tx, "entries", log));
    let known = "SELECT l.no, l.sender, l.message_id, l.seq, c.channel_id
                 FROM log l JOIN channels c USING (no) WHERE l.sender IS NOT NULL";
    let mut known = world.serve(|_, (tx, _)| rows(tx, known).unwrap());
    for row in &mut known {
        let (Some(Value::Blob(channel)), Value::Integer(seq)) = (row.pop(), &row[3]) else {
            panic!("{row:?}")
        };
        let channel = ChannelId(channel.try_into().unwrap());
        let of_seq = |entry: &&Entry| i64::try_from(entry.seq) == Ok(*seq);
        let entry = entries[&channel].iter().find(of_seq).unwrap();
        row.push(Value::Blob(digest_then(entry)));
    }
    on(&mut old, |tx| insert(tx, "message_ids", known));
    // The front of one log had expired, with its ids.
    on(&mut old, |tx| {
        let no = "(SELECT no FROM channels WHERE kind = 1)";
        tx.execute_batch(&format!(
            "DELETE FROM entries WHERE id = ({no} << 32) | 1;
             DELETE FROM message_ids WHERE no = {no} AND seq = 1;
             UPDATE commits SET roster_change = x'', statements = x'' WHERE id = ({no} << 32) | 1;
             UPDATE channels SET first_seq = 2 WHERE no = {no};"
        ))
    });
    old.close().unwrap();
    let new = store(&dir, qpc_delivery::schema());
    World::over(new, dir)
}

fn text(value: &Value) -> String {
    let Value::Text(text) = value else { panic!("{value:?}") };
    text.clone()
}

/// A group with a message of two members each, a revoked device that was removed for it, a Leave
/// statement that stands and a notice; and a direct channel.
fn lived() -> (World, [Device; 3]) {
    let mut world = World::new();
    let (alice, bob, carol) = (Device::new(1, 1), Device::new(2, 2), Device::new(3, 3));
    let carol2 = Device::new(3, 33);
    world.group(&[&alice, &bob, &carol, &carol2]);
    world.say(&alice, message(10, 1)).unwrap();
    world.say(&bob, message(11, 1)).unwrap();
    let list = carol.list(2, &[&carol]);
    world.revoke(&[&carol2], &list);
    world.now_ms += 1_000;
    let removing = Plan::on(1).removing(&[&carol2]).stating(&[list]);
    world.commit(&alice, &removing).unwrap();
    world.say(&bob, message(12, 5)).unwrap();
    world.state_leave(&carol, 13).unwrap();
    let plan = Plan { channel: DIRECT, id: 50, ..world.adding(&[&bob]) };
    world.create(&alice, ChannelKind::Direct, &plan).unwrap();
    world.commit(&bob, &Plan { channel: DIRECT, id: 51, ..Plan::on(1) }).unwrap();
    let notice = Notice { kind: NoticeKind::Linked, device: bob.id().device, at_ms: NOW };
    world.serve(|d, at| d.post_notice(at, &ids(&[&bob]), &notice)).unwrap();
    let read = [Cursor { channel: CHANNEL, seq: 3 }];
    world.call(&bob, |d, call| d.ack(call, &read)).unwrap();
    (world, [alice, bob, carol])
}

/// What a device sees: its channels, and what is in each behind its first entry.
fn seen(world: &mut World, device: &Device) -> (Vec<ChannelState>, Vec<Page>) {
    let states = world.read(device, |d, call| d.list_channels(call)).unwrap();
    let pages = states
        .iter()
        .map(|state| {
            let after = u64::from(state.channel == DIRECT);
            world.fetch(device, state.channel, after).unwrap()
        })
        .collect();
    (states, pages)
}

/// What channels and members hold, and how many are there.
fn held(world: &mut World) -> [Rows; 2] {
    let bytes = "app_bytes, commit_bytes, statement_bytes";
    let of_channels = format!(
        "SELECT channel_id, iif(inbox, 0, devices), {bytes} FROM channels
         WHERE kind != 1 ORDER BY no"
    );
    let of_members = format!(
        "SELECT no, device_id, {bytes} FROM members
         WHERE no NOT IN (SELECT no FROM channels WHERE kind = 1) ORDER BY no, device_id"
    );
    world.serve(|_, (tx, _)| [of_channels, of_members].map(|select| rows(tx, &select).unwrap()))
}

#[test]
fn a_database_of_before_the_log_had_its_trees_is_served_as_it_was() {
    let (mut world, [alice, bob, carol]) = lived();
    let entries: BTreeMap<_, _> = [CHANNEL, DIRECT]
        .map(|channel| (channel, world.fetch(&alice, channel, 0).unwrap().entries))
        .into();
    let mut after = upgraded(&mut world, &entries);
    after.now_ms = world.now_ms;
    for device in [&alice, &bob, &carol] {
        let (states, pages) = seen(&mut world, device);
        assert!(pages.iter().map(|page| page.entries.len()).sum::<usize>() >= 7);
        assert_eq!(seen(&mut after, device), (states, pages));
    }
    assert_eq!(held(&mut after), held(&mut world));
    let inbox = after.fetch(&bob, inbox_channel(&bob.id().device), 0).unwrap();
    assert!(inbox.entries[0].welcome.is_some());
    // What had gone then has a boundary that nobody knows the head of.
    match after.fetch(&alice, DIRECT, 0) {
        Err(DeliveryError::GapExpired(2, Digest::ZERO)) => {}
        other => panic!("{other:?}"),
    }
    // And it goes on: the chain, the next number, and the front, once all have read it.
    let next = after.say(&alice, message(20, 5)).unwrap();
    assert_eq!(next.seq, 8);
    let page = after.fetch(&alice, CHANNEL, 0).unwrap();
    assert_eq!(after.check_chain(&page, Digest::ZERO), next.head);
    after.serve(|d, (tx, now_ms)| d.sweep_expired(tx, now_ms, &mut Room::of(1_000)).unwrap());
    assert_eq!(after.seqs(&bob), (1..=8).collect::<Vec<_>>());
    let read = [Cursor { channel: CHANNEL, seq: 8 }];
    for device in [&alice, &bob, &carol] {
        after.call(device, |d, call| d.ack(call, &read)).unwrap();
    }
    after.serve(|d, at| d.trim_acked(at, &[CHANNEL], &mut Room::of(1_000)).unwrap());
    // But for the statement that stands, and what comes behind it.
    let page = after.fetch(&bob, CHANNEL, 6).unwrap();
    assert_eq!(page.entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [7, 8]);
    match after.fetch(&bob, CHANNEL, 0) {
        Err(DeliveryError::GapExpired(7, head)) => assert_eq!(head, entries[&CHANNEL][5].head),
        other => panic!("{other:?}"),
    }
}

#[test]
fn case_140_a_retry_of_what_was_accepted_before_the_upgrade_gets_the_first_answer() {
    let (mut world, [alice, bob, carol]) = lived();
    let entries: BTreeMap<_, _> = [CHANNEL, DIRECT]
        .map(|channel| (channel, world.fetch(&alice, channel, 0).unwrap().entries))
        .into();
    let mut after = upgraded(&mut world, &entries);
    for (device, entry) in [(&alice, message(10, 1)), (&bob, message(11, 1))] {
        let first = world.say(device, entry.clone()).unwrap();
        assert!(first.duplicate);
        assert_eq!(after.say(device, entry), Ok(first));
    }
    assert_eq!(after.say(&bob, message(10, 1)), Err(ErrorCode::StaleCommit), "another's id");
    let mut other = message(10, 1);
    other.payload = message(14, 1).payload;
    assert_eq!(after.say(&alice, other), Err(ErrorCode::MessageIdConflict));
    let plan = Plan { channel: DIRECT, id: 51, ..Plan::on(1) };
    let first = world.commit(&bob, &plan).unwrap().answer;
    assert_eq!(after.commit(&bob, &plan).unwrap().answer, first);
    let first = world.state_leave(&carol, 13).unwrap().answer;
    assert_eq!(after.state_leave(&carol, 13).unwrap().answer, first);
}
