//! Policy numbers on both sides of their edge, where no other test of a rule shows them.

use bytes::Bytes;
use qpc_delivery::Room;
use qpc_proto::DeviceId;
use qpc_proto::ErrorCode;
use qpc_proto::limits::{
    COMMIT_STATEMENTS_MAX, CURSORS_MAX, DEVICES_PER_ACCOUNT_MAX, ENQUEUE_ENTRIES_MAX,
    FRAME_BYTES_MAX, KEY_PACKAGE_BYTES_MAX, PAGE_BYTES_MAX, PAGE_ENTRIES_MAX, PAYLOAD_BYTES_MAX,
    STATEMENT_BYTES_MAX,
};
use qpc_proto::message::{
    ClaimKeyPackages, CommitRequest, Cursor, Enqueue, Page, Request, Response, Statement,
    UploadKeyPackages, inbox_channel,
};

use crate::mls::Device;
use crate::support::{CHANNEL, NOW, Plan, World, message, sized};

const DAY: u64 = 24 * 3_600 * 1_000;

/// One below, at and one above a limit, and whether it is kept.
fn around(limit: usize) -> [(usize, bool); 3] {
    [(limit - 1, true), (limit, true), (limit + 1, false)]
}

/// Whether a request is one that the contract allows.
fn allowed(request: &Request) -> bool {
    Request::decode(request.method(), request.encode()).is_ok()
}

fn read(world: &mut World, device: &Device) -> Page {
    world.fetch(device, CHANNEL, 1).unwrap()
}

#[test]
fn case_156_a_page_has_at_most_512_entries() {
    for (count, whole) in around(PAGE_ENTRIES_MAX) {
        let mut world = World::new();
        let alice = Device::new(1, 1);
        world.group(&[&alice]);
        for chunk in (0..count).collect::<Vec<_>>().chunks(ENQUEUE_ENTRIES_MAX) {
            let numbered = |n: &usize| {
                let mut entry = message(1, 1);
                entry.message_id.0[..2].copy_from_slice(&u16::try_from(*n).unwrap().to_be_bytes());
                entry
            };
            world.enqueue(&alice, &chunk.iter().map(numbered).collect::<Vec<_>>()).unwrap();
        }
        let page = read(&mut world, &alice);
        assert_eq!(page.entries.len() == count, whole, "{count}");
        assert_eq!(page.entries.len(), count.min(PAGE_ENTRIES_MAX));
    }
}

#[test]
fn case_156_a_page_has_at_most_a_mebibyte_unless_one_entry_has_more() {
    for (bytes, whole) in around(PAGE_BYTES_MAX) {
        let mut world = World::new();
        let alice = Device::new(1, 1);
        world.group(&[&alice]);
        world.say(&alice, sized(1, PAGE_BYTES_MAX / 2)).unwrap();
        world.say(&alice, sized(2, bytes - PAGE_BYTES_MAX / 2)).unwrap();
        assert_eq!(read(&mut world, &alice).entries.len() == 2, whole, "{bytes}");
    }
    let mut world = World::new();
    let alice = Device::new(1, 1);
    world.group(&[&alice]);
    world.say(&alice, sized(1, PAYLOAD_BYTES_MAX)).unwrap();
    world.say(&alice, message(2, 1)).unwrap();
    let page = read(&mut world, &alice);
    assert_eq!(page.entries.len(), 1);
    assert!(Response::Page(page).encode().len() < FRAME_BYTES_MAX);
}

#[test]
fn a_request_has_so_many_items() {
    let entry = message(1, 1);
    for (count, kept) in around(ENQUEUE_ENTRIES_MAX) {
        let entries = vec![entry.clone(); count];
        let enqueue = Request::Enqueue(Enqueue { channel: CHANNEL, entries });
        assert_eq!(allowed(&enqueue), kept, "{count}");
    }
    assert!(!allowed(&Request::Enqueue(Enqueue { channel: CHANNEL, entries: Vec::new() })));
    for (count, kept) in around(CURSORS_MAX) {
        let cursors = vec![Cursor { channel: CHANNEL, seq: 1 }; count];
        assert_eq!(allowed(&Request::Subscribe(cursors.clone())), kept, "{count}");
        assert_eq!(allowed(&Request::Ack(cursors)), kept, "{count}");
    }
    for (count, kept) in around(DEVICES_PER_ACCOUNT_MAX) {
        let devices = vec![DeviceId([1; 16]); count];
        let claim = ClaimKeyPackages { account: Device::new(1, 1).id().account, devices };
        assert_eq!(allowed(&Request::ClaimKeyPackages(claim)), kept, "{count}");
    }
    for (count, kept) in around(COMMIT_STATEMENTS_MAX) {
        let plan = Plan::on(1).stating(&vec![Bytes::from_static(b"x"); count]);
        let commit = CommitRequest { channel: CHANNEL, bundle: plan.bundle() };
        assert_eq!(allowed(&Request::Commit(commit)), kept, "{count}");
    }
}

