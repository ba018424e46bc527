//! Commits: the compare-and-swap, what a bundle must hold, and what a lost one must not leave.

use qpc_proto::message::{ChannelKind, CommitRequest, EntryKind, WelcomePointer, inbox_channel};
use qpc_proto::roster::Role;
use qpc_proto::{ChannelId, Digest, ErrorCode, ErrorDetail, chain::sha256};

use crate::mls::{self, Device};
use crate::support::{CHANNEL, Plan, World, ids, message};

fn devices() -> (Device, Device, Device) {
    (Device::new(1, 1), Device::new(2, 2), Device::new(3, 3))
}

#[test]
fn a_channel_begins_with_its_first_commit_and_welcomes() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    let plan = world.adding(&[&bob, &carol]);
    let created = world.create(&alice, ChannelKind::Group, &plan).unwrap();
    let (bobs, carols) = (inbox_channel(&bob.id().device), inbox_channel(&carol.id().device));
    assert_eq!(created.wakes, [bobs, carols, CHANNEL]);
    let page = world.fetch(&bob, CHANNEL, 0).unwrap();
    assert_eq!(world.check_chain(&page, Digest::ZERO), created.answer.head);
    assert_eq!(page.entries.len(), 1);
    let (entry, bundle) = (&page.entries[0], plan.bundle());
    assert_eq!(entry.kind, EntryKind::Commit);
    assert_eq!(entry.payload, bundle.payload);
    assert_eq!(entry.roster_change, bundle.roster_change);
    let welcome = bundle.welcome.unwrap();
    assert_eq!(entry.welcome_hash, sha256(&welcome));
    assert_eq!(entry.welcome, None);

    for device in [&bob, &carol] {
        let inbox = inbox_channel(&device.id().device);
        let page = world.fetch(device, inbox, 0).unwrap();
        world.check_chain(&page, Digest::ZERO);
        assert_eq!(page.entries.len(), 1);
        assert_eq!(page.entries[0].kind, EntryKind::Welcome);
        assert_eq!(page.entries[0].welcome.as_ref(), Some(&welcome));
        assert_eq!(page.entries[0].message_id, bundle.message_id);
        let pointer = WelcomePointer::decode(&page.entries[0].payload).unwrap();
        let expected = WelcomePointer {
            channel: CHANNEL,
            kind: ChannelKind::Group,
            join_seq: 1,
            head: created.answer.head,
            welcome_hash: sha256(&welcome),
            inviter: alice.id().account,
        };
        assert_eq!(pointer, expected);
    }
    // The same bundle again is the same answer; the id can't be taken for anything else.
    let again = world.create(&alice, ChannelKind::Group, &plan).unwrap();
    assert!(again.answer.duplicate && again.wakes.is_empty());
    for (device, id) in [(&alice, 2), (&bob, 1), (&Device::new(4, 4), 1)] {
        let plan = Plan { id, ..Plan::default() };
        let refused = world.create(device, ChannelKind::Group, &plan).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::InvalidArgument);
    }
}

#[test]
fn a_first_commit_has_no_predecessor() {
    let mut world = World::new();
    let (alice, _, _) = devices();
    for (after, base, code) in [(1, 0, ErrorCode::StaleCommit), (0, 1, ErrorCode::AadMismatch)] {
        let plan = Plan::default().at(after, base);
        let refused = world.create(&alice, ChannelKind::Group, &plan);
        assert_eq!(refused.unwrap_err().code(), code);
    }
    let refused = world.create(&alice, ChannelKind::Inbox, &Plan::default());
    assert_eq!(refused.unwrap_err().code(), ErrorCode::InvalidArgument);
    let refused = world.fetch(&alice, CHANNEL, 0);
    assert_eq!(refused.unwrap_err().code(), ErrorCode::ChannelNotFound);
}

#[test]
fn case_092_of_two_commits_on_one_base_one_is_stored() {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    world.group(&[&alice, &bob]);
    let won = world.commit(&alice, &Plan::on(1)).unwrap();
    assert_eq!((won.answer.seq, won.wakes), (2, vec![CHANNEL]));
    let lost = world.commit(&bob, &Plan::on(1)).unwrap_err().to_body();
    assert_eq!(lost.code, ErrorCode::StaleCommit);
    assert!(lost.code.retryable());
    assert_eq!(lost.detail, Some(ErrorDetail::LastCommit(2)));
    assert_eq!(world.seqs(&bob), [1, 2]);
    // Rebased, it is the next; the winner's retry is its first answer.
    let next = world.commit(&bob, &Plan::on(2)).unwrap();
    assert_eq!(next.answer.seq, 3);
    let again = world.commit(&alice, &Plan::on(1)).unwrap();
    assert!(again.answer.duplicate && again.wakes.is_empty());
    assert_eq!(again.answer.head, won.answer.head);
}

