//! The pages of `docs/protocol` say what the code says: errors, methods, limits, byte vectors.
//! Never checks prose.

use qpc_proto::aad::{Aad, CommitBinding};
use qpc_proto::binding::{ChannelBinding, Purpose};
use qpc_proto::chain::{Link, Log, bundle_digest, sha256, statements_digest};
use qpc_proto::frame::{Frame, RequestFrame};
use qpc_proto::message::{
    ChannelKind, DeviceRef, EntryKind, Method, Notice, NoticeKind, ProofOfWork, WelcomePointer,
    inbox_channel,
};
use qpc_proto::roster::{Role, RosterChange};
use qpc_proto::{
    AccountId, ChannelId, DeviceId, Digest, ErrorCode, Incarnation, MessageId, RequestId, Token,
    limits,
};

const ERRORS: &str = include_str!("../../../docs/protocol/errors.md");
const FRAMING: &str = include_str!("../../../docs/protocol/framing.md");
const NUMBERS: &str = include_str!("../../../docs/protocol/numbers.md");
const VECTORS: &str = include_str!("../../../docs/protocol/vectors/encodings.txt");

/// The cells of the rows whose first cell begins with what `first` accepts.
fn rows(page: &str, first: impl Fn(&str) -> bool) -> Vec<Vec<&str>> {
    page.lines()
        .filter_map(|line| line.strip_prefix("| "))
        .filter(|row| first(row))
        .map(|row| row.split('|').map(str::trim).collect())
        .collect()
}

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

#[test]
fn the_error_table_is_that_of_the_code() {
    let written: Vec<_> = rows(ERRORS, |row| row.starts_with(|c: char| c.is_ascii_digit()))
        .iter()
        .map(|cells| cells[..3].join(" "))
        .collect();
    let code = |code: &ErrorCode| {
        format!("{} `{}` {}", code.as_u16(), code.as_str(), yes(code.retryable()))
    };
    assert_eq!(written, ErrorCode::ALL.iter().map(code).collect::<Vec<_>>());
}

#[test]
fn the_method_table_is_that_of_the_code() {
    let written: Vec<_> = rows(FRAMING, |row| row.starts_with("0x"))
        .iter()
        .map(|cells| format!("{} {} {}", cells[0], cells[1], cells[3]))
        .collect();
    let code = |method: &Method| {
        let id = yes(method.takes_request_id());
        format!("0x{:04x} `{}` {id}", method.as_u16(), method.as_str())
    };
    assert_eq!(written, Method::ALL.iter().map(code).collect::<Vec<_>>());
}

#[test]
fn the_limits_are_those_of_the_code() {
    macro_rules! named {
        ($($name:ident),*) => { [$((stringify!($name), limits::$name.to_string())),*] };
    }
    let code = named![
        VERSION,
        VERSION_MIN,
        PAYLOAD_BYTES_MAX,
        FRAME_BYTES_MAX,
        ENQUEUE_ENTRIES_MAX,
        PAGE_ENTRIES_MAX,
        PAGE_BYTES_MAX,
        PUBLISH_BYTES_MAX,
        WAIT_MS_MAX,
        UPLOAD_KEY_PACKAGES_MAX,
        KEY_PACKAGES_PER_DEVICE_MAX,
        KEY_PACKAGE_BYTES_MAX,
        DEVICES_PER_ACCOUNT_MAX,
        CHANNEL_DEVICES_MAX,
        CURSORS_MAX,
        NAME_CHARS_MAX,
        IDENTITY_BYTES_MAX,
        STATEMENT_BYTES_MAX,
        COMMIT_STATEMENTS_MAX,
        INVITE_BYTES,
        LINK_OFFER_BYTES_MAX,
        LINK_ANSWER_BYTES_MAX,
        LINK_CODE_MS,
        PROOF_OF_WORK_BITS_MAX,
        REQUEST_FIELDS_MAX,
        RESPONSE_FIELDS_MAX
    ];
    let code: Vec<_> = code.iter().map(|(name, value)| format!("`{name}` {value}")).collect();
    let written: Vec<_> = rows(NUMBERS, |row| row.starts_with('`'))
        .iter()
        .map(|cells| cells[..2].join(" "))
        .collect();
    assert_eq!(written, code);
    let declared = include_str!("../src/limits.rs");
    let numbers = declared.lines().filter(|line| line.starts_with("pub const")).count();
    assert_eq!(numbers, code.len() + 1, "every limit but the ALPN stands in the table");
    assert!(FRAMING.contains("5,308,416"), "the frame limit stands in the frame's table");
}

