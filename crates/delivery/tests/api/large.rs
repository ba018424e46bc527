//! Groups of as many devices as a channel may have: what they cost, in rows and bytes, not in time.

use std::collections::BTreeMap;

use bytes::Bytes;
use qpc_proto::ErrorCode;
use qpc_proto::limits::{CHANNEL_DEVICES_MAX, FRAME_BYTES_MAX, PAYLOAD_BYTES_MAX};
use qpc_proto::message::{
    ChannelKind, CommitRequest, CreateChannel, Method, Request, Response, inbox_channel,
};

use crate::mls::{self, Device};
use crate::support::{CHANNEL, Plan, World, ids, message};

/// What a tree of a thousand leaves takes in a GroupInfo, generously.
const GROUP_INFO: usize = 2 * 1_024 * 1_024;

fn strangers(count: usize) -> Vec<Device> {
    (1_000..).take(count).map(Device::lone).collect()
}

/// A plan that adds devices, each by its KeyPackage.
fn adding(devices: &[&Device], key_packages: &[Bytes]) -> Plan {
    let reference = |kp: &Bytes| qpc_credential::key_package_ref(kp).unwrap();
    let references: Vec<_> = key_packages.iter().map(reference).collect();
    let mut plan = Plan::default();
    plan.change.adds = ids(devices).into_iter().collect();
    plan.welcome = Some(mls::welcome_of(&references, GROUP_INFO));
    plan
}

/// How many rows each table has gained.
fn gained(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let gain = |(name, rows): (&String, &u64)| (name.clone(), rows - before[name]);
    after.iter().map(gain).filter(|(_, rows)| *rows > 0).collect()
}

/// Bytes of a page of the database: SQLCipher's default.
const PAGE_SIZE: u32 = 4_096;

fn bytes(world: &mut World) -> usize {
    world.serve(|_, (tx, _)| {
        let pages = |name: &str| -> u32 {
            tx.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0)).unwrap()
        };
        let used = pages("page_count") - pages("freelist_count");
        usize::try_from(used * PAGE_SIZE).unwrap()
    })
}

#[test]
fn case_128_a_thousand_devices_are_a_group_and_one_more_is_refused() {
    let mut world = World::new();
    let alice = Device::new(1, 1);
    let others = strangers(CHANNEL_DEVICES_MAX + 1);
    let others: Vec<_> = others.iter().collect();
    let packages = world.packages(&others);
    let before = (world.rows(), bytes(&mut world));
    // With their founder one too many.
    let all = adding(&others[..CHANNEL_DEVICES_MAX], &packages[..CHANNEL_DEVICES_MAX]);
    let refused = world.create(&alice, ChannelKind::Group, &all).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::GroupTooLarge);
    assert!(!refused.code().retryable());
    assert_eq!(world.rows(), before.0);

    let first = CHANNEL_DEVICES_MAX - 2;
    let most = adding(&others[..first], &packages[..first]);
    let created = world.create(&alice, ChannelKind::Group, &most).unwrap();
    assert_eq!(created.wakes.len(), first + 1);
    one_welcome_for_all(&mut world, before, most.welcome.as_ref().unwrap());
    check_frames(&mut world, &most, others[first / 2]);

    // The last that there is room for, then one too many.
    let one = |at: usize, after| adding(&others[at..=at], &packages[at..=at]).at(after, after);
    assert_eq!(world.commit(&alice, &one(first, 1)).unwrap().answer.seq, 2);
    let rows = world.rows();
    let refused = world.commit_code(&alice, &one(first + 1, 2));
    assert_eq!((refused, world.rows()), (ErrorCode::GroupTooLarge, rows));
    // Whoever goes makes room in the same Commit.
    let swap = one(first + 1, 2).removing(&[others[0]]);
    assert_eq!(world.commit(&alice, &swap).unwrap().answer.seq, 3);
    let again = world.packages(&[others[0]]);
    let back = adding(&[others[0]], &again).at(3, 3);
    assert_eq!(world.commit_code(&alice, &back), ErrorCode::GroupTooLarge);
}

