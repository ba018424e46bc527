//! What each command does, between real processes: the story that a person's evening tells.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::person::texts;
use crate::server::Server;

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn two_people_talk_and_each_message_is_printed_once() {
    let server = Server::start();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    assert_eq!(alice.json(&["dm", "bob"])[0]["status"], "active");
    assert_eq!(alice.ok(&["send", "bob", "hello"]), "sent to bob, number 2\n");
    assert_eq!(bob.received(), ["hello"]);
    assert_eq!(bob.received(), [""; 0]);
    bob.ok(&["send", "alice", "hi"]);
    let printed = alice.ok(&["recv", "--count", "1"]);
    assert!(printed.ends_with("[bob] bob: hi\n"), "{printed}");
    let history = alice.json(&["history", "bob"]);
    assert_eq!(texts(&history, "accepted"), ["hello"]);
    assert_eq!(texts(&history, "received"), ["hi"]);
    assert_eq!(texts(&bob.json(&["history", "alice", "--limit", "1"]), "accepted"), ["hi"]);
    let bobs = bob.json(&["contacts"]);
    assert_eq!(bobs.len(), 1);
    assert_eq!((&bobs[0]["name"], &bobs[0]["verified"]), (&"alice".into(), &false.into()));
}

#[test]
fn lines_arrive_in_order_and_byte_for_byte() {
    let server = Server::start();
    let (alice, bob) = server.pair();
    let mut lines: Vec<String> = (0..60).map(|number| format!("line {number}")).collect();
    lines.extend(["\u{1b}[31mred", "tab\tand  spaces ", "日本語 \u{202e}", "-n"].map(String::from));
    let sent = alice.run_with(&["send", "bob", "--lines"], &(lines.join("\n") + "\n\n"));
    assert_eq!((sent.code, sent.out), (0, "64 sent to bob\n".to_owned()));
    assert_eq!(bob.received(), lines);
}

#[test]
fn case_206_a_channel_is_reset_by_command_and_goes_on() {
    let server = Server::start();
    let (alice, bob) = server.pair();
    alice.ok(&["send", "bob", "before"]);
    assert_eq!(bob.received(), ["before"]);
    let old = alice.channel("bob")["channel"].clone();
    let refused = alice.run(&["reset", "bob"]);
    assert_eq!(refused.code, 2, "without a terminal it asks for --yes: {}", refused.err);
    let new = alice.json(&["reset", "bob", "--yes"])[0]["channel"].clone();
    assert_ne!(old, new);
    alice.ok(&["send", "bob", "after"]);
    assert_eq!(bob.received(), ["after"]);
    bob.ok(&["send", "alice", "here, too"]);
    assert_eq!(alice.received(), ["here, too"]);
    let closed = alice.json(&["channels"]).into_iter().find(|it| it["channel"] == old).unwrap();
    assert_eq!(closed["status"], "closed");
}

#[test]
fn a_group_from_its_first_member_to_its_last() {
    let server = Server::start();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let carol = server.register("carol");
    assert_eq!(alice.json(&["group", "create", "Hikers"])[0]["kind"], "group");
    alice.ok(&["group", "add", "Hikers", "bob"]);
    alice.ok(&["send", "Hikers", "two of us"]);
    assert_eq!(bob.received(), ["two of us"]);
    bob.ok(&["send", "Hikers", "here"]);
    alice.ok(&["group", "add", "Hikers", "carol"]);
    alice.ok(&["send", "Hikers", "three of us"]);
    assert_eq!(carol.received(), ["three of us"], "a newcomer reads nothing of before");
    assert_eq!(bob.received(), ["three of us"]);
    let members = carol.json(&["members", "Hikers"]);
    let roles: BTreeSet<(&str, &str, bool)> = members
        .iter()
        .map(|m| {
            let text = |field: &str| m[field].as_str().unwrap();
            (text("name"), text("role"), m["me"].as_bool().unwrap())
        })
        .collect();
    let expected = [("alice", "admin", false), ("bob", "member", false), ("carol", "member", true)];
    assert_eq!(roles, expected.into());

    alice.ok(&["group", "remove", "Hikers", "carol"]);
    alice.ok(&["send", "Hikers", "without carol"]);
    assert_eq!(carol.received(), [""; 0], "who was removed reads nothing of after");
    assert_eq!(carol.channel("Hikers")["status"], "left");
    assert_eq!(bob.received(), ["without carol"]);

    assert_eq!(bob.json(&["group", "leave", "Hikers"])[0]["status"], "leaving");
    // Whoever sees it makes the Commit; alice's next commands do.
    let follower = alice.start(&["recv", "--follow"]);
    follower.until(|line| line["text"] == "bob is out");
    drop(follower);
    bob.ok(&["recv"]);
    assert_eq!(bob.channel("Hikers")["status"], "left");
    assert_eq!(alice.json(&["members", "Hikers"]).len(), 1);
    assert_eq!(bob.failure(&["send", "Hikers", "too late"]), (2, "USAGE".to_owned()));
    assert_eq!(texts(&bob.json(&["history", "Hikers"]), "received").len(), 3, "it stays readable");
}

