//! What may happen between a client and the server, one event at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::{Context as _, Result, bail, ensure};
use qpc_client::machine::{Failure, Input, Outgoing};
use qpc_proto::frame::{Frame, RequestFrame};
use qpc_proto::message::{DeviceRef, Fetch, Method, Page, Request, Response};
use qpc_proto::{ChannelId, ErrorCode, RequestId, Token};
use qpc_server::{Call, Outputs, Peer, PeerChange};
use rand_core::RngCore as _;

use super::World;
use super::client::{Down, Link, decode, frame};

/// A request on its way: whose, which, as which frame from where.
type Sent = (usize, Outgoing, RequestFrame, Peer);

/// Pages that wait for a client before the server reads on for it.
const PUSHED_MAX: usize = 4;

/// What becomes of requests that have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The server answers.
    Answered,
    /// They arrive a second time, as a retry would.
    Twice,
    /// Their answers are lost with their connections.
    Lost,
    /// They never arrive: the server is dead by then.
    Unheard,
}

impl World {
    /// Opens a connection and logs in.
    ///
    /// # Errors
    /// When a step failed, or there is no such client.
    pub fn connect(&mut self, index: usize) -> Result<()> {
        let binding = self.binding();
        let (now_ms, mut peer) = (self.now_ms, Peer { binding, device: None, address: None });
        let login = self.client(index)?.core.as_ref().context("down")?.machine().login(&binding);
        let request = Request::Login(login);
        let frame = frame((RequestId::ZERO, &request), &Token::NONE);
        let outputs = self.server.apply(vec![Call { frame, peer, now_ms }], &mut self.rng)?;
        let output = outputs.into_iter().next().context("no answer")?;
        let body = match output.frame {
            Frame::Reply(body) => body,
            Frame::Error(code, _) => return self.login_refused(index, code),
            Frame::Request(_) | Frame::Item(_) | Frame::End => bail!("no answer"),
        };
        let Response::Tokens(tokens) = Response::decode(Method::Login, body)? else {
            bail!("no tokens")
        };
        if let Some(PeerChange::Bind(device)) = output.peer_change {
            peer.device = Some(device);
        }
        self.trace.note(format!("{} connects", index));
        let rng = &mut self.rng;
        let client = self.clients.get_mut(index).context("no such client")?;
        client.link = Some(Link {
            peer,
            token: tokens.access_token.clone(),
            refresh: tokens.refresh_token.clone(),
            opened_at_ms: now_ms,
            up: VecDeque::new(),
            down: VecDeque::new(),
            followed: BTreeMap::new(),
            follows_anew: false,
        });
        client.step((now_ms, rng), Input::Online(tokens))?;
        self.push(index)
    }

    /// A revoked device is told so, and an erased account is unknown; nothing else is refused in a
    /// world.
    fn login_refused(&mut self, index: usize, code: u16) -> Result<()> {
        let code = ErrorCode::from_u16(code).context("unknown code")?;
        self.trace.note(format!("{index} may not log in: {}", code.as_str()));
        self.user(index, |machine, step| {
            machine.login_refused(step, code);
            Ok(())
        })?;
        self.client(index)?.erased |= code == ErrorCode::Unauthenticated;
        ensure!(self.client(index)?.is_stopped(), "login refused: {}", code.as_str());
        Ok(())
    }

    /// Ends the connections of devices that the server cuts off.
    pub(crate) fn cut_off(&mut self, ended: &[(DeviceRef, ErrorCode)]) -> Result<()> {
        for index in 0..self.clients.len() {
            let device = self.client(index)?.link.as_ref().and_then(|link| link.peer.device);
            if ended.iter().any(|(gone, _)| Some(*gone) == device) {
                self.disconnect(index)?;
            }
        }
        Ok(())
    }

    /// Breaks a connection: whatever is on its way is lost.
    ///
    /// # Errors
    /// When a step failed, or there is no such client.
    pub fn disconnect(&mut self, index: usize) -> Result<()> {
        let (now_ms, rng) = (self.now_ms, &mut self.rng);
        let client = self.clients.get_mut(index).context("no such client")?;
        if client.link.take().is_some() {
            client.step((now_ms, rng), Input::Offline("lost".into()))?;
        }
        Ok(())
    }

    /// Delivers up to `count` requests of random clients in one group commit.
    pub(crate) fn deliver_up(&mut self, count: usize, fate: Fate) -> Result<bool> {
        let (mut batch, mut answered) = (Vec::new(), false);
        for _ in 0..count {
            let ready: Vec<usize> = (0..self.clients.len())
                .filter(|i| {
                    self.clients
                        .get(*i)
                        .is_some_and(|c| c.link.as_ref().is_some_and(|link| !link.up.is_empty()))
                })
                .collect();
            let pick = self.below(ready.len());
            let Some(index) = ready.get(pick).copied() else { break };
            let choice = self.below(1 << 16);
            let link = self.client(index)?.link.as_mut().context("no link")?;
            let Some(outgoing) = link.next_up(choice) else { break };
            match self.tampered(index, outgoing)? {
                Some(honest) => batch.push(self.sent_by(index, honest)?),
                None => answered = true,
            }
        }
        Ok(self.serve(batch, fate)? || answered)
    }

