//! `qpc outbox` and a client that starts before its server: what people see who send without a
//! network.

use serde_json::Value;

use crate::server::Server;

fn of(messages: &[Value], field: &str) -> Vec<String> {
    messages.iter().map(|message| message[field].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_outbox_is_listed_and_taken_back_without_a_server() {
    let mut server = Server::start();
    let (alice, bob) = server.pair();
    server.kill();
    for text in ["one", "two", "three"] {
        assert_eq!(alice.run(&["send", "bob", text, "--timeout", "0"]).code, 5);
    }
    let waiting = alice.json(&["outbox", "list"]);
    assert_eq!(of(&waiting, "text"), ["one", "two", "three"]);
    assert_eq!(of(&waiting, "state"), ["waiting"; 3]);
    assert_eq!(of(&waiting, "reason"), ["no connection to the server"; 3]);
    let id = waiting[1]["id"].to_string();
    assert_eq!(of(&alice.json(&["outbox", "cancel", &id]), "state"), ["cancelled"]);
    let again = alice.run(&["outbox", "resend", "--timeout", "0", &id]);
    assert!(matches!(again.code, 5 | 8), "{again:?}");
    assert_eq!(of(&alice.json(&["outbox", "cancel", &id]), "state"), ["cancelled"]);
    assert_eq!(alice.failure(&["outbox", "cancel", "999999"]), (3, "NOT_FOUND".to_owned()));
    server.restart();
    let first = waiting[0]["id"].to_string();
    assert_eq!(of(&alice.json(&["outbox", "resend", &first]), "state"), ["accepted"]);
    alice.ok(&["send", "bob", "four"]);
    assert_eq!(alice.json(&["outbox", "list"]), Vec::<Value>::new());
    assert_eq!(alice.failure(&["outbox", "resend", &first]), (2, "USAGE".to_owned()));
    assert_eq!(alice.failure(&["outbox", "cancel", &first]), (4, "FAILED".to_owned()));
    assert_eq!(bob.received(), ["one", "three", "four"]);
}

#[test]
fn case_205_a_client_started_offline_recovers_without_a_restart() {
    let mut server = Server::start();
    let (alice, bob) = server.pair();
    server.kill();
    let follower = bob.start(&["recv", "--follow"]);
    let mut chat = bob_s_friend(&alice);
    assert!(chat.process.feed("typed before the server was there"));
    chat.until(|event| event["event"] == "offline");
    server.restart();
    let heard = follower.until(|line| line["state"] == "received");
    assert_eq!(heard["text"], "typed before the server was there");
    chat.process.end_input();
}

fn bob_s_friend(alice: &crate::person::Person) -> crate::running::Alone {
    alice.start(&["chat", "--plain", "bob"])
}

/// Queued while there is no server, killed in between, sent once and in order.
#[test]
fn case_202_lines_queued_offline_by_a_killed_program_arrive_once_in_order() {
    const LINES: usize = 60;
    let mut server = Server::start();
    let (alice, bob) = server.pair();
    server.kill();
    let lines: Vec<String> = (0..LINES).map(|number| format!("queued {number:03}")).collect();
    let mut typing = alice.start(&["send", "bob", "--lines", "--timeout", "600"]);
    for line in &lines[..LINES / 2] {
        assert!(typing.process.feed(line));
    }
    typing.process.kill();
    // What the killed one had not taken is typed again.
    let kept = alice.json(&["outbox", "list"]).len();
    assert!(kept <= LINES / 2);
    let rest = lines[kept..].join("\n") + "\n";
    let queued = alice.run_with(&["send", "bob", "--lines", "--timeout", "0"], &rest);
    assert!(matches!(queued.code, 5 | 8), "{queued:?}");
    assert_eq!(alice.json(&["outbox", "list"]).len(), LINES);
    server.restart();
    alice.ok(&["send", "bob", "last"]);
    let mut received = Vec::new();
    while received.len() <= LINES {
        let more = bob.received();
        assert!(!more.is_empty(), "only {} came", received.len());
        received.extend(more);
    }
    assert_eq!(received[..LINES], lines[..]);
    assert_eq!(received[LINES..], ["last"]);
}

#[test]
fn doctor_says_what_is_wrong_with_and_without_a_server() {
    let mut server = Server::start();
    let (alice, _bob) = server.pair();
    let find = |findings: &[Value], code: &str| {
        findings.iter().find(|finding| finding["code"] == code).cloned()
    };
    let online = alice.json(&["doctor", "--timeout", "60"]);
    for code in ["KEY", "VERSION", "CONNECTION", "CLOCK", "KEY_PACKAGES", "OUTBOX", "CHANNELS"] {
        let finding = find(&online, code).unwrap_or_else(|| panic!("{code}: {online:?}"));
        assert_eq!(finding["severity"], "ok", "{finding}");
    }
    server.kill();
    assert_eq!(alice.run(&["send", "bob", "later", "--timeout", "0"]).code, 5);
    let offline = alice.json(&["doctor", "--timeout", "0"]);
    assert_eq!(find(&offline, "NO_CONNECTION").unwrap()["severity"], "warning");
    assert_eq!(find(&offline, "CLOCK").unwrap()["severity"], "unchecked");
    assert!(find(&offline, "OUTBOX").unwrap()["text"].as_str().unwrap().starts_with("1 message"));
    // Nothing was lost, nothing refused.
    assert_eq!(alice.json(&["losses"]), Vec::<Value>::new());
}
