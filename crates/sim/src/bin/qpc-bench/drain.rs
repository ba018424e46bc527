//! `qpc-bench drain`: how fast receivers that were away read what came meanwhile, at the server
//! that ships and at one that only stores it and hands it on.
//!
//! Both are measured in turns in one run; every message is checked.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use qpc_transport::ServerUrl;
use tokio::task::JoinSet;

use crate::child::Child;
use crate::messages::follower::Follower;
use crate::messages::poster::Poster;
use crate::messages::round::{Load, SETTLE, Tally, compare};
use crate::messages::setup::{self, Party};
use crate::serve::What;
use crate::sides::{self, Bound, Column, Report};
use crate::stopwatch::Stopwatch;

/// Messages of a sender that may be on their way to being accepted.
const WINDOW: u32 = 64;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Rounds; each measures the floor and the full server, in alternating order.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Messages that wait, in all channels together.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    messages: u32,
    /// Channels, each with one receiver.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    channels: u32,
    /// Fail below this times the floor's messages a second.
    #[arg(long, default_value_t = 0.5)]
    at_least: f64,
    /// Where the servers' files go; the databases are synced to this disk.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What one round measured.
#[derive(Debug, Clone, Copy)]
struct Round {
    drained_per_second: f64,
    /// Server CPU time of a message that is read, µs.
    cpu_us: f64,
    /// Memory of the server after the round, KiB.
    resident_kib: f64,
}