/// A large Add writes few rows a device, and its Welcome once.
fn one_welcome_for_all(
    world: &mut World,
    (rows, size): (BTreeMap<String, u64>, usize),
    welcome: &Bytes,
) {
    let rows = gained(&rows, &world.rows());
    assert_eq!((rows["welcomes"], rows["rosters"], rows["commits"]), (1, 1, 1));
    let devices = u64::try_from(CHANNEL_DEVICES_MAX).unwrap();
    assert!(rows.values().all(|rows| *rows <= 2 * devices), "{rows:?}");
    let grown = bytes(world) - size;
    assert!(grown > welcome.len());
    assert!(grown < welcome.len() + 2_048 * CHANNEL_DEVICES_MAX, "{grown}");
}

/// What such a Commit is on its way in, and to its readers.
fn check_frames(world: &mut World, plan: &Plan, joiner: &Device) {
    let (channel, bundle) = (CHANNEL, plan.bundle());
    let create = CreateChannel {
        channel,
        kind: ChannelKind::Group,
        bundle: bundle.clone(),
        retention_ms: 0,
        reset: None,
    };
    for request in
        [Request::CreateChannel(create), Request::Commit(CommitRequest { channel, bundle })]
    {
        let body = request.encode();
        assert!(body.len() < FRAME_BYTES_MAX);
        assert!(Request::decode(request.method(), body).is_ok());
    }
    for channel in [CHANNEL, inbox_channel(&joiner.id().device)] {
        let page = world.fetch(joiner, channel, 0).unwrap();
        assert_eq!(page.entries.len(), 1);
        let body = Response::Page(page.clone()).encode();
        assert!(body.len() < FRAME_BYTES_MAX);
        match Response::decode(Method::Fetch, body) {
            Ok(Response::Page(read)) => assert_eq!(read, page),
            other => panic!("{other:?}"),
        }
    }
}

/// What one more entry writes must not depend on how many read it.
#[test]
fn case_128_a_message_costs_the_same_in_a_group_of_two_and_of_many() {
    let costs = |others: usize| {
        let mut world = World::new();
        let alice = Device::new(1, 1);
        let others = strangers(others);
        let others: Vec<_> = others.iter().collect();
        let packages = world.packages(&others);
        world.create(&alice, ChannelKind::Group, &adding(&others, &packages)).unwrap();
        let created = world.rows();
        world.say(&alice, message(1, 1)).unwrap();
        let said = world.rows();
        world.commit(others[0], &Plan::on(1)).unwrap();
        let committed = world.rows();
        (gained(&created, &said), gained(&said, &committed))
    };
    let two = costs(1);
    assert!(two.0.values().all(|rows| *rows == 1), "{two:?}");
    assert_eq!(costs(100), two);
}

/// The largest Commit with the largest Welcome still fits into a frame on its way in, if its
/// payload is as small as it is; the entry and the pointer fit on their way out.
#[test]
fn case_128_the_largest_welcome_reaches_its_device() {
    let mut world = World::new();
    let (alice, bob) = (Device::new(1, 1), Device::new(2, 2));
    let packages = world.packages(&[&bob]);
    let reference = qpc_credential::key_package_ref(&packages[0]).unwrap();
    let around = mls::welcome_of(&[reference], PAYLOAD_BYTES_MAX).len() - PAYLOAD_BYTES_MAX;
    for (bytes, code) in
        [(PAYLOAD_BYTES_MAX + 1, Some(ErrorCode::InvalidArgument)), (PAYLOAD_BYTES_MAX, None)]
    {
        let welcome = mls::welcome_of(&[reference], bytes - around);
        assert_eq!(welcome.len(), bytes);
        let plan = Plan { welcome: Some(welcome), ..adding(&[&bob], &packages) };
        let created = world.create(&alice, ChannelKind::Group, &plan);
        assert_eq!(created.err().map(|refused| refused.code()), code);
        if code.is_none() {
            check_frames(&mut world, &plan, &bob);
        }
    }
}
