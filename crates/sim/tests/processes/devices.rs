//! Accounts with several devices, between real processes: linking from either side, revocation,
//! recovery by phrase, export and deletion.

use std::time::Duration;

use serde_json::Value;

use crate::person::{Outcome, Person};
use crate::running::now;
use crate::server::Server;

/// A connected device that is revoked has this long to end.
const REVOKED_WITHIN: Duration = Duration::from_secs(5);

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} in {value}"))
}

fn succeeded(outcome: &Outcome) -> Vec<Value> {
    assert_eq!(outcome.code, 0, "{outcome:?}");
    outcome.objects()
}

/// Links a device whose code the new device shows.
fn link(server: &Server, primary: &Person, name: &str) -> Person {
    let device = server.stranger(name);
    let waiting = device.start(&["device", "link", "--server", &server.url]);
    let shown = waiting.next().unwrap();
    let add = ["--json", "device", "add", "--code-stdin", "--yes"];
    let added = succeeded(&primary.run_with(&add, text(&shown, "code")));
    assert_eq!(added[0]["fingerprint"], shown["fingerprint"]);
    assert_eq!((&added[0]["linked"], &added[1]["linked"]), (&false.into(), &true.into()));
    let (rest, status) = waiting.rest();
    assert_eq!(status.code(), Some(0));
    assert_eq!(rest[0]["device"], added[0]["device"]);
    device
}

#[test]
fn case_068_a_code_links_one_device_from_either_side() {
    let server = Server::start();
    let alice = server.register("alice");
    let phone = link(&server, &alice, "phone");
    let laptop = server.stranger("laptop");
    let adding = alice.start(&["device", "add", "--yes"]);
    let shown = adding.next().unwrap();
    let linked =
        laptop.run_with(&["--json", "device", "link", "--code-stdin"], text(&shown, "url"));
    let whoami = succeeded(&linked).pop().unwrap();
    assert_eq!((text(&whoami, "name"), &whoami["primary"]), ("alice", &false.into()));
    let (rest, status) = adding.rest();
    assert_eq!((status.code(), rest.len()), (Some(0), 2));

    for person in [&alice, &phone, &laptop] {
        person.ok(&["recv"]);
        let devices = person.json(&["devices"]);
        assert_eq!(devices.len(), 3);
        assert_eq!(devices.iter().filter(|device| device["this"] == true).count(), 1);
    }
    assert_eq!(alice.json(&["whoami"])[0]["primary"], true);
    // The code was for one device.
    let late = server.stranger("late");
    let again = late.run_with(&["--json", "device", "link", "--code-stdin"], text(&shown, "url"));
    assert_eq!(again.failure(), (4, "LINK_CODE_INVALID".to_owned()));
    // Only the primary device links and revokes, and nobody revokes the device in hand.
    let phone_id = text(&phone.json(&["whoami"])[0], "device").to_owned();
    assert_eq!(laptop.failure(&["device", "add", "--yes"]), (4, "NOT_PRIMARY".to_owned()));
    let revoke = ["device", "revoke", &phone_id, "--yes"];
    assert_eq!(laptop.failure(&revoke), (4, "NOT_PRIMARY".to_owned()));
    let own = text(&alice.json(&["whoami"])[0], "device").to_owned();
    assert_eq!(alice.failure(&["device", "revoke", &own, "--yes"]), (2, "USAGE".to_owned()));
    let nobody = ["device", "revoke", "ffffffffffff", "--yes"];
    assert_eq!(alice.failure(&nobody), (3, "NOT_FOUND".to_owned()));
}

#[test]
fn a_linked_device_gets_the_channels_and_both_read_what_comes() {
    let server = Server::start();
    let (alice, bob) = server.pair();
    let phone = link(&server, &alice, "phone");
    let primary = alice.start(&["recv", "--follow"]);
    let linked = phone.start(&["recv", "--follow"]);
    linked.until(|line| line["state"] == "notice");
    bob.ok(&["send", "alice", "to both"]);
    for follower in [&primary, &linked] {
        let heard = follower.until(|line| line["state"] == "received");
        assert_eq!((text(&heard, "text"), text(&heard, "sender")), ("to both", "bob"));
    }
    drop(linked);
    phone.ok(&["send", "bob", "from the phone"]);
    let own = primary.until(|line| line["text"] == "from the phone");
    assert_eq!(own["own"], true);
    assert_eq!(bob.received(), ["from the phone"]);
}

