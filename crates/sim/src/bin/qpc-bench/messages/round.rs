//! One round of one server: all pairs at once, every message checked, and what the server used.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::task::JoinSet;

use super::follower::Follower;
use super::poster::Poster;
use super::setup::Pair;
use crate::child::Child;
use crate::numbers::Quantiles;
use crate::stopwatch::Stopwatch;

/// Time after which an answer or a message counts as lost.
pub(crate) const STALL: Duration = Duration::from_secs(30);
/// Silence that follows a round, and belongs to it: late work is in its numbers.
pub(crate) const SETTLE: Duration = Duration::from_millis(250);

/// What the clients do in a round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Messages of each pair.
    pub(crate) messages: u32,
    /// Messages of a sender that may be unaccepted, without a rate.
    pub(crate) window: u32,
    /// Messages in one request at most.
    pub(crate) batch: u32,
    /// Messages a second of all pairs together.
    pub(crate) rate: Option<u32>,
    pub(crate) pairs: u32,
}

/// What one end of a pair saw in a round.
pub(crate) struct Tally {
    pub(crate) pair: u32,
    /// Hash over the contents in their order.
    pub(crate) sum: [u8; 32],
    /// Of each message, from when it was due.
    pub(crate) times: Vec<Duration>,
    /// When the last one was done, by the round's clock.
    pub(crate) ended: Duration,
}

/// What one round measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    pub(super) accepted_per_second: f64,
    pub(super) delivered_per_second: f64,
    /// From when a message was due until its answer was here.
    pub(super) accept: Quantiles,
    /// From when a message was due until its receiver had it.
    pub(super) delivery: Quantiles,
    /// Server CPU time of a message, µs.
    pub(super) cpu_us: f64,
    /// Bytes that the server wrote to disk for a message.
    pub(super) written: f64,
    /// Memory of the server after the round, KiB.
    pub(super) resident_kib: f64,
}

/// A server with its pairs.
pub(super) struct Course {
    server: Child,
    pairs: Vec<Pair>,
}

impl Course {
    pub(super) fn new(server: Child, pairs: Vec<Pair>) -> Self {
        Self { server, pairs }
    }

    /// Runs a round.
    ///
    /// # Errors
    /// When a single message is refused, lost, doubled, changed or out of order. The pairs are then
    /// of no further use.
    pub(super) async fn round(&mut self, load: &Load) -> Result<Round> {
        let before = self.server.usage()?;
        let seen = exchange(&mut self.pairs, load).await?;
        let after = self.server.usage()?;
        let each = f64::from(load.messages) * f64::from(load.pairs);
        let cpu = after.cpu.saturating_sub(before.cpu);
        let written = u32::try_from(after.written.saturating_sub(before.written) / 1_024)?;
        Ok(Round {
            accepted_per_second: each / seen.accepted_in.as_secs_f64(),
            delivered_per_second: each / seen.delivered_in.as_secs_f64(),
            accept: Quantiles::of(seen.accept).context("nothing was accepted")?,
            delivery: Quantiles::of(seen.delivery).context("nothing was delivered")?,
            cpu_us: cpu.as_secs_f64() * 1e6 / each,
            written: f64::from(written) * 1_024.0 / each,
            resident_kib: f64::from(u32::try_from(after.resident_kib)?),
        })
    }
}

/// What all pairs saw in a round.
struct Seen {
    accept: Vec<Duration>,
    delivery: Vec<Duration>,
    /// Until the last message was accepted, and delivered.
    accepted_in: Duration,
    delivered_in: Duration,
}

/// An end of a pair that has done its part.
enum Done {
    Posted(Poster, Tally),
    Followed(Follower, Tally),
}

