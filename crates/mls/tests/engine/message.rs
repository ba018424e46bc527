//! Application messages: generations, order, rollback, hostile ratchets.

use qpc_mls::MlsError;
use qpc_mls::engine::CommitPlan;
use qpc_proto::aad::Aad;
use qpc_proto::roster::RosterChange;

use super::hostile::Lie;
use super::support::{GROUP, Party, aad, place, trio};

fn application_aad() -> Aad {
    Aad { commit: None, ..aad(1, &RosterChange::default(), &[]) }
}

fn refused(party: &mut Party, payload: &[u8]) {
    let before = party.state();
    let opened = party.open(payload);
    assert!(matches!(opened, Err(MlsError::Refused(_))), "{opened:?}");
    assert_eq!(party.state(), before, "a refused message left a trace");
}

#[test]
fn a_rollback_never_reuses_a_generation_that_a_peer_may_see() {
    let [_, mut bob, mut carol] = trio();
    // Within one transaction, a savepoint around the second message is rolled back.
    let (first, second) = bob
        .run(|engine, tx| {
            let first = engine.seal(tx, &GROUP, (&place(1), b"one"))?;
            let undone = tx.savepoint(|tx| {
                engine.seal(tx, &GROUP, (&place(1), b"never left"))?;
                Err::<(), _>(MlsError::NotMember)
            });
            assert!(undone.is_err());
            Ok((first, engine.seal(tx, &GROUP, (&place(1), b"two"))?))
        })
        .unwrap();
    // A whole transaction is rolled back.
    let undone = bob.run(|engine, tx| {
        engine.seal(tx, &GROUP, (&place(1), b"never left either"))?;
        Err::<(), _>(MlsError::NotMember)
    });
    assert!(undone.is_err());
    bob.reopen();
    let third = bob.seal(1, b"three");
    carol.reads(&first, b"one");
    carol.reads(&second, b"two");
    carol.reads(&third, b"three");
}

#[test]
fn case_108_a_message_opens_once() {
    let [mut alice, mut bob, mut carol] = trio();
    let payload = bob.seal(1, b"once");
    carol.reads(&payload, b"once");
    refused(&mut carol, &payload);
    alice.reads(&payload, b"once");
    // The sender never opens its own.
    refused(&mut bob, &payload);
}

#[test]
fn case_110_the_highest_generation_is_refused_and_the_ratchet_stays() {
    let [_, mut bob, mut carol] = trio();
    let lies: [fn(&mut [u8]); 3] = [
        |data| data[4..8].fill(0xff),
        |data| data[4..8].copy_from_slice(&5_000_u32.to_be_bytes()),
        |data| data[..4].fill(0xff),
    ];
    for lie in lies {
        let sealed = (&application_aad(), b"far ahead".as_slice());
        let payload = bob.crooked_seal(sealed, Lie::SenderData(lie));
        refused(&mut carol, &payload);
    }
    let good = bob.seal(1, b"still here");
    carol.reads(&good, b"still here");
}

#[test]
fn case_111_messages_reordered_by_a_hundred_all_open() {
    let [_, mut bob, mut carol] = trio();
    let sealed: Vec<_> = (0..100_u32).map(|n| bob.seal(1, &n.to_be_bytes())).collect();
    for (n, payload) in (0..100_u32).zip(&sealed).rev() {
        carol.reads(payload, &n.to_be_bytes());
    }
    carol.reopen();
    refused(&mut carol, &sealed[3]);
}

#[test]
fn case_112_a_message_of_an_epoch_that_is_over_is_refused() {
    let [_, mut bob, mut carol] = trio();
    let late = bob.seal(1, b"late");
    let entry = bob.commit(1, &CommitPlan::default());
    carol.judge(&entry);
    refused(&mut carol, &late);
}

#[test]
fn case_113_a_message_before_its_commit_is_refused_and_opens_behind_it() {
    let [_, mut bob, mut carol] = trio();
    let entry = bob.commit(1, &CommitPlan::default());
    bob.merge(&entry);
    let early = bob.seal(2, b"early");
    refused(&mut carol, &early);
    carol.judge(&entry);
    carol.reads(&early, b"early");
}

#[test]
fn a_passive_member_keeps_its_ratchets_over_restarts() {
    let [_, mut bob, mut carol] = trio();
    for n in 0..60_u32 {
        let payload = bob.seal(1, &n.to_be_bytes());
        if n % 20 == 0 {
            carol.reopen();
        }
        carol.reads(&payload, &n.to_be_bytes());
    }
}

#[test]
fn every_byte_of_a_message_counts() {
    let [_, mut bob, mut carol] = trio();
    let payload = bob.seal(1, b"intact");
    for at in (0..payload.len()).step_by(5) {
        let mut flipped = payload.clone();
        flipped[at] ^= 0x40;
        refused(&mut carol, &flipped);
        refused(&mut carol, &payload[..at]);
    }
    carol.reads(&payload, b"intact");
}

#[test]
fn a_commit_is_no_message_and_does_not_spend_the_ratchet() {
    let [_, mut bob, mut carol] = trio();
    let entry = bob.commit(1, &CommitPlan::default());
    refused(&mut carol, &entry.payload);
    assert!(matches!(carol.judge(&entry), qpc_mls::Verdict::Applied(_)));
}

#[test]
fn case_220_texts_of_one_bucket_have_one_length() {
    let [_, mut bob, _] = trio();
    let short = bob.seal(1, b"1");
    let longer = bob.seal(1, &[b'x'; 20]);
    let next = bob.seal(1, &[b'x'; 900]);
    assert_eq!(short.len(), longer.len());
    assert!(next.len() > short.len());
    let padded = bob.seal(1, &[b'x'; 899]);
    assert_eq!(next.len(), padded.len());
}