#[test]
fn case_059_a_revoked_device_ends_within_seconds_and_says_why() {
    let server = Server::start();
    let (alice, bob) = server.pair();
    let phone = link(&server, &alice, "phone");
    let id = text(&phone.json(&["whoami"])[0], "device").to_owned();
    let follower = phone.start(&["recv", "--follow"]);
    let primary = alice.start(&["recv", "--follow"]);
    follower.until(|line| line["state"] == "notice");
    drop(primary);
    let revoked = alice.json(&["device", "revoke", &id[..12], "--yes"]);
    let start = now();
    assert_eq!((&revoked[0]["revoked"][0], &revoked[0]["left"]), (&id.as_str().into(), &1.into()));
    let (_, status) = follower.rest();
    assert_eq!(status.code(), Some(10));
    assert!(start.elapsed() < REVOKED_WITHIN, "{:?}", start.elapsed());
    // Nothing more comes of it, and it says so at once; its history stays.
    assert_eq!(phone.failure(&["recv"]), (10, "DEVICE_REVOKED".to_owned()));
    let unwell = phone.failure(&["doctor"]);
    assert_eq!(unwell, (1, "PROBLEMS_FOUND".to_owned()));
    assert_eq!(phone.failure(&["recv", "--follow"]), (10, "DEVICE_REVOKED".to_owned()));
    assert_eq!(phone.failure(&["send", "bob", "x"]), (10, "DEVICE_REVOKED".to_owned()));
    phone.json(&["history", "bob"]);
    // Those who are left talk on without it.
    let primary = alice.start(&["recv", "--follow"]);
    bob.ok(&["send", "alice", "without the phone", "--timeout", "60"]);
    primary.until(|line| line["text"] == "without the phone");
}

#[test]
fn the_phrase_is_shown_once_and_gets_the_account_back() {
    let server = Server::start();
    let bob = server.register("bob");
    let alice = server.stranger("alice");
    let registered = alice.json(&["register", "alice", "--server", &server.url]);
    let phrase = text(&registered[0], "recovery_phrase").to_owned();
    assert_eq!(phrase.split(' ').count(), 24);
    assert_eq!(alice.failure(&["phrase"]), (2, "USAGE".to_owned()));
    alice.ok(&["dm", "bob"]);
    bob.ok(&["recv"]);
    let kept = link(&server, &alice, "kept");
    let kept_id = text(&kept.json(&["whoami"])[0], "device").to_owned();
    let lost = text(&registered[0], "device").to_owned();

    let file = server.folder().join("phrase");
    std::fs::write(&file, phrase.to_uppercase()).unwrap();
    let file = file.to_str().unwrap();
    let again = server.stranger("again");
    let wrong = server.folder().join("wrong");
    std::fs::write(&wrong, [["zoo"; 23].join(" "), "vote".to_owned()].join(" ")).unwrap();
    let recover = ["recover", "--server", &server.url, "--phrase-file"];
    let nobody = again.failure(&[&recover[..], &[wrong.to_str().unwrap()]].concat());
    assert_eq!(nobody, (3, "ACCOUNT_NOT_FOUND".to_owned()));
    let words = [&recover[..], &[file, "--keep", &kept_id[..8]]].concat();
    let recovered = again.json(&words).pop().unwrap();
    assert_eq!((text(&recovered, "name"), &recovered["generation"]), ("alice", &2.into()));
    assert_eq!(recovered["account"], registered[0]["account"]);
    assert_eq!(
        (&recovered["kept"][0], &recovered["revoked"][0]),
        (&kept_id.as_str().into(), &lost.as_str().into())
    );
    assert_eq!(again.json(&["whoami"])[0]["primary"], true);
    assert_eq!(again.failure(&["phrase"]), (2, "USAGE".to_owned()));
    assert_eq!(alice.failure(&["recv"]), (10, "DEVICE_REVOKED".to_owned()));
    // The safety number is as it was, and the kept device goes on.
    let number = |person: &Person, name| person.json(&["verify", name])[0]["safety_number"].clone();
    assert_eq!(number(&again, "bob"), number(&bob, "alice"));
    kept.ok(&["recv"]);
    assert_eq!(kept.json(&["devices"]).len(), 2);
}

