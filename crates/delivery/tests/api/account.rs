//! What the service holds of an account: its export, and what its end leaves.

use std::collections::{BTreeMap, BTreeSet};

use qpc_credential::{Said, StatementBody};
use qpc_delivery::Room;
use qpc_proto::message::{ChannelKind, Notice, NoticeKind};
use qpc_proto::{ChannelId, Digest, ErrorCode};
use serde_json::Value;

use crate::mls::Device;
use crate::support::{CHANNEL, Plan, World, ids, message, message_on};

const DIRECT: ChannelId = ChannelId([0xdd; 16]);
const ALONE: ChannelId = ChannelId([0xaa; 16]);

/// What becomes of each table's rows of an account: the member of the export that shows them, and
/// why some stay when it is erased.
const TABLES: &[(&str, Option<&str>, Option<&str>)] = &[
    ("channels", Some("channels"), None),
    // Who posted an entry is forgotten with the account.
    ("log", Some("channels"), None),
    ("accepted_ids", Some("channels"), None),
    // How far the table before it reaches.
    ("accepted_upto", None, None),
    // Ciphertext is the members', signed statements expire with the log.
    ("payloads", Some("inboxes"), Some("what members read, until the retention ends")),
    ("commits", Some("channels"), Some("declared changes, until the retention ends")),
    ("rosters", None, Some("what the next Commits are judged by; ids alone")),
    // Sealed, and stored once for all who are added.
    ("welcomes", None, None),
    ("members", Some("channels"), None),
    ("leaves", Some("channels"), None),
    ("rejoins", Some("channels"), None),
    ("verdicts", Some("channels"), None),
    ("direct_pairs", Some("direct_channels"), None),
    ("key_packages", Some("key_packages"), None),
    ("revoked", Some("revoked_devices"), Some("device ids: members may still remove them")),
    (
        "posted_lists",
        Some("channels"),
        Some("where the list stands, until its devices are removed"),
    ),
];

/// The tables of this crate.
fn tables(world: &mut World) -> BTreeSet<String> {
    world.serve(|_, (tx, _)| {
        let list = "SELECT name FROM sqlite_master WHERE type = 'table' AND name != 'storage_meta'";
        let mut statement = tx.prepare(list).unwrap();
        let names = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        let names = names.map(Result::unwrap);
        names.filter(|n| !n.ends_with("_migrations") && !n.starts_with("sqlite_")).collect()
    })
}

/// Tables with a row that holds one of the needles, and how many such rows.
fn holding(world: &mut World, needles: &[Vec<u8>]) -> BTreeMap<String, usize> {
    let tables = tables(world);
    world.serve(|_, (tx, _)| {
        let has = |bytes: &[u8]| {
            needles.iter().any(|needle| bytes.windows(needle.len()).any(|w| w == needle))
        };
        let mut found = BTreeMap::new();
        for table in tables {
            let mut statement = tx.prepare(&format!("SELECT * FROM {table}")).unwrap();
            let columns = statement.column_count();
            let mut rows = statement.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let hit = (0..columns).any(|at| row.get_ref(at).unwrap().as_blob().is_ok_and(has));
                if hit {
                    *found.entry(table.clone()).or_default() += 1;
                }
            }
        }
        found
    })
}

fn needles(devices: &[&Device]) -> Vec<Vec<u8>> {
    ids(devices)
        .iter()
        .flat_map(|id| [id.account.as_bytes().to_vec(), id.device.as_bytes().to_vec()])
        .collect()
}

