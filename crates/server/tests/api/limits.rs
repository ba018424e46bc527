//! Rate limits as clients meet them: each limiter alone, whom it counts, and who is not touched.

use std::time::Duration;

use bytes::Bytes;
use qpc_proto::message::{
    ClaimKeyPackages, DeviceRef, LinkDevice, LinkRelay, LinkSide, Login, Method, Publish, Recover,
    Request, Response, UploadKeyPackages,
};
use qpc_proto::{
    AccountId, ChannelId, DeviceId, Digest, ErrorBody, ErrorCode, PublicKey, Signature, Token,
};
use qpc_server::Limits;
use qpc_server::limits::{KeyedBy, Limiter, Period, Rate, Rates};
use qpc_transport::CloseReason;

use crate::support::{Client, Device, LoggedIn, Rig, create_channel, enqueue, read};

/// Far more than any test asks for.
const AMPLE: u32 = 1_000_000;
/// What the limiter under test lets through at once; one more comes each minute.
const BURST: u32 = 3;

fn only(limiter: Limiter) -> Limits {
    let rates = Rates::uniform(Rate::new(AMPLE, Period::Minute, AMPLE))
        .with(limiter, Rate::new(1, Period::Minute, BURST));
    Limits { rates, ..Limits::default() }
}

fn nobody(n: u8) -> DeviceRef {
    DeviceRef { account: AccountId([n; 16]), device: DeviceId([n; 16]) }
}

/// Requests that a limiter counts; all are refused, or change nothing that matters.
fn counted_by(limiter: Limiter, target: u8) -> Request {
    let proof = Signature([0; 64]);
    match limiter {
        Limiter::Address => Request::ServerInfo,
        Limiter::Account | Limiter::Device => Request::ListChannels,
        Limiter::Register => panic!("needs a connection's binding"),
        Limiter::Login => Request::Login(Login { device: nobody(target), proof }),
        Limiter::Refresh => Request::Refresh(Token([target; 32])),
        Limiter::Recover => Request::Recover(Recover {
            root: PublicKey([target; 32]),
            device: nobody(target).device,
            root_proof: proof,
            publish: None,
        }),
        Limiter::Link => Request::LinkRelay(LinkRelay {
            rendezvous: Digest([target; 32]),
            side: LinkSide::New,
            offer: Bytes::new(),
        }),
        Limiter::Lookup => Request::Lookup(format!("nobody-{target}")),
        Limiter::Claim | Limiter::ClaimTarget | Limiter::ClaimAny => {
            Request::ClaimKeyPackages(ClaimKeyPackages {
                account: nobody(target).account,
                devices: Vec::new(),
            })
        }
        Limiter::Upload => Request::UploadKeyPackages(UploadKeyPackages {
            key_packages: Vec::new(),
            last_resort: None,
        }),
        Limiter::Commit => create_channel(ChannelId([target; 16])),
        Limiter::Publish => Request::Publish(Publish {
            channel: ChannelId([target; 16]),
            payload: Bytes::from_static(b"here"),
        }),
        Limiter::AccountChange => Request::CancelDeletion,
        Limiter::Export => Request::ExportAccount,
    }
}

fn is_limited(refused: &ErrorBody) -> bool {
    let limited = refused.code == ErrorCode::RateLimited;
    assert_eq!(limited, refused.retry_after_ms.is_some(), "{refused:?}");
    assert!(!limited || refused.code.retryable());
    limited
}

/// Whether a request is let through to where it is answered, whatever the answer.
async fn passes(client: &Client, token: &Token, request: &Request) -> bool {
    match client.call(token, request).await {
        Ok(_) => true,
        Err(refused) => !is_limited(&refused),
    }
}

async fn passed(client: &Client, token: &Token, request: &Request) -> u32 {
    for n in 0..2 * BURST {
        if !passes(client, token, request).await {
            return n;
        }
    }
    panic!("no limit met")
}

#[tokio::test]
async fn each_limit_by_address_counts_one_address_and_recovers() {
    let by_address = |l: &Limiter| l.keyed_by() == KeyedBy::Address && *l != Limiter::Register;
    for limiter in Limiter::ALL.into_iter().filter(by_address) {
        let mut rig = Rig::start(only(limiter));
        let request = counted_by(limiter, 9);
        let (one, other) = (rig.connect_from("192.0.2.1"), rig.connect_from("192.0.2.2"));
        let name = limiter.as_str();
        assert_eq!(passed(&one, &Token::NONE, &request).await, BURST, "{name}");
        // Another connection of the same address is no way around, another address is not touched.
        let again = rig.connect_from("192.0.2.1");
        assert!(!passes(&again, &Token::NONE, &request).await, "{name}");
        assert_eq!(passed(&other, &Token::NONE, &request).await, BURST, "{name}");
        rig.pass(Duration::from_secs(60));
        assert_eq!(passed(&one, &Token::NONE, &request).await, 1, "{name}");
        let series = format!("qpc_limited_total{{limiter=\"{name}\"}} 4");
        assert!(rig.server.metrics().contains(&series), "{series}");
    }
}

