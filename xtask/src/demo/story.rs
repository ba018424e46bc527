//! The conversation, scene by scene, and the comparison of what everyone remembers with what was
//! said. Never repairs anything: a difference is a failure.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{Stage, heading, now};

/// How long things took.
pub(super) struct Timing {
    /// From the sender's command line to the recipient's screen.
    pub(super) first: Duration,
}

const GROUP: &str = "Hikers";
const HELLO: &str = "Hello Bob, does anybody listen in?";
const ANSWER: &str = "Hello Alice, not even the server.";
const PLAN: &str = "Saturday, nine o'clock, at the mill?";
const AGREED: &str = "I bring the bread and the cheese.";
const BEFORE: &str = "One moment before the power cut.";
const MEANWHILE: &str = "Written while the server is dead.";
const AFTER: &str = "And this one when it is back.";
const WAIT: [&str; 2] = ["--timeout", "30"];

/// Everything that was said.
pub(super) const SAID: [&str; 7] = [HELLO, ANSWER, PLAN, AGREED, BEFORE, MEANWHILE, AFTER];

pub(super) fn play(stage: &mut Stage) -> Result<Timing> {
    register(stage)?;
    let first = direct(stage)?;
    verify(stage)?;
    group(stage)?;
    crash(stage)?;
    compare(stage)?;
    Ok(Timing { first })
}

fn register(stage: &Stage) -> Result<()> {
    heading("Three people, each with a home and keys of their own");
    for person in [&stage.alice, &stage.bob, &stage.carol] {
        person.does(&["register", person.name, "--server", &stage.server.url])?;
    }
    Ok(())
}

fn direct(stage: &Stage) -> Result<Duration> {
    heading("Two of them talk");
    let start = now();
    stage.alice.does(&["send", "bob", HELLO])?;
    receive(&stage.bob, 1)?;
    let first = start.elapsed();
    stage.bob.does(&["send", "alice", ANSWER])?;
    receive(&stage.alice, 1)?;
    Ok(first)
}

fn verify(stage: &Stage) -> Result<()> {
    heading("They compare their safety number: the same on both sides, so nobody sits between");
    let number = |seen: Result<Vec<serde_json::Value>>| -> Result<String> {
        let number = seen?.first().and_then(|object| object.get("safety_number").cloned());
        Ok(number.context("no safety number")?.as_str().unwrap_or_default().to_owned())
    };
    stage.alice.does(&["verify", "bob"])?;
    stage.bob.does(&["verify", "alice"])?;
    let alice = number(stage.alice.asks(&["verify", "bob"]))?;
    let bob = number(stage.bob.asks(&["verify", "alice"]))?;
    ensure!(!alice.is_empty() && alice == bob, "safety numbers differ: {alice} and {bob}");
    stage.alice.does(&["verify", "bob", "--yes"])?;
    Ok(())
}

fn group(stage: &Stage) -> Result<()> {
    heading("A group of three");
    stage.alice.does(&["group", "create", GROUP])?;
    stage.alice.does(&["group", "add", GROUP, "bob", "carol"])?;
    stage.alice.does(&["send", GROUP, PLAN])?;
    receive(&stage.bob, 1)?;
    receive(&stage.carol, 1)?;
    stage.carol.does(&["send", GROUP, AGREED])?;
    receive(&stage.alice, 1)?;
    receive(&stage.bob, 1)?;
    stage.bob.does(&["members", GROUP])?;
    Ok(())
}

fn crash(stage: &mut Stage) -> Result<()> {
    heading("The server dies between two messages");
    stage.alice.does(&["send", "bob", BEFORE])?;
    stage.server.kill()?;
    println!("(kill -9)");
    // Exit code 5: queued.
    stage.alice.ends_with(5, &["send", "bob", MEANWHILE, "--timeout", "1"])?;
    stage.server.restart()?;
    println!("(started again, same files, same port)");
    stage.alice.does(&["send", "bob", AFTER])?;
    receive(&stage.bob, 3)
}

fn receive(person: &super::Person, count: usize) -> Result<()> {
    let count = count.to_string();
    person.does(&[&["recv", "--count", &count][..], &WAIT].concat())?;
    Ok(())
}

fn compare(stage: &Stage) -> Result<()> {
    let direct = [
        ("alice", HELLO),
        ("bob", ANSWER),
        ("alice", BEFORE),
        ("alice", MEANWHILE),
        ("alice", AFTER),
    ];
    let group = [("alice", PLAN), ("carol", AGREED)];
    for (person, target, said) in [
        (&stage.alice, "bob", &direct[..]),
        (&stage.bob, "alice", &direct),
        (&stage.alice, GROUP, &group),
        (&stage.bob, GROUP, &group),
        (&stage.carol, GROUP, &group),
    ] {
        let remembered = person.remembers(target)?;
        let same = remembered.iter().map(|(sender, text)| (sender.as_str(), text.as_str()));
        ensure!(
            same.eq(said.iter().copied()),
            "{} remembers {remembered:?} of {target}, but said was {said:?}",
            person.name
        );
    }
    println!("(every history has each message once, in the order it was said)");
    Ok(())
}