/// All pairs at once, each end in a task of its own. Takes the pairs and puts them back.
async fn exchange(pairs: &mut Vec<Pair>, load: &Load) -> Result<Seen> {
    let (load, clock) = (*load, Stopwatch::start());
    let mut ends = JoinSet::new();
    let count = pairs.len();
    for (mut poster, mut follower) in pairs.drain(..) {
        ends.spawn(async move {
            let tally = follower.follow(&load, &clock).await?;
            anyhow::Ok(Done::Followed(follower, tally))
        });
        ends.spawn(async move {
            let tally = poster.post(&load, &clock).await?;
            Ok(Done::Posted(poster, tally))
        });
    }
    let (mut posted, mut followed) = (Vec::with_capacity(count), Vec::with_capacity(count));
    while let Some(ended) = ends.join_next().await {
        match ended?? {
            Done::Posted(poster, tally) => posted.push((poster, tally)),
            Done::Followed(follower, tally) => followed.push((follower, tally)),
        }
    }
    posted.sort_by_key(|(poster, _)| poster.pair);
    followed.sort_by_key(|(follower, _)| follower.pair);
    let (mut accepted, mut delivered) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for ((poster, posts), (follower, items)) in posted.into_iter().zip(followed) {
        pairs.push((poster, follower));
        accepted.push(posts);
        delivered.push(items);
    }
    compare(&accepted, &delivered, &load)?;
    let last = |tallies: &[Tally]| tallies.iter().map(|tally| tally.ended).max();
    Ok(Seen {
        accepted_in: last(&accepted).context("no pairs")?,
        delivered_in: last(&delivered).context("no pairs")?,
        accept: accepted.into_iter().flat_map(|tally| tally.times).collect(),
        delivery: delivered.into_iter().flat_map(|tally| tally.times).collect(),
    })
}

/// What was delivered is what was posted: as many, in this order, of these bytes.
///
/// # Errors
/// When it is not.
pub(crate) fn compare(posted: &[Tally], delivered: &[Tally], load: &Load) -> Result<()> {
    let messages = usize::try_from(load.messages)?;
    ensure!(posted.len() == usize::try_from(load.pairs)?, "a pair is missing");
    for (posts, items) in posted.iter().zip(delivered) {
        let pair = posts.pair;
        ensure!(pair == items.pair, "two ends of different pairs");
        ensure!(posts.times.len() == messages, "pair {pair}: a message was not accepted");
        ensure!(items.times.len() == messages, "pair {pair}: a message was not delivered");
        ensure!(posts.sum == items.sum, "pair {pair}: other bytes came than were posted");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::setup;
    use crate::serve::What;
    use crate::serve::tests::with;

    const LOAD: Load = Load { messages: 100, window: 16, batch: 4, rate: None, pairs: 2 };

    fn tally(sum: u8) -> Tally {
        let times = vec![Duration::ZERO; 100];
        Tally { pair: 0, sum: [sum; 32], times, ended: Duration::ZERO }
    }

    #[test]
    fn what_comes_must_be_what_was_posted() {
        let load = Load { pairs: 1, ..LOAD };
        assert!(compare(&[tally(1)], &[tally(1)], &load).is_ok());
        assert!(compare(&[tally(1)], &[tally(2)], &load).is_err());
        let fewer = Tally { times: Vec::new(), ..tally(1) };
        assert!(compare(&[tally(1)], &[fewer], &load).is_err());
        assert!(compare(&[], &[], &load).is_err());
    }

    async fn two_rounds(mut pairs: Vec<Pair>) {
        for load in [LOAD, Load { rate: Some(2_000), ..LOAD }] {
            let seen = exchange(&mut pairs, &load).await.unwrap();
            assert_eq!((seen.accept.len(), seen.delivery.len()), (200, 200));
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_floor_delivers_every_message_once_in_order() {
        with((What::Floor, 0), async |url, _| {
            two_rounds(setup::pairs(url, &setup::floor(2)).await.unwrap()).await;
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_full_server_delivers_every_message_once_in_order() {
        with((What::Full, 2), async |url, invites| {
            let parties = setup::full(url, invites).await.unwrap();
            two_rounds(setup::pairs(url, &parties).await.unwrap()).await;
        })
        .await;
    }
}
