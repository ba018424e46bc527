//! `qpc-bench fanout`: what it costs the server to hand one message to everybody who follows a
//! channel, and that it is written once, however many they are.

mod group;
mod report;

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
use crate::stopwatch::Stopwatch;
use group::Group;
use report::{Limits, Report, Round};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Rounds with one subscriber, and as many with all.
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
    /// Messages a second.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
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
    let (alone, all) = measure(arguments).await?;
    let Arguments { cpu_at_most, written_at_most, .. } = *arguments;
    let report = Report::new((alone, all), Limits { cpu_at_most, written_at_most })?;
    report::print(&report, arguments.json);
    Ok(if report.is_within() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Rounds with one subscriber, and with all.
async fn measure(arguments: &Arguments) -> Result<(Vec<Round>, Vec<Round>)> {
    let dir = match &arguments.dir {
        Some(dir) => tempfile::tempdir_in(dir)?,
        None => tempfile::tempdir()?,
    };
    let Arguments { rounds, subscribers, sessions, messages, rate, .. } = *arguments;
    let devices = subscribers.div_ceil(sessions).saturating_add(1);
    ensure!(usize::try_from(devices)? <= CHANNEL_DEVICES_MAX, "a channel has no room for so many");
    let server = Child::start(What::Full, &dir.path().join("full"), devices)?;
    let group = Group::found(&server.url, &server.invites, sessions).await?;
    let poster = group.poster(&server.url).await?;
    let first = group.subscribe(&server.url, (0..1, 0)).await?;
    let mut course = Course { server, poster, subscribers: first };
    let load = Load { messages, window: 1, rate: Some(rate), pairs: 1 };
    // Files grow, clients' windows open.
    course.round(&load).await?;
    let mut alone = Vec::new();
    for _ in 0..rounds {
        alone.push(course.round(&load).await?);
    }
    let posted = u64::from(messages).saturating_mul(u64::from(rounds).saturating_add(1));
    let others = group.subscribe(&course.server.url, (1..subscribers, posted)).await?;
    course.subscribers.extend(others);
    course.round(&load).await?;
    let mut all = Vec::new();
    for _ in 0..rounds {
        all.push(course.round(&load).await?);
    }
    Ok((alone, all))
}

/// The server with the one sender and those who follow.
struct Course {
    server: Child,
    poster: Poster,
    subscribers: Vec<Follower>,
}

impl Course {
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
    use super::*;
    use crate::serve::tests::with;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_subscriber_gets_every_message_once_in_order() {
        // More than one device has sessions for, and than connections share a socket.
        const SUBSCRIBERS: u32 = 20;
        let load = Load { messages: 30, window: 1, rate: Some(500), pairs: 1 };
        with((What::Full, 4), async |url, invites| {
            let group = Group::found(url, invites, 8).await.unwrap();
            let mut poster = group.poster(url).await.unwrap();
            let mut subscribers = group.subscribe(url, (0..1, 0)).await.unwrap();
            let alone = exchange(&mut poster, &mut subscribers, &load).await.unwrap();
            assert_eq!(alone.len(), 1);
            subscribers.extend(group.subscribe(url, (1..SUBSCRIBERS, 30)).await.unwrap());
            let all = exchange(&mut poster, &mut subscribers, &load).await.unwrap();
            assert_eq!(all.len(), 20);
            assert!(all.iter().all(|tally| tally.times.len() == 30));
        })
        .await;
    }
}
