//! One effect and one answer for a request id, however often and wherever it comes.

use std::time::Duration;

use bytes::Bytes;
use qpc_proto::frame::Frame;
use qpc_proto::message::{Accepted, Method, Request, Response};
use qpc_proto::{ChannelId, ErrorCode, RequestId, Token};
use qpc_server::Limits;

use crate::support::{Device, Rig, accepted, create_channel, frame, frame_with, read};

const CHANNEL: ChannelId = ChannelId([5; 16]);

fn body(frame: Frame) -> Bytes {
    match frame {
        Frame::Reply(body) => body,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn case_048_a_repeated_request_has_one_effect_and_the_same_answer() {
    let mut rig = Rig::start(Limits::default());
    let device = Device::new(1);
    let one = rig.join(&device).await;
    let request = Request::DeleteAccount(device.list(2, &[]));
    let first = body(one.client.exchange(one.frame(&request)).await);
    rig.pass(Duration::from_secs(60));
    let again = body(one.client.exchange(one.frame(&request)).await);
    assert_eq!(first, again);
    // The token differs after a reconnect, the request id and body do not.
    let elsewhere = rig.connect().log_in(&device).await;
    let later = body(elsewhere.client.exchange(elsewhere.frame(&request)).await);
    assert_eq!(first, later);
}

/// By its message id, for as long as there is the channel.
#[tokio::test]
async fn case_048_a_repeated_creation_makes_one_channel_whatever_its_request_id() {
    let mut rig = Rig::start(Limits::default());
    let one = rig.join(&Device::new(1)).await;
    let request = create_channel(CHANNEL);
    let token = &one.tokens.access_token;
    let mut answers = Vec::new();
    for id in [7, 7, 8] {
        let asked = frame_with(token, &request, RequestId([id; 16]));
        let answer = one.client.exchange(asked).await;
        answers.push(accepted(read(Method::CreateChannel, answer).unwrap()));
    }
    let first = answers[0];
    let again = Accepted { duplicate: true, ..first };
    assert_eq!((first.duplicate, &answers[1..]), (false, &[again, again][..]));
    assert_eq!(one.seqs(CHANNEL).await, [1]);
}

#[tokio::test]
async fn case_048_a_repeated_registration_makes_one_account() {
    let mut rig = Rig::start(Limits::default());
    let client = rig.connect();
    let register = Device::new(1).register(&client.connection.binding(), Bytes::new());
    let first = body(client.exchange(frame(&Token::NONE, &register)).await);
    // On another connection the proof would not hold, but nothing is done anew.
    let again = body(rig.connect().exchange(frame(&Token::NONE, &register)).await);
    assert_eq!(first, again);
    let anew = frame_with(&Token::NONE, &register, RequestId([9; 16]));
    let refused = read(Method::Register, client.exchange(anew).await).unwrap_err();
    assert_eq!(refused.code, ErrorCode::DuplicateKey);
}

#[tokio::test]
async fn another_request_under_the_same_id_is_a_conflict() {
    let mut rig = Rig::start(Limits::default());
    let device = Device::new(1);
    let one = rig.join(&device).await;
    let token = &one.tokens.access_token;
    let id = RequestId([8; 16]);
    let first = frame_with(token, &Request::DeleteAccount(device.list(2, &[])), id);
    assert!(read(Method::DeleteAccount, one.client.exchange(first).await).is_ok());
    let second = frame_with(token, &Request::CancelDeletion, id);
    let answer = one.client.exchange(second).await;
    let refused = read(Method::CancelDeletion, answer).unwrap_err();
    assert_eq!(refused.code, ErrorCode::RequestIdConflict);
    // Ids are scoped to their device.
    let other = Device::new(2);
    let two = rig.join(&other).await;
    let request = Request::DeleteAccount(other.list(2, &[]));
    let theirs = frame_with(&two.tokens.access_token, &request, id);
    assert!(read(Method::DeleteAccount, two.client.exchange(theirs).await).is_ok());
}

#[tokio::test]
async fn a_refusal_is_not_kept_and_a_change_needs_an_id() {
    let mut rig = Rig::start(Limits::default());
    let one = rig.join(&Device::new(1)).await;
    let request = create_channel(CHANNEL);
    let none = frame_with(&one.tokens.access_token, &request, RequestId::ZERO);
    let refused = read(Method::CreateChannel, one.client.exchange(none).await).unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidArgument);
    // Refused for its token, then repeated with a good one: it is done.
    let id = RequestId([8; 16]);
    let bad = frame_with(&Token([1; 32]), &request, id);
    let refused = read(Method::CreateChannel, one.client.exchange(bad).await).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unauthenticated);
    let good = frame_with(&one.tokens.access_token, &request, id);
    let response: Response = read(Method::CreateChannel, one.client.exchange(good).await).unwrap();
    assert_eq!(accepted(response).seq, 1);
}