#[tokio::test]
async fn registrations_are_counted_by_address() {
    let mut rig = Rig::start(only(Limiter::Register));
    for n in 0..2 * u8::try_from(BURST).unwrap() {
        let refused = rig.connect_from("192.0.2.1").register(&Device::new(n + 1)).await.err();
        let limited = refused.is_some_and(|refused| is_limited(&refused));
        assert_eq!(limited, u32::from(n) >= BURST, "{n}");
    }
    rig.connect_from("192.0.2.2").register(&Device::new(99)).await.unwrap();
}

async fn two(rig: &mut Rig) -> (LoggedIn, LoggedIn) {
    (rig.join(&Device::new(1)).await, rig.join(&Device::new(2)).await)
}

#[tokio::test]
async fn each_limit_after_login_counts_one_account() {
    let of_others = [KeyedBy::Address, KeyedBy::Target];
    let after_login = |l: &Limiter| !of_others.contains(&l.keyed_by());
    for limiter in Limiter::ALL.into_iter().filter(after_login) {
        let mut rig = Rig::start(only(limiter));
        let (one, other) = two(&mut rig).await;
        let request = counted_by(limiter, 9);
        let (name, token) = (limiter.as_str(), &one.tokens.access_token);
        assert_eq!(passed(&one.client, token, &request).await, BURST, "{name}");
        assert_eq!(passed(&other.client, &other.tokens.access_token, &request).await, BURST);
        rig.pass(Duration::from_secs(60));
        assert_eq!(passed(&one.client, token, &request).await, 1, "{name}");
    }
}

#[tokio::test]
async fn claims_of_one_target_leave_those_of_another() {
    let mut rig = Rig::start(only(Limiter::ClaimTarget));
    let one = rig.join(&Device::new(1)).await;
    for target in [8, 9] {
        let request = counted_by(Limiter::ClaimTarget, target);
        assert_eq!(passed(&one.client, &one.tokens.access_token, &request).await, BURST);
    }
}

#[tokio::test]
async fn who_floods_with_logins_of_a_victim_does_not_lock_the_victim_out() {
    let mut rig = Rig::start(only(Limiter::Login));
    let victim = Device::new(1);
    rig.connect_from("192.0.2.1").register(&victim).await.unwrap();
    let attacker = rig.connect_from("198.51.100.1");
    let forged = Request::Login(Login { device: victim.id, proof: Signature([0; 64]) });
    assert_eq!(passed(&attacker, &Token::NONE, &forged).await, BURST);
    let logged_in = rig.connect_from("192.0.2.1").log_in(&victim).await;
    logged_in.call(&Request::ListChannels).await.unwrap();
}

#[tokio::test]
async fn case_201_two_accounts_behind_one_address_do_not_starve_each_other() {
    let rates = Rates::uniform(Rate::new(1, Period::Minute, 20));
    let mut rig = Rig::start(Limits { rates, ..Limits::default() });
    let mut logged_in = Vec::new();
    for seed in [1, 2] {
        let device = Device::new(seed);
        rig.connect_from("100.64.0.1").register(&device).await.unwrap();
        logged_in.push(rig.connect_from("100.64.0.1").log_in(&device).await);
    }
    // One spends all it has; the other, and whoever comes next, has all of its own.
    for one in &logged_in {
        let token = &one.tokens.access_token;
        for n in 0..21 {
            let passed = passes(&one.client, token, &Request::ListChannels).await;
            assert_eq!(passed, n < 20, "{n}");
        }
    }
    let next = rig.connect_from("100.64.0.1");
    assert!(passes(&next, &Token::NONE, &Request::ServerInfo).await);
}

#[tokio::test]
async fn case_201_privacy_addresses_of_one_64_share_a_limit() {
    let mut rig = Rig::start(only(Limiter::Address));
    for n in 0..2 * BURST {
        let client = rig.connect_from(&format!("2001:db8::{n:x}"));
        assert_eq!(passes(&client, &Token::NONE, &Request::ServerInfo).await, n < BURST, "{n}");
    }
    let neighbour = rig.connect_from("2001:db8:0:1::1");
    assert!(passes(&neighbour, &Token::NONE, &Request::ServerInfo).await);
}

