//! Devices that come and go while they are connected, and what the others of the account hear.

use bytes::Bytes;
use qpc_proto::message::{
    EntryKind, LinkDevice, LinkRelay, LinkSide, Method, Notice, NoticeKind, Relayed, RenewDevices,
    Request, Response, inbox_channel,
};
use qpc_proto::{ChannelId, Digest, ErrorCode, Token};
use qpc_server::Limits;
use qpc_transport::CloseReason;

use crate::support::{Client, Device, LoggedIn, Rig, fetch, frame, read};

const CHANNEL: ChannelId = ChannelId([5; 16]);
const MEETING: Digest = Digest([7; 32]);

async fn relay(client: &Client, side: LinkSide, offer: &'static [u8]) -> Relayed {
    let relay = LinkRelay { rendezvous: MEETING, side, offer: Bytes::from_static(offer) };
    match client.call(&Token::NONE, &Request::LinkRelay(relay)).await.unwrap() {
        Response::Relayed(relayed) => relayed,
        other => panic!("{other:?}"),
    }
}

fn link(list: Bytes) -> Request {
    let answer = Bytes::from_static(b"sealed answer");
    Request::LinkDevice(LinkDevice { device_list: list, rendezvous: MEETING, answer })
}

/// A second device of the account of `primary`, which is logged in, linked and logged in.
async fn linked(rig: &mut Rig, (device, primary): (&Device, &LoggedIn), seed: u8) -> LoggedIn {
    let sibling = device.sibling(seed);
    let client = rig.connect();
    relay(&client, LinkSide::New, b"sealed offer").await;
    primary.call(&link(device.list(2, &[device, &sibling]))).await.unwrap();
    client.log_in(&sibling).await
}

