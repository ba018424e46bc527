//! A batch of the writer: each piece of work in a savepoint of its own, but for `Enqueue`s that
//! wait one behind the other. These share one, and what they have in common is looked up once.
//!
//! Whatever surprises a run has no effect: its requests are then answered one by one.

use qpc_auth::Grant;
use qpc_proto::frame::RequestFrame;
use qpc_proto::message::{Method, Request};
use qpc_storage::{Batch, Outcome, StorageError, Tx};
use rand_core::{CryptoRng, RngCore};
use subtle::ConstantTimeEq as _;

use super::{Call, Node, Outputs, Refused, Work};
use crate::refusal::Refusal;
use crate::router;

impl Node {
    /// Answers work in order within a group commit.
    pub(super) fn batch<R: RngCore + CryptoRng>(
        &self,
        batch: &Batch<'_>,
        work: Vec<Work>,
        rng: &mut R,
    ) -> Result<Vec<Outputs>, StorageError> {
        self.put_ids_away(batch)?;
        let mut outputs = Vec::with_capacity(work.len());
        let mut run = Vec::new();
        for work in work {
            match work {
                Work::Call(call) if is_post(&call.frame) => run.push(call),
                Work::Call(_) | Work::Task(_) => {
                    self.run(batch, std::mem::take(&mut run), (&mut outputs, rng))?;
                    outputs.push(self.alone(batch, work, rng)?);
                }
            }
        }
        self.run(batch, run, (&mut outputs, rng))?;
        Ok(outputs)
    }

    /// Before anything else of the batch. What fails here is tried again with the next one.
    fn put_ids_away(&self, batch: &Batch<'_>) -> Result<(), StorageError> {
        if self.delivery.has_ids_to_put_away()
            && let Outcome::Refused(error) = batch.run(|tx| self.delivery.put_ids_away(tx))?
        {
            tracing::warn!(%error, "message ids were not put into their index");
        }
        Ok(())
    }

    fn alone<R: RngCore + CryptoRng>(
        &self,
        batch: &Batch<'_>,
        work: Work,
        rng: &mut R,
    ) -> Result<Outputs, StorageError> {
        let outcome = batch.run(|tx| match work {
            Work::Call(call) => self.handle(tx, &call, rng),
            Work::Task(task) => task(tx, rng),
        })?;
        Ok(match outcome {
            Outcome::Done(outputs) => outputs,
            Outcome::Refused(refused) => *refused.outputs,
            Outcome::Panicked => Outputs::refusal(Refusal::internal("a request panicked"), rng),
        })
    }

    fn run<R: RngCore + CryptoRng>(
        &self,
        batch: &Batch<'_>,
        calls: Vec<Call>,
        (outputs, rng): (&mut Vec<Outputs>, &mut R),
    ) -> Result<(), StorageError> {
        if calls.len() > 1
            && let Outcome::Done(answers) = batch.run(|tx| self.posts(tx, &calls, rng))?
        {
            outputs.extend(answers);
            return Ok(());
        }
        for call in calls {
            outputs.push(self.alone(batch, Work::Call(call), rng)?);
        }
        Ok(())
    }

    /// Answers a run of `Enqueue`s. A refused one has written nothing.
    fn posts<R: RngCore + CryptoRng>(
        &self,
        tx: &Tx<'_>,
        calls: &[Call],
        rng: &mut R,
    ) -> Result<Vec<Outputs>, Refused> {
        let mut grants = Grants { node: self, tx, known: Vec::new() };
        let mut posts = self.delivery.posts(tx);
        let mut outputs = Vec::with_capacity(calls.len());
        for call in calls {
            let answered = grants.of(call).and_then(|grant| {
                let Request::Enqueue(enqueue) =
                    Request::decode(Method::Enqueue, call.frame.body.clone())?
                else {
                    return Err(Refusal::internal("a run of other requests"));
                };
                let delivery = router::delivery_call(tx, grant.device, call.now_ms);
                Ok(posts.enqueue(&delivery, &enqueue)?)
            });
            outputs.push(match answered {
                Ok(written) => {
                    Outputs { address: call.peer.address, ..router::enqueued(written, rng) }
                }
                Err(refusal) if refusal.is_own() => return Err(Refused::new(refusal, rng)),
                Err(refusal) => *super::refused(call, refusal, rng).outputs,
            });
        }
        posts.finish().map_err(|error| Refused::new(error.into(), rng))?;
        Ok(outputs)
    }
}

fn is_post(frame: &RequestFrame) -> bool {
    frame.method == Method::Enqueue.as_u16()
}

/// What the tokens of a run were found to give. Nothing within a run ends a session.
struct Grants<'a> {
    node: &'a Node,
    tx: &'a Tx<'a>,
    /// At most one for each request of the run.
    known: Vec<(&'a Call, Grant)>,
}

impl<'a> Grants<'a> {
    fn of(&mut self, call: &'a Call) -> Result<Grant, Refusal> {
        let same = |(other, _): &&(&Call, Grant)| {
            other.peer.device == call.peer.device
                && other.peer.binding == call.peer.binding
                && bool::from(other.frame.token.as_bytes().ct_eq(call.frame.token.as_bytes()))
        };
        if let Some((_, grant)) = self.known.iter().find(same) {
            grant.check(call.now_ms)?;
            return Ok(*grant);
        }
        let grant = self.node.grant(self.tx, call)?;
        self.known.push((call, grant));
        Ok(grant)
    }
}
