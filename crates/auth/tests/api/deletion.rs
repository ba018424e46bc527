//! The end of an account, and what its owner can take along before.

use qpc_auth::{Auth, AuthError, Call, Published};
use qpc_proto::AccountId;
use qpc_proto::ErrorCode::{self, *};
use qpc_proto::message::DeviceRef;
use qpc_proto::message::RegistrationMode::Open;
use serde_json::Value;

use crate::support::{Device, NOW, Person, World};

const DAY: u64 = 24 * 3_600 * 1_000;
const GRACE: u64 = 30 * DAY;

/// An account with its first and one linked device.
fn world() -> (World, Person, Device) {
    let mut world = World::new(Open);
    let (alice, linked) = (Person::new(1, "alice"), Device::new(9));
    world.register(&alice.registration()).unwrap();
    world.link(&alice, 2, &[&alice.first(), &linked]).unwrap();
    (world, alice, linked)
}

fn request(
    world: &mut World,
    (person, version): (&Person, u64),
    now_ms: u64,
) -> Result<u64, AuthError> {
    let list = person.next_list(version, &[]);
    let device = Some(person.device_ref());
    world.at(now_ms, device, |auth, call, _| auth.request_deletion(call, &list))
}

fn cancel(world: &mut World, device: DeviceRef) -> bool {
    world.as_device(device, |auth, call| auth.cancel_deletion(call)).unwrap()
}

fn due(world: &mut World, now_ms: u64) -> Option<Published> {
    world.at(now_ms, None, |auth, call, _| auth.next_deletion(call.tx, now_ms)).unwrap()
}

fn to_erase(world: &mut World) -> Option<AccountId> {
    world.at(NOW, None, |auth, call, _| auth.next_erasure(call.tx)).unwrap()
}

fn lookup(world: &mut World, name: &str) -> Result<AccountId, ErrorCode> {
    let found = world.at(NOW, None, |auth, call, _| auth.lookup(call.tx, name));
    found.map(|identity| identity.account).map_err(|error| error.code())
}

fn export(auth: &Auth, call: &Call<'_>, account: &AccountId) -> Result<Value, AuthError> {
    auth.export(call.tx, account, NOW)
}

#[test]
fn case_072_a_deletion_waits_then_ends_every_device_then_erases() {
    let (mut world, alice, linked) = world();
    let account = alice.device_ref().account;
    let session = world.login(&alice.login(), NOW).unwrap();
    assert_eq!(request(&mut world, (&alice, 3), NOW).unwrap(), NOW + GRACE);
    // Within the grace the account is as it was.
    assert_eq!(lookup(&mut world, "alice"), Ok(account));
    assert_eq!(due(&mut world, NOW + GRACE - 1), None);
    assert_eq!(to_erase(&mut world), None);

    let published = due(&mut world, NOW + GRACE).unwrap();
    assert_eq!(published.identity.device_list, alice.next_list(3, &[]));
    assert_eq!(published.revoked, [alice.device_ref(), linked.of(&alice)]);
    assert_eq!(published.added, []);
    assert_eq!(due(&mut world, NOW + GRACE), None);
    assert_eq!(lookup(&mut world, "alice"), Err(AccountNotFound));
    let device = Some(alice.device_ref());
    let told = world.at(NOW, device, |auth, call, _| auth.authorize(call, &session.access_token));
    assert_eq!(told.unwrap_err().code(), DeviceRevoked);
    assert_eq!(world.login(&linked.login(&alice), NOW).unwrap_err().code(), DeviceRevoked);

    assert_eq!(to_erase(&mut world), Some(account));
    assert_eq!(world.erase_all(), 1);
    assert_eq!(lookup(&mut world, "alice"), Err(AccountNotFound));
    assert_eq!(world.login(&alice.login(), NOW).unwrap_err().code(), Unauthenticated);
    let told = world.at(NOW, device, |auth, call, _| auth.authorize(call, &session.access_token));
    assert_eq!(told.unwrap_err().code(), Unauthenticated);
}

