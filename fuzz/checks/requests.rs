//! What must hold of every message body, whatever bytes come: it is refused, or it reads the same
//! from its own encoding and keeps the limits.
//!
//! Input: a selector of two bytes, then the body. A method's number selects its request, with the
//! highest bit set its response, with the next bit set an error of that code; anything else the
//! objects that stand inside of messages.

use std::fmt::Debug;

use bytes::Bytes;
use qpc_proto::aad::Aad;
use qpc_proto::content::Content;
use qpc_proto::limits;
use qpc_proto::message::{CommitBundle, Method, Notice, Request, Response, WelcomePointer};
use qpc_proto::roster::RosterChange;
use qpc_proto::{ErrorBody, Malformed};

/// Set in the selector of a response.
pub(crate) const RESPONSE: u16 = 0x8000;
/// Set in the selector of an error.
pub(crate) const ERROR: u16 = 0x4000;

/// Checks one input; returns whether anything took the body.
pub(crate) fn check(data: &[u8]) -> bool {
    let Some((selector, body)) = data.split_first_chunk() else {
        return false;
    };
    let selector = u16::from_be_bytes(*selector);
    if let Some(method) = Method::from_u16(selector) {
        check_request(method, body)
    } else if let Some(method) = Method::from_u16(selector ^ RESPONSE) {
        check_response(method, body)
    } else if selector & (RESPONSE | ERROR) == ERROR {
        check_error(selector ^ ERROR, body)
    } else {
        check_inner(body)
    }
}

fn check_request(method: Method, body: &[u8]) -> bool {
    let request = match Request::decode(method, Bytes::copy_from_slice(body)) {
        Ok(request) => request,
        Err(malformed) => return check_refusal(malformed),
    };
    assert_eq!(request.method(), method);
    check_limits(&request);
    let encoded = request.encode();
    let again = Request::decode(method, encoded.clone()).expect("its own encoding is read");
    assert_eq!(again.encode(), encoded);
    true
}

fn check_response(method: Method, body: &[u8]) -> bool {
    let response = match Response::decode(method, Bytes::copy_from_slice(body)) {
        Ok(response) => response,
        Err(malformed) => return check_refusal(malformed),
    };
    let encoded = response.encode();
    let again = Response::decode(method, encoded.clone()).expect("its own encoding is read");
    assert_eq!(again.encode(), encoded);
    true
}

fn check_error(code: u16, body: &[u8]) -> bool {
    let error = match ErrorBody::decode(code, body) {
        Ok(error) => error,
        Err(malformed) => return check_refusal(malformed),
    };
    assert_eq!(ErrorBody::decode(error.code.as_u16(), &error.encode()), Ok(error));
    true
}

fn check_inner(body: &[u8]) -> bool {
    let content = Content::decode(body);
    if let Ok(content) = &content {
        assert!(Content::decode(&content.encode()).as_ref() == Ok(content));
    }
    let canonical = [
        is_canonical(body, RosterChange::decode, RosterChange::encode),
        is_canonical(body, Aad::decode, Aad::encode),
        is_canonical(body, WelcomePointer::decode, WelcomePointer::encode),
        is_canonical(body, Notice::decode, Notice::encode),
    ];
    content.is_ok() || canonical.contains(&true)
}

/// Objects that are hashed or signed have exactly one encoding.
fn is_canonical<T: Debug>(
    body: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, Malformed>,
    encode: impl Fn(&T) -> Vec<u8>,
) -> bool {
    decode(body).is_ok_and(|value| {
        assert_eq!(encode(&value), body, "{value:?}");
        true
    })
}

/// The peer must be able to read why.
fn check_refusal(malformed: Malformed) -> bool {
    let error = ErrorBody::from(malformed);
    assert_eq!(ErrorBody::decode(error.code.as_u16(), &error.encode()), Ok(error));
    false
}

/// What the services rely on without looking.
fn check_limits(request: &Request) {
    match request {
        Request::Register(register) => {
            assert!(register.account_key.len() <= limits::IDENTITY_BYTES_MAX);
            assert!(register.device_list.len() <= limits::IDENTITY_BYTES_MAX);
            assert!([0, limits::INVITE_BYTES].contains(&register.invite.len()));
            assert!(register.name.len() <= limits::NAME_CHARS_MAX * 4);
        }
        Request::LinkRelay(relay) => assert!(relay.offer.len() <= limits::LINK_OFFER_BYTES_MAX),
        Request::LinkDevice(link) => {
            assert!(link.device_list.len() <= limits::IDENTITY_BYTES_MAX);
            assert!((1..=limits::LINK_ANSWER_BYTES_MAX).contains(&link.answer.len()));
        }
        Request::RevokeDevice(list) | Request::DeleteAccount(list) => {
            assert!(list.len() <= limits::IDENTITY_BYTES_MAX);
        }
        Request::RenewDevices(renew) => {
            assert!((1..=limits::DEVICES_PER_ACCOUNT_MAX).contains(&renew.certificates.len()));
            let signed = renew.certificates.iter().chain([&renew.device_list]);
            signed.for_each(|bytes| assert!(bytes.len() <= limits::IDENTITY_BYTES_MAX));
        }
        Request::Recover(recover) => {
            if let Some(publish) = &recover.publish {
                assert!(publish.account_key.len() <= limits::IDENTITY_BYTES_MAX);
                assert!(publish.device_list.len() <= limits::IDENTITY_BYTES_MAX);
            }
        }
        Request::ClaimKeyPackages(claim) => {
            assert!(claim.devices.len() <= limits::DEVICES_PER_ACCOUNT_MAX);
        }
        Request::Lookup(name) => assert!(name.len() <= limits::NAME_CHARS_MAX * 4),
        Request::UploadKeyPackages(upload) => {
            let packages = upload.key_packages.iter().chain(&upload.last_resort);
            packages.for_each(|kp| assert!(kp.len() <= limits::KEY_PACKAGE_BYTES_MAX));
        }
        Request::CreateChannel(create) => check_bundle(&create.bundle),
        Request::Commit(commit) => check_bundle(&commit.bundle),
        Request::Enqueue(enqueue) => {
            assert!((1..=limits::ENQUEUE_ENTRIES_MAX).contains(&enqueue.entries.len()));
            enqueue.entries.iter().for_each(|entry| check_payload(&entry.payload));
        }
        Request::Statement(statement) => {
            assert!(statement.statement.len() <= limits::STATEMENT_BYTES_MAX);
        }
        Request::Publish(publish) => {
            assert!((1..=limits::PUBLISH_BYTES_MAX).contains(&publish.payload.len()));
        }
        Request::FetchWait(wait) => assert!(wait.wait_ms <= limits::WAIT_MS_MAX),
        Request::Subscribe(cursors) | Request::Ack(cursors) => {
            assert!(cursors.len() <= limits::CURSORS_MAX);
        }
        Request::ServerInfo
        | Request::Login(_)
        | Request::Refresh(_)
        | Request::Logout
        | Request::DeviceList(_)
        | Request::ExportAccount
        | Request::CancelDeletion
        | Request::KeyPackageStatus
        | Request::ListChannels
        | Request::Fetch(_) => {}
    }
}

fn check_bundle(bundle: &CommitBundle) {
    check_payload(&bundle.payload);
    assert!(bundle.statements.len() <= limits::COMMIT_STATEMENTS_MAX);
}

fn check_payload(payload: &[u8]) {
    assert!((1..=limits::PAYLOAD_BYTES_MAX).contains(&payload.len()));
}
