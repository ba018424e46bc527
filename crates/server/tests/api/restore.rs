//! A server that goes on from a backup: what it must not give away again, and how clients notice.

use std::path::Path;

use qpc_proto::message::{
    ClaimKeyPackages, KeyPackageStatus, Request, Response, ServerInfo, UploadKeyPackages,
};
use qpc_proto::{ErrorCode, Incarnation};
use qpc_server::{Limits, Node, Policy};
use qpc_storage::Store;
use rand_core::OsRng;

use crate::members::key_package;
use crate::support::{Device, LoggedIn, Rig, options, store};

fn upload(device: &Device, seeds: &[u8]) -> Request {
    let key_packages = seeds.iter().map(|seed| key_package(device, *seed)).collect();
    Request::UploadKeyPackages(UploadKeyPackages { key_packages, last_resort: None })
}

fn claim(victim: &Device) -> Request {
    Request::ClaimKeyPackages(ClaimKeyPackages { account: victim.id.account, devices: Vec::new() })
}

async fn available(one: &LoggedIn) -> u32 {
    match one.call(&Request::KeyPackageStatus).await.unwrap() {
        Response::KeyPackageStatus(KeyPackageStatus { available, .. }) => available,
        other => panic!("{other:?}"),
    }
}

async fn incarnation(one: &LoggedIn) -> Incarnation {
    match one.call(&Request::ServerInfo).await.unwrap() {
        Response::ServerInfo(ServerInfo { incarnation, .. }) => incarnation,
        other => panic!("{other:?}"),
    }
}

fn back_up(dir: &Path) -> Store {
    let store = store(dir);
    store.reader().unwrap().copy_to(&dir.join("backup.db")).unwrap();
    store
}

fn restored(dir: &Path) -> Store {
    for name in ["server.db", "server.db-wal", "server.db-shm"] {
        drop(std::fs::remove_file(dir.join(name)));
    }
    qpc_storage::restore(&dir.join("backup.db"), &dir.join("server.db"), &options()).unwrap();
    let mut store = store(dir);
    Node::restored(&mut store, Policy::default(), &mut OsRng).unwrap();
    store
}

#[tokio::test]
async fn case_091_a_restored_server_is_another_and_gives_no_old_key_package_away() {
    let mut rig = Rig::start(Limits::default());
    let (device, claimer) = (Device::new(1), Device::new(2));
    let one = rig.join(&device).await;
    rig.join(&claimer).await;
    one.call(&upload(&device, &[1, 2, 3])).await.unwrap();
    let before = incarnation(&one).await;

    let mut rig = rig.restart_with(back_up).await;
    let one = rig.connect().log_in(&device).await;
    let other = rig.connect().log_in(&claimer).await;
    assert_eq!((incarnation(&one).await, available(&one).await), (before, 3));
    // Given away after the backup, which knows nothing of it.
    other.call(&claim(&device)).await.unwrap();

    let mut rig = rig.restart_with(restored).await;
    let one = rig.connect().log_in(&device).await;
    let other = rig.connect().log_in(&claimer).await;
    assert_ne!(incarnation(&one).await, before);
    assert_eq!(one.tokens.incarnation, incarnation(&one).await);
    assert_eq!(available(&one).await, 0);
    let none = other.call(&claim(&device)).await.unwrap_err();
    assert_eq!(none.code, ErrorCode::NoKeyPackage);
    let again = one.call(&upload(&device, &[2])).await.unwrap_err();
    assert_eq!(again.code, ErrorCode::KeyPackageReused);
    one.call(&upload(&device, &[4])).await.unwrap();
    other.call(&claim(&device)).await.unwrap();
}
