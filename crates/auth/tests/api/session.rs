//! Login, tokens, refresh, logout, revocation.

use qpc_auth::{AuthError, Refreshed};
use qpc_proto::binding::Purpose;
use qpc_proto::message::{DeviceRef, Login, LoginAnswer, RegistrationMode};
use qpc_proto::{AccountId, DeviceId, ErrorBody, ErrorCode, Incarnation, Signature, Token};

use crate::support::{BINDING, Device, NOW, Person, World};

/// A world with two accounts.
fn world() -> (World, Person, Person) {
    let mut world = World::new(RegistrationMode::Open);
    let (alice, bob) = (Person::new(1, "alice"), Person::new(2, "bob"));
    world.register(&alice.registration()).unwrap();
    world.register(&bob.registration()).unwrap();
    (world, alice, bob)
}

fn authorize(
    world: &mut World,
    token: &Token,
    bound: Option<DeviceRef>,
    now_ms: u64,
) -> Result<DeviceRef, AuthError> {
    world.at(now_ms, bound, |auth, call, _| auth.authorize(call, token))
}

fn refresh(
    world: &mut World,
    token: &Token,
    bound: DeviceRef,
    now_ms: u64,
) -> Result<Refreshed, AuthError> {
    world.at(now_ms, Some(bound), |auth, call, rng| auth.refresh(call, token, rng))
}

fn tokens(refreshed: Result<Refreshed, AuthError>) -> LoginAnswer {
    match refreshed.unwrap() {
        Refreshed::Tokens(tokens) => tokens,
        Refreshed::Reused(_) => panic!("reused"),
    }
}

#[test]
fn a_login_yields_tokens_that_end_in_time() {
    let (mut world, alice, _) = world();
    let device = alice.device_ref();
    let answer = world.login(&alice.login(), NOW).unwrap();
    assert_eq!(answer.incarnation, Incarnation([4; 16]));
    assert_eq!(answer.now_ms, NOW);
    let ends = NOW + 15 * 60 * 1_000;
    assert_eq!(answer.access_expires_at_ms, ends);
    assert_eq!(answer.refresh_expires_at_ms, NOW + 60 * 24 * 3_600 * 1_000);
    let token = &answer.access_token;
    let at = |world: &mut World, now| authorize(world, token, Some(device), now);
    assert_eq!(at(&mut world, NOW).unwrap(), device);
    assert_eq!(at(&mut world, ends - 1).unwrap(), device);
    for now in [ends, ends + 1] {
        let error = at(&mut world, now).unwrap_err();
        assert_eq!(error.code(), ErrorCode::TokenExpired);
    }
}

#[test]
fn case_051_wrong_tokens_and_proofs_have_one_answer() {
    let (mut world, alice, bob) = world();
    let device = alice.device_ref();
    let mine = world.login(&alice.login(), NOW).unwrap();
    let theirs = world.login(&bob.login(), NOW).unwrap();
    let mut near = mine.access_token.clone();
    near.0[31] ^= 1;
    // As much as a shortened token can be: the frame holds 32 bytes.
    let mut cut = mine.access_token.clone();
    cut.0[16..].fill(0);
    let mut bodies: Vec<ErrorBody> = Vec::new();
    for (token, bound) in [
        (&Token::NONE, Some(device)),
        (&Token([7; 32]), Some(device)),
        (&near, Some(device)),
        (&theirs.access_token, Some(device)),
        (&mine.refresh_token, Some(device)),
        (&mine.access_token, None),
        (&mine.access_token, Some(bob.device_ref())),
        (&cut, Some(device)),
    ] {
        let error = authorize(&mut world, token, bound, NOW).unwrap_err();
        bodies.push(error.to_body());
        let logout = world.at(NOW, bound, |auth, call, _| auth.logout(call, token));
        bodies.push(logout.unwrap_err().to_body());
    }
    for (token, bound) in [
        (&Token::NONE, device),
        (&mine.access_token, device),
        (&mine.refresh_token, bob.device_ref()),
    ] {
        let error = refresh(&mut world, token, bound, NOW).unwrap_err();
        bodies.push(error.to_body());
    }
    let unknown_device = DeviceRef { device: DeviceId([9; 16]), ..device };
    let foreign_account = DeviceRef { account: AccountId([9; 16]), ..device };
    let good = alice.login().proof;
    for (device, proof) in [
        (device, Signature::ZERO),
        (device, alice.prove(&BINDING, Purpose::Register)),
        (device, bob.login().proof),
        (bob.device_ref(), good),
        (unknown_device, good),
        (foreign_account, good),
        // A sound signature for a pair that is none.
        (foreign_account, alice.prove_as(&foreign_account)),
    ] {
        let error = world.login(&Login { device, proof }, NOW).unwrap_err();
        bodies.push(error.to_body());
    }
    assert_eq!(bodies[0].code, ErrorCode::Unauthenticated);
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    authorize(&mut world, &mine.access_token, Some(device), NOW).unwrap();
}