    /// Delivers a client's first request of a method, and loses its answer with the connection if
    /// asked. False when there is none.
    ///
    /// # Errors
    /// When a step failed, or there is no such client.
    pub fn deliver(&mut self, index: usize, (method, lose): (Method, bool)) -> Result<bool> {
        let Some(link) = self.client(index)?.link.as_mut() else { return Ok(false) };
        let at = link.up.iter().position(|outgoing| outgoing.request.method() == method);
        let Some(outgoing) = at.and_then(|at| link.up.remove(at)) else { return Ok(false) };
        let Some(outgoing) = self.tampered(index, outgoing)? else { return Ok(true) };
        let batch = vec![self.sent_by(index, outgoing)?];
        self.serve(batch, if lose { Fate::Lost } else { Fate::Answered })
    }

    /// Asks the server as a client's device, past its machine; with a newer token if that one is
    /// over, as the programs do.
    ///
    /// # Errors
    /// When the server refuses, or the client is offline.
    pub fn ask(&mut self, index: usize, request: &Request) -> Result<Response> {
        let mut id = RequestId::ZERO;
        if request.method().takes_request_id() {
            self.rng.fill_bytes(&mut id.0);
        }
        let mut frame = self.asked(index, (id, request))?;
        if matches!(frame, Frame::Error(code, _) if is(code, ErrorCode::TokenExpired)) {
            self.refresh(index, false)?;
            frame = self.asked(index, (id, request))?;
        }
        let said = summary(&frame);
        let Frame::Reply(body) = frame else { bail!("refused: {said}") };
        Ok(Response::decode(request.method(), body)?)
    }

    fn asked(&mut self, index: usize, (id, request): (RequestId, &Request)) -> Result<Frame> {
        let link = self.client(index)?.link.as_ref().context("offline")?;
        let frame = frame((id, request), &link.token);
        let call = Call { frame, peer: link.peer, now_ms: self.now_ms };
        let outputs = self.server.apply(vec![call], &mut self.rng)?;
        let output = outputs.into_iter().next().context("no answer")?;
        self.cut_off(&output.ended)?;
        self.wake(&output.wakes.iter().copied().collect())?;
        Ok(output.frame)
    }

    /// One group commit.
    fn serve(&mut self, batch: Vec<Sent>, fate: Fate) -> Result<bool> {
        if batch.is_empty() || fate == Fate::Unheard {
            return Ok(!batch.is_empty());
        }
        let now_ms = self.now_ms;
        let calls = |batch: &[Sent]| -> Vec<Call> {
            let call =
                |(_, _, frame, peer): &Sent| Call { frame: frame.clone(), peer: *peer, now_ms };
            batch.iter().map(call).collect()
        };
        let mut outputs = self.server.apply(calls(&batch), &mut self.rng)?;
        if fate == Fate::Twice {
            self.trace.fault("double", &format!("{} requests arrive twice", batch.len()));
            self.hear(&batch, &outputs)?;
            let first: Vec<Outputs> = outputs;
            outputs = self.server.apply(calls(&batch), &mut self.rng)?;
            for (again, before) in outputs.iter_mut().zip(first) {
                again.wakes.extend(before.wakes);
            }
        }
        self.hear(&batch, &outputs)?;
        let mut wakes = BTreeSet::new();
        for ((index, outgoing, ..), output) in batch.into_iter().zip(outputs) {
            let name = outgoing.request.method().as_str();
            self.trace.note(format!("{index} {name} -> {}", summary(&output.frame)));
            wakes.extend(output.wakes);
            if fate == Fate::Lost {
                self.trace.fault("lose-answers", &format!("{index} loses the answer to {name}"));
                self.disconnect(index)?;
            } else if let Some(link) = self.client(index)?.link.as_mut() {
                link.down.push_back(Down::Answer(Box::new(outgoing), output.frame));
            }
        }
        self.wake(&wakes)?;
        Ok(true)
    }

    /// The model hears what the server answers; and that it never fails by itself.
    fn hear(&mut self, batch: &[Sent], outputs: &[Outputs]) -> Result<()> {
        for ((_, outgoing, _, peer), output) in batch.iter().zip(outputs) {
            let request = &outgoing.request;
            match &output.frame {
                Frame::Reply(body) => {
                    let response = Response::decode(request.method(), body.clone())?;
                    if let (Some(model), Some(device)) = (self.model.as_mut(), peer.device) {
                        model.answered(device, (request, &response))?;
                    }
                }
                Frame::Error(code, _) => {
                    let name = request.method().as_str();
                    ensure!(!is(*code, ErrorCode::Internal), "the server fails at {name}");
                }
                Frame::Request(_) | Frame::Item(_) | Frame::End => {}
            }
        }
        Ok(())
    }

