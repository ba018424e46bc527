//! The KeyPackage directory.

use bytes::Bytes;
use qpc_delivery::{DeliveryError, Room};
use qpc_proto::message::{Claims, Identity, KeyPackageStatus, UploadKeyPackages};
use qpc_proto::{DeviceId, ErrorCode, ErrorDetail};

use crate::mls::Device;
use crate::support::{NOW, World};

const DAY: u64 = 24 * 3_600 * 1_000;

fn upload(
    world: &mut World,
    device: &Device,
    key_packages: Vec<Bytes>,
    last_resort: Option<Bytes>,
) -> Result<u32, ErrorCode> {
    let upload = UploadKeyPackages { key_packages, last_resort };
    let done = world.call(device, |d, call| d.upload(call, &upload));
    done.map_err(|error| error.code())
}

fn claim(world: &mut World, of: &Device, devices: &[DeviceId]) -> Result<Claims, DeliveryError> {
    let identity = Identity {
        account: of.id().account,
        account_key: Bytes::from_static(b"key"),
        device_list: Bytes::from_static(b"list"),
    };
    let claimer = Device::new(9, 9);
    let claims = world.call(&claimer, |d, call| d.claim(call, &identity, devices))?;
    assert_eq!(claims.identity, identity);
    Ok(claims)
}

/// Claims from one device: the package and whether it was the last resort.
fn take(world: &mut World, device: &Device) -> Option<(Bytes, bool)> {
    match claim(world, device, &[device.id().device]) {
        Ok(claims) => match claims.claimed.as_slice() {
            [one] => Some((one.key_package.clone(), one.last_resort)),
            other => panic!("{other:?}"),
        },
        Err(error) => {
            assert_eq!(error.code(), ErrorCode::NoKeyPackage);
            None
        }
    }
}

fn status(world: &mut World, device: &Device) -> KeyPackageStatus {
    world.read(device, |d, call| d.key_package_status(call)).unwrap()
}

#[test]
fn case_076_each_package_is_served_once_in_order() {
    let mut world = World::new();
    let device = Device::new(1, 1);
    let packages: Vec<_> = (1..=3).map(|seed| device.key_package(seed, false, NOW)).collect();
    assert_eq!(upload(&mut world, &device, packages.clone(), None), Ok(3));
    for package in packages {
        assert_eq!(take(&mut world, &device), Some((package, false)));
    }
    for _ in 0..1_000 {
        assert_eq!(take(&mut world, &device), None);
    }
}

#[test]
fn case_078_the_last_resort_serves_when_the_pool_is_empty_and_shows_its_use() {
    let mut world = World::new();
    let device = Device::new(1, 1);
    let one = device.key_package(1, false, NOW);
    let last = device.key_package(2, true, NOW);
    let stands = |available, has_last_resort, last_resort_used| KeyPackageStatus {
        available,
        has_last_resort,
        last_resort_used,
    };
    assert_eq!(status(&mut world, &device), stands(0, false, false));
    upload(&mut world, &device, vec![one.clone()], Some(last.clone())).unwrap();
    assert_eq!(status(&mut world, &device), stands(1, true, false));
    assert_eq!(take(&mut world, &device), Some((one, false)));
    assert_eq!(status(&mut world, &device), stands(0, true, false));
    assert_eq!(take(&mut world, &device), Some((last.clone(), true)));
    assert_eq!(take(&mut world, &device), Some((last.clone(), true)));
    assert_eq!(status(&mut world, &device), stands(0, true, true));

    let next = device.key_package(3, true, NOW);
    upload(&mut world, &device, vec![], Some(next.clone())).unwrap();
    assert_eq!(status(&mut world, &device), stands(0, true, false));
    assert_eq!(take(&mut world, &device), Some((next, true)));
    let reused = upload(&mut world, &device, vec![], Some(last));
    assert_eq!(reused, Err(ErrorCode::KeyPackageReused));
}

