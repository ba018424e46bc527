//! A channel of a world that a lying server serves instead of the real node.

use anyhow::{Result, bail};
use qpc_client::machine::Outgoing;
use qpc_proto::ChannelId;
use qpc_proto::chain::Log;
use qpc_proto::frame::Frame;
use qpc_proto::message::{Fetch, Page, Request, Response};

use super::World;
use super::client::Down;
use crate::tamper::{Chain, Lie, Tamper};

impl World {
    /// Hands a channel, as it stands, to a server that may lie to these clients. Client 0 must be
    /// connected and have made the channel.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn tamper(&mut self, channel: &ChannelId, victims: &[usize]) -> Result<()> {
        let mut entries = Vec::new();
        loop {
            let after_seq = u64::try_from(entries.len())?;
            let fetch = Fetch { channel: *channel, after_seq, bytes_max: 0 };
            let Response::Page(page) = self.ask(0, &Request::Fetch(fetch))? else {
                bail!("no page")
            };
            if page.entries.is_empty() {
                break;
            }
            entries.extend(page.entries);
        }
        let log = Log { incarnation: self.incarnation()?, channel: *channel };
        self.tamper = Some(Tamper::new(log, &entries, victims));
        Ok(())
    }

    /// Plans the lie: about the first fitting entry after `after` others that the victims are
    /// shown.
    pub fn plan(&mut self, lie: (Lie, Chain), after: u64) {
        if let Some(tamper) = self.tamper.as_mut() {
            tamper.plan(lie, after);
        }
    }

    /// The first number at which the victims were shown something else, once they were.
    pub fn told_at(&self) -> Option<u64> {
        self.tamper.as_ref().and_then(Tamper::told_at)
    }

    /// What the lying server pushes, if the channel is its own.
    pub(crate) fn push_tampered(
        &mut self,
        index: usize,
        (channel, after_seq): (&ChannelId, u64),
    ) -> Option<Page> {
        let tamper = self.tamper.as_mut()?;
        (tamper.channel() == *channel).then(|| tamper.push(index, after_seq))
    }

    /// Has the lying server answer what is about its channel; gives back what the node answers.
    pub(crate) fn tampered(
        &mut self,
        index: usize,
        mut outgoing: Outgoing,
    ) -> Result<Option<Outgoing>> {
        let now_ms = self.now_ms;
        let Some(tamper) = self.tamper.as_mut() else { return Ok(Some(outgoing)) };
        let channel = tamper.channel();
        let Some(answer) = tamper.answer((index, now_ms), &mut outgoing) else {
            return Ok(Some(outgoing));
        };
        let frame = match answer {
            Ok(response) => Frame::Reply(response.encode()),
            Err(refusal) => Frame::refusal(&refusal),
        };
        self.trace.note(format!("{index} {} -> a liar", outgoing.request.method().as_str()));
        if let Some(link) = self.client(index)?.link.as_mut() {
            link.down.push_back(Down::Answer(Box::new(outgoing), frame));
        }
        self.wake(&[channel].into())?;
        Ok(None)
    }
}
