//! What may stand in a log as a statement, and what a device list says of a device.

use bytes::Bytes;
use qpc_credential::{
    AccountKey, Certificate, CredentialError, DeviceEntry, DeviceList, Posted, PublicIdentity,
    Statement, StatementBody, devices_statement,
};
use qpc_proto::message::Identity;
use qpc_proto::{ChannelId, DeviceId, ErrorCode};

use crate::fixtures::{Account, Key, flipped};

const CHANNEL: ChannelId = ChannelId([9; 16]);

fn leave(account: &Account) -> Bytes {
    let statement = Statement {
        channel: CHANNEL,
        certificate: Certificate::verify(&account.certificate()).unwrap(),
        issued_at_ms: 7,
        body: StatementBody::Leave,
    };
    statement.sign(|tbs| account.device_key.sign(tbs))
}

/// The statement of an account's list with other numbers and devices.
fn listed(
    account: &Account,
    (generation, version): (u32, u64),
    devices: &[DeviceEntry],
) -> PublicIdentity {
    let key = AccountKey { generation, ..account.account_key() };
    let list = DeviceList { generation, version, devices: devices.to_vec(), ..account.list() };
    PublicIdentity::verify(&Identity {
        account: account.id(),
        account_key: key.sign(|tbs| account.root.sign(tbs)),
        device_list: account.signed_list(&list),
    })
    .unwrap()
}

#[test]
fn a_devices_statement_holds_the_identity_in_every_channel() {
    let account = Account::of(1);
    let identity = account.identity();
    let bytes = devices_statement(&identity);
    for channel in [CHANNEL, ChannelId([1; 16])] {
        match Posted::verify(&bytes, &channel) {
            Ok(Posted::Devices(posted)) => {
                assert_eq!(posted.to_message(), identity);
                assert_eq!(devices_statement(&posted.to_message()), bytes);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_a_device_says_counts_in_its_channel_alone() {
    let bytes = leave(&Account::of(1));
    let said = Statement::verify(&bytes).unwrap();
    assert_eq!(Posted::verify(&bytes, &CHANNEL), Ok(Posted::Said(said.clone())));
    assert_eq!(Posted::verify_signed(&bytes), Ok(Posted::Said(said)));
    let elsewhere = Posted::verify(&bytes, &ChannelId([1; 16])).unwrap_err();
    assert_eq!(elsewhere, CredentialError::Statement("for another channel"));
}

#[test]
fn every_change_of_a_devices_statement_is_refused() {
    let bytes = devices_statement(&Account::of(1).identity());
    let refused = |bytes: &[u8], why: &str| {
        let error = Posted::verify(bytes, &CHANNEL).unwrap_err();
        assert_eq!(error.code(), ErrorCode::StatementInvalid, "{why}");
        assert!(Statement::verify(bytes).is_err(), "{why}");
    };
    for at in 0..bytes.len() {
        refused(&bytes[..at], "cut");
        refused(&flipped(&bytes, at), "flipped");
    }
    refused(&[bytes.as_ref(), &[0]].concat(), "longer");
}

#[test]
fn a_devices_statement_is_of_one_account_and_generation() {
    let (account, other) = (Account::of(1), Account::of(11));
    let next = AccountKey { generation: 2, ..account.account_key() };
    for mixed in [
        Identity { account: other.id(), ..account.identity() },
        Identity { account_key: other.statement(), ..account.identity() },
        Identity { device_list: other.identity().device_list, ..account.identity() },
        // The key of a generation that the list isn't of.
        Identity { account_key: next.sign(|tbs| account.root.sign(tbs)), ..account.identity() },
        // Not the root's word.
        Identity { account_key: next.sign(|tbs| account.primary.sign(tbs)), ..account.identity() },
    ] {
        let error = Posted::verify(&devices_statement(&mixed), &CHANNEL).unwrap_err();
        assert_eq!(error.code(), ErrorCode::StatementInvalid);
    }
}

#[test]
fn a_later_list_revokes_what_it_does_not_hold() {
    let account = Account::of(1);
    // Of the first list.
    let certificate = Certificate::verify(&account.certificate()).unwrap();
    let entry = |n: u8| DeviceEntry { device: DeviceId([n; 16]), ..account.entry };
    let other = DeviceEntry { key: Key::of(50).public(), ..entry(50) };
    let rekeyed = DeviceEntry { key: Key::of(50).public(), ..account.entry };
    let revokes = |numbers, devices: &[DeviceEntry]| {
        listed(&account, numbers, devices).list.revokes(&certificate)
    };
    for numbers in [(1, 2), (2, 1), (2, 9)] {
        assert!(revokes(numbers, &[]), "a list without devices ends the account");
        assert!(revokes(numbers, &[entry(50)]));
        assert!(revokes(numbers, &[rekeyed]));
        assert!(!revokes(numbers, &[account.entry]));
        assert!(!revokes(numbers, &[account.entry, other]));
    }
    // The list that the certificate names, whatever it holds.
    assert!(!revokes((1, 1), &[]));
    assert!(!revokes((1, 1), &[entry(50)]));
    let stranger = listed(&Account::of(11), (9, 9), &[]);
    assert!(!stranger.list.revokes(&certificate));
}

#[test]
fn an_earlier_list_says_nothing_of_a_device_that_came_later() {
    let account = Account::of(1);
    let body = qpc_credential::CertificateBody { list_version: 5, ..account.body() };
    let bytes = Certificate::sign(&account.statement(), &body, |tbs| account.primary.sign(tbs));
    let certificate = Certificate::verify(&bytes).unwrap();
    for (numbers, revoked) in [((1, 4), false), ((1, 5), false), ((1, 6), true), ((2, 1), true)] {
        let list = listed(&account, numbers, &[]).list;
        assert_eq!(list.revokes(&certificate), revoked, "{numbers:?}");
    }
    // Nor does a thief of the account key win by a high version over the next generation.
    const HIGHEST: u64 = i64::MAX.unsigned_abs();
    let body = qpc_credential::CertificateBody { list_version: HIGHEST, ..account.body() };
    let bytes = Certificate::sign(&account.statement(), &body, |tbs| account.primary.sign(tbs));
    let certificate = Certificate::verify(&bytes).unwrap();
    assert!(listed(&account, (2, 1), &[]).list.revokes(&certificate));
}

#[test]
fn a_list_without_devices_is_the_last_word_of_an_account() {
    let account = Account::of(1);
    let ended = listed(&account, (1, 2), &[]);
    assert!(ended.list.devices.is_empty());
    assert!(ended.list.is_newer_than(&account.list()));
    let certificate = Certificate::verify(&account.certificate()).unwrap();
    assert!(!ended.list.holds(&certificate));
    let bytes = devices_statement(&ended.to_message());
    assert_eq!(Posted::verify(&bytes, &CHANNEL), Ok(Posted::Devices(ended)));
}
