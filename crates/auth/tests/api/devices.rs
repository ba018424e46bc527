//! The next device list: linking and revoking.

use qpc_auth::{AuthError, Published};
use qpc_credential::DeviceList;
use qpc_proto::ErrorCode::{self, *};
use qpc_proto::message::RegistrationMode::Open;
use qpc_proto::{AccountId, DeviceId};

use crate::support::{Device, NOW, Person, World};

fn world() -> (World, Person, Person) {
    let mut world = World::new(Open);
    let (alice, bob) = (Person::new(1, "alice"), Person::new(2, "bob"));
    world.register(&alice.registration()).unwrap();
    world.register(&bob.registration()).unwrap();
    (world, alice, bob)
}

fn code(result: Result<Published, AuthError>) -> ErrorCode {
    result.unwrap_err().code()
}

fn active(world: &mut World, account: AccountId) -> Vec<DeviceId> {
    world.at(NOW, None, |auth, call, _| auth.active_devices(call.tx, &account)).unwrap()
}

#[test]
fn a_linked_device_is_in_the_newest_list_and_logs_in() {
    let (mut world, alice, _) = world();
    let linked = Device::new(9);
    let published = world.link(&alice, 2, &[&alice.first(), &linked]).unwrap();
    let account = alice.device_ref().account;
    assert_eq!(published.added, [linked.id]);
    assert_eq!(published.revoked, []);
    let found = world.at(NOW, None, |auth, call, _| auth.identity(call.tx, &account)).unwrap();
    assert_eq!(found, published.identity);
    assert_eq!(found.device_list, alice.next_list(2, &[&alice.first(), &linked]));
    assert_eq!(active(&mut world, account), [alice.device, linked.id]);
    world.login(&linked.login(&alice), NOW).unwrap();
}

#[test]
fn the_newest_list_again_changes_nothing() {
    let (mut world, alice, _) = world();
    let (first, linked) = (alice.first(), Device::new(9));
    let once = world.link(&alice, 2, &[&first, &linked]).unwrap();
    let again = world.link(&alice, 2, &[&first, &linked]).unwrap();
    assert_eq!(again, Published { added: vec![], revoked: vec![], identity: once.identity });
    let once = world.revoke(&alice, 3, &[&first]).unwrap();
    let again = world.revoke(&alice, 3, &[&first]).unwrap();
    assert_eq!(again, Published { added: vec![], revoked: vec![], identity: once.identity });
}

#[test]
fn a_list_follows_the_newest_by_version() {
    let (mut world, alice, _) = world();
    let (first, two, three) = (alice.first(), Device::new(9), Device::new(10));
    world.link(&alice, 7, &[&first, &two]).unwrap();
    for version in [0, 1, 6, 7] {
        let stale = world.link(&alice, version, &[&first, &two, &three]);
        assert_eq!(code(stale), DeviceListStale);
        assert_eq!(code(world.revoke(&alice, version, &[&first])), DeviceListStale);
    }
    let list = alice.next_list(u64::MAX, &[&first]);
    let high = world.as_device(alice.device_ref(), |auth, call| auth.revoke_devices(call, &list));
    assert_eq!(code(high), IdentityInvalid);
    world.link(&alice, 8, &[&first, &two, &three]).unwrap();
}

#[test]
fn a_link_adds_one_device_and_a_revocation_takes_some_off() {
    let (mut world, alice, _) = world();
    let (first, two, three) = (alice.first(), Device::new(9), Device::new(10));
    assert_eq!(code(world.link(&alice, 2, &[&first])), IdentityInvalid);
    assert_eq!(code(world.link(&alice, 2, &[&two])), IdentityInvalid);
    assert_eq!(code(world.link(&alice, 2, &[&first, &two, &three])), IdentityInvalid);
    assert_eq!(code(world.link(&alice, 2, &[])), IdentityInvalid);
    assert_eq!(code(world.revoke(&alice, 2, &[&first])), IdentityInvalid);
    assert_eq!(code(world.revoke(&alice, 2, &[&first, &two])), IdentityInvalid);
    assert_eq!(code(world.revoke(&alice, 2, &[&two])), IdentityInvalid);
    // The end of an account has its own request, with a grace.
    assert_eq!(code(world.revoke(&alice, 2, &[])), IdentityInvalid);

    world.link(&alice, 2, &[&first, &two]).unwrap();
    world.link(&alice, 3, &[&first, &two, &three]).unwrap();
    let mut ending = Device::new(9);
    ending.not_after_ms += 1;
    assert_eq!(code(world.revoke(&alice, 4, &[&first, &ending])), IdentityInvalid);
    let both = world.revoke(&alice, 4, &[&first]).unwrap();
    assert_eq!(both.revoked, [two.of(&alice), three.of(&alice)]);
}