async fn close_code(client: &Client) -> u32 {
    match client.connection.closed().await {
        CloseReason::Peer { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

async fn notices(device: &Device, logged_in: &LoggedIn) -> Vec<(NoticeKind, u8)> {
    let inbox = inbox_channel(&device.id.device);
    let Ok(Response::Page(page)) = logged_in.call(&fetch(inbox)).await else { panic!("a page") };
    let notices = page.entries.iter().filter(|entry| entry.kind == EntryKind::Notice);
    notices.map(|n| Notice::decode(&n.payload).unwrap()).map(|n| (n.kind, n.device.0[0])).collect()
}

#[tokio::test]
async fn case_068_a_device_is_linked_once_by_a_code_and_the_others_are_told() {
    let mut rig = Rig::start(Limits::default());
    let device = Device::new(1);
    let primary = rig.join(&device).await;
    let client = rig.connect();
    assert!(relay(&client, LinkSide::New, b"sealed offer").await.sealed.is_empty());
    let offered = relay(&primary.client, LinkSide::Old, b"").await.sealed;
    assert_eq!(offered, b"sealed offer".as_slice());
    let (second, third) = (device.sibling(2), device.sibling(3));
    primary.call(&link(device.list(2, &[&device, &second]))).await.unwrap();
    let answer = relay(&client, LinkSide::New, b"").await.sealed;
    assert_eq!(answer, b"sealed answer".as_slice());
    let second_in = client.log_in(&second).await;
    // The code is spent: no third device comes in by it.
    let again = link(device.list(3, &[&device, &second, &third]));
    assert_eq!(primary.call(&again).await.unwrap_err().code, ErrorCode::LinkCodeInvalid);
    // The device that linked knows; the linked one sees itself.
    assert_eq!(notices(&device, &primary).await, []);
    assert_eq!(notices(&second, &second_in).await, []);
}

#[tokio::test]
async fn case_057_a_revoked_device_is_cut_off_at_once() {
    let mut rig = Rig::start(Limits::default());
    let device = Device::new(1);
    let primary = rig.join(&device).await;
    let gone = linked(&mut rig, (&device, &primary), 2).await;
    let also = rig.connect().log_in(&device.sibling(2)).await;
    gone.create_channel(CHANNEL).await;
    let (mut stream, _) = gone.subscribe(CHANNEL).await;
    primary.call(&Request::RevokeDevice(device.list(3, &[&device]))).await.unwrap();
    let revoked = u32::from(ErrorCode::DeviceRevoked.as_u16());
    assert_eq!(close_code(&gone.client).await, revoked);
    assert_eq!(close_code(&also.client).await, revoked);
    // Its subscription ends with the connection, or just before it with the same code.
    while let Ok(Some(frame)) = stream.receiver.next().await {
        assert_eq!(read(Method::Subscribe, frame).unwrap_err().code, ErrorCode::DeviceRevoked);
    }
    assert!(primary.call(&Request::ListChannels).await.is_ok());
}

#[tokio::test]
async fn case_058_a_revoked_device_is_refused_everywhere() {
    let mut rig = Rig::start(Limits::default());
    let device = Device::new(1);
    let primary = rig.join(&device).await;
    let gone = linked(&mut rig, (&device, &primary), 2).await;
    gone.create_channel(CHANNEL).await;
    primary.call(&Request::RevokeDevice(device.list(3, &[&device]))).await.unwrap();
    let client = rig.connect();
    let login = device.sibling(2).login(&client.connection.binding());
    let refused = client.call(&Token::NONE, &login).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::DeviceRevoked);
    // Its channel is shown the list that took it off.
    let claim = Request::DeviceList(device.id.account);
    let Ok(Response::Devices(newest)) = primary.call(&claim).await else { panic!("found") };
    assert_eq!(newest.identity.device_list, device.list(3, &[&device]));
}

/// The certificate that a device is shown with the list of an account.
async fn shown(caller: &LoggedIn, of: &Device) -> Bytes {
    let Ok(Response::Devices(newest)) = caller.call(&Request::DeviceList(of.id.account)).await
    else {
        panic!("found")
    };
    newest.certificate
}

#[tokio::test]
async fn a_renewed_device_is_shown_its_own_certificate_and_stays_connected() {
    let mut rig = Rig::start(Limits::default());
    let end = crate::support::START_MS + 1_000_000;
    let until = |mut device: Device, not_after_ms| {
        device.not_after_ms = not_after_ms;
        device
    };
    let device = until(Device::new(1), end);
    let primary = rig.join(&device).await;
    let sibling = linked(&mut rig, (&device, &primary), 2).await;
    let stranger = rig.join(&Device::new(9)).await;
    let (first, second) = (until(device.clone(), end + 1), until(device.sibling(2), end + 1));
    let list = device.list(3, &[&first, &second]);
    let certificates = vec![first.certified(3), second.certified(3)];
    let renew = |certificates| {
        let device_list = list.clone();
        Request::RenewDevices(RenewDevices { device_list, certificates })
    };
    let half = primary.call(&renew(certificates[..1].to_vec())).await.unwrap_err();
    assert_eq!(half.code, ErrorCode::IdentityInvalid);
    assert_eq!(shown(&primary, &device).await, Bytes::new());
    for _ in 0..2 {
        let answer = primary.call(&renew(certificates.clone())).await;
        assert!(matches!(answer, Ok(Response::Done)));
    }
    assert_eq!(shown(&primary, &device).await, certificates[0]);
    assert_eq!(shown(&sibling, &device).await, certificates[1]);
    assert_eq!(shown(&stranger, &device).await, Bytes::new());
    assert_eq!(shown(&primary, &Device::new(9)).await, Bytes::new());
}

#[tokio::test]
async fn a_recovery_revokes_what_it_does_not_keep_and_tells_what_it_keeps() {
    let mut rig = Rig::start(Limits::default());
    let device = Device::new(1);
    let primary = rig.join(&device).await;
    let kept = linked(&mut rig, (&device, &primary), 2).await;
    let client = rig.connect();
    let binding = client.connection.binding();
    let fresh = device.recovered(9).sibling(3);
    let asked = client.call(&Token::NONE, &fresh.recover(&binding, None)).await.unwrap();
    assert!(matches!(asked, Response::Identity(newest) if !newest.device_list.is_empty()));
    let list = fresh.list(1, &[&fresh, &device.sibling(2)]);
    client.call(&Token::NONE, &fresh.recover(&binding, Some(list.clone()))).await.unwrap();
    let revoked = u32::from(ErrorCode::DeviceRevoked.as_u16());
    assert_eq!(close_code(&primary.client).await, revoked);
    assert_eq!(notices(&device.sibling(2), &kept).await, [(NoticeKind::Recovered, 3)]);
    let logged_in = client.log_in(&fresh).await;
    let newest = logged_in.call(&Request::DeviceList(device.id.account)).await;
    let Ok(Response::Devices(newest)) = newest else { panic!("found") };
    assert_eq!(newest.identity.device_list, list);
}

#[tokio::test]
async fn the_other_devices_hear_of_exports_deletions_and_stolen_tokens() {
    let mut rig = Rig::start(Limits::default());
    let device = Device::new(1);
    let primary = rig.join(&device).await;
    let other = linked(&mut rig, (&device, &primary), 2).await;
    let Ok(Response::Exported(json)) = primary.call(&Request::ExportAccount).await else {
        panic!("an export")
    };
    let export: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert!(export["authentication"].is_object() && export["delivery"].is_object());
    let end = Request::DeleteAccount(device.list(3, &[]));
    let Ok(Response::DeleteAt(at)) = primary.call(&end).await else { panic!("a date") };
    let Ok(Response::DeleteAt(again)) = primary.call(&end).await else { panic!("a date") };
    assert_eq!(at, again);
    primary.call(&Request::CancelDeletion).await.unwrap();
    let refresh = Request::Refresh(primary.tokens.refresh_token.clone());
    primary.call(&refresh).await.unwrap();
    rig.pass(std::time::Duration::from_secs(16));
    let frame = primary.client.exchange(primary.frame(&refresh)).await;
    let refused = read(Method::Refresh, frame).unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unauthenticated);
    assert_eq!(
        notices(&device.sibling(2), &other).await,
        [
            (NoticeKind::Exported, 1),
            (NoticeKind::DeletionRequested, 1),
            (NoticeKind::DeletionCancelled, 1),
            (NoticeKind::RefreshReused, 1),
        ]
    );
}

#[tokio::test]
async fn who_logs_in_as_two_devices_at_once_is_cut_off_with_the_second() {
    let mut rig = Rig::start(Limits::default());
    let (ada, bob) = (Device::new(1), Device::new(5));
    rig.join(&ada).await;
    let bobs = rig.join(&bob).await;
    let second = bob.sibling(6);
    linked(&mut rig, (&bob, &bobs), 6).await;
    // Both are under way before either is answered.
    let both = rig.connect();
    let mut stream = both.stream().await;
    let binding = both.connection.binding();
    let frames = [ada.login(&binding), second.login(&binding)].map(|l| frame(&Token::NONE, &l));
    stream.sender.send_all(&frames).await.unwrap();
    for _ in 0..2 {
        let answer = stream.next().await.unwrap();
        assert!(matches!(read(Method::Login, answer), Ok(Response::Tokens(_))));
    }
    bobs.call(&Request::RevokeDevice(bob.list(3, &[&bob]))).await.unwrap();
    let closed = tokio::time::timeout(std::time::Duration::from_secs(5), close_code(&both)).await;
    assert_eq!(closed, Ok(u32::from(ErrorCode::DeviceRevoked.as_u16())));
}