fn device(n: u8) -> DeviceRef {
    DeviceRef { account: AccountId([n; 16]), device: DeviceId([n.wrapping_add(0x10); 16]) }
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn change() -> RosterChange {
    RosterChange {
        adds: [device(1), device(2)].into(),
        removes: [device(3)].into(),
        roles: [(AccountId([1; 16]), Role::Admin)].into(),
    }
}

fn proof_of_work() -> ProofOfWork {
    ProofOfWork { seed: [0x0a; 32], bits: 12 }
}

fn notice() -> Notice {
    Notice { kind: NoticeKind::Recovered, device: device(1).device, at_ms: 1_000 }
}

fn log_vectors() -> Vec<String> {
    let statements = [bytes::Bytes::from_static(b"s"), bytes::Bytes::from_static(b"tt")];
    let welcome = sha256(b"welcome");
    let bundle = bundle_digest(&change().encode(), &statements, &welcome);
    let link = Link {
        seq: 2,
        kind: EntryKind::Commit,
        after_commit: 1,
        accepted_at_ms: 1_000,
        message_id: MessageId([5; 16]),
        payload: sha256(b"payload"),
        bundle,
    };
    let log = Log { incarnation: Incarnation([6; 16]), channel: ChannelId([7; 16]) };
    let head = log.next(&Digest([8; 32]), &link);
    let aad = Aad {
        channel: ChannelId([7; 16]),
        base_commit: 1,
        head_seq: 2,
        head: head.short(),
        commit: None,
    };
    let binding = CommitBinding {
        roster_change: change().digest(),
        statements: statements_digest(&statements),
    };
    let pointer = WelcomePointer {
        channel: ChannelId([7; 16]),
        kind: ChannelKind::Group,
        join_seq: 2,
        head,
        welcome_hash: welcome,
        inviter: AccountId([9; 16]),
    };
    vec![
        format!("roster_change {}", hex(change().encode())),
        format!("roster_change_digest {}", change().digest()),
        format!("statements_digest {}", statements_digest(&statements)),
        format!("bundle_digest {bundle}"),
        format!("commit_head {head}"),
        format!("aad_application {}", hex(aad.encode())),
        format!("aad_commit {}", hex(Aad { commit: Some(binding), ..aad }.encode())),
        format!("welcome_pointer {}", hex(pointer.encode())),
    ]
}

#[test]
fn encodings_have_their_published_bytes() {
    let request = Frame::Request(RequestFrame {
        method: Method::Statement.as_u16(),
        token: Token([1; 32]),
        request_id: RequestId([2; 16]),
        body: bytes::Bytes::from_static(b"body"),
    });
    let binding = ChannelBinding { exporter: [3; 32], fingerprint: [4; 32] };
    let mut lines = vec![
        format!("frame_request {}", hex(request.encode())),
        format!("frame_end {}", hex(Frame::End.encode())),
        format!("channel_binding {}", hex(binding.to_be_signed(&device(1), Purpose::Login))),
        format!("recover_binding {}", hex(binding.to_be_signed(&device(1), Purpose::Recover))),
        format!("inbox_channel {}", inbox_channel(&device(1).device)),
        format!("proof_of_work {}", hex(proof_of_work().solve(&device(1).account))),
        format!("notice {}", hex(notice().encode())),
    ];
    lines.extend(log_vectors());
    let published: Vec<_> = VECTORS.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(published, lines);
}
