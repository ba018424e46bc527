//! The server dies at random moments while several clients send and one listens. The seed decides
//! how much happens between two deaths; which instruction is the last one, the machine decides.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::person::Person;
use crate::running::{Running, now};
use crate::server::{PATIENCE, Server};

/// Kills of the test that runs every time.
const A_FEW: usize = 20;
const A_THOUSAND: usize = 1_000;
/// Lines of one sender that are written and not yet accepted.
const WINDOW: usize = 8;
/// At most so many lines are accepted or received between two kills.
const EVENTS_BETWEEN: u32 = 24;
/// At most so many microseconds pass between the last of these and the kill: long enough for
/// several commits.
const MOMENT_US: u32 = 8_000;
const START_MAX: Duration = Duration::from_secs(5);

/// A line of a process's output; `None` at its end.
type Heard = (&'static str, Option<Value>);

/// One `send --lines` and what it saw.
struct Sender {
    name: &'static str,
    process: Running,
    fed: usize,
    /// Sequence numbers of its accepted lines, in order.
    accepted: Vec<u64>,
}

impl Sender {
    fn start(person: &Person, name: &'static str, to: &SyncSender<Heard>) -> Self {
        let command = person.beside(&["send", "Hikers", "--lines", "--timeout", "120"]);
        Self { name, process: start(command, name, to), fed: 0, accepted: Vec::new() }
    }

    fn line(&self, number: usize) -> String {
        format!("{} {number}", self.name)
    }

    fn top_up(&mut self) {
        while self.fed < self.accepted.len() + WINDOW {
            let line = self.line(self.fed);
            assert!(self.process.feed(&line), "{} is gone", self.name);
            self.fed += 1;
        }
    }

    fn note(&mut self, message: &Value) {
        assert_eq!(message["state"], "accepted", "{message}");
        assert_eq!(message["text"], self.line(self.accepted.len()), "in order, each once");
        self.accepted.push(message["seq"].as_u64().unwrap());
    }
}

fn start(command: std::process::Command, name: &'static str, to: &SyncSender<Heard>) -> Running {
    Running::start(command, to.clone(), move |line| {
        (name, line.map(|line| serde_json::from_str(&line).unwrap()))
    })
}

/// Senders, a listener, and what came of it.
struct Load {
    senders: [Sender; 2],
    heard: Receiver<Heard>,
    received: Vec<Value>,
}

impl Load {
    /// Waits for one line of anybody; who ended, if it was an end.
    fn step(&mut self) -> Option<&'static str> {
        let heard = self.heard.recv_timeout(PATIENCE).expect("nothing moves any more");
        self.note(heard)
    }

    fn note(&mut self, (name, line): Heard) -> Option<&'static str> {
        let Some(message) = line else { return Some(name) };
        match self.senders.iter_mut().find(|sender| sender.name == name) {
            Some(sender) => sender.note(&message),
            None => self.received.push(message),
        }
        None
    }

    fn run(&mut self, events: u32) {
        for _ in 0..events {
            self.senders.iter_mut().for_each(Sender::top_up);
            assert_eq!(self.step(), None, "nobody ends while lines come");
        }
    }

    /// Goes on for a moment that ends between two lines.
    fn run_for(&mut self, moment: Duration) {
        let start = now();
        loop {
            self.senders.iter_mut().for_each(Sender::top_up);
            match self.heard.recv_timeout(moment.saturating_sub(start.elapsed())) {
                Ok(heard) => assert_eq!(self.note(heard), None, "nobody ends while lines come"),
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => panic!("everybody is gone"),
            }
        }
    }

    /// Lets the senders finish.
    fn drain(&mut self) {
        self.senders.iter_mut().for_each(|sender| sender.process.end_input());
        let mut ended = 0;
        while ended < self.senders.len() {
            ended += usize::from(self.step().is_some());
        }
    }
}

#[test]
fn case_163_a_few_kills_under_load_lose_and_double_nothing() {
    kill(A_FEW, 163);
}