#[test]
fn case_056_a_proof_counts_on_its_connection_alone() {
    let (mut world, alice, _) = world();
    for at in 0..32 {
        let (mut exporter, mut fingerprint) = (BINDING, BINDING);
        exporter.exporter[at] ^= 1;
        fingerprint.fingerprint[at] ^= 1;
        for binding in [exporter, fingerprint] {
            let login = Login { proof: alice.prove(&binding, Purpose::Login), ..alice.login() };
            let error = world.login(&login, NOW).unwrap_err();
            assert_eq!(error.code(), ErrorCode::Unauthenticated);
        }
    }
    world.login(&alice.login(), NOW).unwrap();
}

#[test]
fn a_refresh_rotates_and_a_lost_reply_is_given_again_within_the_grace() {
    let (mut world, alice, _) = world();
    let device = alice.device_ref();
    let first = world.login(&alice.login(), NOW).unwrap();
    let later = NOW + 1_000;
    let second = tokens(refresh(&mut world, &first.refresh_token, device, later));
    assert_ne!(second.access_token.0, first.access_token.0);
    assert_ne!(second.refresh_token.0, first.refresh_token.0);
    for now in [later, later + 14_999, later + 15_000] {
        let again = tokens(refresh(&mut world, &first.refresh_token, device, now));
        authorize(&mut world, &again.access_token, Some(device), now).unwrap();
    }
    let third = tokens(refresh(&mut world, &second.refresh_token, device, later));
    authorize(&mut world, &third.access_token, Some(device), later).unwrap();
}

#[test]
fn case_055_reuse_after_the_grace_ends_the_session_for_good() {
    let (mut world, alice, _) = world();
    let device = alice.device_ref();
    let other_session = world.login(&alice.login(), NOW).unwrap();
    let first = world.login(&alice.login(), NOW).unwrap();
    let second = tokens(refresh(&mut world, &first.refresh_token, device, NOW));
    let late = NOW + 15_001;
    let reused = refresh(&mut world, &first.refresh_token, device, late);
    assert!(matches!(reused, Ok(Refreshed::Reused(whose)) if whose == device));
    for token in [&first.access_token, &second.access_token] {
        let error = authorize(&mut world, token, Some(device), late).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unauthenticated);
    }
    for token in [&first.refresh_token, &second.refresh_token] {
        let error = refresh(&mut world, token, device, late).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unauthenticated);
    }
    authorize(&mut world, &other_session.access_token, Some(device), late).unwrap();
}

#[test]
fn a_refresh_token_ends_in_time_and_each_refresh_begins_anew() {
    let (mut world, alice, _) = world();
    let device = alice.device_ref();
    let ttl = world.auth.config.refresh_ttl_ms;
    let first = world.login(&alice.login(), NOW).unwrap();
    for now in [NOW + ttl, NOW + ttl + 1] {
        let error = refresh(&mut world, &first.refresh_token, device, now).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unauthenticated);
    }
    let last_moment = NOW + ttl - 1;
    let second = tokens(refresh(&mut world, &first.refresh_token, device, last_moment));
    assert_eq!(second.refresh_expires_at_ms, last_moment + ttl);
}

#[test]
fn a_logout_ends_its_session_alone() {
    let (mut world, alice, _) = world();
    let device = alice.device_ref();
    let one = world.login(&alice.login(), NOW).unwrap();
    let two = world.login(&alice.login(), NOW).unwrap();
    let token = &one.access_token;
    let logout = world.at(NOW, Some(device), |auth, call, _| auth.logout(call, token));
    logout.unwrap();
    assert!(authorize(&mut world, &one.access_token, Some(device), NOW).is_err());
    assert!(refresh(&mut world, &one.refresh_token, device, NOW).is_err());
    authorize(&mut world, &two.access_token, Some(device), NOW).unwrap();
}