#[test]
fn case_072_a_deletion_asked_for_again_says_the_same() {
    let (mut world, alice, _) = world();
    let at_ms = request(&mut world, (&alice, 3), NOW).unwrap();
    for version in [3, 4] {
        assert_eq!(request(&mut world, (&alice, version), NOW + DAY).unwrap(), at_ms);
    }
    let other = Person::new(2, "bob");
    let list = other.next_list(3, &[]);
    let forged =
        world.as_device(alice.device_ref(), |auth, call| auth.request_deletion(call, &list));
    assert_eq!(forged.unwrap_err().code(), IdentityInvalid);
    // The first list is the one that is published.
    assert_eq!(due(&mut world, at_ms).unwrap().identity.device_list, alice.next_list(3, &[]));
}

#[test]
fn case_072_an_erasure_that_crashed_goes_on_where_it_was() {
    let (mut world, alice, linked) = world();
    let account = alice.device_ref().account;
    // More tokens than one call erases.
    let many = |auth: &Auth, call: &Call<'_>, rng: &mut _| {
        let first = auth.login(call, &alice.login(), rng)?.refresh_token;
        (0..400).try_for_each(|_| {
            let bound = Some(alice.device_ref());
            let refreshed = auth.refresh(&Call { bound, ..*call }, &first, rng)?;
            assert!(matches!(refreshed, qpc_auth::Refreshed::Tokens(_)));
            Ok::<_, AuthError>(())
        })
    };
    world.at(NOW, None, many).unwrap();
    request(&mut world, (&alice, 3), NOW).unwrap();
    due(&mut world, NOW + GRACE).unwrap();

    // The first call ended well, the second before its commit.
    world.at(NOW, None, |auth, call, _| auth.erase(call.tx, &account)).unwrap();
    let crash = world.at(NOW, None, |auth, call, _| {
        auth.erase(call.tx, &account)?;
        Err::<(), _>(AuthError::Unauthenticated)
    });
    assert!(crash.is_err());
    assert_eq!(to_erase(&mut world), Some(account));
    assert_eq!(lookup(&mut world, "alice"), Err(AccountNotFound));
    let devices = world.at(NOW, None, |auth, call, _| auth.all_devices(call.tx, &account));
    assert_eq!(devices.unwrap(), [alice.device, linked.id]);
    assert_eq!(world.erase_all(), 1);
    // Once more is no harm.
    world.at(NOW, None, |auth, call, _| auth.erase(call.tx, &account)).unwrap();
    let gone = world.at(NOW, None, |auth, call, _| export(auth, call, &account));
    assert_eq!(gone.unwrap_err().code(), AccountNotFound);
}

#[test]
fn only_an_ended_account_is_erased() {
    let (mut world, alice, _) = world();
    let account = alice.device_ref().account;
    world.at(NOW, None, |auth, call, _| auth.erase(call.tx, &account)).unwrap();
    assert_eq!(lookup(&mut world, "alice"), Ok(account));
}

#[test]
fn a_deletion_is_taken_back_and_its_version_stays_spent() {
    let (mut world, alice, linked) = world();
    assert!(!cancel(&mut world, alice.device_ref()));
    request(&mut world, (&alice, 3), NOW).unwrap();
    assert!(cancel(&mut world, linked.of(&alice)));
    assert!(!cancel(&mut world, alice.device_ref()));
    assert_eq!(due(&mut world, NOW + GRACE), None);
    let stale = world.revoke(&alice, 3, &[&alice.first()]).unwrap_err();
    assert_eq!(stale.code(), DeviceListStale);
    let stale = request(&mut world, (&alice, 3), NOW).unwrap_err();
    assert_eq!(stale.code(), DeviceListStale);
    world.revoke(&alice, 4, &[&alice.first()]).unwrap();
    assert_eq!(request(&mut world, (&alice, 5), NOW + DAY).unwrap(), NOW + DAY + GRACE);
}

#[test]
fn while_a_deletion_is_pending_devices_stay_as_they_are() {
    let (mut world, alice, _) = world();
    request(&mut world, (&alice, 3), NOW).unwrap();
    let refused = world.revoke(&alice, 4, &[&alice.first()]).unwrap_err();
    assert_eq!(refused.code(), PermissionDenied);
    let list = alice.next_list(3, &[&alice.first()]);
    let not_empty =
        world.as_device(alice.device_ref(), |auth, call| auth.request_deletion(call, &list));
    assert_eq!(not_empty.unwrap_err().code(), IdentityInvalid);
}

