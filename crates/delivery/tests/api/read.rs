//! Pages, the list of channels, cursors.

use qpc_proto::message::{ChannelKind, Cursor, Fetch, Page, inbox_channel};
use qpc_proto::{ChannelId, ErrorCode, MessageId};

use crate::mls::Device;
use crate::support::{CHANNEL, World, message, sized};

fn devices() -> (Device, Device, Device) {
    (Device::new(1, 1), Device::new(2, 2), Device::new(3, 3))
}

fn page(world: &mut World, device: &Device, after_seq: u64, bytes_max: u64) -> Page {
    let fetch = Fetch { channel: CHANNEL, after_seq, bytes_max };
    world.read(device, |d, call| d.fetch(call, &fetch)).unwrap()
}

fn seqs(page: &Page) -> Vec<u64> {
    page.entries.iter().map(|entry| entry.seq).collect()
}

#[test]
fn case_156_a_page_is_cut_on_an_entry_s_border() {
    let mut world = World::new();
    let (alice, _, _) = devices();
    world.group(&[&alice]);
    for id in 1..=4 {
        world.say(&alice, sized(id, 1_000)).unwrap();
    }
    assert_eq!(seqs(&page(&mut world, &alice, 1, 2_999)), [2, 3]);
    assert_eq!(seqs(&page(&mut world, &alice, 1, 3_000)), [2, 3, 4]);
    assert_eq!(seqs(&page(&mut world, &alice, 3, 3_000)), [4, 5]);
    // One entry always comes, and every page says how far the log goes.
    let first = page(&mut world, &alice, 2, 1);
    assert_eq!((seqs(&first), first.head_seq), (vec![3], 5));
    let end = page(&mut world, &alice, 5, 0);
    assert_eq!((seqs(&end), end.head_seq), (vec![], 5));
    let beyond = page(&mut world, &alice, u64::MAX, 0);
    assert!(beyond.entries.is_empty());
}

#[test]
fn a_page_has_no_more_than_the_server_s_own_limits() {
    let mut world = World::new();
    let (alice, _, _) = devices();
    world.group(&[&alice]);
    let mut all = Vec::new();
    for round in 0..=2_u8 {
        let mut batch: Vec<_> = (0..=255).map(|id| message(id, 1)).collect();
        for entry in &mut batch {
            entry.message_id.0[0] = round;
        }
        all.extend(world.enqueue(&alice, &batch).unwrap().accepted);
    }
    assert_eq!(page(&mut world, &alice, 0, 0).entries.len(), 512);
    assert_eq!(page(&mut world, &alice, 512, 0).entries.len(), 257);
    let large = 600 * 1_024;
    for id in [1, 2, 3] {
        let mut entry = sized(id, large);
        entry.message_id = MessageId([0x20 + id; 16]);
        entry.message_id.0[0] = 0x20;
        world.say(&alice, entry).unwrap();
    }
    assert_eq!(seqs(&page(&mut world, &alice, 769, 0)), [770]);
    assert_eq!(seqs(&page(&mut world, &alice, 769, u64::MAX)), [770]);
}

#[test]
fn a_device_reads_from_its_join() {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    world.group(&[&alice]);
    world.say(&alice, message(1, 1)).unwrap();
    let plan = world.adding(&[&bob]).at(1, 1);
    world.commit(&alice, &plan).unwrap();
    world.say(&alice, message(2, 3)).unwrap();
    assert_eq!(world.seqs(&bob), [3, 4]);
    assert_eq!(world.seqs(&alice), [1, 2, 3, 4]);
}

#[test]
fn the_list_shows_each_channel_as_the_device_may_see_it() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    let inbox = inbox_channel(&carol.id().device);
    let list = |world: &mut World, device: &Device| {
        world.read(device, |d, call| d.list_channels(call)).unwrap()
    };
    // An inbox is there before anything is in it.
    let states = list(&mut world, &carol);
    assert_eq!(states.len(), 1);
    assert_eq!((states[0].channel, states[0].head_seq), (inbox, 0));
    assert!(world.fetch(&carol, inbox, 0).unwrap().entries.is_empty());

    world.group(&[&alice, &bob]);
    let plan = world.adding(&[&carol]).at(1, 1);
    world.commit(&alice, &plan).unwrap();
    world.say(&carol, message(5, 2)).unwrap();
    let states = list(&mut world, &carol);
    let group = states.iter().find(|s| s.channel == CHANNEL).unwrap();
    assert_eq!(group.kind, ChannelKind::Group);
    assert_eq!((group.join_seq, group.head_seq, group.acked_seq), (2, 3, 0));
    assert_eq!(group.last_message_id, Some(MessageId([5; 16])));
    let inboxes: Vec<_> = states.iter().filter(|s| s.kind == ChannelKind::Inbox).collect();
    assert_eq!(inboxes.len(), 1);
    assert_eq!((inboxes[0].channel, inboxes[0].head_seq), (inbox, 1));
}

#[test]
fn case_150_acks_move_one_device_s_cursor_forward() {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    world.group(&[&alice, &bob]);
    world.say(&alice, message(1, 1)).unwrap();
    let ack = |world: &mut World, device: &Device, channel, seq| {
        let cursor = Cursor { channel, seq };
        world.call(device, |d, call| d.ack(call, &[cursor])).map_err(|error| error.code())
    };
    let acked = |world: &mut World, device: &Device| {
        let states = world.read(device, |d, call| d.list_channels(call)).unwrap();
        states.iter().find(|s| s.channel == CHANNEL).unwrap().acked_seq
    };
    for (seq, stands) in [(1, 1), (1, 1), (0, 1), (2, 2), (1, 2), (u64::MAX, 2)] {
        ack(&mut world, &alice, CHANNEL, seq).unwrap();
        assert_eq!(acked(&mut world, &alice), stands);
    }
    assert_eq!(acked(&mut world, &bob), 0);
    let foreign = inbox_channel(&bob.id().device);
    for channel in [foreign, ChannelId([1; 16])] {
        let refused = ack(&mut world, &alice, channel, 1);
        assert_eq!(refused, Err(ErrorCode::ChannelNotFound));
    }
    ack(&mut world, &alice, inbox_channel(&alice.id().device), 5).unwrap();
    ack(&mut world, &bob, foreign, 1).unwrap();
}