#[test]
#[ignore = "takes many minutes; cargo ci-full runs it"]
fn a_thousand_kills_under_load_lose_and_double_nothing() {
    kill(A_THOUSAND, 1_163);
}

fn kill(times: usize, seed: u64) {
    let mut server = Server::start();
    let (alice, bob) = (server.register("alice"), server.register("bob"));
    let carol = server.register("carol");
    alice.ok(&["group", "create", "Hikers"]);
    alice.ok(&["group", "add", "Hikers", "bob", "carol"]);
    carol.ok(&["recv"]);
    bob.ok(&["recv"]);
    let before = Place::of(&bob);

    let (to, heard) = sync_channel(4_096);
    let senders = [Sender::start(&alice, "alice", &to), Sender::start(&carol, "carol", &to)];
    let listener = start(bob.beside(&["recv", "--follow"]), "bob", &to);
    let mut load = Load { senders, heard, received: Vec::new() };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    load.run(EVENTS_BETWEEN);
    for kill in 0..times {
        server.kill();
        let took = server.restart();
        assert!(took < START_MAX, "start {kill} took {took:?}");
        // Now and then it dies before anybody has come back.
        load.run(rng.next_u32() % EVENTS_BETWEEN);
        load.run_for(Duration::from_micros((rng.next_u32() % MOMENT_US).into()));
    }
    load.drain();
    listener.terminate();
    while load.step() != Some("bob") {}
    assert_eq!(listener.ended().code(), Some(0));
    load.received.extend(bob.json(&["recv"]));
    let messages = check(load);
    let after = common_place([&alice, &bob, &carol]);
    let commits = after.epoch - before.epoch;
    assert_eq!(after.cursor - before.cursor, messages + commits, "each number is of one of these");
}

/// How far somebody has read the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    cursor: u64,
    /// A Commit begins the next one.
    epoch: u64,
}

impl Place {
    /// Each computes the hash chain itself and would stop where it does not fit.
    fn of(person: &Person) -> Self {
        let channel = person.channel("Hikers");
        let status = channel["status"].as_str().unwrap();
        assert!(matches!(status, "active" | "unconfirmed"), "{channel}");
        assert_eq!(channel["outbox"], json!(0), "{channel}");
        let number = |name: &str| channel[name].as_u64().unwrap();
        Self { cursor: number("cursor"), epoch: number("epoch") }
    }
}

/// Where all are, once they have read everything. Who reads may make a Commit meanwhile that renews
/// its keys after its join: one each.
fn common_place(all: [&Person; 3]) -> Place {
    for _ in 0..=all.len() {
        let places = all.map(|person| {
            person.ok(&["recv"]);
            Place::of(person)
        });
        if places.iter().all(|place| *place == places[0]) {
            return places[0];
        }
    }
    panic!("they don't come together");
}

/// What bob read is what the senders saw accepted: each once, in the order of its number. Returns
/// how many.
fn check(load: Load) -> u64 {
    let mut accepted = BTreeMap::new();
    for sender in &load.senders {
        assert_eq!(sender.accepted.len(), sender.fed, "{} has lines left", sender.name);
        for (number, seq) in sender.accepted.iter().enumerate() {
            assert_eq!(accepted.insert(*seq, sender.line(number)), None, "one number, two lines");
        }
    }
    let messages = load.received.iter().filter(|message| message["state"] == "received");
    let received: Vec<(u64, String)> = messages
        .map(|m| (m["seq"].as_u64().unwrap(), m["text"].as_str().unwrap().to_owned()))
        .collect();
    let messages = u64::try_from(received.len()).unwrap();
    assert_eq!(received, accepted.into_iter().collect::<Vec<_>>());
    let unreadable = load.received.iter().filter(|message| message["state"] == "unreadable");
    assert_eq!(unreadable.count(), 0);
    for sender in load.senders {
        assert_eq!(sender.process.ended().code(), Some(0));
    }
    messages
}
