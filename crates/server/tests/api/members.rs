//! Groups of more than one device, made by hand (RFC 9420 sections 10 and 12.4.3.1): nobody here
//! has keys of MLS.

use bytes::Bytes;
use qpc_proto::aad::{Aad, CommitBinding};
use qpc_proto::message::{
    ChannelKind, CommitBundle, CommitRequest, CreateChannel, Request, UploadKeyPackages,
};
use qpc_proto::roster::RosterChange;
use qpc_proto::{ChannelId, MessageId, chain};

use crate::support::{Device, LoggedIn, START_MS, private_message, put_vector};

/// A group that the first device founds with the second in it.
pub(crate) async fn pair(channel: ChannelId, founder: &LoggedIn, other: (&Device, &LoggedIn)) {
    let (device, logged_in) = other;
    // Another for each channel: each is served once.
    let key_package = key_package(device, channel.0[0]);
    let reference = qpc_credential::key_package_ref(&key_package).unwrap();
    let upload = UploadKeyPackages { key_packages: vec![key_package], last_resort: None };
    logged_in.call(&Request::UploadKeyPackages(upload)).await.unwrap();
    let secret = [v(&reference.0), v(&[1; 32]), v(&[2; 48])].concat();
    let welcome = [vec![0, 1, 0, 3, 0, 1], v(&secret), v(&[3; 100])].concat();
    let change = RosterChange { adds: [device.id].into(), ..RosterChange::default() };
    let bundle = bundle(channel, 0, (&change, Some(welcome.into())));
    let create =
        CreateChannel { channel, kind: ChannelKind::Group, bundle, retention_ms: 0, reset: None };
    founder.call(&Request::CreateChannel(create)).await.unwrap();
}

/// The founder of a pair takes the other out; as nobody else is left, that holds at once.
pub(crate) async fn remove(channel: ChannelId, founder: &LoggedIn, device: &Device) {
    let change = RosterChange { removes: [device.id].into(), ..RosterChange::default() };
    let bundle = bundle(channel, 1, (&change, None));
    founder.call(&Request::Commit(CommitRequest { channel, bundle })).await.unwrap();
}

fn bundle(
    channel: ChannelId,
    base: u64,
    (change, welcome): (&RosterChange, Option<Bytes>),
) -> CommitBundle {
    let commit =
        CommitBinding { roster_change: change.digest(), statements: chain::statements_digest(&[]) };
    let aad =
        Aad { channel, base_commit: base, head_seq: base, head: [0; 16], commit: Some(commit) };
    CommitBundle {
        message_id: MessageId([u8::try_from(200 + base).unwrap(); 16]),
        after_commit: base,
        payload: private_message(3, &aad, &[0; 64]),
        roster_change: change.encode().into(),
        welcome,
        statements: Vec::new(),
    }
}

pub(crate) fn key_package(device: &Device, seed: u8) -> Bytes {
    let (not_before, not_after) = qpc_credential::lifetime::issued_at(START_MS);
    let lifetime = [not_before.to_be_bytes(), not_after.to_be_bytes()].concat();
    let leaf = [
        v(&hpke_key(seed ^ 0xff)),
        v(&device.entry().key.0),
        vec![0, 1],
        v(&device.certificate()),
        v(&[0, 1]),
        v(&[0, 1]),
        v(&[0, 10]),
        v(&[]),
        v(&[0, 1]),
        vec![1],
        lifetime,
        v(&[]),
    ]
    .concat();
    let leaf = [leaf.clone(), signed(device, b"MLS 1.0 LeafNodeTBS", &leaf)].concat();
    let package = [vec![0, 1, 0, 1], v(&hpke_key(seed)), leaf, v(&[])].concat();
    [package.clone(), signed(device, b"MLS 1.0 KeyPackageTBS", &package)].concat().into()
}

/// A key that takes secrets, whatever the seed.
fn hpke_key(seed: u8) -> [u8; 32] {
    let mut key = [seed; 32];
    key[0] = 9;
    key
}

/// `SignWithLabel` (RFC 9420 section 5.1.2), as a vector.
fn signed(device: &Device, label: &[u8], content: &[u8]) -> Vec<u8> {
    v(&device.sign(&[v(label), v(content)].concat()).0)
}

fn v(content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_vector(&mut bytes, content);
    bytes
}