/// Bob, with two devices, in a group (where he has said that he leaves), a direct channel with
/// Alice and a channel of his own.
fn inhabited() -> (World, Device, Device, Device) {
    let mut world = World::new();
    let (alice, bob, bob2) = (Device::new(1, 1), Device::new(2, 0x52), Device::new(2, 0x53));
    world.group(&[&alice, &bob, &bob2]);
    let direct = Plan { channel: DIRECT, ..world.adding(&[&alice]) };
    world.create(&bob, ChannelKind::Direct, &direct).unwrap();
    world.create(&bob, ChannelKind::Group, &Plan { channel: ALONE, ..Plan::default() }).unwrap();
    for id in 1..=5 {
        world.say(&bob, message(id, 1)).unwrap();
    }
    world.commit(&bob, &Plan::on(1)).unwrap();
    world.state_leave(&bob, 9).unwrap();
    world.packages(&[&bob, &bob2]);
    let notice = Notice { kind: NoticeKind::Linked, device: bob2.id().device, at_ms: world.now_ms };
    world.serve(|d, at| d.post_notice(at, &ids(&[&bob]), &notice)).unwrap();
    (world, alice, bob, bob2)
}

fn export(world: &mut World, device: &Device) -> Value {
    let account = device.id().account;
    world.serve(|d, (tx, _)| d.export(tx, &account)).unwrap()
}

/// Erases in steps of `limit` rows; returns how many it took.
fn erase(world: &mut World, device: &Device, limit: u32) -> usize {
    let account = device.id().account;
    let mut steps = 1;
    while world.serve(|d, (tx, _)| d.erase_devices(tx, &account, &mut Room::of(limit))).unwrap() {
        steps += 1;
        assert!(steps < 1_000, "it never ends");
    }
    steps
}

#[test]
fn every_table_is_covered_by_export_and_erasure_or_says_why_not() {
    let (mut world, alice, bob, bob2) = inhabited();
    let rejoin = world.rejoin_of(&bob, 1, 100).0;
    world.state(&bob, (20, rejoin)).unwrap();
    let said = Said { commit_seq: 7, commit: Digest::ZERO, applied: true };
    world.state(&bob, (21, bob.state(CHANNEL, StatementBody::Verdict(said)))).unwrap();
    let shown = export(&mut world, &bob)["channels"][0].clone();
    assert_eq!((&shown["rejoin"]["seq"], &shown["verdicts_on"]), (&9.into(), &"7".into()));
    let known: BTreeSet<String> = TABLES.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(tables(&mut world), known, "a table that nobody has thought about");
    world.revoke(&[&bob2], &bob.list(2, &[&bob]));
    let held = holding(&mut world, &needles(&[&bob, &bob2]));
    let exported = export(&mut world, &bob);
    for (table, member, _) in TABLES {
        let shown = member.map(|member| exported[member].as_array().unwrap().len());
        assert_ne!(shown, Some(0), "{table} is not exported");
        // Rows of these hold no name of the account.
        let nameless = ["channels", "welcomes", "accepted_upto"].contains(table);
        assert!(nameless || held.contains_key(*table), "{table} is not put to the test");
    }
    world.revoke(&[&bob], &bob.list(3, &[]));
    erase(&mut world, &bob, 1_000);
    let left: BTreeSet<String> =
        holding(&mut world, &needles(&[&bob, &bob2])).into_keys().collect();
    let may_stay = TABLES.iter().filter(|(.., why)| why.is_some());
    let may_stay: BTreeSet<String> = may_stay.map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(left, may_stay);
    // Of an account that nobody was with, nothing at all.
    let states = world.read(&alice, |d, call| d.list_channels(call)).unwrap();
    assert_eq!(states.len(), 3);
    let gone = world.serve(|_, (tx, _)| {
        tx.prepare("SELECT 1 FROM channels WHERE channel_id = ?1").unwrap().exists([ALONE.0])
    });
    assert_eq!(gone, Ok(false));
}

