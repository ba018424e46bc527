//! `qpc-bench catchup`: how fast a client reads what came while it was away, what that writes to
//! its disk, and what a message that comes alone writes.
//!
//! The real client core over its encrypted, synced home; the real server, in this process, hands
//! out the pages. Only the client's steps are measured. Every message is checked.

mod home;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use qpc_proto::ChannelId;
use qpc_sim::World;

use self::home::{Course, Home};

/// A body of 1 KiB begins with its number.
const BODY_BYTES: usize = 1_024;
/// Messages written in one transaction of the sender.
const WRITTEN_AT_ONCE: u32 = 500;
/// The reader and the sender in the world.
const READER: usize = 1;
const SENDER: usize = 0;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Rounds, each on a copy of the home as it was before.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Messages that wait in a channel of two.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    messages: u32,
    /// Fail below this many messages a second.
    #[arg(long, default_value_t = 5_000.0)]
    at_least: f64,
    /// Fail above this many bytes written for a message that waited.
    #[arg(long, default_value_t = 6_144.0)]
    written_at_most: f64,
    /// Fail above this many bytes written for a message that comes alone.
    #[arg(long, default_value_t = 49_152.0)]
    alone_at_most: f64,
    /// Messages that come one by one, to see what each writes.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    alone: u32,
    /// Where the reader's home goes; it is synced to this disk.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Measures, prints, and judges.
///
/// # Errors
/// When a single message is lost, doubled, changed or comes out of order.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let dir = match &arguments.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let (mut world, channel) = world()?;
    write(&mut world, &channel, arguments.messages)?;
    let home = Home { template: world.give_away(READER)?, channel };
    let mut rounds = Vec::new();
    for _ in 0..arguments.rounds {
        rounds.push(home.read(&mut world, dir.path(), Course::waiting(arguments.messages))?);
    }
    let few = arguments.alone.min(arguments.messages);
    let alone = home.read(&mut world, dir.path(), Course::alone(few))?;
    let report = report::Report::new(&rounds, &alone)?;
    let within = report::print(&report, arguments);
    Ok(if within { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Two clients in a channel; the reader has gone.
fn world() -> Result<(World, ChannelId)> {
    let mut world = World::new(5, 2)?;
    world.settle()?;
    let made = world.user(SENDER, |m, s| m.create_group_channel(s, "Catching up"))?;
    world.settle()?;
    let reader = world.account(READER)?;
    world.user(SENDER, |m, s| m.change_members(s, &made.channel, (true, &[reader])))?;
    world.settle()?;
    world.disconnect(READER)?;
    Ok((world, made.channel))
}

/// The sender writes, in batches and with Commits between them as any client does.
fn write(world: &mut World, channel: &ChannelId, messages: u32) -> Result<()> {
    let mut number = 0;
    while number < messages {
        let until = number.saturating_add(WRITTEN_AT_ONCE).min(messages);
        world.user(SENDER, |machine, step| {
            (number..until).try_for_each(|n| machine.queue(step, channel, &text(n)).map(drop))
        })?;
        world.settle_among(&[SENDER])?;
        number = until;
    }
    let left = world.user(SENDER, |machine, step| machine.channel(step, channel))?.outbox;
    ensure!(left == 0, "{left} messages were not sent");
    Ok(())
}

fn text(number: u32) -> String {
    format!("{number:0>8}{:x>1$}", "", BODY_BYTES.saturating_sub(8))
}

/// The number that a text begins with, if it is the text of that number.
fn number_of(body: &str) -> Result<u32> {
    let number = body.get(..8).and_then(|digits| digits.parse().ok());
    let number = number.context("a message was changed")?;
    ensure!(text(number) == body, "message {number} was changed");
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_one_kibibyte_and_says_its_number() {
        assert_eq!(text(7).len(), BODY_BYTES);
        assert_eq!(number_of(&text(7)).unwrap(), 7);
        assert!(number_of(&text(7).replace('x', "y")).is_err());
        assert!(number_of("hello").is_err());
    }

    #[test]
    fn every_waiting_message_is_read_once_in_order_within_its_bytes() {
        let (mut world, channel) = world().unwrap();
        write(&mut world, &channel, 600).unwrap();
        let home = Home { template: world.give_away(READER).unwrap(), channel };
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let waiting = home.read(&mut world, dir.path(), Course::waiting(600)).unwrap();
            // A page of 512 and the rest; 1,802 bytes a message when this was written.
            assert!(waiting.transactions <= 4, "{waiting:?}");
            assert!(waiting.written <= 600 * 2_560, "{waiting:?}");
        }
        let alone = home.read(&mut world, dir.path(), Course::alone(20)).unwrap();
        // Ten pages each when this was written.
        assert_eq!(alone.transactions, 20, "{alone:?}");
        assert!(alone.written <= 20 * 49_152, "{alone:?}");
    }
}