#[test]
fn a_group_is_made_with_a_retention_of_its_own() {
    let server = Server::start();
    let alice = server.register("alice");
    let brief = alice.json(&["group", "create", "Brief", "--retention", "12h"]);
    assert_eq!(brief[0]["retention_ms"], 12 * 3_600_000);
    assert_eq!(alice.channel("Brief")["retention_ms"], 12 * 3_600_000);
    let refused = alice.failure(&["group", "create", "Long", "--retention", "30d"]);
    assert_eq!(refused, (2, "USAGE".to_owned()));
}

#[test]
fn both_sides_compare_the_same_safety_number() {
    let server = Server::start();
    let (alice, bob) = server.pair();
    let carol = server.register("carol");
    let number = |value: &[Value]| value[0]["safety_number"].as_str().unwrap().to_owned();
    let alices = alice.json(&["verify", "bob"]);
    assert_eq!(number(&alices), number(&bob.json(&["verify", "alice"])));
    assert_ne!(number(&alices), number(&carol.json(&["verify", "bob"])));
    assert_eq!(number(&alices).split(' ').count(), 12);
    assert_eq!(alices[0]["verified"], false);
    assert_eq!(alice.json(&["verify", "bob", "--yes"])[0]["verified"], true);
    assert_eq!(alice.json(&["contacts"])[0]["verified"], true);
    assert_eq!(alice.json(&["verify", "bob", "--unset"])[0]["verified"], false);
}

#[test]
fn every_command_speaks_json_of_the_documented_shape() {
    let server = Server::start();
    let bob = server.register("bob");
    let alice = server.stranger("alice");
    let whoami = alice.json(&["register", "alice", "--server", &server.url]);
    let shown = ["account", "device", "name", "primary", "root", "server"];
    let registered = [&shown[..], &["recovery_phrase"]].concat();
    assert_eq!(keys(&whoami[0]), registered.into_iter().collect());
    assert_eq!(keys(&alice.json(&["whoami"])[0]), shown.into());
    assert_eq!(whoami[0]["server"], server.url);
    let device = ["device", "not_after_ms", "primary", "this"];
    assert_eq!(keys(&alice.json(&["devices"])[0]), device.into());
    let channel = [
        "base_commit",
        "channel",
        "cursor",
        "description",
        "epoch",
        "kind",
        "outbox",
        "reason",
        "retention_ms",
        "role",
        "status",
        "title",
    ];
    let group = ["group", "create", "G"];
    for words in [&["dm", "bob"][..], &group, &["group", "add", "G", "bob"], &["channels"]] {
        assert_eq!(keys(&alice.json(words)[0]), channel.into(), "{words:?}");
    }
    let message = [
        "accepted_at_ms",
        "channel",
        "id",
        "own",
        "reason",
        "sender",
        "sent_at_ms",
        "seq",
        "state",
        "text",
        "title",
    ];
    for words in [["send", "bob", "x"], ["history", "bob", "--limit=1"]] {
        assert_eq!(keys(&alice.json(&words)[0]), message.into(), "{words:?}");
    }
    for received in bob.json(&["recv"]) {
        assert_eq!(keys(&received), message.into());
    }
    let contact = ["account", "held", "name", "verified"];
    assert_eq!(keys(&alice.json(&["contacts"])[0]), contact.into());
    let member = ["account", "devices", "me", "name", "role", "silent"];
    assert_eq!(keys(&alice.json(&["members", "G"])[0]), member.into());
    let number = ["name", "safety_number", "verified"];
    assert_eq!(keys(&alice.json(&["verify", "bob"])[0]), number.into());
}

#[test]
fn a_line_chat_prints_what_comes_and_sends_what_is_typed() {
    let server = Server::start();
    let (alice, bob) = server.pair();
    let mut chat = alice.start(&["chat", "--plain", "bob"]);
    assert!(chat.process.feed("typed"));
    chat.until(|event| event["event"] == "outbox" && event["state"] == "accepted");
    assert_eq!(bob.received(), ["typed"]);
    bob.ok(&["send", "alice", "answered"]);
    let heard = chat.until(|event| event["event"] == "message" && event["state"] == "received");
    assert_eq!(heard["text"], "answered");
    assert!(chat.process.feed("/quit"));
    assert_eq!(chat.rest().1.code(), Some(0));
}

#[test]
fn logout_ends_the_session_and_wipe_the_home() {
    let server = Server::start();
    let (alice, bob) = server.pair();
    alice.ok(&["logout"]);
    alice.ok(&["send", "bob", "logged in again by itself"]);
    assert_eq!(bob.received(), ["logged in again by itself"]);
    alice.ok(&["logout", "--wipe", "--yes"]);
    assert!(!alice.home.exists());
    assert_eq!(alice.failure(&["whoami"]), (2, "NO_ACCOUNT".to_owned()));
}