#[test]
fn case_052_an_expired_token_is_told_so_and_one_refresh_mends_it() {
    let (mut world, alice, _) = world();
    let device = alice.device_ref();
    let first = world.login(&alice.login(), NOW).unwrap();
    let late = first.access_expires_at_ms;
    let error = authorize(&mut world, &first.access_token, Some(device), late).unwrap_err();
    assert!(error.to_body().code.retryable());
    assert_eq!(error.code(), ErrorCode::TokenExpired);
    let second = tokens(refresh(&mut world, &first.refresh_token, device, late));
    authorize(&mut world, &second.access_token, Some(device), late).unwrap();
    // The fresh token does not bring the expired one back.
    let error = authorize(&mut world, &first.access_token, Some(device), late).unwrap_err();
    assert_eq!(error.code(), ErrorCode::TokenExpired);
}

#[test]
fn case_056_a_token_counts_on_connections_of_its_device_alone() {
    let (mut world, alice, bob) = world();
    let linked = Device::new(9);
    world.link(&alice, 2, &[&alice.first(), &linked]).unwrap();
    let answer = world.login(&alice.login(), NOW).unwrap();
    // Not even a device of the same account may use it.
    for bound in [None, Some(bob.device_ref()), Some(linked.of(&alice))] {
        let error = authorize(&mut world, &answer.access_token, bound, NOW).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Unauthenticated);
    }
    let error = refresh(&mut world, &answer.refresh_token, linked.of(&alice), NOW).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unauthenticated);
}

#[test]
fn case_058_a_revoked_device_is_told_so_each_time() {
    let (mut world, alice, bob) = world();
    let linked = Device::new(9);
    let device = linked.of(&alice);
    world.link(&alice, 2, &[&alice.first(), &linked]).unwrap();
    let answer = world.login(&linked.login(&alice), NOW).unwrap();
    let other = world.login(&alice.login(), NOW).unwrap();
    let published = world.revoke(&alice, 3, &[&alice.first()]).unwrap();
    assert_eq!(published.revoked, [device]);
    let ends = answer.access_expires_at_ms;
    for now in [NOW, ends] {
        let error = authorize(&mut world, &answer.access_token, Some(device), now).unwrap_err();
        assert_eq!(error.code(), ErrorCode::DeviceRevoked);
    }
    let error = refresh(&mut world, &answer.refresh_token, device, NOW).unwrap_err();
    assert_eq!(error.code(), ErrorCode::DeviceRevoked);
    let error = world.login(&linked.login(&alice), NOW).unwrap_err();
    assert_eq!(error.code(), ErrorCode::DeviceRevoked);
    let list = alice.next_list(4, &[&alice.first(), &linked]);
    let error = world.as_device(device, |auth, call| auth.revoke_devices(call, &list));
    assert_eq!(error.unwrap_err().code(), ErrorCode::DeviceRevoked);
    // Who can't prove to be the device learns nothing.
    let login = Login { proof: bob.login().proof, ..linked.login(&alice) };
    let error = world.login(&login, NOW).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unauthenticated);
    // The device that stays goes on.
    let first = alice.device_ref();
    authorize(&mut world, &other.access_token, Some(first), NOW).unwrap();
    let devices = world.at(NOW, None, |auth, call, _| {
        Ok([
            auth.active_devices(call.tx, &device.account)?,
            auth.all_devices(call.tx, &device.account)?,
        ])
    });
    assert_eq!(devices.unwrap(), [vec![first.device], vec![first.device, device.device]]);
    // A revoked key comes back under no name.
    let mut again = Person::new(3, "carol");
    again.device_key = linked.key.clone();
    let error = world.register(&again.registration()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::DuplicateKey);
}

#[test]
fn case_069_tokens_are_judged_by_the_servers_clock_and_the_client_is_told_it() {
    const YEAR: u64 = 365 * 24 * 3_600 * 1_000;
    // Clients whose clocks are a year behind, ten minutes off and a year ahead: nothing they send
    // holds a time but the end of their own device, so only the server's clock differs.
    for (number, server_now) in [(11, NOW), (12, NOW + 600_000), (13, NOW + YEAR)] {
        let mut world = World::new(RegistrationMode::Open);
        let mut person = Person::new(number, "alice");
        person.not_after_ms = NOW + 2 * YEAR;
        let register = person.registration();
        let registered = world.at(server_now, None, |auth, call, _| auth.register(call, &register));
        registered.unwrap();
        let answer = world.login(&person.login(), server_now).unwrap();
        assert_eq!(answer.now_ms, server_now);
        let ttl = world.auth.config.access_ttl_ms;
        assert_eq!(answer.access_expires_at_ms, server_now + ttl);
        let device = Some(person.device_ref());
        let token = &answer.access_token;
        authorize(&mut world, token, device, server_now + ttl - 1).unwrap();
        assert!(authorize(&mut world, token, device, server_now + ttl).is_err());
        // The server's own clock stepped back: what it issued still counts.
        authorize(&mut world, token, device, server_now - 600_000).unwrap();
    }
}

