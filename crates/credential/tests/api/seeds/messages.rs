//! Bodies of every request, response and error, and what stands inside of them.

use bytes::Bytes;
use qpc_proto::aad::{Aad, CommitBinding};
use qpc_proto::content::{Body, Content, DeviceListDigest};
use qpc_proto::message::*;
use qpc_proto::roster::{Role, RosterChange};
use qpc_proto::{
    ChannelId, DeviceId, Digest, ErrorBody, ErrorCode, ErrorDetail, ExpiredRange, Incarnation,
    MessageId, PublicKey, Signature, Token, limits,
};

use super::Seeds;
use crate::corpora::requests::{ERROR, RESPONSE};
use crate::fixtures::Account;

const CHANNEL: ChannelId = ChannelId([1; 16]);
const PAYLOAD: Bytes = Bytes::from_static(b"payload");

pub(super) fn all() -> Seeds {
    let with = |selector: u16, body: &[u8]| [&selector.to_be_bytes(), body].concat();
    let mut seeds = Seeds::new();
    for request in requests() {
        let method = request.method();
        let name = format!("seed-request-{}", method.as_str());
        seeds.insert(name, with(method.as_u16(), &request.encode()));
    }
    for (method, response) in responses() {
        let name = format!("seed-response-{}", method.as_str());
        seeds.insert(name, with(method.as_u16() ^ RESPONSE, &response.encode()));
    }
    for (at, error) in errors().iter().enumerate() {
        let selector = error.code.as_u16() ^ ERROR;
        seeds.insert(format!("seed-error-{at}"), with(selector, &error.encode()));
    }
    for (name, bytes) in inner() {
        seeds.insert(format!("seed-{name}"), with(0, &bytes));
    }
    let empty =
        Method::ALL.iter().filter(|method| Request::decode(**method, Bytes::new()).is_err());
    for method in empty {
        seeds.insert(format!("refused-empty-{}", method.as_str()), with(method.as_u16(), &[]));
    }
    seeds
}

fn bundle() -> CommitBundle {
    CommitBundle {
        message_id: MessageId([2; 16]),
        after_commit: 3,
        payload: PAYLOAD,
        roster_change: change().encode().into(),
        welcome: Some(PAYLOAD),
        statements: vec![PAYLOAD, PAYLOAD],
    }
}

fn change() -> RosterChange {
    let (account, other) = (Account::of(1), Account::of(11));
    RosterChange {
        adds: [account.device(), other.device()].into(),
        removes: [Account::of(21).device()].into(),
        roles: [(account.id(), Role::Admin), (other.id(), Role::Member)].into(),
    }
}

fn requests() -> Vec<Request> {
    let account = Account::of(1);
    let identity = account.identity();
    let proof = Signature([7; 64]);
    let cursors = vec![Cursor { channel: CHANNEL, seq: 1 }, Cursor { channel: CHANNEL, seq: 300 }];
    let entry = NewEntry { message_id: MessageId([2; 16]), after_commit: 3, payload: PAYLOAD };
    let fetch = Fetch { channel: CHANNEL, after_seq: 1, bytes_max: 1_000_000 };
    vec![
        Request::ServerInfo,
        Request::Register(Register {
            name: "ada".to_owned(),
            account_key: identity.account_key,
            device_list: identity.device_list,
            device: account.entry.device,
            proof,
            invite: Bytes::from_static(&[9; 16]),
            proof_of_work: Some([6; 8]),
        }),
        Request::Login(Login { device: account.device(), proof }),
        Request::Refresh(Token([3; 32])),
        Request::Logout,
        Request::Lookup("ada".to_owned()),
        Request::DeviceList(account.id()),
        Request::LinkRelay(LinkRelay {
            rendezvous: Digest([5; 32]),
            side: LinkSide::New,
            offer: PAYLOAD,
        }),
        Request::LinkDevice(LinkDevice {
            device_list: account.identity().device_list,
            rendezvous: Digest([5; 32]),
            answer: PAYLOAD,
        }),
        Request::RevokeDevice(account.identity().device_list),
        Request::RenewDevices(RenewDevices {
            device_list: account.identity().device_list,
            certificates: vec![PAYLOAD, PAYLOAD],
        }),
        Request::Recover(recover(&account)),
        Request::ExportAccount,
        Request::DeleteAccount(account.identity().device_list),
        Request::CancelDeletion,
        Request::UploadKeyPackages(UploadKeyPackages {
            key_packages: vec![PAYLOAD, PAYLOAD],
            last_resort: Some(PAYLOAD),
        }),
        Request::ClaimKeyPackages(ClaimKeyPackages {
            account: account.id(),
            devices: vec![account.entry.device],
        }),
        Request::KeyPackageStatus,
        Request::CreateChannel(CreateChannel {
            channel: CHANNEL,
            kind: ChannelKind::Group,
            bundle: bundle(),
            retention_ms: 60_000,
            reset: Some(PAYLOAD),
        }),
        Request::ListChannels,
        Request::Enqueue(Enqueue { channel: CHANNEL, entries: vec![entry.clone(), entry] }),
        Request::Commit(CommitRequest { channel: CHANNEL, bundle: bundle() }),
        Request::Statement(Statement { channel: CHANNEL, statement: PAYLOAD }),
        Request::Publish(Publish { channel: CHANNEL, payload: PAYLOAD }),
        Request::Fetch(fetch),
        Request::FetchWait(FetchWait { fetch, wait_ms: limits::WAIT_MS_MAX }),
        Request::Subscribe(cursors.clone()),
        Request::Ack(cursors),
    ]
}

