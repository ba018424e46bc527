//! Entries whose sender had not read the last Commit of the log, or one that is not there.

use qpc_delivery::DeliveryError;
use qpc_proto::message::ChannelKind;
use qpc_proto::{ErrorBody, ErrorCode, ErrorDetail};

use crate::mls::Device;
use crate::support::{Plan, World, message};

/// A group of two with Commits 1, 2 and 4, and message 3.
fn group() -> (World, Device, Device) {
    let mut world = World::new();
    let (alice, bob) = (Device::new(1, 1), Device::new(2, 2));
    world.group(&[&alice, &bob]);
    world.commit(&alice, &Plan::on(1)).unwrap();
    world.say(&bob, message(1, 2)).unwrap();
    assert_eq!(world.commit(&bob, &Plan::on(2)).unwrap().answer.seq, 4);
    (world, alice, bob)
}

fn stale(refused: Result<impl Sized, DeliveryError>) -> Option<ErrorDetail> {
    let body: ErrorBody = refused.err().unwrap().to_body();
    assert_eq!(body.code, ErrorCode::StaleCommit);
    assert!(body.code.retryable());
    body.detail
}

/// Neither a Commit nor a message after `after` is taken; the answer names the last Commit.
fn check(after: u64) {
    let (mut world, alice, bob) = group();
    let carol = Device::new(3, 3);
    let last = Some(ErrorDetail::LastCommit(4));
    let joining = world.adding(&[&carol]);
    let before = world.rows();
    for device in [&alice, &bob] {
        // Whatever base it names.
        for base in [1, 2, 4, after] {
            let plan = Plan { after, base, id: 50, ..joining.clone() };
            assert_eq!(stale(world.commit(device, &plan)), last);
            let answer = world.enqueue(device, &[super::support::message_on(50, after, base)]);
            let answer = answer.unwrap();
            assert!(answer.accepted.is_empty());
            assert_eq!(answer.refusal.unwrap().detail, last);
        }
    }
    assert_eq!(world.rows(), before, "nothing of it is stored");
    assert_eq!(world.seqs(&alice), [1, 2, 3, 4]);
    // Not even its ids: under them the rebased ones are accepted.
    let rebased = Plan { after: 4, base: 4, id: 50, ..joining };
    assert!(!world.commit(&alice, &rebased).unwrap().answer.duplicate);
    assert!(!world.say(&alice, message(50, 5)).unwrap().duplicate);
}

#[test]
fn case_094_a_commit_or_message_after_an_older_commit_is_stale_and_not_stored() {
    for after in [0, 1, 2] {
        check(after);
    }
}

#[test]
fn case_095_a_commit_or_message_after_one_that_is_not_there_is_stale_and_not_stored() {
    // A message, then what the log does not have yet.
    for after in [3, 5, 6, u64::MAX] {
        check(after);
    }
}

#[test]
fn case_095_what_was_too_early_is_not_taken_later_by_itself() {
    let (mut world, alice, bob) = group();
    assert!(stale(world.commit(&bob, &Plan::on(5))).is_some());
    assert_eq!(world.commit(&alice, &Plan::on(4)).unwrap().answer.seq, 5);
    assert_eq!(world.seqs(&alice), [1, 2, 3, 4, 5]);
    assert_eq!(world.commit(&bob, &Plan::on(5)).unwrap().answer.seq, 6);
    // No more does a channel begin anywhere but at its beginning.
    let plan = Plan { after: 1, channel: qpc_proto::ChannelId([8; 16]), ..Plan::default() };
    let refused = world.create(&alice, ChannelKind::Group, &plan);
    assert_eq!(stale(refused), Some(ErrorDetail::LastCommit(0)));
}