/// Measures, prints, and judges.
///
/// # Errors
/// When a server does not start, or a single message is refused, lost, doubled, changed or comes
/// out of order.
pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let rounds = measure(arguments).await?;
    let of = |name, of: fn(&Round) -> f64, bound| Column { name, of, bound };
    let columns = [
        of("drained/s", |r| r.drained_per_second, Some(Bound::AtLeast(arguments.at_least))),
        of("CPU µs/message", |r| r.cpu_us, None),
        of("memory KiB", |r| r.resident_kib, None),
    ];
    let report = Report::new("drain", &rounds, &columns)?;
    sides::print(&report, arguments.json);
    Ok(if report.is_within() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The rounds: of each, the floor's and the full server's.
async fn measure(arguments: &Arguments) -> Result<Vec<(Round, Round)>> {
    let dir = match &arguments.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let pairs = arguments.channels;
    let load = Load {
        messages: arguments.messages.div_ceil(pairs),
        window: WINDOW,
        batch: WINDOW,
        rate: None,
        pairs,
    };
    let floor = Child::start(What::Floor, &dir.path().join("floor"), 0)?;
    let full = Child::start(What::Full, &dir.path().join("full"), pairs)?;
    ensure!(full.invites.len() == usize::try_from(pairs)?, "an invite is missing");
    let parties = setup::full(&full.url, &full.invites).await?;
    let mut floor = Course::new(floor, setup::floor(pairs)).await?;
    let mut full = Course::new(full, parties).await?;
    let at_floor = async || floor.round(&load).await;
    sides::in_turns(arguments.rounds, at_floor, async || full.round(&load).await).await
}

/// A server with its senders, who stay, and its receivers, who come and go.
struct Course {
    server: Child,
    channels: Vec<Channel>,
}

impl Course {
    async fn new(server: Child, parties: Vec<Party>) -> Result<Self> {
        let channels = channels(&server.url, parties).await?;
        Ok(Self { server, channels })
    }

    /// Runs a round.
    ///
    /// # Errors
    /// When a single message is refused, lost, doubled, changed or out of order. The course is then
    /// of no further use.
    async fn round(&mut self, load: &Load) -> Result<Round> {
        let posted = fill(&mut self.channels, load).await?;
        let followers = come(&self.server.url, &mut self.channels, load).await?;
        // What is left of writing is not of the measurement.
        tokio::time::sleep(SETTLE).await;
        let before = self.server.usage()?;
        let (followers, read) = drain(followers, load).await?;
        let after = self.server.usage()?;
        compare(&posted, &read, load)?;
        for follower in followers {
            follower.leave().await?;
        }
        let each = f64::from(load.messages) * f64::from(load.pairs);
        let took = read.iter().map(|tally| tally.ended).max().context("no channels")?;
        Ok(Round {
            drained_per_second: each / took.as_secs_f64(),
            cpu_us: after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / each,
            resident_kib: f64::from(u32::try_from(after.resident_kib)?),
        })
    }
}

/// A channel, its sender, and how many messages were read in earlier rounds.
struct Channel {
    party: Party,
    poster: Poster,
    read: u64,
}

async fn channels(url: &ServerUrl, parties: Vec<Party>) -> Result<Vec<Channel>> {
    let mut channels = Vec::new();
    for party in parties {
        let poster = party.poster(url).await?;
        channels.push(Channel { party, poster, read: 0 });
    }
    Ok(channels)
}

/// All senders at once, while nobody reads.
async fn fill(channels: &mut Vec<Channel>, load: &Load) -> Result<Vec<Tally>> {
    let (load, clock) = (*load, Stopwatch::start());
    let mut posting = JoinSet::new();
    for mut channel in channels.drain(..) {
        posting.spawn(async move {
            let tally = channel.poster.post(&load, &clock).await?;
            anyhow::Ok((channel, tally))
        });
    }
    let mut tallies = Vec::new();
    while let Some(posted) = posting.join_next().await {
        let (channel, tally) = posted??;
        channels.push(channel);
        tallies.push(tally);
    }
    tallies.sort_by_key(|tally| tally.pair);
    Ok(tallies)
}

/// The receivers connect.
async fn come(url: &ServerUrl, channels: &mut [Channel], load: &Load) -> Result<Vec<Follower>> {
    let mut followers = Vec::new();
    for Channel { party, read, .. } in channels {
        followers.push(party.follower(url, *read).await?);
        *read = read.saturating_add(load.messages.into());
    }
    Ok(followers)
}

/// All receivers at once, from asking to the last acknowledgement, and silence behind it.
async fn drain(followers: Vec<Follower>, load: &Load) -> Result<(Vec<Follower>, Vec<Tally>)> {
    let (load, clock) = (*load, Stopwatch::start());
    let mut reading = JoinSet::new();
    for mut follower in followers {
        reading.spawn(async move {
            follower.ask().await?;
            let tally = follower.follow(&load, &clock).await?;
            anyhow::Ok((follower, tally))
        });
    }
    let (mut followers, mut tallies) = (Vec::new(), Vec::new());
    while let Some(ended) = reading.join_next().await {
        let (follower, tally) = ended??;
        followers.push(follower);
        tallies.push(tally);
    }
    tallies.sort_by_key(|tally: &Tally| tally.pair);
    Ok((followers, tallies))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::tests::with;

    const LOAD: Load = Load { messages: 600, window: 16, batch: 16, rate: None, pairs: 2 };

    /// More than a page waits for each receiver, twice.
    async fn two_rounds(url: &ServerUrl, parties: Vec<Party>) {
        let mut channels = channels(url, parties).await.unwrap();
        for round in 1..=2 {
            let posted = fill(&mut channels, &LOAD).await.unwrap();
            let followers = come(url, &mut channels, &LOAD).await.unwrap();
            let (followers, read) = drain(followers, &LOAD).await.unwrap();
            compare(&posted, &read, &LOAD).unwrap();
            assert!(channels.iter().all(|channel| channel.read == round * 600));
            for follower in followers {
                follower.leave().await.unwrap();
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_floor_gives_what_came_meanwhile_once_in_order() {
        with((What::Floor, 0), async |url, _| two_rounds(url, setup::floor(2)).await).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_full_server_gives_what_came_meanwhile_once_in_order() {
        with((What::Full, 2), async |url, invites| {
            two_rounds(url, setup::full(url, invites).await.unwrap()).await;
        })
        .await;
    }
}
