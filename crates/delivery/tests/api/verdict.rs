//! Verdicts: of members, on Commits of this log, one for each.

use qpc_credential::{Said, StatementBody};
use qpc_delivery::Room;
use qpc_proto::{ChannelId, Digest, ErrorCode};

use crate::mls::Device;
use crate::support::{CHANNEL, Plan, World, message};

fn verdict(device: &Device, commit_seq: u64, applied: bool) -> bytes::Bytes {
    let said = Said { commit_seq, commit: Digest([7; 32]), applied };
    device.state(CHANNEL, StatementBody::Verdict(said))
}

#[test]
fn a_device_gives_one_verdict_on_each_commit() {
    let mut world = World::new();
    let (alice, bob) = (Device::new(1, 1), Device::new(2, 2));
    world.group(&[&alice, &bob]);
    world.commit(&alice, &Plan::on(1)).unwrap();
    world.say(&bob, message(10, 2)).unwrap();
    let mut state = |device: &Device, id, said: bytes::Bytes| {
        world.state(device, (id, said)).map(|written| written.answer).map_err(|e| e.code())
    };
    assert_eq!(state(&bob, 1, verdict(&bob, 2, false)).unwrap().seq, 4);
    assert!(state(&bob, 1, verdict(&bob, 2, false)).unwrap().duplicate);
    let invalid = ErrorCode::StatementInvalid;
    assert_eq!(state(&bob, 2, verdict(&bob, 2, true)), Err(invalid), "a second one");
    assert_eq!(state(&bob, 3, verdict(&bob, 3, true)), Err(invalid), "no Commit");
    assert_eq!(state(&bob, 4, verdict(&bob, 9, true)), Err(invalid), "not there yet");
    assert_eq!(state(&alice, 5, verdict(&bob, 1, true)), Err(invalid), "of another device");
    assert_eq!(state(&bob, 6, verdict(&bob, 1, true)).unwrap().seq, 5);
    assert_eq!(state(&alice, 7, verdict(&alice, 2, true)).unwrap().seq, 6);
    let elsewhere = bob.state(ChannelId([1; 16]), StatementBody::Leave);
    assert_eq!(state(&bob, 8, elsewhere), Err(invalid));
}

#[test]
fn verdicts_are_forgotten_with_the_commit() {
    let mut world = World::new();
    let (alice, bob) = (Device::new(1, 1), Device::new(2, 2));
    world.group(&[&alice, &bob]);
    world.commit(&alice, &Plan::on(1)).unwrap();
    world.state(&bob, (1, verdict(&bob, 2, false))).unwrap();
    world.now_ms += world.delivery.config.retention_ms;
    world.serve(|d, (tx, now_ms)| d.sweep_expired(tx, now_ms, &mut Room::of(100))).unwrap();
    assert_eq!(world.rows()["verdicts"], 0);
    let late = world.state(&alice, (2, verdict(&alice, 2, true))).unwrap_err();
    assert_eq!(late.code(), ErrorCode::StatementInvalid);
}