    /// Delivers what waits first on a client's connection.
    ///
    /// # Errors
    /// When a step failed, or there is no such client.
    pub fn deliver_down(&mut self, index: usize) -> Result<bool> {
        let choice = self.below(1 << 16);
        let operation = self.operation;
        let client = self.clients.get_mut(index).context("no such client")?;
        if client.stalled_until > operation {
            return Ok(false);
        }
        let Some(link) = client.link.as_mut() else { return Ok(false) };
        let Some(down) = link.next_down(choice) else { return Ok(false) };
        let mut input = match down {
            Down::Page(page) => Input::Page(*page),
            // As the programs do: asked again with a newer token.
            Down::Answer(outgoing, Frame::Error(code, _)) if is(code, ErrorCode::TokenExpired) => {
                link.up.push_front(*outgoing);
                return self.refresh(index, false).map(|()| true);
            }
            Down::Answer(_, Frame::Error(code, _)) if is(code, ErrorCode::Unauthenticated) => {
                return self.disconnect(index).map(|()| true);
            }
            Down::Answer(outgoing, frame) => {
                let result = decode(&outgoing, frame)?.map_err(Failure::Refused);
                Input::Answer(outgoing.work, result)
            }
        };
        if let Some(tamper) = &self.tamper {
            tamper.rewrite(index, &mut input);
        }
        if let Some(liar) = self.liar.as_mut() {
            liar(index, &mut input);
        }
        let (now_ms, rng) = (self.now_ms, &mut self.rng);
        client.step((now_ms, rng), input)?;
        self.push(index)?;
        Ok(true)
    }

    /// Pushes grown logs to those who follow them.
    pub(crate) fn wake(&mut self, channels: &BTreeSet<ChannelId>) -> Result<()> {
        for index in 0..self.clients.len() {
            for channel in channels {
                self.push_channel(index, channel)?;
            }
        }
        Ok(())
    }

    /// Pushes everything that a client follows and has not been pushed.
    pub(crate) fn push(&mut self, index: usize) -> Result<()> {
        let link = self.client(index)?.link.as_ref();
        let followed: Vec<ChannelId> =
            link.map(|link| link.followed.keys().copied().collect()).unwrap_or_default();
        for channel in followed {
            self.push_channel(index, &channel)?;
        }
        Ok(())
    }

    fn push_channel(&mut self, index: usize, channel: &ChannelId) -> Result<()> {
        let now_ms = self.now_ms;
        let link = self.client(index)?.link.as_ref();
        let followed = link.and_then(|link| link.followed.get(channel).copied());
        let Some(after_seq) = followed else { return Ok(()) };
        if let Some(page) = self.push_tampered(index, (channel, after_seq)) {
            return self.pushed(index, page);
        }
        let Some(link) = self.client(index)?.link.as_ref() else { return Ok(()) };
        if link.down.iter().filter(|down| matches!(down, Down::Page(_))).count() >= PUSHED_MAX {
            return Ok(());
        }
        let request = Request::Fetch(Fetch { channel: *channel, after_seq, bytes_max: 0 });
        let frame = frame((RequestId::ZERO, &request), &link.token);
        let call = Call { frame, peer: link.peer, now_ms };
        let outputs = self.server.apply(vec![call], &mut self.rng)?;
        let Some(Frame::Reply(body)) = outputs.into_iter().next().map(|output| output.frame) else {
            // What is refused for one log ends the stream; the client asks for another later.
            if let Some(link) = self.client(index)?.link.as_mut() {
                link.followed.clear();
                link.follows_anew = true;
            }
            return Ok(());
        };
        let Response::Page(page) = Response::decode(Method::Fetch, body)? else { bail!("no page") };
        self.model.as_mut().map_or(Ok(()), |model| model.shown(&page))?;
        self.pushed(index, page)
    }

    fn pushed(&mut self, index: usize, page: Page) -> Result<()> {
        let Some(last) = page.entries.last().map(|entry| entry.seq) else { return Ok(()) };
        if let Some(link) = self.client(index)?.link.as_mut() {
            link.followed.insert(page.channel, last);
            link.down.push_back(Down::Page(Box::new(page)));
        }
        Ok(())
    }

    fn sent_by(&mut self, index: usize, outgoing: Outgoing) -> Result<Sent> {
        let link = self.client(index)?.link.as_ref().context("no link")?;
        let frame = frame((outgoing.request_id, &outgoing.request), &link.token);
        Ok((index, outgoing, frame, link.peer))
    }
}

fn is(code: u16, wanted: ErrorCode) -> bool {
    ErrorCode::from_u16(code) == Some(wanted)
}

fn summary(frame: &Frame) -> String {
    match frame {
        Frame::Reply(_) => "ok".to_owned(),
        Frame::Error(code, _) => format!("error {code}"),
        Frame::Request(_) | Frame::Item(_) | Frame::End => "?".to_owned(),
    }
}