#[test]
fn a_ninth_session_ends_the_oldest() {
    let (mut world, alice, bob) = world();
    let device = alice.device_ref();
    let others = world.login(&bob.login(), NOW).unwrap();
    let mut login = || world.login(&alice.login(), NOW).unwrap();
    let sessions: Vec<_> = (0..9).map(|_| login()).collect();
    let alive = |answer: &LoginAnswer, world: &mut World, device| {
        authorize(world, &answer.access_token, Some(device), NOW).is_ok()
    };
    assert!(!alive(&sessions[0], &mut world, device));
    assert!(sessions[1..].iter().all(|s| alive(s, &mut world, device)));
    assert!(alive(&others, &mut world, bob.device_ref()));
}

#[test]
fn a_sweep_takes_what_has_expired_and_no_more() {
    let (mut world, alice, _) = world();
    let device = alice.device_ref();
    let answer = world.login(&alice.login(), NOW).unwrap();
    let sweep = |world: &mut World, now| {
        world.at(now, None, |auth, call, _| auth.sweep_expired(call.tx, now, 10)).unwrap()
    };
    const DAY: u64 = 24 * 3_600 * 1_000;
    let ends = answer.access_expires_at_ms;
    assert_eq!(sweep(&mut world, ends + DAY - 1), 0);
    let error = authorize(&mut world, &answer.access_token, Some(device), ends).unwrap_err();
    assert_eq!(error.code(), ErrorCode::TokenExpired);
    // A day after its end the refresh takes it out.
    tokens(refresh(&mut world, &answer.refresh_token, device, ends + DAY));
    let error = authorize(&mut world, &answer.access_token, Some(device), ends).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unauthenticated);
    let refresh_ttl_ms = world.auth.config.refresh_ttl_ms;
    // The used refresh token; the session goes on, and knows its access token.
    assert_eq!(sweep(&mut world, NOW + refresh_ttl_ms), 1);
    assert_eq!(sweep(&mut world, ends + DAY + refresh_ttl_ms - 1), 0);
    assert_eq!(sweep(&mut world, ends + DAY + refresh_ttl_ms), 2);
    let left = world.at(NOW, None, |auth, call, _| auth.sessions(call.tx, "alice"));
    assert_eq!(left.unwrap(), []);
}

#[test]
fn a_device_that_refreshes_for_months_keeps_its_session_and_few_access_tokens() {
    let (mut world, alice, _) = world();
    let device = alice.device_ref();
    const HOUR: u64 = 3_600 * 1_000;
    let mut answer = world.login(&alice.login(), NOW).unwrap();
    let mut now = NOW;
    for _ in 0..100 * 8 {
        now += 3 * HOUR;
        answer = tokens(refresh(&mut world, &answer.refresh_token, device, now));
        world.at(now, None, |auth, call, _| auth.sweep_expired(call.tx, now, 10)).unwrap();
    }
    let sessions = world.at(now, None, |auth, call, _| auth.sessions(call.tx, "alice")).unwrap();
    let [session] = sessions.as_slice() else { panic!("one session") };
    // Those of the last day and a quarter of an hour, and those of the last sixty days.
    assert_eq!((session.access_tokens, session.refresh_tokens), (9, 480));
    assert_eq!(session.began_at_ms, Some(NOW));
    authorize(&mut world, &answer.access_token, Some(device), now).unwrap();
}

#[test]
fn who_refreshes_all_the_time_keeps_few_tokens_to_look_through() {
    let (mut world, alice, _) = world();
    let mut newest = world.login(&alice.login(), NOW).unwrap();
    let refreshes = 300;
    for n in 0..refreshes {
        let refreshed = refresh(&mut world, &newest.refresh_token, alice.device_ref(), NOW + n);
        newest = tokens(refreshed);
    }
    let sessions = world.at(NOW, None, |auth, call, _| auth.sessions(call.tx, "alice")).unwrap();
    assert_eq!(sessions.len(), 1);
    assert!(sessions[0].access_tokens <= 129, "{}", sessions[0].access_tokens);
    // The used refresh tokens stay: they are what tells a thief.
    assert_eq!(sessions[0].refresh_tokens, refreshes + 1);
    authorize(&mut world, &newest.access_token, Some(alice.device_ref()), NOW).unwrap();
}
