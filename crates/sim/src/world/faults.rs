//! What goes wrong on purpose, beyond single requests and answers: who is away, who takes nothing,
//! whose clock is off, who dies around a commit, whose tokens end.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use qpc_proto::frame::Frame;
use qpc_proto::message::{Method, Request, Response};
use qpc_proto::{DeviceId, RequestId};
use qpc_server::Call;

use super::World;
use super::client::{Moment, frame};

/// An access token counts so long; it is refreshed a minute before.
const REFRESH_AFTER_MS: u64 = 14 * 60_000;

impl World {
    /// An operation begins; notes who has died since the one before.
    pub(crate) fn begin_operation(&mut self, number: u32) -> Result<()> {
        self.operation = number;
        for index in 0..self.clients.len() {
            if let Some(moment) = self.client(index)?.died.take() {
                let line = format!("{index} has died {moment:?} a commit");
                self.trace.fault("crash-at-commit", &line);
            }
        }
        Ok(())
    }

    /// Nobody is away or stalled any more, nobody is about to die, every clock is right.
    pub(crate) fn make_peace(&mut self) -> Result<()> {
        self.begin_operation(u32::MAX)?;
        for client in &mut self.clients {
            (client.stalled_until, client.away_until) = (0, 0);
            (client.dies, client.skew_ms) = (None, 0);
        }
        if self.server.is_off() {
            self.server.wall_skew_ms = 0;
            self.restart_server()?;
        }
        Ok(())
    }

    /// A client takes nothing that comes, for so many operations.
    pub(crate) fn stall(&mut self, index: usize, operations: usize) -> Result<()> {
        self.client(index)?.stalled_until = self.later(operations);
        Ok(())
    }

    /// A client loses its connection and gets none for so many operations.
    pub(crate) fn cut_off_for(&mut self, index: usize, operations: usize) -> Result<()> {
        self.client(index)?.away_until = self.later(operations);
        self.disconnect(index)
    }

    /// Whether a client can get no connection now.
    pub(crate) fn is_away(&mut self, index: usize) -> Result<bool> {
        let operation = self.operation;
        Ok(self.client(index)?.away_until > operation)
    }

    fn later(&self, operations: usize) -> u32 {
        self.operation.saturating_add(u32::try_from(operations).unwrap_or(u32::MAX))
    }

    /// A client dies at the step after so many.
    pub(crate) fn will_crash(
        &mut self,
        index: usize,
        (steps, moment): (usize, Moment),
    ) -> Result<()> {
        self.client(index)?.dies = Some((steps, moment));
        Ok(())
    }

    /// A client's clock is off the world's.
    pub(crate) fn set_client_clock(&mut self, index: usize, skew_ms: i64) -> Result<()> {
        self.client(index)?.skew_ms = skew_ms;
        Ok(())
    }

    /// The clock of the server's machine is off the world's; it counts from its next start on.
    pub(crate) fn set_server_clock(&mut self, skew_ms: i64) {
        self.server.wall_skew_ms = skew_ms;
    }

    /// Time passes everybody by at once, connections and all, as when a machine slept.
    pub(crate) fn pass(&mut self, passed_ms: u64) -> Result<()> {
        self.now_ms = self.now_ms.saturating_add(passed_ms);
        Ok(())
    }

    /// Time passes with nobody there, if there is so much left; the server ends what is due.
    pub(crate) fn sleep_for(&mut self, passed_ms: u64) -> Result<bool> {
        let later_ms = self.now_ms.saturating_add(passed_ms);
        if later_ms > self.latest_ms {
            return Ok(false);
        }
        self.sleep_until(later_ms)?;
        self.sweep().map(|()| true)
    }

    /// Copies a client's home; it dies by it.
    pub(crate) fn copy(&mut self, index: usize) -> Result<()> {
        self.back_up(index)?;
        self.client(index)?.copied = true;
        Ok(())
    }

    /// Puts the copy of a client's home in its place, if there is one, and others are left who can
    /// take it in again.
    pub(crate) fn put_back(&mut self, index: usize) -> Result<bool> {
        if !self.client(index)?.copied || !self.has_others_everywhere(index)? {
            return Ok(false);
        }
        self.restore(index)?;
        self.client(index)?.put_back = true;
        Ok(true)
    }

    /// Whether each channel that a client is in has another device that never lost its place.
    fn has_others_everywhere(&mut self, index: usize) -> Result<bool> {
        let mut sound = BTreeSet::new();
        for other in (0..self.clients.len()).filter(|other| *other != index) {
            let client = self.client(other)?;
            if !client.put_back && !client.is_stopped() {
                sound.insert(self.device(other)?);
            }
        }
        let own = self.device(index)?;
        let Some(model) = &self.model else { return Ok(false) };
        Ok(model.channels().all(|channel| {
            let roster = model.roster(&channel);
            let is_in = |device: &DeviceId| roster.iter().any(|it| it.device == *device);
            !is_in(&own) || sound.iter().any(is_in)
        }))
    }

    /// Refreshes the tokens that are about to end, as every client does by the clock.
    pub(crate) fn refresh_due(&mut self) -> Result<()> {
        for index in 0..self.clients.len() {
            let (now_ms, operation) = (self.now_ms, self.operation);
            let client = self.client(index)?;
            let due = client
                .link
                .as_ref()
                .is_some_and(|link| now_ms.saturating_sub(link.opened_at_ms) > REFRESH_AFTER_MS);
            if due && client.stalled_until <= operation {
                self.refresh(index, false)?;
            }
        }
        Ok(())
    }

    /// Changes a client's tokens in place. A lost answer, or a refusal, ends the connection.
    pub(crate) fn refresh(&mut self, index: usize, lost: bool) -> Result<()> {
        let now_ms = self.now_ms;
        let Some(link) = self.client(index)?.link.as_ref() else { return Ok(()) };
        let request = Request::Refresh(link.refresh.clone());
        let frame = frame((RequestId::ZERO, &request), &link.token);
        let call = Call { frame, peer: link.peer, now_ms };
        let outputs = self.server.apply(vec![call], &mut self.rng)?;
        let frame = outputs.into_iter().next().map(|output| output.frame);
        let Some(Frame::Reply(body)) = frame else {
            self.trace.note(format!("{index} may not refresh"));
            return self.disconnect(index);
        };
        if lost {
            self.trace.fault("refresh", &format!("{index} loses the answer to a refresh"));
            return self.disconnect(index);
        }
        let Response::Tokens(tokens) = Response::decode(Method::Refresh, body)? else {
            bail!("no tokens")
        };
        self.trace.note(format!("{index} refreshes its tokens"));
        if let Some(link) = self.client(index)?.link.as_mut() {
            (link.token, link.refresh) = (tokens.access_token, tokens.refresh_token);
            link.opened_at_ms = now_ms;
        }
        self.push(index)
    }
}
