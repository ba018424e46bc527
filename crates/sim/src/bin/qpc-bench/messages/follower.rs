//! The receiving end of a pair: takes messages in their order, times and acknowledges them.

use anyhow::{Context as _, Result, ensure};
use qpc_proto::message::Request;
use qpc_transport::{Connection, FrameReceiver, FrameSender};
use tokio::sync::watch;

use super::round::{Load, SETTLE, STALL, Tally};
use crate::account::call;
use crate::content::{Sum, Taker};
use crate::stopwatch::Stopwatch;
use crate::wire::Wire;

/// A receiver with its two long streams.
pub(crate) struct Follower {
    pub(crate) pair: u32,
    pub(crate) wire: Wire,
    /// Open as long as its streams are of use.
    pub(crate) connection: Connection,
    /// Where the messages come; the half to the server has said all it has to say.
    pub(crate) items: (FrameSender, FrameReceiver),
    /// `None`: it acknowledges nothing.
    pub(crate) acks: Option<(FrameSender, FrameReceiver)>,
    pub(crate) taker: Taker,
}

impl Follower {
    /// Asks for what it has not read.
    ///
    /// # Errors
    /// When the connection fails.
    pub(crate) async fn ask(&mut self) -> Result<()> {
        let (sender, _) = &mut self.items;
        Ok(sender.send(&self.wire.follow(self.taker.next())).await?)
    }

    /// Ends its session and hangs up.
    ///
    /// # Errors
    /// When the server refuses.
    pub(crate) async fn leave(self) -> Result<()> {
        if let Wire::Full { token, .. } = &self.wire {
            call(&self.connection, token, &Request::Logout).await?;
        }
        self.connection.close(0, "");
        Ok(())
    }

    /// Takes the messages of a round, has them acknowledged, and sees that nothing follows.
    ///
    /// # Errors
    /// When a message is lost, doubled or out of order.
    pub(crate) async fn follow(&mut self, load: &Load, clock: &Stopwatch) -> Result<Tally> {
        let Self { pair, wire, items: (_, receiver), acks, taker, .. } = self;
        let end = taker.next().saturating_add(load.messages.into());
        let (read, unacked) = watch::channel(taker.next());
        let taking = async {
            let (mut sum, mut times) = (Sum::default(), Vec::new());
            while taker.next() < end {
                let frame = tokio::time::timeout(STALL, receiver.next()).await;
                let lost = || format!("message {} of pair {pair} is lost", taker.next());
                let frame = frame.with_context(lost)??.context("the subscription ended")?;
                for content in wire.delivered(taker.next(), frame)? {
                    let due = taker.take(&content)?;
                    times.push(clock.elapsed().saturating_sub(due));
                    sum.add(&content);
                }
                read.send_replace(taker.next());
            }
            ensure!(taker.next() == end, "more messages than were posted");
            let ended = clock.elapsed();
            let more = tokio::time::timeout(SETTLE, receiver.next()).await;
            ensure!(more.is_err(), "a message was delivered twice, or the subscription ended");
            Ok(Tally { pair: *pair, sum: sum.finish(), times, ended })
        };
        let (tally, ()) = tokio::try_join!(taking, acknowledge(wire, acks, (unacked, end)))?;
        Ok(tally)
    }
}

/// As the client does that has nothing else to do: one acknowledgement at a time, each of all that
/// was read while the last one was under way.
async fn acknowledge(
    wire: &Wire,
    acks: &mut Option<(FrameSender, FrameReceiver)>,
    (mut read, end): (watch::Receiver<u64>, u64),
) -> Result<()> {
    let Some((sender, receiver)) = acks else { return Ok(()) };
    let mut acked = *read.borrow_and_update();
    while acked < end {
        let next = *read.wait_for(|next| *next > acked).await.context("the reader has ended")?;
        sender.send(&wire.ack(next)).await?;
        let answer = tokio::time::timeout(STALL, receiver.next()).await;
        let answer = answer.context("an acknowledgement was not answered")?;
        wire.acked(answer?.context("the stream of acknowledgements ended")?)?;
        acked = next;
    }
    Ok(())
}
