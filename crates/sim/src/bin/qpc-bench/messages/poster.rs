//! The sending end of a pair: keeps its window or its rate, and times each acceptance.

use std::time::Duration;

use anyhow::{Context as _, Result};
use qpc_transport::{Connection, FrameReceiver, FrameSender};
use tokio::sync::{Semaphore, mpsc};

use super::round::{Load, STALL, Tally};
use crate::content::{Maker, Sum};
use crate::stopwatch::Stopwatch;
use crate::wire::Wire;

/// Messages that a sender with a rate may have on their way before it is held back, as any program
/// would be; the wait counts from when a message was due.
const OPEN_WINDOW: u32 = 4_096;

/// A sender with its long stream.
pub(crate) struct Poster {
    pub(crate) pair: u32,
    pub(crate) wire: Wire,
    /// Open as long as its stream is of use.
    pub(crate) _connection: Connection,
    pub(crate) sender: FrameSender,
    pub(crate) receiver: FrameReceiver,
    pub(crate) maker: Maker,
}

impl Poster {
    /// Posts the messages of a round; ends when the last one is accepted.
    ///
    /// # Errors
    /// When one is refused, or its answer does not come.
    pub(crate) async fn post(&mut self, load: &Load, clock: &Stopwatch) -> Result<Tally> {
        let places = if load.rate.is_some() { OPEN_WINDOW } else { load.window };
        let places = usize::try_from(places.div_ceil(load.batch))?;
        let window = Semaphore::new(places);
        let (posted, waiting) = mpsc::channel(places);
        let Self { pair, wire, sender, receiver, maker, .. } = self;
        let pace = Pace::new(load, *pair, clock.elapsed());
        let posting = async {
            // Moved in, so that the answers end with the messages.
            let posted = posted;
            let (mut sum, mut message) = (Sum::default(), 0);
            while message < load.messages {
                window.acquire().await?.forget();
                let mut due = vec![pace.wait(message, clock).await];
                let end = load.messages.min(message.saturating_add(load.batch));
                due.extend((message.saturating_add(1)..end).map_while(|next| pace.at(next, clock)));
                let (numbers, contents): (Vec<_>, Vec<_>) =
                    due.iter().map(|due| maker.make(*due)).unzip();
                contents.iter().for_each(|content| sum.add(content));
                message = message.saturating_add(u32::try_from(due.len())?);
                let first = *numbers.first().context("an empty batch")?;
                let frame = wire.post(first, &contents)?;
                posted.send((first, due)).await.context("nobody takes the answers")?;
                sender.send(&frame).await?;
            }
            anyhow::Ok(sum.finish())
        };
        let accepting = take((&*wire, receiver), waiting, (&window, clock));
        let (sum, times) = tokio::try_join!(posting, accepting)?;
        Ok(Tally { pair: *pair, sum, times, ended: clock.elapsed() })
    }
}

async fn take(
    (wire, receiver): (&Wire, &mut FrameReceiver),
    mut waiting: mpsc::Receiver<(u64, Vec<Duration>)>,
    (window, clock): (&Semaphore, &Stopwatch),
) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    while let Some((number, due)) = waiting.recv().await {
        let answer = tokio::time::timeout(STALL, receiver.next()).await;
        let answer = answer.with_context(|| format!("message {number} was not accepted"))?;
        let answer = answer?.context("the stream ended before its answers")?;
        wire.accepted((number, due.len()), answer)?;
        let now = clock.elapsed();
        times.extend(due.into_iter().map(|due| now.saturating_sub(due)));
        window.add_permits(1);
    }
    Ok(times)
}

/// When each message is due.
struct Pace {
    start: Duration,
    /// Between two messages of this sender; `None`: whenever there is room.
    every: Option<Duration>,
}

impl Pace {
    /// Senders take turns: that of pair `pair` starts behind those before it.
    fn new(load: &Load, pair: u32, start: Duration) -> Self {
        let gap = load.rate.and_then(|rate| Duration::from_secs(1).checked_div(rate));
        let offset = gap.map_or(Duration::ZERO, |gap| gap.saturating_mul(pair));
        let every = gap.map(|gap| gap.saturating_mul(load.pairs));
        Self { start: start.saturating_add(offset), every }
    }

    /// A message's time, if that has come.
    fn at(&self, message: u32, clock: &Stopwatch) -> Option<Duration> {
        let now = clock.elapsed();
        let Some(every) = self.every else { return Some(now) };
        let due = self.start.saturating_add(every.saturating_mul(message));
        (due <= now).then_some(due)
    }

    /// Waits for a message's time and returns it. Who is late by waiting for the server has been
    /// due all along; that a timer wakes late is nobody's cost.
    async fn wait(&self, message: u32, clock: &Stopwatch) -> Duration {
        let Some(every) = self.every else { return clock.elapsed() };
        let due = self.start.saturating_add(every.saturating_mul(message));
        let ahead = due.saturating_sub(clock.elapsed());
        if ahead.is_zero() {
            return due;
        }
        tokio::time::sleep(ahead).await;
        clock.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn senders_share_a_rate_in_turns() {
        let load = Load { messages: 2, window: 1, batch: 1, rate: Some(100), pairs: 4 };
        let pace = Pace::new(&load, 3, Duration::ZERO);
        assert_eq!(pace.start, Duration::from_millis(30));
        assert_eq!(pace.every, Some(Duration::from_millis(40)));
        let closed = Pace::new(&Load { rate: None, ..load }, 3, Duration::ZERO);
        assert_eq!((closed.start, closed.every), (Duration::ZERO, None));
    }
}
