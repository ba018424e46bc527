//! The recovery phrase: whoever holds the root begins a new generation of the account key.

use qpc_auth::{AuthError, Published};
use qpc_proto::ErrorCode::{self, *};
use qpc_proto::message::RegistrationMode::Open;
use qpc_proto::message::{Identity, Recover};
use qpc_proto::{PublicKey, Signature};

use crate::support::{Device, NOW, Person, World};

type Recovered = Result<(Identity, Option<Published>), AuthError>;

/// An account with its first and one linked device.
fn world() -> (World, Person, Device) {
    let mut world = World::new(Open);
    let (alice, linked) = (Person::new(1, "alice"), Device::new(9));
    world.register(&alice.registration()).unwrap();
    world.link(&alice, 2, &[&alice.first(), &linked]).unwrap();
    (world, alice, linked)
}

fn recover(world: &mut World, recover: &Recover) -> Recovered {
    world.at(NOW, None, |auth, call, _| auth.recover(call, recover))
}

fn code(recovered: Recovered) -> ErrorCode {
    recovered.unwrap_err().code()
}

#[test]
fn a_recovery_revokes_all_devices_that_it_does_not_keep() {
    let (mut world, alice, linked) = world();
    let next = alice.next_generation();
    let fresh = Device::new(20);
    let (asked, none) = recover(&mut world, &alice.ask(&fresh)).unwrap();
    assert_eq!(asked.device_list, alice.next_list(2, &[&alice.first(), &linked]));
    assert_eq!(none, None);

    let recovery = next.recovery(&fresh, &[&fresh, &linked]);
    let (identity, published) = recover(&mut world, &recovery).unwrap();
    let published = published.unwrap();
    assert_eq!(published.added, [fresh.id]);
    assert_eq!(published.revoked, [alice.device_ref()]);
    assert_eq!(published.identity, identity);
    assert_eq!(identity.account_key, next.account_key());
    let account = alice.device_ref().account;
    let found = world.at(NOW, None, |auth, call, _| auth.identity(call.tx, &account));
    assert_eq!(found.unwrap(), identity);
    for login in [fresh.login(&alice), linked.login(&alice)] {
        world.login(&login, NOW).unwrap();
    }
    assert_eq!(world.login(&alice.login(), NOW).unwrap_err().code(), DeviceRevoked);

    // The reply was lost: the same again changes nothing.
    let again = recover(&mut world, &recovery).unwrap();
    assert_eq!(again, (identity, None));
    // A thief of the old primary signs in vain, in a living session too.
    let device = linked.of(&alice);
    let list = alice.next_list(99, &[&linked]);
    let old = world.as_device(device, |auth, call| auth.revoke_devices(call, &list));
    assert_eq!(old.unwrap_err().code(), IdentityInvalid);
    let list = next.next_list(2, &[&fresh]);
    let fresh = fresh.of(&alice);
    world.as_device(fresh, |auth, call| auth.revoke_devices(call, &list)).unwrap();
}

#[test]
fn a_device_that_is_still_there_may_be_the_recovering_one() {
    let (mut world, alice, linked) = world();
    let recovery = alice.next_generation().recovery(&linked, &[&linked]);
    let (_, published) = recover(&mut world, &recovery).unwrap();
    let published = published.unwrap();
    assert_eq!((published.added, published.revoked), (vec![], vec![alice.device_ref()]));
}

