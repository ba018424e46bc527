//! `qpc-bench fanout`: what it costs the server to hand one message to everybody who follows a
//! channel, beside what it costs the floor, and that it is written once, however many they are.

mod group;
mod report;

use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use qpc_proto::limits::CHANNEL_DEVICES_MAX;
use tokio::task::JoinSet;

use crate::child::Child;
use crate::messages::follower::Follower;
use crate::messages::poster::Poster;
use crate::messages::round::{Load, SETTLE, Tally, compare};
use crate::numbers::Quantiles;
use crate::serve::What;
use crate::sides;
use crate::stopwatch::Stopwatch;
use group::Group;
use report::{Limits, Report, Round, Rounds};

/// Messages that the sender may have unaccepted, in one request.
const WINDOW: u32 = 64;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Rounds with one subscriber, and as many with all at each server.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Connections that follow the channel.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=7_900))]
    subscribers: u32,
    /// Sessions, each with a connection, of a device that follows.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=8))]
    sessions: u32,
    /// Messages in a round.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    messages: u32,
    /// Send so many messages a second [without: as fast as they are accepted].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Fail when a delivery costs the server more µs of CPU time than this.
    #[arg(long, default_value_t = 5.0)]
    cpu_at_most: f64,
    /// Fail when a message to all writes more than this times the bytes of one to one subscriber.
    #[arg(long, default_value_t = 1.25)]
    written_at_most: f64,
    /// Where the server's files go; the database is synced to this disk.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Measures, prints, and judges.
///
/// # Errors
/// When the server does not start, or a single message is refused, lost, doubled, changed or comes
/// out of order.
pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let rounds = measure(arguments).await?;
    let Arguments { cpu_at_most, written_at_most, .. } = *arguments;
    let report = Report::new(rounds, Limits { cpu_at_most, written_at_most })?;
    report::print(&report, arguments.json);
    Ok(if report.is_within() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Rounds with one subscriber at the full server, then with all at both.
async fn measure(arguments: &Arguments) -> Result<Rounds> {
    let dir = match &arguments.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let Arguments { rounds, subscribers, sessions, messages, rate, .. } = *arguments;
    let devices = subscribers.div_ceil(sessions).saturating_add(1);
    ensure!(usize::try_from(devices)? <= CHANNEL_DEVICES_MAX, "a channel has no room for so many");
    let full = Child::start(What::Full, &dir.path().join("full"), devices)?;
    let floor = Child::start(What::Floor, &dir.path().join("floor"), 0)?;
    let group = Group::found(&full.url, &full.invites, sessions).await?;
    let mut full = Course::begin(full, &group).await?;
    let mut floor = Course::begin(floor, &Group::Floor).await?;
    let load = Load { messages, window: WINDOW, batch: WINDOW, rate, pairs: 1 };
    // Files grow, clients' windows open.
    full.round(&load).await?;
    floor.round(&load).await?;
    let mut alone = Vec::new();
    for _ in 0..rounds {
        alone.push(full.round(&load).await?);
    }
    full.gather(&group, 1..subscribers).await?;
    floor.gather(&Group::Floor, 1..subscribers).await?;
    let at_floor = async || floor.round(&load).await;
    let all = sides::in_turns(rounds, at_floor, async || full.round(&load).await).await?;
    Ok(Rounds { alone, all })
}

/// A server with the one sender and those who follow.
struct Course {
    server: Child,
    poster: Poster,
    subscribers: Vec<Follower>,
    /// Messages so far.
    posted: u64,
}

impl Course {
    /// The sender and the first subscriber.
    ///
    /// # Errors
    /// When there is no connection, or the server refuses.
    async fn begin(server: Child, group: &Group) -> Result<Self> {
        let poster = group.poster(&server.url).await?;
        let subscribers = group.subscribe(&server.url, (0..1, 0)).await?;
        Ok(Self { server, poster, subscribers, posted: 0 })
    }

    /// More subscribers, for what comes from now on.
    ///
    /// # Errors
    /// When there is no connection, or the server refuses.
    async fn gather(&mut self, group: &Group, numbers: Range<u32>) -> Result<()> {
        let others = group.subscribe(&self.server.url, (numbers, self.posted)).await?;
        self.subscribers.extend(others);
        Ok(())
    }

    /// Runs a round.
    ///
    /// # Errors
    /// When a single message is refused, lost, doubled, changed or out of order. The course is then
    /// of no further use.
    async fn round(&mut self, load: &Load) -> Result<Round> {
        // What logins and subscriptions leave to be done is not of the measurement.
        tokio::time::sleep(SETTLE).await;
        let before = self.server.usage()?;
        let delivered = exchange(&mut self.poster, &mut self.subscribers, load).await?;
        let after = self.server.usage()?;
        self.posted = self.posted.saturating_add(load.messages.into());
        let messages = f64::from(load.messages);
        let deliveries = messages * f64::from(u32::try_from(delivered.len())?);
        let written = u32::try_from(after.written.saturating_sub(before.written) / 1_024)?;
        ensure!(written > 0, "nothing is written to a disk; choose another place with --dir");
        let times: Vec<Duration> = delivered.into_iter().flat_map(|tally| tally.times).collect();
        Ok(Round {
            cpu_us: after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / deliveries,
            written: f64::from(written) * 1_024.0 / messages,
            delivery: Quantiles::of(times).context("nothing was delivered")?,
        })
    }
}

/// The sender and all subscribers at once; what comes must be what was posted.
async fn exchange(
    poster: &mut Poster,
    subscribers: &mut Vec<Follower>,
    load: &Load,
) -> Result<Vec<Tally>> {
    let (load, clock) = (*load, Stopwatch::start());
    let mut following = JoinSet::new();
    for mut subscriber in subscribers.drain(..) {
        following.spawn(async move {
            let tally = subscriber.follow(&load, &clock).await?;
            anyhow::Ok((subscriber, tally))
        });
    }
    let posted = poster.post(&load, &clock).await?;
    let mut delivered = Vec::new();
    while let Some(followed) = following.join_next().await {
        let (subscriber, tally) = followed??;
        compare(std::slice::from_ref(&posted), std::slice::from_ref(&tally), &load)?;
        subscribers.push(subscriber);
        delivered.push(tally);
    }
    Ok(delivered)
}

#[cfg(test)]
mod tests {
    use qpc_transport::ServerUrl;

    use super::*;
    use crate::serve::tests::with;

    // More than one device has sessions for, and than connections share a socket.
    const SUBSCRIBERS: u32 = 20;

    async fn all_get_all((group, url): (&Group, &ServerUrl)) {
        let load = Load { messages: 30, window: 1, batch: 1, rate: Some(500), pairs: 1 };
        let mut poster = group.poster(url).await.unwrap();
        let mut subscribers = group.subscribe(url, (0..1, 0)).await.unwrap();
        let alone = exchange(&mut poster, &mut subscribers, &load).await.unwrap();
        assert_eq!(alone.len(), 1);
        subscribers.extend(group.subscribe(url, (1..SUBSCRIBERS, 30)).await.unwrap());
        let all = exchange(&mut poster, &mut subscribers, &load).await.unwrap();
        assert_eq!(all.len(), 20);
        assert!(all.iter().all(|tally| tally.times.len() == 30));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_subscriber_gets_every_message_once_in_order() {
        with((What::Full, 4), async |url, invites| {
            let group = Group::found(url, invites, 8).await.unwrap();
            all_get_all((&group, url)).await;
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_subscriber_of_the_floor_does_too() {
        with((What::Floor, 0), async |url, _| all_get_all((&Group::Floor, url)).await).await;
    }
}