#[test]
fn case_116_the_loser_s_welcome_never_leaves() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    world.group(&[&alice, &bob]);
    let losing = world.adding(&[&carol]).at(1, 1);
    world.commit(&bob, &Plan::on(1)).unwrap();
    assert_eq!(world.commit_code(&alice, &losing), ErrorCode::StaleCommit);
    let inbox = inbox_channel(&carol.id().device);
    assert!(world.fetch(&carol, inbox, 0).unwrap().entries.is_empty());
    let refused = world.fetch(&carol, CHANNEL, 0).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::ChannelNotFound);
    let winning = world.adding(&[&carol]).at(2, 2);
    world.commit(&alice, &winning).unwrap();
    let page = world.fetch(&carol, inbox, 0).unwrap();
    assert_eq!(page.entries.len(), 1);
    assert_eq!(page.entries[0].welcome, winning.welcome);
}

#[test]
fn case_115_a_refused_bundle_leaves_nothing() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    world.group(&[&alice, &bob]);
    let inbox = inbox_channel(&carol.id().device);
    let good = world.adding(&[&carol]).at(1, 1);
    let unknown = Digest([5; 32]);
    let other = world.adding(&[&Device::new(4, 4)]).welcome;
    let bobs = world.packages(&[&bob]);
    for welcome in [
        None,
        other,
        Some(mls::welcome(&bobs)),
        Some(mls::welcome_for(&[unknown])),
        Some(mls::welcome_for(&[])),
    ] {
        let plan = Plan { welcome, ..good.clone() };
        assert_eq!(world.commit_code(&alice, &plan), ErrorCode::RosterRefused);
    }
    let plan = Plan { welcome: good.welcome.clone(), ..Plan::on(1) };
    assert_eq!(world.commit_code(&alice, &plan), ErrorCode::RosterRefused);
    let plan = Plan { welcome: Some(good.bundle().payload), ..good.clone() };
    assert_eq!(world.commit_code(&alice, &plan), ErrorCode::InvalidMlsType);
    assert!(world.fetch(&carol, inbox, 0).unwrap().entries.is_empty());
    assert_eq!(world.seqs(&alice), [1]);
    world.commit(&alice, &good).unwrap();
    assert_eq!(world.seqs(&carol), [2]);
}

#[test]
fn a_claimed_package_still_proves_whose_it_was() {
    let mut world = World::new();
    let (alice, bob, _) = devices();
    world.group(&[&alice]);
    let plan = world.adding(&[&bob]).at(1, 1);
    let identity = qpc_proto::message::Identity {
        account: bob.id().account,
        account_key: Default::default(),
        device_list: Default::default(),
    };
    let claim = world.call(&alice, |d, call| d.claim(call, &identity, &[bob.id().device]));
    assert_eq!(claim.unwrap().claimed.len(), 1);
    world.commit(&alice, &plan).unwrap();
}

#[test]
fn the_authenticated_data_binds_the_bundle() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    world.group(&[&alice, &bob]);
    let plan = world.adding(&[&carol]).at(1, 1);
    let mut request = CommitRequest { channel: CHANNEL, bundle: plan.bundle() };
    request.bundle.payload = Plan::on(1).bundle().payload;
    let refused = world.call(&alice, |d, call| d.commit(call, &request));
    assert_eq!(refused.unwrap_err().code(), ErrorCode::AadMismatch);
    request.bundle = plan.bundle();
    request.bundle.statements = vec![bob.leave(CHANNEL)];
    let refused = world.call(&alice, |d, call| d.commit(call, &request));
    assert_eq!(refused.unwrap_err().code(), ErrorCode::AadMismatch);
    request.bundle = plan.bundle();
    request.bundle.roster_change = b"x".as_slice().into();
    let refused = world.call(&alice, |d, call| d.commit(call, &request));
    assert_eq!(refused.unwrap_err().code(), ErrorCode::InvalidArgument);

    for (statement, code) in [
        (bob.leave(ChannelId([1; 16])), ErrorCode::StatementInvalid),
        (b"x".as_slice().into(), ErrorCode::StatementInvalid),
        (vec![0; 16 * 1024 + 1].into(), ErrorCode::InvalidArgument),
    ] {
        let plan = Plan { statements: vec![statement], ..Plan::on(1) };
        assert_eq!(world.commit_code(&alice, &plan), code);
    }
    let plan = Plan { statements: vec![bob.leave(CHANNEL), carol.leave(CHANNEL)], ..Plan::on(1) };
    world.commit(&alice, &plan).unwrap();
    let page = world.fetch(&alice, CHANNEL, 1).unwrap();
    assert_eq!(page.entries[0].statements, plan.statements);
}

