//! The published bytes of every signed object and derived number.

use std::fmt::Write as _;

use qpc_credential::{Certificate, Statement, StatementBody, devices_statement, safety_number};
use qpc_proto::{ChannelId, DeviceId};

use crate::fixtures::Account;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[test]
fn identity_objects_have_their_published_bytes() {
    let mut account = Account::of(1);
    account.entry.device = DeviceId([4; 16]);
    let certificate = account.certificate();
    let leave = Statement {
        channel: ChannelId([5; 16]),
        certificate: Certificate::verify(&certificate).unwrap(),
        issued_at_ms: 1_000,
        body: StatementBody::Leave,
    };
    let other = Account::of(11).root.public();
    let lines = [
        format!("account_id {}", account.id()),
        format!("account_key {}", hex(&account.statement())),
        format!("device_list {}", hex(&account.signed_list(&account.list()))),
        format!("certificate {}", hex(&certificate)),
        format!("leave {}", hex(&leave.sign(|tbs| account.device_key.sign(tbs)))),
        format!("devices {}", hex(&devices_statement(&account.identity()))),
        format!("safety_number {}", safety_number(&account.root.public(), &other)),
    ];
    let published = include_str!("../../../../docs/protocol/vectors/identity.txt");
    let published: Vec<_> = published.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(published, lines);
}