#[test]
fn a_recovery_takes_the_deletion_of_a_stolen_primary_back() {
    let (mut world, alice, _) = world();
    request(&mut world, (&alice, 3), NOW).unwrap();
    let (next, fresh) = (alice.next_generation(), Device::new(20));
    let recovery = next.recovery(&fresh, &[&fresh]);
    world.at(NOW, None, |auth, call, _| auth.recover(call, &recovery)).unwrap();
    assert_eq!(due(&mut world, u64::MAX / 4), None);
    assert!(!cancel(&mut world, fresh.of(&alice)));
}

#[test]
fn case_074_a_deleted_name_is_free_and_its_keys_are_not() {
    let (mut world, alice, linked) = world();
    let register = |world: &mut World, person: &Person| {
        world.register(&person.registration()).map_err(|error| error.code())
    };
    world.delete(&alice, 3);
    // The root, device ids and device keys of the account that was never come back.
    assert_eq!(register(&mut world, &alice), Err(DuplicateKey));
    let mut same_root = Person::new(2, "alice");
    same_root.root = alice.root.clone();
    let mut same_device = Person::new(2, "alice");
    same_device.device = linked.id;
    let mut same_key = Person::new(2, "alice");
    same_key.device_key = linked.key.clone();
    for person in [same_root, same_device, same_key] {
        assert_eq!(register(&mut world, &person), Err(DuplicateKey));
    }
    // The name is another account's then: another root, another id.
    let stranger = Person::new(2, "alice");
    let account = register(&mut world, &stranger).unwrap();
    assert_ne!(account, alice.device_ref().account);
    assert_eq!(lookup(&mut world, "alice"), Ok(account));
    let recovery = alice.ask(&Device::new(20));
    let asked = world.at(NOW, None, |auth, call, _| auth.recover(call, &recovery));
    assert_eq!(asked.unwrap_err().code(), AccountNotFound);
}

#[test]
fn case_073_an_export_is_one_consistent_snapshot() {
    let (mut world, alice, linked) = world();
    let account = alice.device_ref().account;
    let (auth, mut reader) = (world.auth.clone(), world.reader());
    let [before, during] = reader
        .read(|tx| {
            let read = || auth.export(tx, &account, NOW);
            let before = read()?;
            world.login(&alice.login(), NOW)?;
            world.revoke(&alice, 3, &[&alice.first()])?;
            Ok::<_, AuthError>([before, read()?])
        })
        .unwrap();
    assert_eq!(before, during);
    let after = world.at(NOW, None, |auth, call, _| export(auth, call, &account)).unwrap();
    assert_ne!(after, before);
    assert_eq!(after["device_lists"].as_array().unwrap().len(), 3);
    let revoked = |export: &Value| export["devices"][1]["revoked"].clone();
    assert_eq!([revoked(&before), revoked(&after)], [Value::Bool(false), Value::Bool(true)]);
    assert_eq!(after["devices"][1]["device"], linked.id.to_string());
}

#[test]
fn an_export_holds_all_but_secrets_and_their_hashes() {
    let (mut world, alice, _) = world();
    let account = alice.device_ref().account;
    let answer = world.login(&alice.login(), NOW).unwrap();
    request(&mut world, (&alice, 3), NOW).unwrap();
    let json = world.at(NOW, None, |auth, call, _| export(auth, call, &account)).unwrap();
    assert_eq!(json["account"]["name"], "alice");
    assert_eq!(json["account"]["standing"], "active");
    assert_eq!(json["account"]["created_at_ms"], NOW);
    assert_eq!(json["account_keys"].as_array().unwrap().len(), 1);
    assert_eq!(json["sessions"][0]["began_at_ms"], NOW);
    assert_eq!(json["sessions"][0]["access_tokens"], 1);
    assert_eq!(json["deletion"]["delete_at_ms"], NOW + GRACE);
    let text = json.to_string();
    for token in [&answer.access_token, &answer.refresh_token] {
        let hash = qpc_proto::chain::sha256(token.as_bytes());
        let raw = qpc_proto::Digest(*token.as_bytes());
        assert!(!text.contains(&hash.to_string()) && !text.contains(&raw.to_string()));
    }
}
