//! Registration, invites and lookups.

use bytes::Bytes;
use qpc_proto::ErrorCode::{self, *};
use qpc_proto::binding::Purpose;
use qpc_proto::message::RegistrationMode::{Closed, Invite, Open};
use qpc_proto::message::{Identity, Register};

use crate::support::{BINDING, NOW, Person, World};

fn refused(world: &mut World, register: &Register) -> ErrorCode {
    world.register(register).unwrap_err().code()
}

#[test]
fn an_account_is_found_by_name_and_id_as_it_was_signed() {
    let mut world = World::new(Open);
    let alice = Person::new(1, "alice");
    let register = Register { name: "ＡLICE".to_owned(), ..alice.registration() };
    let account = world.register(&register).unwrap();
    assert_eq!(account, alice.device_ref().account);
    let identity = Identity {
        account,
        account_key: register.account_key.clone(),
        device_list: register.device_list.clone(),
    };
    let found = world.at(NOW, None, |auth, call, _| auth.lookup(call.tx, "Alice"));
    assert_eq!(found.unwrap(), identity);
    let found = world.at(NOW, None, |auth, call, _| auth.identity(call.tx, &account));
    assert_eq!(found.unwrap(), identity);
    let devices = world.at(NOW, None, |auth, call, _| auth.active_devices(call.tx, &account));
    assert_eq!(devices.unwrap(), [alice.device]);
    for (name, code) in [("bob", AccountNotFound), ("b o b", NameInvalid)] {
        let found = world.at(NOW, None, |auth, call, _| auth.lookup(call.tx, name));
        assert_eq!(found.unwrap_err().code(), code);
    }
}

#[test]
fn the_request_must_be_what_was_signed() {
    let mut world = World::new(Open);
    let alice = Person::new(1, "alice");
    let other = Person::new(2, "alice").registration();
    let good = alice.registration();

    let mut bad = good.clone();
    bad.name = "bob".to_owned();
    assert_eq!(refused(&mut world, &bad), IdentityInvalid);
    bad = good.clone();
    bad.account_key = other.account_key;
    assert_eq!(refused(&mut world, &bad), IdentityInvalid);
    bad = good.clone();
    bad.device_list = other.device_list;
    assert_eq!(refused(&mut world, &bad), IdentityInvalid);
    bad = good.clone();
    bad.device = other.device;
    assert_eq!(refused(&mut world, &bad), IdentityInvalid);
    bad = good.clone();
    bad.proof = alice.prove(&BINDING, Purpose::Login);
    assert_eq!(refused(&mut world, &bad), Unauthenticated);
    let mut elsewhere = BINDING;
    elsewhere.exporter[0] ^= 1;
    bad.proof = alice.prove(&elsewhere, Purpose::Register);
    assert_eq!(refused(&mut world, &bad), Unauthenticated);

    world.register(&good).unwrap();
}

#[test]
fn a_registration_is_the_first_generation_first_version_and_one_living_device() {
    let mut world = World::new(Open);
    let alice = || Person::new(1, "alice");
    let mut later = alice();
    later.generation = 2;
    assert_eq!(refused(&mut world, &later.registration()), IdentityInvalid);
    let mut later = alice();
    later.version = 2;
    assert_eq!(refused(&mut world, &later.registration()), IdentityInvalid);
    let mut ended = alice();
    ended.not_after_ms = NOW;
    assert_eq!(refused(&mut world, &ended.registration()), IdentityInvalid);
    let mut two = alice().list();
    two.devices.extend(Person::new(2, "alice").list().devices);
    let register = Register { device_list: alice().sign_list(&two), ..alice().registration() };
    assert_eq!(refused(&mut world, &register), IdentityInvalid);
    world.register(&alice().registration()).unwrap();
}

#[test]
fn case_061_a_key_belongs_to_one_account() {
    let mut world = World::new(Open);
    let alice = Person::new(1, "alice");
    world.register(&alice.registration()).unwrap();

    let mut same_root = Person::new(2, "bob");
    same_root.root = alice.root.clone();
    assert_eq!(refused(&mut world, &same_root.registration()), DuplicateKey);
    let mut same_device_key = Person::new(2, "bob");
    same_device_key.device_key = alice.device_key.clone();
    let register = same_device_key.registration();
    assert_eq!(refused(&mut world, &register), DuplicateKey);
    let mut same_device = Person::new(2, "bob");
    same_device.device = alice.device;
    assert_eq!(refused(&mut world, &same_device.registration()), DuplicateKey);
    world.register(&Person::new(2, "bob").registration()).unwrap();
}