#[test]
fn a_recovered_account_gets_back_into_its_direct_channel() {
    let server = Server::start();
    let bob = server.register("bob");
    let alice = server.stranger("alice");
    let registered = alice.json(&["register", "alice", "--server", &server.url]);
    alice.ok(&["dm", "bob"]);
    bob.ok(&["recv"]);
    let file = server.folder().join("phrase");
    std::fs::write(&file, text(&registered[0], "recovery_phrase")).unwrap();
    let again = server.stranger("again");
    let file = file.to_str().unwrap();
    again.ok(&["recover", "--server", &server.url, "--phrase-file", file]);
    let follower = again.start(&["recv", "--follow"]);
    bob.ok(&["send", "alice", "are you back?", "--timeout", "60"]);
    follower.until(|line| line["text"] == "are you back?");
    drop(follower);
    again.ok(&["send", "bob", "I am", "--timeout", "60"]);
    assert_eq!(bob.received(), ["I am"]);
}

#[test]
fn a_phrase_goes_into_a_file_and_an_existing_one_is_never_replaced() {
    let server = Server::start();
    let alice = server.stranger("alice");
    let file = server.folder().join("phrase");
    let path = file.to_str().unwrap();
    let register = ["register", "alice", "--server", &server.url, "--recovery-file", path];
    let registered = alice.json(&register);
    assert_eq!(registered[0]["recovery_phrase"], Value::Null);
    assert_eq!(std::fs::read_to_string(&file).unwrap().split_whitespace().count(), 24);
    let other = server.stranger("other");
    let register = ["register", "other", "--server", &server.url, "--recovery-file", path];
    assert_eq!(other.failure(&register), (2, "USAGE".to_owned()));
    assert!(!other.home.exists());
}

#[test]
fn case_073_an_export_names_the_account_and_holds_no_secret() {
    let server = Server::start();
    let (alice, _bob) = server.pair();
    let file = server.folder().join("export.json");
    let path = file.to_str().unwrap();
    assert_eq!(alice.json(&["account", "export", "--out", path])[0]["file"], path);
    let exported: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let whoami = alice.json(&["whoami"]);
    let all = exported.to_string();
    assert!(all.contains("alice") && all.contains(text(&whoami[0], "device")), "{all}");
    assert!(alice.json(&["account", "export"])[0].is_object());
    let again = alice.failure(&["account", "export", "--out", path]);
    assert_eq!(again, (2, "USAGE".to_owned()), "an existing file is never replaced");
}

#[test]
fn a_deletion_waits_for_its_grace_and_can_be_taken_back() {
    let server = Server::start();
    let alice = server.register("alice");
    let phone = link(&server, &alice, "phone");
    assert_eq!(phone.failure(&["account", "delete", "--yes"]), (4, "NOT_PRIMARY".to_owned()));
    let at = alice.json(&["account", "delete", "--yes"])[0]["delete_at_ms"].as_u64().unwrap();
    assert!(at > 0);
    let notices = phone.run(&["--json", "recv"]);
    assert!(notices.err.contains("\"kind\":\"deletion_requested\""), "{notices:?}");
    assert_eq!(phone.json(&["notices"]).last().unwrap()["kind"], "deletion_requested");
    // Any device of the account takes it back.
    assert_eq!(phone.json(&["account", "cancel-deletion"])[0]["delete_at_ms"], Value::Null);
    // The number of the list that would have ended it is used up; the next one goes through.
    let id = text(&phone.json(&["whoami"])[0], "device").to_owned();
    assert_eq!(alice.json(&["device", "revoke", &id, "--yes"])[0]["left"], 1);
}

#[test]
fn an_open_server_takes_who_works_for_it() {
    let server = Server::start_with("registration = \"open\"\nproof_of_work_bits = 12\n");
    let alice = server.stranger("alice");
    let outcome = alice.run(&["register", "alice", "--server", &server.url]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.err.contains("proof of work of 12 bits"), "{outcome:?}");
    assert_eq!(alice.json(&["whoami"])[0]["name"], "alice");
}
