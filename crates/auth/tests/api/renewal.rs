//! Later ends: which lists and certificates the service takes, and to whom it gives them.

use bytes::Bytes;
use qpc_auth::AuthError;
use qpc_credential::{Certificate, CertificateBody, DeviceList};
use qpc_proto::DeviceId;
use qpc_proto::ErrorCode::{self, *};
use qpc_proto::message::RegistrationMode::Open;
use qpc_proto::message::{DeviceRef, RenewDevices};

use crate::support::{Device, NOW, Person, World, sign};

const LATER: u64 = NOW + 1_000;

/// Alice's primary and a linked device, by a list of version 2.
fn world() -> (World, Person, Device) {
    let mut world = World::new(Open);
    let (alice, linked) = (Person::new(1, "alice"), Device::new(9));
    world.register(&alice.registration()).unwrap();
    world.link(&alice, 2, &[&alice.first(), &linked]).unwrap();
    (world, alice, linked)
}

fn until(device: Device, not_after_ms: u64) -> Device {
    Device { not_after_ms, ..device }
}

fn certificate(person: &Person, (list_version, device): (u64, &Device)) -> Bytes {
    let (entry, name) = (device.entry(), person.name.clone());
    let body = CertificateBody { list_version, entry, name };
    Certificate::sign(&person.account_key(), &body, |tbs| sign(&person.account_key, tbs))
}

/// The list of this version, with the certificates of these of its devices.
fn renewal(person: &Person, (version, devices): (u64, &[&Device]), of: &[&Device]) -> RenewDevices {
    RenewDevices {
        device_list: person.next_list(version, devices),
        certificates: of.iter().map(|device| certificate(person, (version, device))).collect(),
    }
}

fn renew(
    world: &mut World,
    person: &Person,
    renew: &RenewDevices,
) -> Result<Vec<DeviceId>, AuthError> {
    world.as_device(person.device_ref(), |auth, call| auth.renew_devices(call, renew))
}

fn refused(world: &mut World, person: &Person, wrong: &RenewDevices) -> ErrorCode {
    renew(world, person, wrong).unwrap_err().code()
}

/// What a device is answered about an account's list.
fn shown(world: &mut World, caller: DeviceRef, of: &Person) -> (Bytes, Option<Bytes>) {
    let account = of.device_ref().account;
    let asked = |auth: &qpc_auth::Auth, call: &qpc_auth::Call<'_>| {
        auth.devices_of((call.tx, Some(caller)), &account)
    };
    let (identity, certificate) = world.as_device(caller, asked).unwrap();
    (identity.device_list, certificate)
}

#[test]
fn each_device_gets_its_own_newest_certificate_and_nobody_else_any() {
    let (mut world, alice, linked) = world();
    let bob = Person::new(2, "bob");
    world.register(&bob.registration()).unwrap();
    let (first, second) = (until(alice.first(), LATER), until(linked, LATER));
    let (primary, sibling) = (first.of(&alice), second.of(&alice));
    assert_eq!(shown(&mut world, sibling, &alice).1, None);
    let both = renewal(&alice, (3, &[&first, &second]), &[&first, &second]);
    assert_eq!(renew(&mut world, &alice, &both).unwrap(), [first.id, second.id]);
    for (device, of) in [(primary, &first), (sibling, &second)] {
        let expected = (both.device_list.clone(), Some(certificate(&alice, (3, of))));
        assert_eq!(shown(&mut world, device, &alice), expected);
    }
    assert_eq!(shown(&mut world, bob.device_ref(), &alice), (both.device_list.clone(), None));
    // The same again changes nothing; a later one of one device leaves the other's.
    assert_eq!(renew(&mut world, &alice, &both).unwrap(), []);
    let latest = until(Device::new(9), LATER + 1);
    let one = renewal(&alice, (4, &[&first, &latest]), &[&latest]);
    assert_eq!(renew(&mut world, &alice, &one).unwrap(), [latest.id]);
    let newest = Some(certificate(&alice, (4, &latest)));
    assert_eq!(shown(&mut world, sibling, &alice).1, newest);
    let kept = Some(certificate(&alice, (3, &first)));
    assert_eq!(shown(&mut world, primary, &alice).1, kept);
    // What follows goes on from it, and a revoked device's goes.
    world.revoke(&alice, 5, &[&first]).unwrap();
    assert_eq!(shown(&mut world, primary, &alice).1, kept);
    assert_eq!(shown(&mut world, sibling, &alice).1, None);
}