fn recover(account: &Account) -> Recover {
    let identity = account.identity();
    Recover {
        root: PublicKey([4; 32]),
        device: account.entry.device,
        root_proof: Signature([7; 64]),
        publish: Some(RecoverPublish {
            account_key: identity.account_key,
            device_list: identity.device_list,
            proof: Signature([8; 64]),
        }),
    }
}

fn accepted() -> Accepted {
    Accepted { seq: 4, head: Digest([5; 32]), accepted_at_ms: 6, duplicate: true }
}

fn responses() -> Vec<(Method, Response)> {
    let account = Account::of(1);
    let device = account.entry.device;
    let claimed = ClaimedKeyPackage { device, key_package: PAYLOAD, last_resort: true };
    let claims = Claims {
        claimed: vec![claimed],
        missing: vec![DeviceId([8; 16])],
        identity: account.identity(),
    };
    let status = KeyPackageStatus { available: 9, has_last_resort: true, last_resort_used: true };
    let refusal = ErrorBody::new(ErrorCode::StaleCommit, "read on");
    let refusal = Some(refusal.with_detail(ErrorDetail::LastCommit(4)));
    vec![
        (Method::ServerInfo, Response::ServerInfo(server_info())),
        (Method::Register, Response::Registered(account.id())),
        (Method::Login, Response::Tokens(tokens())),
        (Method::Lookup, Response::Identity(account.identity())),
        (
            Method::DeviceList,
            Response::Devices(Devices { identity: account.identity(), certificate: PAYLOAD }),
        ),
        (Method::UploadKeyPackages, Response::Uploaded(100)),
        (Method::ClaimKeyPackages, Response::Claims(claims)),
        (Method::KeyPackageStatus, Response::KeyPackageStatus(status)),
        (Method::Commit, Response::Accepted(accepted())),
        (Method::ListChannels, Response::Channels(vec![channel(Some(7)), channel(None)])),
        (
            Method::Enqueue,
            Response::Enqueued(EnqueueAnswer { accepted: vec![accepted()], refusal }),
        ),
        (Method::Fetch, Response::Page(page())),
        (Method::LinkRelay, Response::Relayed(Relayed { sealed: PAYLOAD, expires_at_ms: 9 })),
        (Method::ExportAccount, Response::Exported(Bytes::from_static(b"{}"))),
        (Method::DeleteAccount, Response::DeleteAt(10)),
        (Method::Ack, Response::Done),
    ]
}

fn server_info() -> ServerInfo {
    ServerInfo {
        versions: (1, 1),
        incarnation: Incarnation([4; 16]),
        now_ms: 1,
        registration: RegistrationMode::Invite,
        payload_bytes_max: 2,
        frame_bytes_max: 3,
        retention_ms: 4,
        proof_of_work: Some(ProofOfWork { seed: [5; 32], bits: 20 }),
    }
}

