//! The deaths, and what is found after each.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use qpc_client::view::MessageState;
use qpc_proto::ChannelId;
use qpc_sim::World;
use tempfile::TempDir;

use crate::child::{Orders, play};
use crate::notes::{Noted, Notes, Text};
use crate::stages::{NAMES, REJOIN, STAGES, go_on, messages, remember, the_group, until_back};

/// The test that runs every time dies at one of so many points.
const STRIDE: u64 = 47;
/// The number of the signal that `abort` raises, on every Linux.
const SIGABRT: i32 = 6;
/// Points at the same time.
const WORKERS: u64 = 2;

/// A process that begins holds this one's locks on databases until it has become another program:
/// nobody may open one again meanwhile.
static BEGINNING: RwLock<()> = RwLock::new(());

/// Where a stage begins.
struct Template {
    dir: TempDir,
    now_ms: u64,
}

/// The files at the beginning of each stage.
fn templates() -> Vec<Template> {
    let mut all = vec![Template { dir: tempfile::tempdir().unwrap(), now_ms: 0 }];
    for stage in 0..STAGES.len() - 1 {
        let (from, next) = (&all[stage], tempfile::tempdir().unwrap());
        let mut notes = Notes::begin(tempfile::tempdir().unwrap().path());
        let mut world = play((stage, from.dir.path(), from.now_ms), &mut notes, || {});
        qpc_sim::check(&mut world).unwrap();
        let now_ms = world.now_ms;
        world.leave(next.path()).unwrap();
        all.push(Template { dir: next, now_ms });
    }
    all
}

/// Where a process died.
struct Point<'t> {
    stage: usize,
    after: u64,
    template: &'t Template,
}

impl Point<'_> {
    /// Has a process die there. What it left, or nothing, if it came to its end before.
    fn die(&self) -> Option<TempDir> {
        let left = tempfile::tempdir().unwrap();
        let Self { stage, after, template } = self;
        let orders = Orders {
            stage: *stage,
            after: *after,
            template: template.dir.path().to_owned(),
            now_ms: template.now_ms,
        };
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child::dies", "--ignored", "--nocapture"]);
        command.env("TMPDIR", left.path());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = {
            let _alone = BEGINNING.write().unwrap_or_else(PoisonError::into_inner);
            command.spawn().unwrap()
        };
        child.stdin.take().unwrap().write_all(orders.line().as_bytes()).unwrap();
        let ended = child.wait_with_output().unwrap();
        let died = ended.status.signal() == Some(SIGABRT);
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(died || ended.status.success(), "{}: {said}", self.name());
        died.then_some(left)
    }

    fn name(&self) -> String {
        format!("stage {:?}, point {}", STAGES[self.stage].name, self.after)
    }

    /// Opens what was left, and goes on.
    fn check(&self, left: &Path) {
        let _open = BEGINNING.read().unwrap_or_else(PoisonError::into_inner);
        let noted = Noted::read(left);
        let Some(files) = files(left) else {
            assert!(noted.done.is_empty(), "{}: the files are gone", self.name());
            return;
        };
        // A device that was being linked left a file.
        let linked = files.join("client3.db").is_file();
        let names = if linked { &NAMES[..] } else { &NAMES[..3] };
        let now_ms = noted.now_ms.max(self.template.now_ms) + 60_000;
        let mut world = World::resume((1, now_ms), &files, names).unwrap();
        let before = seen(&mut world);
        let written = remember(&mut world);
        for Text { index, channel, text } in &noted.did {
            let there = written.contains(&(*index, *channel, text.clone()));
            assert!(there, "{}: {text:?} was taken and is gone", self.name());
        }
        let name = self.name();
        self.settled(&mut world);
        if STAGES[self.stage].name == REJOIN {
            until_back(&mut world);
        }
        go_on(&mut world);
        self.settled(&mut world);
        let after = seen(&mut world);
        let lost: Vec<_> = before.difference(&after).collect();
        assert!(lost.is_empty(), "{name}: it was there, and is no more: {lost:?}");
        let is_done = |what: &str| noted.done.iter().any(|line| line == what);
        assert!(!is_done("group") || the_group(&mut world).is_some(), "{name}: no group");
        assert!(!is_done("linked") || world.clients() == 4, "{name}: a linked device is gone");
        assert!(!is_done("revoked") || world.is_out(3).unwrap(), "{name}: it was revoked");
        assert!(!is_done("deleted") || world.is_out(2).unwrap(), "{name}: it was deleted");
    }

    /// All at rest, and every invariant of the simulation; where a device came back from a copy, it
    /// may have said so.
    fn settled(&self, world: &mut World) {
        let settled = world.settle();
        settled.unwrap_or_else(|error| panic!("{}: {error:?}", self.name()));
        if STAGES[self.stage].name == REJOIN {
            let said = world.take_alarms(1).unwrap();
            let is_about_the_copy = |alarm: &String| alarm.contains("restored from an older copy");
            assert!(said.iter().all(is_about_the_copy), "{}: {said:?}", self.name());
        } else {
            let held = qpc_sim::check(world);
            held.unwrap_or_else(|error| panic!("{}: {error:?}", self.name()));
        }
    }
}

/// What every client shows as having its place in a log.
fn seen(world: &mut World) -> BTreeSet<(usize, ChannelId, u64, String)> {
    let mut seen = BTreeSet::new();
    for index in 0..world.clients() {
        for (channel, message) in messages(world, index) {
            if matches!(message.state, MessageState::Accepted | MessageState::Received) {
                seen.insert((index, channel, message.seq.unwrap(), message.text));
            }
        }
    }
    seen
}

/// The folder of the world that a process left.
fn files(left: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(left).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    assert!(folders.len() <= 1, "one world, one folder: {folders:?}");
    folders.pop()
}

/// Dies at the points of a stage that `point` numbers, until a run comes to its end; how many.
fn all_points(stage: usize, template: &Template, point: impl Fn(u64) -> u64 + Sync) -> u64 {
    let (next, deaths) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || loop {
        let after = point(next.fetch_add(1, Ordering::Relaxed));
        let point = Point { stage, after, template };
        let Some(left) = point.die() else { break };
        point.check(left.path());
        deaths.fetch_add(1, Ordering::Relaxed);
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            if let Err(panic) = worker.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    deaths.into_inner()
}

fn every(point: impl Fn(u64) -> u64 + Sync) -> u64 {
    let mut sum = 0;
    for (stage, template) in templates().iter().enumerate() {
        let deaths = all_points(stage, template, &point);
        println!("{:>6} points in stage {:?}", deaths, STAGES[stage].name);
        assert!(deaths > 0, "nobody died in stage {:?}", STAGES[stage].name);
        sum += deaths;
    }
    println!("{sum:>6} points; nothing acknowledged was missing or doubled");
    sum
}

/// One point of each block of [`STRIDE`]; which one, moves with the block.
fn some(block: u64) -> u64 {
    block * STRIDE + block * 7 % STRIDE
}

#[test]
fn case_103_a_death_at_any_write_of_server_or_client_loses_and_doubles_nothing() {
    every(some);
}

#[test]
#[ignore = "takes long; cargo ci-full runs it"]
fn a_death_at_every_write_of_server_and_client_loses_and_doubles_nothing() {
    every(|number| number);
}
