//! A server that stops, in order or not, while people talk; and clients that die half way.

use std::time::Duration;

use crate::person::{Person, texts};
use crate::server::Server;

/// What SIGTERM may take.
const GRACE: Duration = Duration::from_secs(15);
const CLIENT_KILLS: usize = 5;
/// Lines a client is given in one of its lives.
const A_LIFE: usize = 20;

#[test]
fn a_server_killed_between_two_sends_loses_and_doubles_nothing() {
    let mut server = Server::start();
    let (alice, bob) = server.pair();
    alice.ok(&["send", "bob", "before"]);
    server.kill();
    server.restart();
    alice.ok(&["send", "bob", "after"]);
    assert_eq!(bob.received(), ["before", "after"]);
    bob.ok(&["send", "alice", "so it is"]);
    assert_eq!(alice.received(), ["so it is"]);
    let seqs: Vec<_> = bob.json(&["history", "alice"]).iter().map(|m| m["seq"].clone()).collect();
    assert_eq!(seqs, [1, 2, 3, 4]);
}

#[test]
fn clients_that_stay_go_on_after_a_kill() {
    let mut server = Server::start();
    let (alice, bob) = server.pair();
    let mut chats =
        [alice.start(&["chat", "--plain", "bob"]), bob.start(&["chat", "--plain", "alice"])];
    for round in 0..3 {
        for (from, to) in [(0, 1), (1, 0)] {
            let text = format!("{round} of {from}");
            assert!(chats[from].process.feed(&text));
            chats[to].until(|event| event["event"] == "message" && event["text"] == *text);
        }
        server.kill();
        server.restart();
    }
}

#[test]
fn sigterm_stops_in_order_while_clients_are_connected() {
    let mut server = Server::start();
    let (alice, bob) = server.pair();
    let follower = bob.start(&["recv", "--follow"]);
    let mut sender = alice.start(&["send", "bob", "--lines", "--timeout", "60"]);
    assert!(sender.process.feed("before"));
    follower.until(|line| line["text"] == "before");
    let (status, took) = server.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(took < GRACE, "{took:?}");
    assert!(sender.process.feed("while it was down"));
    server.restart();
    assert!(sender.process.feed("after"));
    sender.process.end_input();
    let (accepted, status) = sender.rest();
    assert_eq!(status.code(), Some(0));
    assert_eq!(texts(&accepted, "accepted"), ["before", "while it was down", "after"]);
    assert_eq!(follower.until(|line| line["state"] == "received")["text"], "while it was down");
    assert_eq!(follower.until(|line| line["state"] == "received")["text"], "after");
}

/// What is in alice's outbox or beyond it: a prefix of `lines`, or something was lost or doubled.
fn written(alice: &Person, lines: &[String]) -> usize {
    let history = alice.json(&["history", "bob", "--limit", "1000"]);
    let own: Vec<_> = history.iter().filter(|m| m["own"] == true).collect();
    for (message, line) in own.iter().zip(lines) {
        assert_eq!(message["text"], *line);
    }
    own.len()
}

#[test]
fn a_client_killed_while_it_sends_goes_on_where_it_was() {
    let server = Server::start();
    let (alice, bob) = server.pair();
    let lines: Vec<String> = (0..100).map(|number| format!("line {number}")).collect();
    for kill in 0..CLIENT_KILLS {
        let from = written(&alice, &lines);
        let mut sender = alice.start(&["send", "bob", "--lines"]);
        for line in &lines[from..][..A_LIFE] {
            assert!(sender.process.feed(line));
        }
        for _ in 0..=kill * 4 {
            sender.next().expect("a line that was accepted");
        }
        sender.process.kill();
    }
    let rest = lines[written(&alice, &lines)..].join("\n");
    let last = alice.run_with(&["send", "bob", "--lines"], &format!("{rest}\nlast"));
    assert_eq!(last.code, 0, "{last:?}");
    assert_eq!(alice.channel("bob")["outbox"], 0);
    assert_eq!(bob.received(), [lines, vec!["last".to_owned()]].concat());
}

#[test]
fn case_202_five_hundred_messages_queued_offline_survive_a_kill() {
    let mut server = Server::start();
    let (alice, bob) = server.pair();
    server.kill();
    let lines: Vec<String> = (0..500).map(|number| format!("line {number}")).collect();
    let mut sender = alice.start(&["send", "bob", "--lines"]);
    for line in &lines[..250] {
        assert!(sender.process.feed(line));
    }
    sender.process.kill();
    let kept = written(&alice, &lines);
    let rest = lines[kept..].join("\n");
    let queued = alice.run_with(&["send", "bob", "--lines", "--timeout", "0"], &rest);
    assert_eq!(queued.code, 5, "{queued:?}");
    assert_eq!(written(&alice, &lines), 500);
    server.restart();
    // The one that is accepted last tells that all before it were.
    let sender = alice.start(&["send", "bob", "last"]);
    sender.until(|line| line["text"] == "last" && line["state"] == "accepted");
    drop(sender);
    assert_eq!(bob.received(), [lines, vec!["last".to_owned()]].concat());
}