fn tokens() -> LoginAnswer {
    LoginAnswer {
        access_token: Token([1; 32]),
        access_expires_at_ms: 2,
        refresh_token: Token([3; 32]),
        refresh_expires_at_ms: 4,
        now_ms: 5,
        incarnation: Incarnation([6; 16]),
    }
}

fn channel(removal_seq: Option<u64>) -> ChannelState {
    ChannelState {
        channel: CHANNEL,
        kind: ChannelKind::Direct,
        head_seq: 9,
        join_seq: 2,
        acked_seq: 3,
        removal_seq,
        last_message_id: removal_seq.map(|_| MessageId([5; 16])),
        retention_ms: 60_000,
        added_seq: 2,
        incarnation: Incarnation([6; 16]),
        successor: removal_seq.map(|_| ChannelId([7; 16])),
    }
}

fn page() -> Page {
    let entry = |kind| Entry {
        seq: 1,
        kind,
        after_commit: 2,
        accepted_at_ms: 3,
        message_id: MessageId([4; 16]),
        payload: PAYLOAD,
        roster_change: change().encode().into(),
        statements: vec![PAYLOAD],
        welcome_hash: Digest([5; 32]),
        head: Digest([6; 32]),
        welcome: Some(PAYLOAD),
    };
    let kinds =
        [EntryKind::Application, EntryKind::Commit, EntryKind::Statement, EntryKind::Welcome];
    Page {
        channel: CHANNEL,
        entries: kinds.map(entry).into(),
        head_seq: 7,
        published: vec![PAYLOAD, PAYLOAD],
    }
}

fn errors() -> Vec<ErrorBody> {
    let expired = ExpiredRange { first_available: 3, boundary_head: Digest([6; 32]) };
    let details = [
        (ErrorCode::VersionUnsupported, ErrorDetail::Versions(1, 2)),
        (ErrorCode::StaleCommit, ErrorDetail::LastCommit(9)),
        (ErrorCode::GapExpired, ErrorDetail::Expired(expired)),
        (ErrorCode::ChannelExists, ErrorDetail::Channel(CHANNEL)),
        (ErrorCode::UnsupportedCiphersuite, ErrorDetail::Ciphersuites(vec![1, 3])),
        (ErrorCode::NoKeyPackage, ErrorDetail::Devices(vec![DeviceId([2; 16])])),
        (ErrorCode::NotMember, ErrorDetail::Removal(4)),
    ];
    let with_details =
        details.into_iter().map(|(code, detail)| ErrorBody::new(code, "m").with_detail(detail));
    let mut errors: Vec<_> = with_details.collect();
    let mut limited = ErrorBody::new(ErrorCode::RateLimited, "wait");
    limited.retry_after_ms = Some(1_000);
    limited.correlation_id = [3; 16];
    errors.push(limited);
    errors
}

fn inner() -> Vec<(&'static str, Vec<u8>)> {
    let content =
        |own_devices, body| Content { content_id: [1; 16], sent_at_ms: 2, own_devices, body };
    let digest = DeviceListDigest { generation: 1, version: 2, hash: Digest([3; 32]) };
    let mut aad =
        Aad { channel: CHANNEL, base_commit: 2, head_seq: 3, head: [4; 16], commit: None };
    let application = aad.encode();
    let bound = Digest([5; 32]);
    aad.commit = Some(CommitBinding { roster_change: bound, statements: bound });
    let pointer = WelcomePointer {
        channel: CHANNEL,
        kind: ChannelKind::Direct,
        join_seq: 1,
        head: bound,
        welcome_hash: bound,
        inviter: Account::of(1).id(),
    };
    let notice = Notice { kind: NoticeKind::Linked, device: DeviceId([4; 16]), at_ms: 5 };
    vec![
        ("content-text", content(Some(digest), Body::Text("hi".to_owned())).encode()),
        ("content-unknown", content(None, Body::Unknown).encode()),
        ("roster-change", change().encode()),
        ("roster-unchanged", RosterChange::default().encode()),
        ("aad-application", application),
        ("aad-commit", aad.encode()),
        ("welcome-pointer", pointer.encode()),
        ("notice", notice.encode()),
    ]
}