#[tokio::test]
async fn a_limited_request_has_no_effect_and_its_stream_lives_on() {
    let mut rig = Rig::start(only(Limiter::Account));
    let one = rig.join(&Device::new(1)).await;
    let mut stream = one.client.stream().await;
    let frames: Vec<_> = (0..5).map(|_| one.frame(&Request::ListChannels)).collect();
    stream.sender.send_all(&frames).await.unwrap();
    for n in 0..5 {
        let answer = stream.next().await.unwrap();
        let answer = read(Method::ListChannels, answer);
        assert_eq!(answer.is_ok(), n < BURST, "{n}");
    }
    rig.pass(Duration::from_secs(60));
    stream.sender.send(&one.frame(&Request::ListChannels)).await.unwrap();
    let answer = stream.next().await.unwrap();
    assert!(read(Method::ListChannels, answer).is_ok());
}

#[tokio::test]
async fn case_157_what_a_limit_refused_is_accepted_in_its_order_after_the_wait() {
    let mut rig = Rig::start(only(Limiter::Device));
    let one = rig.join(&Device::new(1)).await;
    let channel = ChannelId([5; 16]);
    one.create_channel(channel).await;
    let mut accepted = Vec::new();
    let mut waited = 0;
    for n in 0..6 {
        // An outbox: the same bytes again until they are accepted, and no others before them.
        loop {
            match one.call(&enqueue(channel, n)).await {
                Ok(Response::Enqueued(answer)) => {
                    accepted.extend(answer.accepted);
                    break;
                }
                Err(refused) if is_limited(&refused) => {
                    let wait = refused.retry_after_ms.unwrap();
                    assert!((1..=60_001).contains(&wait), "{wait}");
                    rig.pass(Duration::from_millis(wait));
                    waited += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(waited, 4, "the channel, two messages, then one for each wait");
    assert!(accepted.iter().map(|accepted| accepted.seq).eq(2..=7));
    assert!(accepted.iter().all(|accepted| !accepted.duplicate), "a refusal had stored nothing");
}

/// As shipped but for registrations: the support takes the default for none.
fn shipped() -> Limits {
    let rates = Rates::default().with(Limiter::Register, Rate::new(AMPLE, Period::Minute, AMPLE));
    Limits { rates, ..Limits::default() }
}

/// Asks until a limit refuses.
async fn spend(thief: &LoggedIn, request: &Request) {
    for _ in 0..1_000 {
        if !passes(&thief.client, &thief.tokens.access_token, request).await {
            return;
        }
    }
    panic!("no limit met")
}

#[tokio::test]
async fn a_stolen_device_that_floods_can_not_hold_its_revocation_up() {
    let mut rig = Rig::start(shipped());
    let device = Device::new(1);
    let stolen = device.sibling(2);
    let primary = rig.join(&device).await;
    let offer = |offer| {
        let (rendezvous, side) = (Digest([7; 32]), LinkSide::New);
        Request::LinkRelay(LinkRelay { rendezvous, side, offer })
    };
    let other = rig.connect_from("192.0.2.1");
    other.call(&Token::NONE, &offer(Bytes::from_static(b"offer"))).await.unwrap();
    let device_list = device.list(2, &[&device, &stolen]);
    let answer = Bytes::from_static(b"answer");
    let link = LinkDevice { device_list, rendezvous: Digest([7; 32]), answer };
    primary.call(&Request::LinkDevice(link)).await.unwrap();
    let thief = other.log_in(&stolen).await;
    // Whatever limit it shares with the owner, it has spent to the end.
    for request in [
        Request::RevokeDevice(Bytes::from_static(b"no list")),
        Request::DeviceList(device.id.account),
        Request::ListChannels,
    ] {
        spend(&thief, &request).await;
    }
    primary.call(&Request::DeviceList(device.id.account)).await.unwrap();
    primary.call(&Request::RevokeDevice(device.list(3, &[&device]))).await.unwrap();
    let closed = thief.client.connection.closed().await;
    let revoked = u32::from(ErrorCode::DeviceRevoked.as_u16());
    assert!(matches!(closed, CloseReason::Peer { code, .. } if code == revoked), "{closed:?}");
}

#[tokio::test]
async fn one_address_never_takes_all_the_room_for_links() {
    let mut rig = Rig::start(shipped());
    let one = rig.connect_from("192.0.2.1");
    let offer = |n: u32| {
        let mut rendezvous = Digest([7; 32]);
        rendezvous.0[..4].copy_from_slice(&n.to_be_bytes());
        let offer = Bytes::from_static(b"offer");
        Request::LinkRelay(LinkRelay { rendezvous, side: LinkSide::New, offer })
    };
    // For as long as a code lives, as fast as it may.
    let mut made = 0;
    for _ in 0..1_450 {
        made += u32::from(one.call(&Token::NONE, &offer(made)).await.is_ok());
        rig.pass(Duration::from_millis(400));
    }
    let other = rig.connect_from("192.0.2.2");
    other.call(&Token::NONE, &offer(u32::MAX)).await.unwrap();
}
