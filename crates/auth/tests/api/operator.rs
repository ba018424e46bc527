//! What the operator sees and does.

use qpc_auth::{Auth, AuthError, Call, Standing};
use qpc_proto::ErrorCode::*;
use qpc_proto::chain::sha256;
use qpc_proto::message::RegistrationMode::Open;

use crate::support::{Device, NOW, Person, World};

fn world() -> (World, Person, Device) {
    let mut world = World::new(Open);
    let (alice, linked) = (Person::new(1, "alice"), Device::new(9));
    world.register(&alice.registration()).unwrap();
    world.register(&Person::new(2, "bob").registration()).unwrap();
    world.link(&alice, 2, &[&alice.first(), &linked]).unwrap();
    (world, alice, linked)
}

fn run<T>(
    world: &mut World,
    run: impl FnOnce(&Auth, &Call<'_>) -> Result<T, AuthError>,
) -> Result<T, AuthError> {
    world.at(NOW, None, |auth, call, _| run(auth, call))
}

#[test]
fn a_suspended_account_is_told_so_and_unknown_to_others() {
    let (mut world, alice, linked) = world();
    let device = alice.device_ref();
    let answer = world.login(&alice.login(), NOW).unwrap();
    let cut = run(&mut world, |auth, call| auth.set_suspended(call.tx, "Alice", true)).unwrap();
    assert_eq!(cut, [device, linked.of(&alice)]);

    let bound = Some(device);
    let authorized =
        |auth: &Auth, call: &Call<'_>, _: &mut _| auth.authorize(call, &answer.access_token);
    assert_eq!(world.at(NOW, bound, authorized).unwrap_err().code(), AccountSuspended);
    let refreshed =
        world.at(NOW, bound, |auth, call, rng| auth.refresh(call, &answer.refresh_token, rng));
    assert_eq!(refreshed.unwrap_err().code(), AccountSuspended);
    assert_eq!(world.login(&alice.login(), NOW).unwrap_err().code(), AccountSuspended);
    let mut stranger = alice.login();
    stranger.proof = linked.login(&alice).proof;
    assert_eq!(world.login(&stranger, NOW).unwrap_err().code(), Unauthenticated);

    let unknown = run(&mut world, |auth, call| auth.lookup(call.tx, "carol")).unwrap_err();
    let found = run(&mut world, |auth, call| auth.lookup(call.tx, "alice")).unwrap_err();
    assert_eq!(found.to_body(), unknown.to_body());
    let found = run(&mut world, |auth, call| auth.identity(call.tx, &device.account));
    assert_eq!(found.unwrap_err().to_body(), unknown.to_body());
    let devices = run(&mut world, |auth, call| auth.active_devices(call.tx, &device.account));
    assert_eq!(devices.unwrap(), []);
    // Its name stays its own.
    let taken = world.register(&Person::new(3, "alice").registration()).unwrap_err();
    assert_eq!(taken.code(), NameTaken);

    let back = run(&mut world, |auth, call| auth.set_suspended(call.tx, "alice", false));
    assert_eq!(back.unwrap(), []);
    assert_eq!(world.at(NOW, bound, authorized).unwrap(), device);
    run(&mut world, |auth, call| auth.lookup(call.tx, "alice")).unwrap();
    let unknown = run(&mut world, |auth, call| auth.set_suspended(call.tx, "carol", true));
    assert_eq!(unknown.unwrap_err().code(), AccountNotFound);
}

#[test]
fn accounts_are_listed_in_pages_by_name() {
    let (mut world, alice, _) = world();
    let list = alice.next_list(3, &[]);
    let at_ms =
        world.as_device(alice.device_ref(), |auth, call| auth.request_deletion(call, &list));
    run(&mut world, |auth, call| auth.set_suspended(call.tx, "bob", true)).unwrap();
    let page = run(&mut world, |auth, call| auth.list_accounts(call.tx, None, 1)).unwrap();
    let [first] = page.as_slice() else { panic!("one account") };
    assert_eq!((first.account, first.name.as_str()), (alice.device_ref().account, "alice"));
    assert_eq!((first.standing, first.devices), (Standing::Active, 2));
    assert_eq!((first.created_at_ms, first.delete_at_ms), (NOW, Some(at_ms.unwrap())));
    let page = run(&mut world, |auth, call| auth.list_accounts(call.tx, Some("alice"), 9)).unwrap();
    let [second] = page.as_slice() else { panic!("one account") };
    assert_eq!((second.name.as_str(), second.standing), ("bob", Standing::Suspended));
    assert_eq!((second.devices, second.delete_at_ms), (1, None));
    let page = run(&mut world, |auth, call| auth.list_accounts(call.tx, Some("bob"), 9));
    assert_eq!(page.unwrap(), []);
}

#[test]
fn sessions_are_shown_and_ended_but_for_other_accounts() {
    let (mut world, alice, linked) = world();
    let bob = Person::new(2, "bob");
    let first = world.login(&alice.login(), NOW).unwrap();
    world.login(&alice.login(), NOW + 1).unwrap();
    let kept = world.login(&bob.login(), NOW).unwrap();
    let shown = run(&mut world, |auth, call| auth.sessions(call.tx, "alice")).unwrap();
    let shown: Vec<_> = shown.iter().map(|s| (s.device, s.began_at_ms, s.refresh_tokens)).collect();
    assert_eq!(shown, [(alice.device, Some(NOW), 1), (alice.device, Some(NOW + 1), 1)]);
    let ended = run(&mut world, |auth, call| auth.end_sessions(call.tx, "alice")).unwrap();
    assert_eq!(ended, [alice.device_ref()]);
    let ended = run(&mut world, |auth, call| auth.end_sessions(call.tx, "alice")).unwrap();
    assert_eq!(ended, []);
    let bound = Some(alice.device_ref());
    let told = world.at(NOW, bound, |auth, call, _| auth.authorize(call, &first.access_token));
    assert_eq!(told.unwrap_err().code(), Unauthenticated);
    let bound = Some(bob.device_ref());
    world.at(NOW, bound, |auth, call, _| auth.authorize(call, &kept.access_token)).unwrap();
    world.login(&linked.login(&alice), NOW).unwrap();
}

#[test]
fn invites_are_listed_and_taken_back_by_id() {
    let (mut world, _, _) = world();
    let mut invite =
        |now| world.at(now, None, |auth, call, rng| auth.create_invite(call.tx, now, rng)).unwrap();
    let (second, first) = (invite(NOW + 1), invite(NOW));
    let ttl = world.auth.config.invite_ttl_ms;
    let id = |code: &[u8; 16]| sha256(code).to_string()[..8].to_owned();
    let listed = |world: &mut World, now| {
        let invites = world.at(now, None, |auth, call, _| auth.list_invites(call.tx, now)).unwrap();
        invites.into_iter().map(|invite| (invite.id, invite.expires_at_ms)).collect::<Vec<_>>()
    };
    let both = [(id(&first), NOW + ttl), (id(&second), NOW + 1 + ttl)];
    assert_eq!(listed(&mut world, NOW), both);
    assert_eq!(listed(&mut world, NOW + ttl), both[1..]);
    let revoke = |id: String| move |auth: &Auth, call: &Call<'_>| auth.revoke_invite(call.tx, &id);
    for none in ["", "00", "zzzzzzzz", "%", &sha256(&*second).to_string()] {
        assert!(!run(&mut world, revoke(none.to_owned())).unwrap());
    }
    assert!(run(&mut world, revoke(id(&second).to_uppercase())).unwrap());
    assert!(!run(&mut world, revoke(id(&second))).unwrap());
    assert_eq!(listed(&mut world, NOW), both[..1]);
}
