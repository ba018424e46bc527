//! Attacks of members and inviters with the honest engine's own calls: what they would overwrite,
//! stop or evict. Nothing here knows how the engine refuses.

#[expect(dead_code, reason = "shared with the engine's tests, which use the rest")]
#[path = "engine/support.rs"]
mod support;

use qpc_mls::engine::CommitPlan;
use qpc_mls::{MlsError, Unjudged, Verdict, VoidReason};
use qpc_proto::ChannelId;
use qpc_proto::message::WelcomePointer;

use support::{CHANNEL, Party, adding, assert_in_step, context, pointer, removing, trio};

#[test]
fn a_welcome_with_the_group_id_of_another_channel_overwrites_nothing() {
    let [mut alice, mut bob, mut carol] = trio();
    // Eve makes a channel of her own, over a group with the id that Bob's group has.
    let mut eve = Party::new(40);
    let mut hers = context(&[&eve]);
    hers.channel = ChannelId([66; 16]);
    eve.create(&hers);
    let entry = eve.commit(0, &adding(&[&bob.key_package()]));
    let welcome = entry.welcome.unwrap();
    let named = WelcomePointer { channel: hers.channel, ..pointer(&welcome) };
    let before = bob.state();
    let joined = bob.try_join(&named, &welcome);
    assert!(matches!(joined, Err(MlsError::Refused(_))), "{joined:?}");
    assert_eq!(bob.state(), before);
    let sealed = alice.seal(1, b"still ours");
    bob.reads(&sealed, b"still ours");
    assert_in_step(&mut [&mut alice, &mut bob, &mut carol]);
}

#[test]
fn a_policy_of_the_future_by_who_is_no_admin_is_void_and_wedges_nobody() {
    let [mut alice, mut bob, mut carol] = trio();
    let mut after = context(&[&alice]);
    after.policy_version += 1;
    let plan = CommitPlan { context: Some(after), ..CommitPlan::default() };
    let entry = bob.commit(1, &plan);
    assert_eq!(bob.judge_pending(&entry), Verdict::Void(VoidReason::Role));
    assert_eq!(alice.judge(&entry), Verdict::Void(VoidReason::Role));
    assert_eq!(carol.judge(&entry), Verdict::Void(VoidReason::Role));
    // An admin's stops the reader, as it must.
    let entry = alice.commit(1, &plan);
    assert_eq!(carol.judge(&entry), Verdict::Unjudged(Unjudged::Local));
}

#[test]
fn a_leave_signed_by_a_device_that_is_not_in_evicts_nobody() {
    let [mut alice, mut bob, mut carol] = trio();
    // Another device of Carol's account, certified once: lost, revoked or never added here.
    let lost = Party::device_of(30, 77);
    assert_eq!(lost.account(), carol.account());
    // The certified device of the leaf, but with another key.
    let rekeyed = Party::with_key((30, 32, 78));
    assert_eq!(rekeyed.id(), carol.id());
    for signer in [lost, rekeyed] {
        let statements = vec![signer.leave_statement(CHANNEL)];
        let entry = bob.commit(1, &CommitPlan { statements, ..removing(&[&carol]) });
        assert_eq!(bob.judge_pending(&entry), Verdict::Void(VoidReason::Role));
        bob.clear();
        assert_eq!(alice.judge(&entry), Verdict::Void(VoidReason::Role));
        assert_eq!(carol.judge(&entry), Verdict::Void(VoidReason::Role));
    }
    assert_in_step(&mut [&mut alice, &mut bob, &mut carol]);
}