#[test]
fn a_renewal_moves_ends_to_a_later_time_and_changes_nothing_else() {
    let (mut world, alice, linked) = world();
    let (first, later) = (alice.first(), until(alice.first(), LATER));
    let same = renewal(&alice, (3, &[&first, &linked]), &[&first]);
    assert_eq!(refused(&mut world, &alice, &same), IdentityInvalid);
    let sooner = until(Device::new(9), NOW);
    let wrong = renewal(&alice, (3, &[&later, &sooner]), &[&later]);
    assert_eq!(refused(&mut world, &alice, &wrong), IdentityInvalid);
    let fewer = renewal(&alice, (3, &[&later]), &[&later]);
    assert_eq!(refused(&mut world, &alice, &fewer), IdentityInvalid);
    let third = until(Device::new(10), LATER);
    let more = renewal(&alice, (3, &[&later, &linked, &third]), &[&later, &third]);
    assert_eq!(refused(&mut world, &alice, &more), IdentityInvalid);
    let swapped = renewal(&alice, (3, &[&later, &third]), &[&later, &third]);
    assert_eq!(refused(&mut world, &alice, &swapped), IdentityInvalid);
    let other_key = Device { key: third.key.clone(), ..until(Device::new(9), LATER) };
    let wrong = renewal(&alice, (3, &[&first, &other_key]), &[&other_key]);
    assert_eq!(refused(&mut world, &alice, &wrong), IdentityMismatch);
    let stale = renewal(&alice, (2, &[&later, &linked]), &[&later]);
    assert_eq!(refused(&mut world, &alice, &stale), DeviceListStale);
    // Nor does a link or a revocation move an end, as before.
    let link = world.link(&alice, 3, &[&later, &linked, &third]);
    assert_eq!(link.unwrap_err().code(), IdentityInvalid);
    let revoked = world.revoke(&alice, 3, &[&later]);
    assert_eq!(revoked.unwrap_err().code(), IdentityInvalid);
    let good = renewal(&alice, (3, &[&later, &linked]), &[&later]);
    renew(&mut world, &alice, &good).unwrap();
}

#[test]
fn an_end_that_has_passed_may_be_moved_but_only_into_the_future() {
    let (mut world, alice, linked) = world();
    let late = NOW + 10_000;
    let (first, past) = (until(alice.first(), late + 1), until(alice.first(), late));
    let at = |world: &mut World, renew: &RenewDevices| {
        let run = |auth: &qpc_auth::Auth, call: &qpc_auth::Call<'_>, _: &mut _| {
            auth.renew_devices(call, renew)
        };
        world.at(late, Some(alice.device_ref()), run)
    };
    let wrong = renewal(&alice, (3, &[&past, &linked]), &[&past]);
    assert_eq!(at(&mut world, &wrong).unwrap_err().code(), IdentityInvalid);
    let good = renewal(&alice, (3, &[&first, &linked]), &[&first]);
    assert_eq!(at(&mut world, &good).unwrap(), [first.id]);
}

#[test]
fn certificates_are_those_of_the_renewed_entries_and_no_others() {
    let (mut world, alice, linked) = world();
    let (first, later) = (until(alice.first(), LATER), until(linked, LATER));
    let all: [&Device; 2] = [&first, &later];
    let good = renewal(&alice, (3, &all), &all);
    let with = |certificates: Vec<Bytes>| RenewDevices { certificates, ..good.clone() };
    let of = |version, device| certificate(&alice, (version, device));
    let mut renamed = Person::new(1, "alice");
    renamed.name = "alicia".to_owned();
    let mut forger = Person::new(1, "alice");
    forger.account_key = Person::new(2, "bob").account_key;
    let bob = Person::new(2, "bob");
    let elsewhen = until(Device::new(9), LATER + 1);
    let wrong = [
        vec![of(3, &first)],
        vec![of(3, &first), of(3, &first)],
        vec![of(3, &first), of(3, &later), of(3, &later)],
        vec![of(3, &first), of(2, &later)],
        vec![of(3, &first), of(3, &elsewhen)],
        vec![of(3, &first), certificate(&renamed, (3, &later))],
        vec![of(3, &first), certificate(&forger, (3, &later))],
        vec![of(3, &first), certificate(&bob, (3, &later))],
        vec![of(3, &first), Bytes::from_static(b"no certificate")],
    ];
    for certificates in wrong {
        assert_eq!(refused(&mut world, &alice, &with(certificates)), IdentityInvalid);
    }
    // An entry that stays as it is has none either.
    let one = renewal(&alice, (3, &[&first, &Device::new(9)]), &[&first, &Device::new(9)]);
    assert_eq!(refused(&mut world, &alice, &one), IdentityInvalid);
    assert_eq!(shown(&mut world, alice.device_ref(), &alice).1, None);
    renew(&mut world, &alice, &good).unwrap();
}

#[test]
fn who_may_not_change_the_account_renews_nothing() {
    let (mut world, alice, linked) = world();
    let later = until(alice.first(), LATER);
    let good = renewal(&alice, (4, &[&later, &linked]), &[&later]);
    let nobody = world.at(NOW, None, |auth, call, _| auth.renew_devices(call, &good));
    assert_eq!(nobody.unwrap_err().code(), Unauthenticated);
    let unknown = Device::new(30).of(&alice);
    let unknown = world.as_device(unknown, |auth, call| auth.renew_devices(call, &good));
    assert_eq!(unknown.unwrap_err().code(), Unauthenticated);
    let ending = alice.next_list(3, &[]);
    let device = alice.device_ref();
    world.as_device(device, |auth, call| auth.request_deletion(call, &ending)).unwrap();
    assert_eq!(refused(&mut world, &alice, &good), PermissionDenied);
    world.as_device(device, |auth, call| auth.cancel_deletion(call)).unwrap();
    renew(&mut world, &alice, &good).unwrap();
    let list = DeviceList::verify(
        &good.device_list,
        &qpc_credential::AccountKey::verify(&alice.account_key()).unwrap(),
    );
    assert_eq!(list.unwrap().get(&later.id).unwrap().not_after_ms, LATER);
}