#[test]
fn an_export_says_what_is_held_and_only_that() {
    let (mut world, alice, bob, bob2) = inhabited();
    let shown = export(&mut world, &bob);
    let group = &shown["channels"][0];
    assert_eq!(group["channel"], CHANNEL.to_string());
    assert_eq!((&group["kind"], &group["posted"]), (&"group".into(), &"2-8".into()));
    assert_eq!(group["commits_of_account"], "7");
    assert_eq!(group["leave_of_account"], 8);
    assert_eq!(group["place"]["join_seq"], 1);
    assert_eq!(shown["channels"][1]["device"], bob2.id().device.to_string());
    assert_eq!(shown["direct_channels"][0]["with"], alice.id().account.to_string());
    let inbox = &shown["inboxes"][0]["entries"];
    assert_eq!(inbox[0]["says"]["invitation_to"], CHANNEL.to_string());
    assert_eq!(inbox[1]["says"]["notice"], "Linked");
    let packages = &shown["key_packages"][0];
    assert_eq!((&packages["waiting"], &packages["spent"]), (&2.into(), &0.into()));
    // Nothing of a stranger's.
    let stranger = export(&mut world, &Device::new(9, 9));
    for member in ["channels", "inboxes", "direct_channels", "key_packages", "revoked_devices"] {
        assert_eq!(stranger[member], Value::Array(Vec::new()), "{member}");
    }
}

#[test]
fn case_072_an_erasure_goes_on_where_it_was_stopped() {
    let [small, large] = [1, 1_000].map(|limit| {
        let (mut world, _, bob, bob2) = inhabited();
        world.revoke(&[&bob, &bob2], &bob.list(2, &[]));
        let steps = erase(&mut world, &bob, limit);
        assert_eq!(steps > 1, limit == 1, "{steps} steps of {limit}");
        // Again: there is nothing to do.
        assert_eq!(erase(&mut world, &bob, limit), 1);
        holding(&mut world, &needles(&[&bob, &bob2]))
    });
    assert_eq!(small, large);
}

#[test]
fn the_others_go_on_and_the_pair_is_free() {
    let (mut world, alice, bob, bob2) = inhabited();
    let list = bob.list(2, &[]);
    world.revoke(&[&bob, &bob2], &list);
    erase(&mut world, &bob, 1_000);
    // The list still stands, and lets Alice remove the devices; void or not, they stay erased.
    let page = world.fetch(&alice, CHANNEL, 8).unwrap();
    assert_eq!(page.entries[0].payload, list);
    let removal = Plan::default().at(7, 7).removing(&[&bob, &bob2]);
    world.commit(&alice, &removal).unwrap();
    world.commit(&alice, &Plan::default().at(10, 7)).unwrap();
    let removal = Plan::default().at(11, 11).removing(&[&bob, &bob2]);
    world.commit(&alice, &removal).unwrap();
    let members: u32 = world.serve(|_, (tx, _)| {
        let count = "SELECT count(*) FROM members WHERE account_id = ?1";
        tx.query_row(count, [bob.id().account.0], |row| row.get(0)).unwrap()
    });
    assert_eq!(members, 0);
    world.say(&alice, message(1, 12)).unwrap();
    let refused = world.say(&bob, message_on(20, 12, 11));
    assert_eq!(refused, Err(ErrorCode::ChannelNotFound));
    // The same root with another device: a pair without a direct channel.
    let returned = Device::new(2, 24);
    let direct = Plan { channel: ChannelId([0xde; 16]), ..world.adding(&[&returned]) };
    world.create(&alice, ChannelKind::Direct, &direct).unwrap();
}

#[test]
fn a_direct_channel_whose_other_side_is_erased_expires_as_ever() {
    let (mut world, alice, bob, bob2) = inhabited();
    world.revoke(&[&bob, &bob2], &bob.list(2, &[]));
    assert_eq!(world.fetch(&alice, DIRECT, 1).unwrap().entries.len(), 1);
    erase(&mut world, &bob, 1_000);
    world.now_ms += world.delivery.config.retention_ms;
    world.serve(|d, (tx, now_ms)| d.sweep_expired(tx, now_ms, &mut Room::of(100))).unwrap();
    let gap = world.fetch(&alice, DIRECT, 0).unwrap_err();
    assert_eq!(gap.code(), ErrorCode::GapExpired);
    assert!(world.fetch(&alice, DIRECT, 2).unwrap().entries.is_empty());
}