#[test]
fn only_the_root_and_the_device_that_it_names_recover() {
    let (mut world, alice, _) = world();
    let (next, fresh) = (alice.next_generation(), Device::new(20));
    let good = next.recovery(&fresh, &[&fresh]);
    let mut bad = good.clone();
    bad.root_proof = Signature::ZERO;
    assert_eq!(code(recover(&mut world, &bad)), Unauthenticated);
    bad = good.clone();
    bad.device = Device::new(21).id;
    assert_eq!(code(recover(&mut world, &bad)), Unauthenticated);
    bad = good.clone();
    bad.root = PublicKey([0; 32]);
    assert_eq!(code(recover(&mut world, &bad)), Unauthenticated);
    bad = good.clone();
    bad.publish.as_mut().unwrap().proof = good.root_proof;
    assert_eq!(code(recover(&mut world, &bad)), Unauthenticated);
    // A root that no account has, honestly proved.
    let stranger = Person::new(5, "eve");
    assert_eq!(code(recover(&mut world, &stranger.ask(&fresh))), AccountNotFound);
    recover(&mut world, &good).unwrap();
}

#[test]
fn a_recovery_is_the_next_generation_and_its_first_version() {
    let (mut world, alice, linked) = world();
    let (next, fresh) = (alice.next_generation(), Device::new(20));
    // The generation that is there, and one too many.
    let mut same = alice.recovery(&fresh, &[&fresh]);
    same.publish.as_mut().unwrap().account_key = alice.account_key();
    assert_eq!(code(recover(&mut world, &same)), DeviceListStale);
    let mut skipped = next.next_generation();
    skipped.name = "alice".to_owned();
    assert_eq!(code(recover(&mut world, &skipped.recovery(&fresh, &[&fresh]))), IdentityInvalid);
    // The key that is to be superseded.
    let mut same_key = alice.next_generation();
    same_key.account_key = alice.account_key.clone();
    assert_eq!(code(recover(&mut world, &same_key.recovery(&fresh, &[&fresh]))), IdentityInvalid);
    let mut second = next.recovery(&fresh, &[&fresh]);
    second.publish.as_mut().unwrap().device_list = next.next_list(2, &[&fresh]);
    assert_eq!(code(recover(&mut world, &second)), IdentityInvalid);
    // Without the recovering device, and with one more than it.
    assert_eq!(code(recover(&mut world, &next.recovery(&fresh, &[&linked]))), IdentityInvalid);
    let two = [&fresh, &Device::new(21)];
    assert_eq!(code(recover(&mut world, &next.recovery(&fresh, &two))), IdentityInvalid);
    let mut renamed = alice.next_generation();
    renamed.name = "alicia".to_owned();
    assert_eq!(code(recover(&mut world, &renamed.recovery(&fresh, &[&fresh]))), IdentityInvalid);
    recover(&mut world, &next.recovery(&fresh, &[&fresh])).unwrap();
}

#[test]
fn case_060_case_061_a_recovery_neither_changes_nor_reuses_a_key() {
    let (mut world, alice, linked) = world();
    let (next, fresh) = (alice.next_generation(), Device::new(20));
    let mut other_key = Device::new(9);
    other_key.key = Device::new(30).key;
    let mismatch = next.recovery(&fresh, &[&fresh, &other_key]);
    assert_eq!(code(recover(&mut world, &mismatch)), IdentityMismatch);
    world.revoke(&alice, 3, &[&alice.first()]).unwrap();
    assert_eq!(code(recover(&mut world, &next.recovery(&linked, &[&linked]))), DuplicateKey);
    let kept = next.recovery(&fresh, &[&fresh, &linked]);
    assert_eq!(code(recover(&mut world, &kept)), IdentityInvalid);
}

#[test]
fn a_suspended_account_is_not_recovered() {
    let (mut world, alice, _) = world();
    let fresh = Device::new(20);
    let suspend = |auth: &qpc_auth::Auth, call: &qpc_auth::Call<'_>, _: &mut _| {
        auth.set_suspended(call.tx, "alice", true)
    };
    world.at(NOW, None, suspend).unwrap();
    assert_eq!(code(recover(&mut world, &alice.ask(&fresh))), AccountSuspended);
    let mut wrong = alice.ask(&fresh);
    wrong.root_proof = Signature::ZERO;
    assert_eq!(code(recover(&mut world, &wrong)), Unauthenticated);
}
