//! A real server and three real clients on this machine: a conversation, a crash, a look at what
//! the server kept, then a chat to try. Leaves nothing behind outside the build folder.

mod partner;
mod person;
mod proof;
mod server;
mod story;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use self::person::Person;
use self::server::Server;
use crate::shell;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Fail where anything differs from what is promised; ask nothing.
    #[arg(long)]
    pub(crate) check: bool,
}

/// What the scenes share.
struct Stage {
    folder: PathBuf,
    server: Server,
    alice: Person,
    bob: Person,
    carol: Person,
}

pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let programs = build(root, options)?;
    let start = now();
    let folder = tempfile::Builder::new().prefix("qpc-demo-").tempdir()?;
    let played = play(&programs, folder.path(), options);
    if played.is_err() {
        server::show_log(folder.path());
    }
    let timing = played?;
    folder.close().context("cannot remove the demo's folder")?;
    sum_up(&timing, start);
    Ok(())
}

fn build(root: &Path, options: &Options) -> Result<PathBuf> {
    heading("Building (the first time takes some minutes)");
    let mut words = vec!["cargo", "build", "--workspace", "--bins"];
    if options.check {
        words.push("--locked");
    }
    shell::run(root, &words)?;
    // This program was built into the same folder.
    let own = std::env::current_exe()?;
    let folder = own.parent().context("a program lies in a folder")?;
    for name in ["qpc", "qpc-server"] {
        if !folder.join(name).is_file() {
            bail!("{} was not built", folder.join(name).display());
        }
    }
    Ok(folder.to_owned())
}

fn play(programs: &Path, folder: &Path, options: &Options) -> Result<story::Timing> {
    heading("A server, for this machine alone");
    let server = Server::start(programs, folder, None)?;
    println!("  {}", server.url);
    let person = |name, colour| Person::new(name, colour, (programs, folder));
    let mut stage = Stage {
        folder: folder.to_owned(),
        server,
        alice: person("alice", 36),
        bob: person("bob", 33),
        carol: person("carol", 35),
    };
    let timing = story::play(&mut stage)?;
    proof::show(&stage)?;
    if !options.check && std::io::stdin().is_terminal() {
        partner::chat(&stage)?;
    }
    Ok(timing)
}

fn sum_up(timing: &story::Timing, start: Instant) {
    heading("What you saw");
    let first = timing.first.as_millis();
    println!("  First message: {first} ms from alice's command line to bob's screen.");
    println!("  Three people, a direct channel, a group; a server killed and started again;");
    println!("  nothing lost, nothing doubled, nothing readable on the server.");
    println!("  All of it took {:.1} s.", start.elapsed().as_secs_f64());
    heading("For real");
    println!("  qpc-server init --data-dir DIR --host chat.example.org");
    println!("  qpc-server serve --data-dir DIR");
    println!("  qpc-server invite --data-dir DIR          # one link for each person");
    println!("  qpc register NAME --server 'LINK'");
    println!("  qpc chat --plain FRIEND");
    println!("  The programs lie in target/debug; `cargo build --release --bins` makes fast ones.");
}

fn heading(text: &str) {
    println!("\n== {text}");
}

#[expect(clippy::disallowed_methods, reason = "the demo shows how long things take")]
fn now() -> Instant {
    Instant::now()
}
