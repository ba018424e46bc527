//! Signed objects and MLS messages: as they travel, and without their signatures for the modes that
//! sign.

use qpc_credential::{
    Certificate, Rejoin, RejoinReason, Said, Statement, StatementBody, devices_statement, lifetime,
};
use qpc_proto::aad::{Aad, CommitBinding};
use qpc_proto::{ChannelId, DeviceId, Digest, Incarnation, Signature};

use super::Seeds;
use crate::corpora::key_package::{
    ACCOUNT_KEY, CERTIFICATE, DEVICE_LIST, KEY_PACKAGE, NOW_MS, RAW, STATEMENT, signed_key_package,
    vector,
};
use crate::fixtures::{Account, Key};

pub(super) fn all() -> Seeds {
    let mut seeds = Seeds::new();
    let mut insert = |name: &str, mode: u8, object: &[u8]| {
        seeds.insert(name.to_owned(), [&[mode], object].concat());
    };
    for (name, mode, object) in signed_objects() {
        let tbs = object.len() - Signature::LEN;
        insert(&format!("seed-{name}"), RAW, &object);
        insert(&format!("seed-unsigned-{name}"), mode, &object[..tbs]);
        insert(&format!("refused-cut-{name}"), RAW, &object[..tbs]);
    }
    let devices = devices_statement(&Account::of(1).identity());
    insert("seed-devices-statement", RAW, &devices);
    insert("refused-cut-devices-statement", RAW, &devices[..devices.len() - 1]);
    for (name, parts) in key_packages() {
        insert(&format!("seed-unsigned-{name}"), KEY_PACKAGE, &parts);
        insert(&format!("seed-{name}"), RAW, &signed_key_package(&parts).unwrap());
    }
    for (name, message) in mls_messages() {
        insert(&format!("seed-{name}"), RAW, &message);
    }
    seeds
}

fn signed_objects() -> Vec<(&'static str, u8, Vec<u8>)> {
    let account = Account::of(1);
    let says = |body| {
        let statement = Statement {
            channel: ChannelId([5; 16]),
            certificate: Certificate::verify(&account.certificate()).unwrap(),
            issued_at_ms: NOW_MS,
            body,
        };
        Vec::from(statement.sign(|tbs| account.device_key.sign(tbs)))
    };
    let rejoin = StatementBody::Rejoin(Rejoin {
        incarnation: Incarnation([6; 16]),
        join_seq: 1,
        base_commit: 9,
        reason: RejoinReason::Expired,
        key_package: vec![7; 64].into(),
    });
    let verdict =
        StatementBody::Verdict(Said { commit_seq: 9, commit: Digest([8; 32]), applied: true });
    let mut two = account.list();
    let mut second = account.entry;
    (second.device, second.key) = (DeviceId([9; 16]), Key::of(9).public());
    two.devices.push(second);
    vec![
        ("account-key", ACCOUNT_KEY, account.statement().into()),
        ("device-list", DEVICE_LIST, account.signed_list(&account.list()).into()),
        ("device-list-of-two", DEVICE_LIST, account.signed_list(&two).into()),
        ("certificate", CERTIFICATE, account.certificate().into()),
        ("statement", STATEMENT, says(StatementBody::Leave)),
        ("statement-rejoin", STATEMENT, says(rejoin)),
        ("statement-verdict", STATEMENT, says(verdict)),
        ("statement-reset", STATEMENT, says(StatementBody::Reset(ChannelId([9; 16])))),
    ]
}

/// In the parts of mode [`KEY_PACKAGE`], so that nothing in them is random.
fn key_packages() -> Vec<(&'static str, Vec<u8>)> {
    let numbers = |numbers: &[u16]| {
        vector(&numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<_>>())
    };
    let account = Account::of(1);
    let (not_before, not_after) = lifetime::issued_at(NOW_MS);
    let package = |extension_types: &[u16], extensions: &[u8]| {
        let extensions = vector(extensions);
        [
            vec![u8::try_from(extensions.len()).unwrap(), 0, 1, 0, 1],
            vector(&[7; 32]),
            vector(&[8; 32]),
            vector(account.entry.key.as_bytes()),
            vec![0, 1],
            vector(&account.certificate()),
            numbers(&[1]),
            numbers(&[1, 0x0a0a]),
            numbers(extension_types),
            numbers(&[]),
            numbers(&[1]),
            vec![1],
            not_before.to_be_bytes().into(),
            not_after.to_be_bytes().into(),
            vector(&[]),
            extensions,
        ]
        .concat()
    };
    vec![
        ("key-package", package(&[], &[])),
        ("key-package-last-resort", package(&[10], &[0, 10, 0])),
        ("key-package-unknown-extension", package(&[0xf001], &[0xf0, 1, 2, 1, 2])),
    ]
}

fn mls_messages() -> Vec<(&'static str, Vec<u8>)> {
    let aad = |commit| Aad {
        channel: ChannelId([1; 16]),
        base_commit: 2,
        head_seq: 3,
        head: [4; 16],
        commit,
    };
    let bound = Digest([5; 32]);
    let bound = CommitBinding { roster_change: bound, statements: bound };
    let private = |content: u8, aad: Aad| {
        [
            vec![0, 1, 0, 2],
            vector(&[6; 32]),
            7_u64.to_be_bytes().into(),
            vec![content],
            vector(&aad.encode()),
            vector(&[8; 28]),
            vector(&[9; 70]),
        ]
        .concat()
    };
    let recipient = |at: u8| [vector(&[at; 32]), vector(&[2; 32]), vector(&[3; 80])].concat();
    let recipients = [recipient(1), recipient(2)].concat();
    let welcome = [vec![0, 1, 0, 3, 0, 1], vector(&recipients), vector(&[4; 90])].concat();
    vec![
        ("private-application", private(1, aad(None))),
        ("private-commit", private(3, aad(Some(bound)))),
        ("welcome", welcome),
    ]
}
