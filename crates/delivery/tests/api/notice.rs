//! Notices: entries of an inbox like others, from the server alone.

use qpc_proto::message::{ChannelKind, EntryKind, Notice, NoticeKind, inbox_channel};
use qpc_proto::{Digest, ErrorCode};

use crate::mls::Device;
use crate::support::{CHANNEL, NOW, Plan, World, ids};

fn notice(kind: NoticeKind, device: &Device) -> Notice {
    Notice { kind, device: device.id().device, at_ms: NOW }
}

#[test]
fn a_notice_is_in_the_chain_of_the_inbox_and_is_read_like_any_entry() {
    let mut world = World::new();
    let (alice, bob, bob2) = (Device::new(1, 1), Device::new(2, 2), Device::new(2, 22));
    let told = [notice(NoticeKind::Linked, &bob2), notice(NoticeKind::Exported, &bob)];
    let to = ids(&[&bob, &bob2]);
    let inboxes = [inbox_channel(&to[0].device), inbox_channel(&to[1].device)];
    let wakes = world.serve(|d, at| d.post_notice(at, &to, &told[0])).unwrap();
    assert_eq!(wakes, inboxes);
    let plan = world.adding(&[&bob]);
    world.create(&alice, ChannelKind::Group, &plan).unwrap();
    world.serve(|d, at| d.post_notice(at, &to[..1], &told[1])).unwrap();

    let page = world.fetch(&bob, inboxes[0], 0).unwrap();
    world.check_chain(&page, Digest::ZERO);
    let kinds: Vec<_> = page.entries.iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [EntryKind::Notice, EntryKind::Welcome, EntryKind::Notice]);
    for (at, told) in [(0, told[0]), (2, told[1])] {
        let entry = &page.entries[at];
        assert_eq!(Notice::decode(&entry.payload), Ok(told));
        assert_eq!((entry.after_commit, entry.accepted_at_ms), (0, NOW));
        assert_eq!(entry.welcome, None);
    }
    assert_eq!(world.fetch(&bob2, inboxes[1], 0).unwrap().entries.len(), 1);
    let stranger = world.fetch(&alice, inboxes[0], 0).unwrap_err();
    assert_eq!(stranger.code(), ErrorCode::ChannelNotFound);
}

#[test]
fn a_revoked_device_gets_no_notice() {
    let mut world = World::new();
    let (bob, bob2) = (Device::new(2, 2), Device::new(2, 22));
    world.revoke(&[&bob2], &bob.list(2, &[&bob]));
    let to = ids(&[&bob, &bob2]);
    let told = notice(NoticeKind::Revoked, &bob2);
    let wakes = world.serve(|d, at| d.post_notice(at, &to, &told)).unwrap();
    assert_eq!(wakes, [inbox_channel(&to[0].device)]);
    // Nor does a notice open the channels to anybody.
    assert!(world.commit(&bob, &Plan { channel: CHANNEL, ..Plan::on(1) }).is_err());
}