#[test]
fn a_device_that_has_ended_or_a_list_under_another_name_is_refused() {
    let (mut world, alice, _) = world();
    let mut ended = Device::new(9);
    ended.not_after_ms = NOW;
    assert_eq!(code(world.link(&alice, 2, &[&alice.first(), &ended])), IdentityInvalid);
    let mut renamed = Person::new(1, "alicia");
    renamed.version = 2;
    let linked = Device::new(9);
    assert_eq!(code(world.link(&renamed, 2, &[&alice.first(), &linked])), IdentityInvalid);
}

#[test]
fn another_accounts_key_signs_nothing() {
    let (mut world, alice, bob) = world();
    let (first, linked) = (alice.first(), Device::new(9));
    let mut forger = Person::new(1, "alice");
    forger.account_key = bob.account_key.clone();
    assert_eq!(code(world.link(&forger, 2, &[&first, &linked])), IdentityInvalid);
    // A sound list of another account than the caller's.
    let list = bob.next_list(2, &[]);
    let foreign =
        world.as_device(alice.device_ref(), |auth, call| auth.revoke_devices(call, &list));
    assert_eq!(code(foreign), IdentityInvalid);
    // No device, and an unknown one.
    let list = alice.next_list(2, &[]);
    let nobody = world.at(NOW, None, |auth, call, _| auth.revoke_devices(call, &list));
    assert_eq!(code(nobody), Unauthenticated);
    let unknown = Device::new(9).of(&alice);
    let unknown = world.as_device(unknown, |auth, call| auth.revoke_devices(call, &list));
    assert_eq!(code(unknown), Unauthenticated);
}

#[test]
fn case_060_a_device_keeps_its_key() {
    let (mut world, alice, _) = world();
    let (first, two, three) = (alice.first(), Device::new(9), Device::new(10));
    world.link(&alice, 2, &[&first, &two]).unwrap();
    let mut other_key = Device::new(9);
    other_key.key = Device::new(11).key;
    assert_eq!(code(world.link(&alice, 3, &[&first, &other_key])), IdentityMismatch);
    assert_eq!(code(world.link(&alice, 3, &[&first, &other_key, &three])), IdentityMismatch);
    assert_eq!(code(world.revoke(&alice, 3, &[&other_key])), IdentityMismatch);
    // What is stored has not changed.
    world.login(&two.login(&alice), NOW).unwrap();
    let login = other_key.login(&alice);
    assert_eq!(world.login(&login, NOW).unwrap_err().code(), Unauthenticated);
}

#[test]
fn case_061_a_linked_device_is_new_to_the_server() {
    let (mut world, alice, bob) = world();
    let (first, two) = (alice.first(), Device::new(9));
    world.link(&alice, 2, &[&first, &two]).unwrap();
    world.revoke(&alice, 3, &[&first]).unwrap();
    let same_key = |device: &Device| Device { key: device.key.clone(), ..Device::new(12) };
    let same_id = |device: &Device| Device { id: device.id, ..Device::new(12) };
    for known in [&two, &bob.first()] {
        for device in [same_key(known), same_id(known)] {
            assert_eq!(code(world.link(&alice, 4, &[&first, &device])), DuplicateKey);
        }
    }
    // A revoked device does not come back as it was either.
    assert_eq!(code(world.link(&alice, 4, &[&first, &two])), DuplicateKey);
    world.link(&alice, 4, &[&first, &Device::new(12)]).unwrap();
}

#[test]
fn case_063_the_eleventh_device_is_refused() {
    let (mut world, alice, _) = world();
    let mut devices = vec![alice.first()];
    for number in 9..18 {
        devices.push(Device::new(number));
        let all: Vec<&Device> = devices.iter().collect();
        world.link(&alice, u64::from(number), &all).unwrap();
    }
    let account = alice.device_ref().account;
    assert_eq!(active(&mut world, account).len(), 10);
    let eleventh = Device::new(30);
    let mut all: Vec<&Device> = devices.iter().chain([&eleventh]).collect();
    assert_eq!(code(world.link(&alice, 18, &all)), DeviceLimit);
    assert_eq!(active(&mut world, account).len(), 10);
    // One less makes room.
    let less: Vec<&Device> = devices.iter().skip(1).collect();
    let first = devices[1].of(&alice);
    let list = alice.next_list(18, &less);
    world.as_device(first, |auth, call| auth.revoke_devices(call, &list)).unwrap();
    all.remove(0);
    let link = alice.next_list(19, &all);
    let parsed = DeviceList::verify(&link, &alice_key(&alice)).unwrap();
    assert_eq!(parsed.devices.len(), 10);
}

fn alice_key(alice: &Person) -> qpc_credential::AccountKey {
    qpc_credential::AccountKey::verify(&alice.account_key()).unwrap()
}
