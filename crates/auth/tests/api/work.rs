//! Open registration wants a proof of work, and more of it under load.

use qpc_auth::AuthError;
use qpc_proto::message::RegistrationMode::{Closed, Invite, Open};
use qpc_proto::message::{ProofOfWork, Register};
use qpc_proto::{ErrorCode, ErrorDetail};

use crate::support::{NOW, Person, World};

const WINDOW: u64 = 10 * 60 * 1_000;

/// An open server that asks for few bits, and the time of a window's beginning.
fn world() -> (World, u64) {
    let mut world = World::new(Open);
    world.auth.config.pow_bits = 4;
    world.auth.config.pow_raise_above = 4;
    (world, NOW - NOW % WINDOW)
}

fn asked(world: &mut World, now_ms: u64) -> Option<ProofOfWork> {
    world.at(now_ms, None, |auth, call, _| auth.proof_of_work(call.tx, now_ms)).unwrap()
}

fn register(world: &mut World, register: &Register, now_ms: u64) -> Result<(), AuthError> {
    world.at(now_ms, None, |auth, call, _| auth.register(call, register)).map(drop)
}

fn person(number: u8) -> Person {
    let mut person = Person::new(number, &format!("person-{number}"));
    person.not_after_ms = NOW * 2;
    person
}

fn solved(number: u8, work: &ProofOfWork) -> Register {
    let person = person(number);
    let nonce = work.solve(&person.device_ref().account);
    Register { proof_of_work: Some(nonce), ..person.registration() }
}

/// The detail of the refusal.
fn refused(result: Result<(), AuthError>) -> ProofOfWork {
    let body = result.unwrap_err().to_body();
    assert_eq!(body.code, ErrorCode::ProofOfWorkRequired);
    match body.detail {
        Some(ErrorDetail::ProofOfWork(work)) => work,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_proof_lets_its_account_in_once() {
    let (mut world, now) = world();
    let work = asked(&mut world, now).unwrap();
    assert_eq!(work.bits, 4);
    let alice = solved(1, &work);
    assert_eq!(refused(register(&mut world, &person(1).registration(), now)), work);
    // Another account's proof. One of sixteen serves by chance; these two don't.
    let bob = Register { proof_of_work: alice.proof_of_work, ..person(3).registration() };
    let account = person(3).device_ref().account;
    assert!(!work.accepts(&account, alice.proof_of_work.unwrap()));
    assert_eq!(refused(register(&mut world, &bob, now)), work);
    register(&mut world, &alice, now).unwrap();
    let again = register(&mut world, &alice, now).unwrap_err();
    assert_eq!(again.code(), ErrorCode::DuplicateKey);
}

#[test]
fn a_proof_counts_until_the_next_window_has_passed() {
    let (mut world, begins) = world();
    world.auth.config.pow_bits = 16;
    let work = asked(&mut world, begins).unwrap();
    assert_eq!(asked(&mut world, begins + WINDOW - 1), Some(work));
    let alice = solved(1, &work);
    let late = begins + 2 * WINDOW;
    let later = refused(register(&mut world, &alice, late));
    assert_ne!(later.seed, work.seed);
    register(&mut world, &alice, late - 1).unwrap();
    // A seed of another server, or from before its secret was renewed.
    let bob = solved(2, &work);
    world.auth.pow_secret = qpc_auth::PowSecret::new([7; 32]);
    refused(register(&mut world, &bob, begins));
}

#[test]
fn only_an_open_server_with_bits_asks() {
    for (mode, bits) in [(Invite, 20), (Closed, 20), (Open, 0)] {
        let mut world = World::new(mode);
        world.auth.config.pow_bits = bits;
        assert_eq!(asked(&mut world, NOW), None);
    }
}

#[test]
fn case_066_each_doubling_of_registrations_asks_for_more() {
    let (mut world, now) = world();
    let mut bits = Vec::new();
    for number in 1..=32 {
        let work = asked(&mut world, now).unwrap();
        bits.push(work.bits);
        register(&mut world, &solved(number, &work), now).unwrap();
    }
    let expected = |created: usize| match created {
        0..4 => 4,
        4..8 => 5,
        8..16 => 6,
        _ => 7,
    };
    assert!(bits.iter().enumerate().all(|(created, bits)| *bits == expected(created)), "{bits:?}");
    assert_eq!(asked(&mut world, now).unwrap().bits, 8);
    // A proof of what was enough before is refused with what is asked for since.
    let light = ProofOfWork { bits: 1, ..asked(&mut world, now).unwrap() };
    let account = person(40).device_ref().account;
    let nonces = (0..u64::MAX).map(u64::to_be_bytes);
    let heavy = ProofOfWork { bits: 8, ..light };
    let few = |nonce: &[u8; 8]| light.accepts(&account, *nonce) && !heavy.accepts(&account, *nonce);
    let nonce = nonces.into_iter().find(few);
    let weak = Register { proof_of_work: nonce, ..person(40).registration() };
    assert_eq!(refused(register(&mut world, &weak, now)).bits, 8);
    // With the load, the bits fall.
    assert_eq!(asked(&mut world, now + WINDOW).unwrap().bits, 8);
    assert_eq!(asked(&mut world, now + WINDOW + 1).unwrap().bits, 4);
}

#[test]
fn case_066_mass_registration_asks_for_thousands_of_times_the_work() {
    let mut world = World::new(Open);
    world.auth.config = qpc_auth::Config { registration: Open, ..qpc_auth::Config::default() };
    // A tenth of both numbers, for the sake of time: what counts is how they relate.
    assert_eq!(world.auth.config.pow_raise_above, 30);
    world.auth.config.pow_raise_above = 3;
    assert_eq!(asked(&mut world, NOW).unwrap().bits, 20);
    world.at(NOW, None, |_, call, _| insert_accounts(call.tx)).unwrap();
    assert_eq!(asked(&mut world, NOW).unwrap().bits, 32);
    // No server asks for more than any client would do.
    world.auth.config.pow_bits = 31;
    assert_eq!(asked(&mut world, NOW).unwrap().bits, 32);
    let register = person(1).registration();
    let all_refused = world.at(NOW, None, |auth, call, _| {
        let refused = |_| auth.register(call, &register).is_err();
        Ok((0..1_000).all(refused))
    });
    assert!(all_refused.unwrap());
}

/// Rows of 10^4 accounts, without the keys that nothing here asks for.
fn insert_accounts(tx: &qpc_storage::Tx<'_>) -> Result<(), AuthError> {
    let sql = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 10000)
         INSERT INTO accounts (account_id, root, name, skeleton, created_at_ms)
         SELECT randomblob(16), randomblob(32), 'a' || n, 'a' || n, ?1 FROM n";
    tx.prepare(sql)?.execute([qpc_storage::Number(NOW)])?;
    Ok(())
}