#[test]
fn an_item_has_so_many_bytes() {
    for (bytes, kept) in around(STATEMENT_BYTES_MAX) {
        let statement = vec![0; bytes].into();
        let request = Request::Statement(Statement { channel: CHANNEL, statement });
        assert_eq!(allowed(&request), kept, "{bytes}");
    }
    for (bytes, kept) in around(KEY_PACKAGE_BYTES_MAX) {
        for last in [false, true] {
            let package = Bytes::from(vec![0; bytes]);
            let (key_packages, last_resort) =
                if last { (Vec::new(), Some(package)) } else { (vec![package], None) };
            let upload = UploadKeyPackages { key_packages, last_resort };
            assert_eq!(allowed(&Request::UploadKeyPackages(upload)), kept, "{bytes}");
        }
    }
    for (bytes, kept) in around(PAYLOAD_BYTES_MAX) {
        let entries = vec![sized(1, bytes)];
        let enqueue = Request::Enqueue(Enqueue { channel: CHANNEL, entries });
        assert_eq!(allowed(&enqueue), kept, "{bytes}");
    }
}

#[test]
fn a_commit_relies_on_64_statements_of_16_kib_and_60_in_all() {
    let mut world = World::new();
    let (alice, bob) = (Device::new(1, 1), Device::new(2, 2));
    world.group(&[&alice, &bob]);
    let code = |world: &mut World, statements: &[Bytes]| {
        world.commit_code(&alice, &Plan::on(1).stating(statements))
    };
    // Of an allowed size they are read, and found to be none.
    for (bytes, kept) in around(STATEMENT_BYTES_MAX) {
        let expected = if kept { ErrorCode::StatementInvalid } else { ErrorCode::InvalidArgument };
        assert_eq!(code(&mut world, &[vec![0; bytes].into()]), expected, "{bytes}");
    }
    let change = Plan::on(1).bundle().roster_change.len();
    for (bytes, kept) in around(60 * 1_024) {
        let expected = if kept { ErrorCode::StatementInvalid } else { ErrorCode::InvalidArgument };
        let last = bytes - change - 3 * STATEMENT_BYTES_MAX;
        let mut statements = vec![Bytes::from(vec![0; STATEMENT_BYTES_MAX]); 3];
        statements.push(vec![0; last].into());
        assert_eq!(code(&mut world, &statements), expected, "{bytes}");
    }
    // As many as there may be, and valid.
    let most = vec![bob.leave(CHANNEL); COMMIT_STATEMENTS_MAX];
    assert_eq!(world.commit(&alice, &Plan::on(1).stating(&most)).unwrap().answer.seq, 2);
}

#[test]
fn an_unread_welcome_is_kept_for_30_days() {
    for (age, kept) in [(30 * DAY - 1, true), (30 * DAY, false), (30 * DAY + 1, false)] {
        let mut world = World::new();
        let (alice, bob) = (Device::new(1, 1), Device::new(2, 2));
        world.group(&[&alice, &bob]);
        world.now_ms = NOW + age;
        world.serve(|d, (tx, now_ms)| d.sweep_expired(tx, now_ms, &mut Room::of(100)).unwrap());
        let inbox = world.fetch(&bob, inbox_channel(&bob.id().device), 0);
        let code = inbox.err().map(|refused| refused.code());
        assert_eq!(code, (!kept).then_some(ErrorCode::GapExpired), "age {age}");
    }
}

#[test]
fn case_084_a_last_resort_does_not_count_and_an_empty_upload_is_one() {
    let mut world = World::new();
    let device = Device::new(1, 1);
    let mut put = |key_packages: Vec<Bytes>, last: bool| {
        let last_resort = last.then(|| device.key_package(255, true, NOW));
        let upload = UploadKeyPackages { key_packages, last_resort };
        world.call(&device, |d, call| d.upload(call, &upload)).map_err(|error| error.code())
    };
    let packages = |seeds: std::ops::Range<u8>| -> Vec<_> {
        seeds.map(|seed| device.key_package(seed, false, NOW)).collect()
    };
    assert_eq!(put(Vec::new(), false), Ok(0));
    for (seeds, stored) in [(0..99, Ok(99)), (99..199, Ok(199)), (0..101, Err(ErrorCode::Quota))] {
        assert_eq!(put(packages(seeds), false), stored);
    }
    // A refused upload takes its last resort along.
    assert_eq!(put(packages(199..201), true), Err(ErrorCode::Quota));
    let status = |world: &mut World| world.read(&device, |d, c| d.key_package_status(c)).unwrap();
    assert!(!status(&mut world).has_last_resort);
    let upload = UploadKeyPackages {
        key_packages: packages(199..200),
        last_resort: Some(device.key_package(255, true, NOW)),
    };
    assert_eq!(world.call(&device, |d, call| d.upload(call, &upload)).unwrap(), 200);
    assert!(status(&mut world).has_last_resort);
}
