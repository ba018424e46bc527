//! How each of the two servers is spoken to: a content to a frame, and frames back to contents.
//! Sends nothing.

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use qpc_proto::frame::{Frame, RequestFrame};
use qpc_proto::message::{Cursor, EntryKind, Method, Request, Response};
use qpc_proto::{ChannelId, RequestId, Token};

use crate::account;
use crate::content::CONTENT_BYTES;
use crate::floor::{ACK, FOLLOW, POST};
use crate::mls::{self, FIRST_COMMIT};

/// One channel at one of the servers.
#[derive(Clone)]
pub(crate) enum Wire {
    Floor {
        channel: u32,
    },
    Full {
        channel: ChannelId,
        /// Of the connection that uses it.
        token: Token,
    },
}

impl Wire {
    /// Posts messages, of which `number` is the first.
    pub(crate) fn post(&self, number: u64, contents: &[Bytes]) -> Result<Frame> {
        match self {
            Self::Floor { channel } => {
                let mut body = BytesMut::new();
                for content in contents {
                    // The same bytes as in a channel.
                    let message = mls::message(ChannelId([0; 16]), content);
                    body.put_u32(u32::try_from(message.len())?);
                    body.put_slice(&message);
                }
                Ok(floor_frame(POST, *channel, &body))
            }
            Self::Full { channel, token } => {
                Ok(account::frame(token, &mls::enqueue(*channel, number, contents)))
            }
        }
    }

    /// Checks that a frame accepts `count` messages as the next of their channel, of which `number`
    /// is the first.
    pub(crate) fn accepted(&self, (number, count): (u64, usize), frame: Frame) -> Result<()> {
        match self {
            Self::Floor { .. } => {
                let Frame::Reply(body) = frame else { bail!("the floor refuses a message") };
                ensure!(
                    body.len() == count.saturating_mul(size_of::<i64>()),
                    "an odd answer of the floor"
                );
                Ok(())
            }
            Self::Full { .. } => {
                let Response::Enqueued(answer) = account::read(Method::Enqueue, frame)? else {
                    bail!("an odd answer to a message")
                };
                if let Some(refusal) = answer.refusal {
                    bail!("message {number} was refused with {:?}", refusal.code);
                }
                ensure!(answer.accepted.len() == count, "an answer too many, or none");
                for (accepted, number) in answer.accepted.iter().zip(number..) {
                    let at = accepted.seq;
                    ensure!(at == seq(number), "message {number} got seq {at}");
                    ensure!(!accepted.duplicate, "message {number} is taken for a duplicate");
                }
                Ok(())
            }
        }
    }

    /// Asks for all messages of the channel from number `next` on.
    pub(crate) fn follow(&self, next: u64) -> Frame {
        match self {
            Self::Floor { channel } => floor_frame(FOLLOW, *channel, &next.to_be_bytes()),
            Self::Full { channel, token } => {
                let cursor = Cursor { channel: *channel, seq: seq(next).saturating_sub(1) };
                account::frame(token, &Request::Subscribe(vec![cursor]))
            }
        }
    }

    /// The contents that a frame brings, where message `next` is the first.
    pub(crate) fn delivered(&self, next: u64, frame: Frame) -> Result<Vec<Bytes>> {
        match self {
            Self::Floor { .. } => match frame {
                Frame::Item(message) => Ok(vec![content_of(&message)?]),
                // The answer to following.
                Frame::Reply(_) => Ok(Vec::new()),
                Frame::Request(_) | Frame::Error(..) | Frame::End => bail!("the floor has ended"),
            },
            Self::Full { channel, .. } => {
                let Response::Page(page) = account::read(Method::Subscribe, frame)? else {
                    bail!("an odd item of a subscription")
                };
                ensure!(page.channel == *channel, "a page of another channel");
                let mut contents = Vec::with_capacity(page.entries.len());
                for (entry, number) in page.entries.iter().zip(next..) {
                    ensure!(entry.seq == seq(number), "seq {} is out of order", entry.seq);
                    ensure!(entry.kind == EntryKind::Application, "an entry that nobody posted");
                    contents.push(content_of(&entry.payload)?);
                }
                Ok(contents)
            }
        }
    }

    /// Acknowledges all messages before `next`.
    pub(crate) fn ack(&self, next: u64) -> Frame {
        match self {
            Self::Floor { channel } => floor_frame(ACK, *channel, &next.to_be_bytes()),
            Self::Full { channel, token } => {
                let cursor = Cursor { channel: *channel, seq: seq(next).saturating_sub(1) };
                account::frame(token, &Request::Ack(vec![cursor]))
            }
        }
    }

    /// Checks that a frame takes an acknowledgement.
    pub(crate) fn acked(&self, frame: Frame) -> Result<()> {
        let taken = match self {
            Self::Floor { .. } => matches!(frame, Frame::Reply(body) if body.is_empty()),
            Self::Full { .. } => matches!(account::read(Method::Ack, frame)?, Response::Done),
        };
        ensure!(taken, "an odd answer to an acknowledgement");
        Ok(())
    }
}

/// What a message holds behind its framing.
fn content_of(message: &Bytes) -> Result<Bytes> {
    let framing = message.len().checked_sub(CONTENT_BYTES).context("a cut message")?;
    Ok(message.slice(framing..))
}

/// The sequence number of a message: the first comes right behind the Commit.
fn seq(number: u64) -> u64 {
    number.saturating_add(FIRST_COMMIT).saturating_add(1)
}

fn floor_frame(method: u16, channel: u32, content: &[u8]) -> Frame {
    let mut body = BytesMut::with_capacity(content.len().saturating_add(size_of::<u32>()));
    body.put_u32(channel);
    body.put_slice(content);
    let (token, request_id, body) = (Token::NONE, RequestId::ZERO, body.freeze());
    Frame::Request(RequestFrame { method, token, request_id, body })
}
