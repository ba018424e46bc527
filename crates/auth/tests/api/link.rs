//! Where two devices with a one-time code meet.

use bytes::Bytes;
use qpc_auth::AuthError;
use qpc_proto::Digest;
use qpc_proto::ErrorCode::{self, *};
use qpc_proto::limits::LINK_CODE_MS;
use qpc_proto::message::LinkSide::{New, Old};
use qpc_proto::message::RegistrationMode::Open;
use qpc_proto::message::{LinkDevice, LinkRelay, LinkSide, Relayed};

use crate::support::{Device, NOW, Person, World};

const PLACE: Digest = Digest([7; 32]);
const OFFER: Bytes = Bytes::from_static(b"offer");
const ANSWER: Bytes = Bytes::from_static(b"answer");
const NOTHING: Bytes = Bytes::new();

fn world() -> (World, Person) {
    let mut world = World::new(Open);
    let mut alice = Person::new(1, "alice");
    alice.not_after_ms = NOW * 2;
    world.register(&alice.registration()).unwrap();
    (world, alice)
}

fn relay(
    world: &mut World,
    (side, offer): (LinkSide, Bytes),
    now_ms: u64,
) -> Result<Relayed, AuthError> {
    let relay = LinkRelay { rendezvous: PLACE, side, offer };
    world.at(now_ms, None, |auth, call, _| auth.relay(call, &relay))
}

fn link(world: &mut World, alice: &Person, now_ms: u64) -> Result<(), AuthError> {
    let mut linked = Device::new(9);
    linked.not_after_ms = NOW * 2;
    let device_list = alice.next_list(2, &[&alice.first(), &linked]);
    let link = LinkDevice { device_list, rendezvous: PLACE, answer: ANSWER };
    let device = Some(alice.device_ref());
    world.at(now_ms, device, |auth, call, _| auth.link_device(call, &link)).map(drop)
}

fn code<T: std::fmt::Debug>(result: Result<T, AuthError>) -> ErrorCode {
    result.unwrap_err().code()
}

#[test]
fn an_offer_reaches_the_account_and_the_answer_comes_back() {
    let (mut world, alice) = world();
    let ends = NOW + LINK_CODE_MS;
    let shown = |sealed| Relayed { sealed, expires_at_ms: ends };
    assert_eq!(relay(&mut world, (New, OFFER), NOW).unwrap(), shown(NOTHING));
    assert_eq!(relay(&mut world, (New, NOTHING), NOW + 1).unwrap(), shown(NOTHING));
    assert_eq!(relay(&mut world, (Old, NOTHING), NOW + 1).unwrap(), shown(OFFER));
    // The offer sent again, as after a lost reply, neither fails nor lengthens the code's life.
    assert_eq!(relay(&mut world, (New, OFFER), NOW + 2).unwrap(), shown(NOTHING));
    link(&mut world, &alice, NOW + 3).unwrap();
    for offer in [NOTHING, OFFER] {
        assert_eq!(relay(&mut world, (New, offer), ends - 1).unwrap(), shown(ANSWER));
    }
}

#[test]
fn case_068_a_code_is_used_once() {
    let (mut world, alice) = world();
    relay(&mut world, (New, OFFER), NOW).unwrap();
    // Whoever saw the code can't put an offer of their own beside the first.
    let other = Bytes::from_static(b"other");
    assert_eq!(code(relay(&mut world, (New, other.clone()), NOW)), LinkCodeInvalid);
    assert_eq!(relay(&mut world, (Old, NOTHING), NOW).unwrap().sealed, OFFER);
    link(&mut world, &alice, NOW).unwrap();
    assert_eq!(code(relay(&mut world, (Old, NOTHING), NOW)), LinkCodeInvalid);
    assert_eq!(code(relay(&mut world, (New, other), NOW)), LinkCodeInvalid);
    let third = Device { not_after_ms: NOW * 2, ..Device::new(10) };
    let second = Device { not_after_ms: NOW * 2, ..Device::new(9) };
    let device_list = alice.next_list(3, &[&alice.first(), &second, &third]);
    let link = LinkDevice { device_list, rendezvous: PLACE, answer: ANSWER };
    let again = world.as_device(alice.device_ref(), |auth, call| auth.link_device(call, &link));
    assert_eq!(code(again), LinkCodeInvalid);
}

#[test]
fn case_068_a_code_ends_after_ten_minutes() {
    let ends = NOW + 10 * 60 * 1_000;
    let (mut world, alice) = world();
    relay(&mut world, (New, OFFER), NOW).unwrap();
    assert_eq!(code(link(&mut world, &alice, ends)), LinkCodeInvalid);
    for side in [New, Old] {
        assert_eq!(code(relay(&mut world, (side, NOTHING), ends)), LinkCodeInvalid);
    }
    // The same code again is a code like any other.
    relay(&mut world, (New, OFFER), ends).unwrap();
    link(&mut world, &alice, ends + 1).unwrap();
    let sweep = |world: &mut World, now| {
        world.at(now, None, |auth, call, _| auth.sweep_expired(call.tx, now, 10)).unwrap()
    };
    assert_eq!(sweep(&mut world, ends + LINK_CODE_MS - 1), 0);
    assert_eq!(sweep(&mut world, ends + LINK_CODE_MS), 1);
}

#[test]
fn case_068_an_unknown_code_links_nothing() {
    let (mut world, alice) = world();
    for side in [New, Old] {
        assert_eq!(code(relay(&mut world, (side, NOTHING), NOW)), LinkCodeInvalid);
    }
    assert_eq!(code(link(&mut world, &alice, NOW)), LinkCodeInvalid);
}

#[test]
fn a_refused_list_leaves_the_code_unused() {
    let (mut world, alice) = world();
    relay(&mut world, (New, OFFER), NOW).unwrap();
    let stale = LinkDevice {
        device_list: alice.next_list(1, &[&alice.first(), &Device::new(9)]),
        rendezvous: PLACE,
        answer: ANSWER,
    };
    let refused = world.as_device(alice.device_ref(), |auth, call| auth.link_device(call, &stale));
    assert_eq!(code(refused), DeviceListStale);
    link(&mut world, &alice, NOW).unwrap();
}

#[test]
fn links_under_way_are_bounded_and_room_comes_back() {
    let (mut world, _) = world();
    let offers = |count: u32, from: u32, now_ms| {
        move |auth: &qpc_auth::Auth, call: &qpc_auth::Call<'_>, _: &mut _| {
            for number in from..from + count {
                let mut rendezvous = PLACE;
                rendezvous.0[..4].copy_from_slice(&number.to_be_bytes());
                let relay = LinkRelay { rendezvous, side: New, offer: OFFER };
                auth.relay(&qpc_auth::Call { now_ms, ..*call }, &relay)?;
            }
            Ok(())
        }
    };
    world.at(NOW, None, offers(8_192, 0, NOW)).unwrap();
    let full = world.at(NOW, None, offers(1, 9_000, NOW)).unwrap_err().to_body();
    assert_eq!((full.code, full.retry_after_ms), (RateLimited, Some(60_000)));
    let later = NOW + LINK_CODE_MS;
    world.at(later, None, offers(1, 9_000, later)).unwrap();
}