#[test]
fn case_080_a_package_comes_only_once() {
    let mut world = World::new();
    let device = Device::new(1, 1);
    let one = device.key_package(1, false, NOW);
    let other = device.key_package(2, false, NOW);
    let twice = vec![one.clone(), one.clone()];
    let reused = Err(ErrorCode::KeyPackageReused);
    assert_eq!(upload(&mut world, &device, twice, None), reused);
    assert_eq!(upload(&mut world, &device, vec![one.clone()], None), Ok(1));
    let both = vec![other.clone(), one.clone()];
    assert_eq!(upload(&mut world, &device, both, None), reused);
    assert_eq!(take(&mut world, &device).unwrap().0, one);
    // Claimed, it is remembered; and of the batch that failed nothing was kept.
    assert_eq!(upload(&mut world, &device, vec![one], None), reused);
    assert_eq!(take(&mut world, &device), None);
    assert_eq!(upload(&mut world, &device, vec![other], None), Ok(1));
}

#[test]
fn case_081_only_own_and_sound_packages_are_taken() {
    let mut world = World::new();
    let device = Device::new(1, 1);
    let good = device.key_package(1, false, NOW);
    let foreign = Device::new(2, 2).key_package(1, false, NOW);
    let sibling = Device::new(1, 3).key_package(1, false, NOW);
    for other in [foreign, sibling] {
        let packages = vec![good.clone(), other];
        let refused = upload(&mut world, &device, packages, None);
        assert_eq!(refused, Err(ErrorCode::CredentialMismatch));
    }
    let mut broken = good.to_vec();
    *broken.last_mut().unwrap() ^= 1;
    for unsound in [broken.into(), device.key_package_of_one_key(3, NOW)] {
        let refused = upload(&mut world, &device, vec![good.clone(), unsound], None);
        assert_eq!(refused, Err(ErrorCode::KeyPackageInvalid));
    }
    let last = device.key_package(2, true, NOW);
    for (packages, last_resort) in [(vec![last.clone()], None), (vec![], Some(good.clone()))] {
        let refused = upload(&mut world, &device, packages, last_resort);
        assert_eq!(refused, Err(ErrorCode::KeyPackageInvalid));
    }
    assert_eq!(status(&mut world, &device).available, 0);
    assert_eq!(upload(&mut world, &device, vec![good], Some(last)), Ok(1));
}

#[test]
fn case_082_an_unknown_suite_is_answered_with_those_known() {
    let mut world = World::new();
    let device = Device::new(1, 1);
    let mut package = device.key_package(1, false, NOW).to_vec();
    package[3] = 9;
    let upload = UploadKeyPackages { key_packages: vec![package.into()], last_resort: None };
    let refused = world.call(&device, |d, call| d.upload(call, &upload));
    let body = refused.unwrap_err().to_body();
    assert_eq!(body.code, ErrorCode::UnsupportedCiphersuite);
    assert_eq!(body.detail, Some(ErrorDetail::Ciphersuites(vec![1])));
}

#[test]
fn case_084_quotas_hold_for_a_request_and_for_a_device() {
    let mut world = World::new();
    let device = Device::new(1, 1);
    let packages = |range: std::ops::Range<u8>| -> Vec<_> {
        range.map(|seed| device.key_package(seed, false, NOW)).collect()
    };
    let quota = Err(ErrorCode::Quota);
    assert_eq!(upload(&mut world, &device, packages(0..101), None), quota);
    assert_eq!(status(&mut world, &device).available, 0);
    assert_eq!(upload(&mut world, &device, packages(0..100), None), Ok(100));
    assert_eq!(upload(&mut world, &device, packages(100..199), None), Ok(199));
    assert_eq!(upload(&mut world, &device, packages(199..201), None), quota);
    assert_eq!(upload(&mut world, &device, packages(199..200), None), Ok(200));
    assert_eq!(upload(&mut world, &device, packages(201..202), None), quota);
    // Expired ones make room.
    world.now_ms += DAY;
    let fresh = device.key_package(201, false, world.now_ms);
    assert_eq!(upload(&mut world, &device, vec![fresh], None), Ok(1));
}