#[test]
fn who_may_change_what() {
    let mut world = World::new();
    let (alice, bob, carol) = devices();
    let (bob2, dave) = (Device::new(2, 22), Device::new(4, 4));
    world.group(&[&alice, &bob, &carol]);
    let refused = ErrorCode::RosterRefused;
    let plan = Plan::on(1).with_role(&bob, Role::Admin);
    assert_eq!(world.commit_code(&bob, &plan), refused);
    let plan = Plan::on(1).removing(&[&carol]);
    assert_eq!(world.commit_code(&bob, &plan), refused);
    let plan = world.adding(&[&dave]).at(1, 1);
    assert_eq!(world.commit_code(&bob, &plan), refused);
    // A sibling of the own account needs nobody's leave.
    let plan = world.adding(&[&bob2]).at(1, 1);
    world.commit(&bob, &plan).unwrap();
    let plan = world.adding(&[&bob]).at(2, 2);
    assert_eq!(world.commit_code(&alice, &plan), refused);
    let plan = Plan::on(2).removing(&[&dave]);
    assert_eq!(world.commit_code(&alice, &plan), refused);
    let plan = Plan::on(2).with_role(&bob, Role::Admin);
    world.commit(&alice, &plan).unwrap();
    let plan = Plan::on(3).removing(&[&carol]);
    world.commit(&bob2, &plan).unwrap();
    let plan = world.adding(&[&dave]).at(4, 4);
    world.commit(&bob, &plan).unwrap();
}

#[test]
fn an_inbox_id_can_be_no_trap() {
    let mut world = World::new();
    let (alice, bob, eve) = devices();
    let inbox = inbox_channel(&bob.id().device);
    let trap = Plan { channel: inbox, ..Plan::default() };
    world.create(&eve, ChannelKind::Group, &trap).unwrap();
    assert!(world.fetch(&bob, inbox, 0).unwrap().entries.is_empty());
    world.group(&[&alice, &bob]);
    let page = world.fetch(&bob, inbox, 0).unwrap();
    assert_eq!(page.entries[0].kind, EntryKind::Welcome);
    assert_eq!(world.fetch(&eve, inbox, 0).unwrap().entries.len(), 1);
    // Nobody writes into an inbox, its owner included.
    let enqueue = qpc_proto::message::Enqueue { channel: inbox, entries: vec![message(1, 0)] };
    let refused = world.call(&bob, |d, call| d.enqueue(call, &enqueue));
    assert_eq!(refused.unwrap_err().code(), ErrorCode::ChannelNotFound);
    assert_eq!(ids(&[&bob])[0].device, bob.id().device);
}

#[test]
fn nobody_is_in_a_group_named_like_its_inbox() {
    let mut world = World::new();
    let (_, bob, eve) = devices();
    let inbox = inbox_channel(&bob.id().device);
    let before = world.rows();
    let trap = Plan { channel: inbox, ..world.adding(&[&bob]) };
    for kind in [ChannelKind::Group, ChannelKind::Direct] {
        let refused = world.create(&eve, kind, &trap).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::InvalidArgument);
    }
    let own = Plan { channel: inbox, ..Plan::default() };
    let refused = world.create(&bob, ChannelKind::Group, &own).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::InvalidArgument);
    assert_eq!(world.rows()["channels"], before["channels"]);
    // Nor can it be added to one that is there.
    world.create(&eve, ChannelKind::Group, &own).unwrap();
    let plan = Plan { channel: inbox, ..world.adding(&[&bob]).at(1, 1) };
    assert_eq!(world.commit_code(&eve, &plan), ErrorCode::InvalidArgument);
    assert!(world.fetch(&bob, inbox, 0).unwrap().entries.is_empty());
}

#[test]
fn every_device_of_a_large_add_is_welcomed_by_one_row() {
    let mut world = World::new();
    let alice = Device::new(1, 1);
    let others: Vec<_> = (10..40).map(|n| Device::new(n, n)).collect();
    let others: Vec<_> = others.iter().collect();
    let plan = world.adding(&others);
    let created = world.create(&alice, ChannelKind::Group, &plan).unwrap();
    assert_eq!(created.wakes.len(), 31);
    for device in others {
        let inbox = inbox_channel(&device.id().device);
        let page = world.fetch(device, inbox, 0).unwrap();
        assert_eq!(page.entries[0].welcome, plan.welcome);
    }
}
