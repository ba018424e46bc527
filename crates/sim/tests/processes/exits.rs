//! How commands fail: each documented exit code that a well-behaved server lets happen, and that
//! nothing is lost by it. Codes 1 (bugs apart) to 8; 9 needs a server that lies.

use std::fs::{File, OpenOptions};

use crate::server::Server;

#[test]
fn case_027_another_fingerprint_is_refused_by_name_at_registration_and_later() {
    let server = Server::start();
    let other = Server::start();
    let stranger = server.stranger("eve");
    let wrong = server.url.replace(server.fingerprint(), other.fingerprint());
    let refused = stranger.run(&["register", "eve", "--server", &wrong]);
    assert_eq!(refused.code, 8);
    let seen = server.fingerprint();
    assert!(refused.err.contains("the server's key has changed"), "{refused:?}");
    assert!(refused.err.contains(seen) && refused.err.contains("operator"), "{refused:?}");
    assert_eq!(stranger.failure(&["whoami"]), (2, "NO_ACCOUNT".to_owned()), "nothing is left");
    // No flag goes round it, and the right address still works in the same home.
    let whoami = stranger.json(&["register", "eve", "--server", &server.url]);
    assert_eq!(whoami[0]["server"], server.url, "the wrong address is forgotten");
    stranger.ok(&["group", "create", "Reached"]);
}

#[test]
fn case_174_a_second_qpc_on_a_home_is_refused_and_harms_nothing() {
    let server = Server::start();
    let (alice, bob) = server.pair();
    let follower = bob.start(&["recv", "--follow"]);
    alice.ok(&["send", "bob", "one"]);
    follower.until(|line| line["text"] == "one");
    for words in [&["whoami"][..], &["send", "alice", "x"], &["recv"]] {
        assert_eq!(bob.failure(words), (6, "STORE_LOCKED".to_owned()), "{words:?}");
    }
    alice.ok(&["send", "bob", "two"]);
    follower.until(|line| line["text"] == "two");
    follower.process.terminate();
    let (rest, status) = follower.rest();
    assert_eq!((rest.len(), status.code()), (0, Some(0)));
    bob.ok(&["send", "alice", "free again"]);
}

#[test]
fn a_passphrase_opens_its_home_and_a_wrong_one_changes_nothing() {
    let server = Server::start();
    let alice = server.stranger("alice");
    let file = |name: &str, text: &str| {
        let path = server.folder().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (right, wrong) = (file("right", "correct horse\n"), file("wrong", "battery\n"));
    let with = |file: &str| format!("--passphrase-file={file}");
    alice.ok(&["register", "alice", "--server", &server.url, &with(&right)]);
    let database = || std::fs::read(alice.home.join("qpc.db")).unwrap();
    let before = database();
    assert_eq!(alice.failure(&["whoami", &with(&wrong)]), (7, "DB_KEY_WRONG".to_owned()));
    assert_eq!(alice.failure(&["whoami"]), (7, "PASSPHRASE_NEEDED".to_owned()));
    assert!(database() == before, "a wrong passphrase writes nothing");
    alice.ok(&["whoami", &with(&right)]);
    alice.ok(&["passphrase", &with(&right), "--remove"]);
    alice.ok(&["whoami"]);
}

#[test]
fn what_does_not_exist_or_cannot_be_has_its_exit_code() {
    let server = Server::start();
    let (alice, _bob) = server.pair();
    for (words, expected) in [
        (&["send", "nobody", "x"][..], (3, "ACCOUNT_NOT_FOUND")),
        (&["dm", "nobody"], (3, "ACCOUNT_NOT_FOUND")),
        (&["history", "nowhere"], (3, "NOT_FOUND")),
        (&["group", "add", "nowhere", "bob"], (3, "NOT_FOUND")),
        (&["dm", "alice"], (2, "USAGE")),
        (&["chat", "bob"], (2, "USAGE")),
        (&["frobnicate"], (2, "USAGE")),
        (&["register", "again", "--server", &server.url], (2, "ACCOUNT_EXISTS")),
        (&["recv", "--count", "1", "--timeout", "1"], (5, "WAITING")),
    ] {
        assert_eq!(alice.failure(words), (expected.0, expected.1.to_owned()), "{words:?}");
    }
    let namesake = server.stranger("namesake");
    let taken = namesake.failure(&["register", "alice", "--server", &server.url]);
    assert_eq!(taken, (4, "NAME_TAKEN".to_owned()));
}

#[test]
fn without_a_server_messages_queue_and_the_next_command_sends_them() {
    let mut server = Server::start();
    let (alice, bob) = server.pair();
    server.kill();
    let queued = alice.run(&["send", "bob", "later", "--timeout", "0"]);
    assert_eq!(queued.code, 5, "{queued:?}");
    assert!(queued.err.contains("will be sent by the next qpc command"), "{queued:?}");
    assert_eq!(alice.channel("bob")["outbox"], 1);
    assert_eq!(alice.json(&["history", "bob", "--limit", "1"])[0]["state"], "waiting");
    let stranger = server.stranger("carol");
    assert_eq!(stranger.run(&["register", "carol", "--server", &server.url]).code, 8);
    server.restart();
    alice.ok(&["send", "bob", "now"]);
    assert_eq!(bob.received(), ["later", "now"]);
}

#[test]
fn output_that_cannot_be_written_marks_nothing_as_seen() {
    let server = Server::start();
    let (alice, bob) = server.pair();
    alice.ok(&["send", "bob", "precious"]);
    let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else {
        return; // Not a Linux.
    };
    let full: File = full;
    let status = bob.command(&["recv"]).stdout(full).status().unwrap();
    assert_eq!(status.code(), Some(1));
    assert_eq!(bob.received(), ["precious"]);
}