#[test]
fn case_079_a_package_is_served_for_a_day_a_last_resort_for_30() {
    for (age, served) in [(DAY - 1, true), (DAY, false), (DAY + 1, false)] {
        let mut world = World::new();
        let device = Device::new(1, 1);
        let one = device.key_package(1, false, NOW);
        upload(&mut world, &device, vec![one], None).unwrap();
        world.now_ms += age;
        assert_eq!(status(&mut world, &device).available, u32::from(served));
        assert_eq!(take(&mut world, &device).is_some(), served, "age {age}");
    }
    for (age, served) in [(30 * DAY - 1, true), (30 * DAY, false), (30 * DAY + 1, false)] {
        let mut world = World::new();
        let device = Device::new(1, 1);
        let last = device.key_package(1, true, NOW);
        upload(&mut world, &device, vec![], Some(last)).unwrap();
        world.now_ms += age;
        assert_eq!(status(&mut world, &device).has_last_resort, served);
        assert_eq!(take(&mut world, &device).is_some(), served, "age {age}");
    }
}

#[test]
fn case_079_a_package_that_was_uploaded_late_is_served_no_longer_for_it() {
    for (last_resort, days) in [(false, 1), (true, 30)] {
        let mut world = World::new();
        let device = Device::new(1, 1);
        let package = device.key_package(1, last_resort, NOW);
        world.now_ms = NOW + days * DAY - 10;
        let done = match last_resort {
            true => upload(&mut world, &device, Vec::new(), Some(package.clone())),
            false => upload(&mut world, &device, vec![package.clone()], None),
        };
        assert!(done.is_ok(), "{done:?}");
        world.now_ms = NOW + days * DAY - 1;
        assert!(status(&mut world, &device).available > 0 || last_resort);
        world.now_ms = NOW + days * DAY;
        assert_eq!(take(&mut world, &device), None);
    }
}

#[test]
fn case_088_a_device_without_packages_is_named() {
    let mut world = World::new();
    let (one, two) = (Device::new(1, 1), Device::new(1, 2));
    let devices = [one.id().device, two.id().device];
    let package = two.key_package(1, false, NOW);
    upload(&mut world, &two, vec![package.clone()], None).unwrap();
    let claims = claim(&mut world, &one, &devices).unwrap();
    assert_eq!(claims.missing, [one.id().device]);
    assert_eq!(claims.claimed.len(), 1);
    assert_eq!(claims.claimed[0].device, two.id().device);
    assert_eq!(claims.claimed[0].key_package, package);
    let body = claim(&mut world, &one, &devices).unwrap_err().to_body();
    assert_eq!(body.code, ErrorCode::NoKeyPackage);
    assert_eq!(body.detail, Some(ErrorDetail::Devices(devices.to_vec())));
}

#[test]
fn case_087_claims_of_gone_and_unknown_devices_look_alike() {
    let device = Device::new(1, 1);
    let answer = |change: &dyn Fn(&mut World)| {
        let mut world = World::new();
        change(&mut world);
        let body = claim(&mut world, &device, &[device.id().device]).unwrap_err().to_body();
        assert_eq!(body.code, ErrorCode::NoKeyPackage);
        body
    };
    let stocked = |world: &mut World| {
        let one = device.key_package(1, false, NOW);
        let last = device.key_package(2, true, NOW);
        upload(world, &device, vec![one], Some(last)).unwrap();
    };
    let revoked = |world: &mut World| {
        stocked(world);
        world.revoke(&[&device], &device.list(2, &[]));
    };
    let unknown = answer(&|_| {});
    let expired = answer(&|world| {
        stocked(world);
        world.now_ms += 30 * DAY;
    });
    let deleted = answer(&|world| {
        revoked(world);
        let account = device.id().account;
        assert!(
            !world.serve(|d, (tx, _)| d.erase_devices(tx, &account, &mut Room::of(100))).unwrap()
        );
    });
    assert_eq!([answer(&revoked), expired, deleted], [unknown.clone(), unknown.clone(), unknown]);
}

#[test]
fn a_claim_is_of_an_account_s_own_devices() {
    let mut world = World::new();
    let (one, stranger) = (Device::new(1, 1), Device::new(2, 2));
    let package = stranger.key_package(1, false, NOW);
    upload(&mut world, &stranger, vec![package], None).unwrap();
    assert!(claim(&mut world, &one, &[stranger.id().device]).is_err());
    assert!(take(&mut world, &stranger).is_some());
}
