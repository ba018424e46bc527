//! The published bytes of every signed object and derived number.

use std::fmt::Write as _;

use bytes::Bytes;
use qpc_credential::{
    Certificate, Rejoin, RejoinReason, Said, Statement, StatementBody, devices_statement,
    safety_number,
};
use qpc_proto::{ChannelId, DeviceId, Digest, Incarnation};

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
    let said = |body| {
        let statement = Statement {
            channel: ChannelId([5; 16]),
            certificate: Certificate::verify(&certificate).unwrap(),
            issued_at_ms: 1_000,
            body,
        };
        let bytes = statement.sign(|tbs| account.device_key.sign(tbs));
        assert_eq!(Statement::verify(&bytes), Ok(statement));
        hex(&bytes)
    };
    let rejoin = StatementBody::Rejoin(Rejoin {
        incarnation: Incarnation([6; 16]),
        join_seq: 7,
        base_commit: 8,
        reason: RejoinReason::Branch,
        key_package: Bytes::from_static(&[9; 5]),
    });
    let verdict =
        StatementBody::Verdict(Said { commit_seq: 10, commit: Digest([11; 32]), applied: true });
    let other = Account::of(11).root.public();
    let lines = [
        format!("account_id {}", account.id()),
        format!("account_key {}", hex(&account.statement())),
        format!("device_list {}", hex(&account.signed_list(&account.list()))),
        format!("certificate {}", hex(&certificate)),
        format!("leave {}", said(StatementBody::Leave)),
        format!("rejoin {}", said(rejoin)),
        format!("verdict {}", said(verdict)),
        format!("reset {}", said(StatementBody::Reset(ChannelId([12; 16])))),
        format!("devices {}", hex(&devices_statement(&account.identity()))),
        format!("safety_number {}", safety_number(&account.root.public(), &other)),
    ];
    let published = include_str!("../../../../docs/protocol/vectors/identity.txt");
    let published: Vec<_> = published.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(published, lines);
}