#[test]
fn case_062_a_name_belongs_to_the_first() {
    let mut world = World::new(Open);
    let first = Person::new(1, "alice").registration();
    let second = Person::new(2, "alice").registration();
    world.register(&first).unwrap();
    assert_eq!(refused(&mut world, &second), NameTaken);
    let found = world.at(NOW, None, |auth, call, _| auth.lookup(call.tx, "alice"));
    assert_eq!(found.unwrap().account_key, first.account_key);
}

#[test]
fn case_062_of_two_that_race_one_wins() {
    let mut world = World::new(Open);
    let alice = Person::new(1, "alice").registration();
    let same_name = Person::new(2, "alice").registration();
    let mut same_device = Person::new(3, "carol");
    same_device.device = Person::new(1, "alice").device;
    let registers = [&alice, &same_name, &same_device.registration()];
    let outcomes = world.race(&registers);
    assert_eq!(*outcomes[0].as_ref().unwrap(), Person::new(1, "alice").device_ref().account);
    assert_eq!(outcomes[1].as_ref().unwrap_err().code(), NameTaken);
    assert_eq!(outcomes[2].as_ref().unwrap_err().code(), DuplicateKey);
    let found = world.at(NOW, None, |auth, call, _| auth.lookup(call.tx, "alice"));
    assert_eq!(found.unwrap().account_key, alice.account_key);
}

#[test]
fn case_062_a_name_that_looks_like_another_is_taken() {
    let mut world = World::new(Open);
    world.register(&Person::new(1, "modern0l").registration()).unwrap();
    for (number, name) in [(2, "rnodern0l"), (3, "modernol"), (4, "modern01"), (5, "rnodernO1")] {
        let refused = world.register(&Person::new(number, name).registration());
        // The last is no name as it was signed; registering normalises what it asks for.
        let code = if number == 5 { IdentityInvalid } else { NameTaken };
        assert_eq!(refused.unwrap_err().code(), code);
    }
    world.register(&Person::new(6, "modem0l-2").registration()).unwrap();
    let lookup = world.at(NOW, None, |auth, call, _| auth.lookup(call.tx, "rnodern0l"));
    assert_eq!(lookup.unwrap_err().code(), AccountNotFound);
}

#[test]
fn a_closed_server_takes_nobody() {
    let mut world = World::new(Closed);
    let register = Person::new(1, "alice").registration();
    assert_eq!(refused(&mut world, &register), RegistrationClosed);
}

fn invite(world: &mut World) -> Bytes {
    let code = world.at(NOW, None, |auth, call, rng| auth.create_invite(call.tx, NOW, rng));
    Bytes::copy_from_slice(code.unwrap().as_ref())
}

#[test]
fn case_067_an_invite_lets_one_account_in() {
    let mut world = World::new(Invite);
    let code = invite(&mut world);
    let alice = Register { invite: code.clone(), ..Person::new(1, "alice").registration() };
    let bob = Register { invite: code, ..Person::new(2, "bob").registration() };
    world.register(&alice).unwrap();
    assert_eq!(refused(&mut world, &bob), InviteRequired);
}

#[test]
fn case_067_of_two_that_bring_one_invite_at_once_one_wins() {
    let mut world = World::new(Invite);
    let code = invite(&mut world);
    let alice = Register { invite: code.clone(), ..Person::new(1, "alice").registration() };
    let bob = Register { invite: code, ..Person::new(2, "bob").registration() };
    let outcomes = world.race(&[&alice, &bob]);
    assert!(outcomes[0].is_ok());
    assert_eq!(outcomes[1].as_ref().unwrap_err().code(), InviteRequired);
}

#[test]
fn a_refused_registration_gives_its_invite_back() {
    let mut world = World::new(Invite);
    let code = invite(&mut world);
    let mut register = Register { invite: code, ..Person::new(1, "alice").registration() };
    register.name = "bob".to_owned();
    assert_eq!(refused(&mut world, &register), IdentityInvalid);
    register.name = "alice".to_owned();
    world.register(&register).unwrap();
}

#[test]
fn no_invite_a_wrong_one_and_an_expired_one_are_refused_alike() {
    let mut world = World::new(Invite);
    let mut register = Person::new(1, "alice").registration();
    let none = world.register(&register).unwrap_err().to_body();
    assert_eq!(none.code, InviteRequired);
    register.invite = Bytes::from_static(&[9; 16]);
    assert_eq!(world.register(&register).unwrap_err().to_body(), none);
    register.invite = invite(&mut world);
    let ttl = world.auth.config.invite_ttl_ms;
    let mut person = Person::new(1, "alice");
    person.not_after_ms = u64::MAX;
    register.device_list = person.registration().device_list;
    let mut at = |now| world.at(now, None, |auth, call, _| auth.register(call, &register));
    assert_eq!(at(NOW + ttl + 1).unwrap_err().to_body(), none);
    assert_eq!(at(NOW + ttl).unwrap_err().to_body(), none);
    at(NOW + ttl - 1).unwrap();
}
