//! Who is let in: logins in time, tokens, and what a refused caller hears.

use std::time::Duration;

use qpc_proto::frame::{Frame, RequestFrame};
use qpc_proto::message::{ClaimKeyPackages, Method, Request, Response};
use qpc_proto::{ErrorBody, ErrorCode, RequestId, Token};
use qpc_server::Limits;
use qpc_transport::CloseReason;

use crate::support::{Device, Rig, frame, read};

#[tokio::test]
async fn case_015_a_connection_that_stays_silent_is_closed() {
    let mut rig =
        Rig::start(Limits { auth_timeout: Duration::from_millis(20), ..Limits::default() });
    let client = rig.connect();
    let CloseReason::Peer { code, .. } = client.connection.closed().await else {
        panic!("closed by the server")
    };
    assert_eq!(code, u32::from(ErrorCode::AuthTimeout.as_u16()));
}

#[tokio::test]
async fn a_refused_request_does_not_count_as_a_sign_of_life() {
    let mut rig =
        Rig::start(Limits { auth_timeout: Duration::from_millis(20), ..Limits::default() });
    let client = rig.connect();
    // Asks as long as it is let.
    let asking = async {
        loop {
            let Ok((mut sender, mut receiver)) = client.connection.open_stream().await else {
                return std::future::pending::<()>().await;
            };
            let frame = Frame::Request(RequestFrame {
                method: Method::ListChannels.as_u16(),
                token: Token::NONE,
                request_id: RequestId::ZERO,
                body: Request::ListChannels.encode(),
            });
            drop(sender.send(&frame).await);
            drop(receiver.next().await);
        }
    };
    tokio::select! {
        reason = client.connection.closed() => assert!(matches!(reason, CloseReason::Peer { .. })),
        () = asking => unreachable!(),
    }
}

/// Without what names the single event.
fn told(refused: Result<Response, ErrorBody>) -> ErrorBody {
    let mut body = refused.unwrap_err();
    assert_ne!(body.correlation_id, [0; 16]);
    body.correlation_id = [0; 16];
    body
}

#[tokio::test]
async fn case_051_every_wrong_token_is_told_the_same() {
    let mut rig = Rig::start(Limits::default());
    let one = rig.join(&Device::new(1)).await;
    let stranger = rig.connect();
    let request = Request::ListChannels;
    let none = told(one.client.call(&Token::NONE, &request).await);
    assert_eq!(none.code, ErrorCode::Unauthenticated);
    let mut nearly = one.tokens.access_token.clone();
    nearly.0[31] ^= 1;
    for token in [Token([7; 32]), nearly, one.tokens.refresh_token.clone()] {
        assert_eq!(told(one.client.call(&token, &request).await), none);
    }
    let valid = &one.tokens.access_token;
    assert_eq!(told(stranger.call(valid, &request).await), none);
    // A bound connection is needed before a token is looked at.
    let refresh = Request::Refresh(one.tokens.refresh_token.clone());
    assert_eq!(told(stranger.call(valid, &refresh).await), none);
}

#[tokio::test]
async fn case_056_a_token_is_refused_on_another_devices_connection() {
    let mut rig = Rig::start(Limits::default());
    let one = rig.join(&Device::new(1)).await;
    let two = rig.join(&Device::new(2)).await;
    let stolen = two.client.call(&one.tokens.access_token, &Request::ListChannels).await;
    assert_eq!(stolen.unwrap_err().code, ErrorCode::Unauthenticated);
    assert!(two.call(&Request::ListChannels).await.is_ok());
}

#[tokio::test]
async fn a_connection_belongs_to_one_device_until_it_logs_out() {
    let mut rig = Rig::start(Limits::default());
    let one = rig.join(&Device::new(1)).await;
    let other = Device::new(2);
    rig.join(&other).await;
    let login = other.login(&one.client.connection.binding());
    let refused = one.client.call(&Token::NONE, &login).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::InvalidArgument);
    assert!(matches!(one.call(&Request::Logout).await, Ok(Response::Done)));
    let after = one.call(&Request::ListChannels).await;
    assert_eq!(after.unwrap_err().code, ErrorCode::Unauthenticated);
    assert!(one.client.call(&Token::NONE, &login).await.is_ok());
}

#[tokio::test]
async fn a_login_makes_room_for_more_streams() {
    let mut rig = Rig::start(Limits::default());
    let device = Device::new(1);
    let client = rig.connect();
    client.register(&device).await.unwrap();
    let mut held = Vec::new();
    // As many as a stranger may hold open.
    for _ in 0..4 {
        let mut stream = client.stream().await;
        let info = frame(&Token::NONE, &Request::ServerInfo);
        stream.sender.send(&info).await.unwrap();
        assert!(stream.next().await.is_some());
        held.push(stream);
    }
    let login = frame(&Token::NONE, &device.login(&client.connection.binding()));
    let mut more = client.stream().await;
    more.sender.send(&frame(&Token::NONE, &Request::ServerInfo)).await.unwrap();
    held[0].sender.send(&login).await.unwrap();
    let answer = more.next().await.unwrap();
    assert!(matches!(read(Method::ServerInfo, answer), Ok(Response::ServerInfo(_))));
}

#[tokio::test]
async fn case_052_an_expired_token_is_refreshed_on_the_same_connection() {
    let mut rig = Rig::start(Limits::default());
    let mut one = rig.join(&Device::new(1)).await;
    rig.pass(Duration::from_secs(15 * 60));
    let expired = one.call(&Request::ListChannels).await.unwrap_err();
    assert_eq!(expired.code, ErrorCode::TokenExpired);
    let refresh = Request::Refresh(one.tokens.refresh_token.clone());
    let Ok(Response::Tokens(tokens)) = one.call(&refresh).await else { panic!("fresh tokens") };
    one.tokens = tokens;
    assert!(one.call(&Request::ListChannels).await.is_ok());
    // Used again after its grace: the session ends, although the answer is a refusal.
    rig.pass(Duration::from_secs(16));
    let reused = one.call(&refresh).await.unwrap_err();
    assert_eq!(reused.code, ErrorCode::Unauthenticated);
    let ended = one.call(&Request::ListChannels).await.unwrap_err();
    assert_eq!(ended.code, ErrorCode::Unauthenticated);
}

#[tokio::test]
async fn the_server_says_what_it_is_and_finds_accounts_by_name() {
    let mut rig = Rig::start(Limits::default());
    let client = rig.connect();
    let Ok(Response::ServerInfo(info)) = client.call(&Token::NONE, &Request::ServerInfo).await
    else {
        panic!("server info")
    };
    assert_eq!((info.versions, info.now_ms), ((1, 1), crate::support::START_MS));
    let one = rig.join(&Device::new(1)).await;
    assert_eq!(one.tokens.incarnation, info.incarnation);
    let Ok(Response::Identity(found)) = one.call(&Request::Lookup("Device-1".to_owned())).await
    else {
        panic!("found")
    };
    let Ok(Response::Devices(same)) = one.call(&Request::DeviceList(found.account)).await else {
        panic!("found")
    };
    assert_eq!(found, same.identity);
    let claim = ClaimKeyPackages { account: found.account, devices: Vec::new() };
    let claim = one.call(&Request::ClaimKeyPackages(claim)).await.unwrap_err();
    assert_eq!(claim.code, ErrorCode::NoKeyPackage);
}
