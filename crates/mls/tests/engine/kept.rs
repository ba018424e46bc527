//! What an engine keeps in memory is never met with another state of the database: rollbacks of
//! every kind, a second engine on the same file, more groups than are kept.

use qpc_mls::engine::CommitPlan;
use qpc_mls::{Engine, MlsError, Verdict};
use qpc_proto::ChannelId;
use qpc_storage::Tx;

use super::support::{
    GROUP, Party, adding, assert_in_step, context, place, pointer, removing, trio,
};

/// Runs `step` with what is in memory used, and takes back all that it wrote: by a savepoint of
/// the caller, then by a transaction that doesn't commit.
fn undone<T>(party: &mut Party, step: impl Fn(&Engine, &Tx<'_>) -> Result<T, MlsError> + Sync) {
    let before = party.state();
    let nested = party.run(|engine, tx| {
        engine.view(tx, &GROUP)?;
        let nested = tx.savepoint(|tx| {
            step(engine, tx)?;
            Err::<(), _>(MlsError::NotMember)
        });
        Ok(matches!(nested, Err(MlsError::NotMember)))
    });
    assert!(nested.unwrap(), "the step failed by itself");
    let whole = party.run(|engine, tx| {
        step(engine, tx)?;
        Err::<(), _>(MlsError::NotMember)
    });
    assert!(matches!(whole, Err(MlsError::NotMember)), "the step failed by itself");
    assert_eq!(party.state(), before);
}

/// The ratchets as they are stored, without their stamp.
fn ratchets(tx: &Tx<'_>) -> Vec<u8> {
    let stored = "SELECT value FROM mls_message_secrets";
    tx.query_row(stored, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_seal_taken_back_is_not_in_memory() {
    let [mut alice, mut bob, mut carol] = trio();
    bob.seal(1, b"the group is in memory");
    let other = bob.another_engine();
    let once = bob.run(|_, tx| {
        let mut stored = Vec::new();
        let undone = tx.savepoint(|tx| {
            other.seal(tx, &GROUP, (&place(1), b"next"))?;
            stored = ratchets(tx);
            Err::<(), _>(MlsError::NotMember)
        });
        assert!(undone.is_err());
        Ok(stored)
    });
    undone(&mut bob, |engine, tx| engine.seal(tx, &GROUP, (&place(1), b"lost")));
    // The generation that was taken back is used now, as an engine does that never had it: readers
    // follow a sender over so many unused ones, and no further.
    let next = bob.seal(1, b"next");
    assert!(bob.run(|_, tx| Ok(ratchets(tx))).unwrap() == once.unwrap(), "one generation");
    carol.reads(&next, b"next");
    alice.reads(&next, b"next");
}

#[test]
fn an_open_taken_back_opens_again() {
    let [_, mut bob, mut carol] = trio();
    let payload = bob.seal(1, b"again");
    undone(&mut carol, |engine, tx| engine.open(tx, &GROUP, &payload));
    carol.reads(&payload, b"again");
    assert!(carol.open(&payload).is_err(), "it opens once");
}

#[test]
fn a_commit_taken_back_is_not_pending() {
    let [mut alice, mut bob, mut carol] = trio();
    bob.view();
    undone(&mut bob, |engine, tx| engine.commit(tx, &GROUP, (&place(1), &CommitPlan::default())));
    let entry = bob.commit(1, &CommitPlan::default());
    undone(&mut bob, |engine, tx| engine.merge_pending(tx, &GROUP));
    undone(&mut bob, |engine, tx| engine.clear_pending(tx, &GROUP));
    bob.merge(&entry);
    undone(&mut carol, |engine, tx| match engine.judge(tx, &GROUP, &entry.read())? {
        Verdict::Applied(_) => Ok(()),
        Verdict::Void(_) | Verdict::Unjudged(_) => Err(MlsError::UnknownGroup),
    });
    carol.judge(&entry);
    alice.judge(&entry);
    assert_in_step(&mut [&mut alice, &mut bob, &mut carol]);
}

#[test]
fn a_join_and_a_making_taken_back_leave_no_group() {
    let (mut alice, mut bob) = (Party::new(10), Party::new(20));
    let context = context(&[&alice]);
    let made = alice.run(|engine, tx| {
        engine.create(tx, &GROUP, (&context, super::support::now_ms()))?;
        Err::<(), _>(MlsError::NotMember)
    });
    assert!(made.is_err());
    let none = alice.run(|engine, tx| engine.view(tx, &GROUP));
    assert!(matches!(none, Err(MlsError::UnknownGroup)), "{none:?}");
    alice.create(&context);
    let entry = alice.commit(0, &adding(&[&bob.key_package()]));
    alice.merge(&entry);
    let welcome = entry.welcome.clone().unwrap();
    let joined = bob.run(|engine, tx| {
        engine.join(tx, &pointer(&welcome), &welcome)?;
        Err::<(), _>(MlsError::NotMember)
    });
    assert!(joined.is_err());
    let none = bob.run(|engine, tx| engine.view(tx, &GROUP));
    assert!(matches!(none, Err(MlsError::UnknownGroup)), "{none:?}");
    bob.join(&entry);
    assert_in_step(&mut [&mut alice, &mut bob]);
}

#[test]
fn a_forgotten_group_is_gone_and_a_forgetting_taken_back_is_not() {
    let [_, mut bob, mut carol] = trio();
    bob.view();
    undone(&mut bob, |engine, tx| engine.forget(tx, &GROUP));
    let payload = bob.seal(1, b"still here");
    carol.reads(&payload, b"still here");
    bob.run(|engine, tx| engine.forget(tx, &GROUP)).unwrap();
    let none = bob.run(|engine, tx| engine.view(tx, &GROUP));
    assert!(matches!(none, Err(MlsError::UnknownGroup)), "{none:?}");
    let left =
        |row: &&String| row.starts_with("mls_group ") || row.starts_with("mls_message_secrets ");
    assert_eq!(bob.state().iter().filter(left).count(), 0);
}

/// Two engines that take turns on one database, each with the group in memory.
#[test]
fn two_engines_on_one_database_see_each_others_steps() {
    let [mut alice, mut bob, mut carol] = trio();
    let other = bob.another_engine();
    for turn in 0..3_u8 {
        let first = bob.seal(1, &[turn]);
        let second = bob.run(|_, tx| other.seal(tx, &GROUP, (&place(1), &[turn, turn]))).unwrap();
        for reader in [&mut alice, &mut carol] {
            reader.reads(&first, &[turn]);
            reader.reads(&second, &[turn, turn]);
        }
        let heard = carol.seal(1, b"heard");
        bob.run(|_, tx| other.open(tx, &GROUP, &heard)).unwrap();
        assert!(bob.open(&heard).is_err(), "the other engine opened it already");
        alice.reads(&heard, b"heard");
    }
    // What one took back and the other did then must not look alike.
    let entry = carol.commit(1, &CommitPlan::default());
    let undone = bob.run(|engine, tx| {
        engine.judge(tx, &GROUP, &entry.read())?;
        Err::<(), _>(MlsError::NotMember)
    });
    assert!(undone.is_err());
    let payload = carol.seal(1, b"before the Commit");
    bob.run(|_, tx| other.open(tx, &GROUP, &payload)).unwrap();
    alice.reads(&payload, b"before the Commit");
    carol.merge(&entry);
    bob.judge(&entry);
    alice.judge(&entry);
    assert_in_step(&mut [&mut alice, &mut bob, &mut carol]);
}

/// The members that a view shows are those of its epoch, also behind a rollback.
#[test]
fn members_in_memory_are_those_of_the_epoch() {
    let [mut alice, mut bob, carol] = trio();
    assert_eq!(bob.view().members.len(), 3);
    let entry = alice.commit(1, &removing(&[&carol]));
    let within = bob
        .run(|engine, tx| {
            let mut counts = Vec::new();
            let undone = tx.savepoint(|tx| {
                engine.judge(tx, &GROUP, &entry.read())?;
                counts.push(engine.view(tx, &GROUP)?.members.len());
                Err::<(), _>(MlsError::NotMember)
            });
            assert!(undone.is_err());
            counts.push(engine.view(tx, &GROUP)?.members.len());
            Ok(counts)
        })
        .unwrap();
    assert_eq!(within, [2, 3]);
    bob.judge(&entry);
    assert_eq!(bob.view().members.len(), 2);
}

/// More groups than are kept, used in turns.
#[test]
fn more_groups_than_are_kept_take_turns() {
    let mut alice = Party::new(10);
    let ids: Vec<[u8; 32]> = (0..40).map(|n| [n; 32]).collect();
    for id in &ids {
        let mut context = context(&[&alice]);
        context.channel = ChannelId([id[0]; 16]);
        alice
            .run(|engine, tx| engine.create(tx, id, (&context, super::support::now_ms())))
            .unwrap();
    }
    for _ in 0..2 {
        for id in &ids {
            let view = alice.run(|engine, tx| engine.view(tx, id)).unwrap();
            assert_eq!(view.context.channel, ChannelId([id[0]; 16]));
            alice.run(|engine, tx| engine.seal(tx, id, (&place(0), b"to myself"))).unwrap();
        }
    }
}
