//! What a connection knows of the device at its other end; changes only by answers of the node.

use std::net::IpAddr;
use std::time::Duration;

use qpc_proto::Token;
use qpc_proto::binding::ChannelBinding;
use qpc_proto::frame::Frame;
use qpc_proto::message::DeviceRef;
use tokio::sync::watch;

use crate::node::{Outputs, Peer, PeerChange};

/// Granted requests for which a connection without a device is given more time: a registration
/// takes three.
const PATIENT_REQUESTS_MAX: u64 = 16;

/// The state of one connection's binding.
pub(crate) struct PeerState {
    binding: ChannelBinding,
    address: IpAddr,
    state: watch::Sender<State>,
}

#[derive(Default)]
struct State {
    device: Option<DeviceRef>,
    /// The newest access token issued on this connection.
    token: Option<Token>,
    /// Counts granted requests of a connection that has not logged in, and changes of the rest.
    progress: u64,
}

impl PeerState {
    /// Of a connection that was accepted from `address`, wherever the client moves to.
    pub(crate) fn new(binding: ChannelBinding, address: IpAddr) -> Self {
        Self { binding, address, state: watch::Sender::new(State::default()) }
    }

    /// The device it is bound to.
    pub(crate) fn device(&self) -> Option<DeviceRef> {
        self.state.borrow().device
    }

    /// Where it was accepted from, wherever the client moves to.
    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    /// As a call carries it.
    pub(crate) fn peer(&self) -> Peer {
        Peer { binding: self.binding, device: self.device(), address: Some(self.address) }
    }

    /// The newest access token issued here, else the one given.
    pub(crate) fn newest_token(&self, given: &Token) -> Token {
        self.state.borrow().token.clone().unwrap_or_else(|| given.clone())
    }

    fn is_new(&self) -> bool {
        self.state.borrow().progress < PATIENT_REQUESTS_MAX
    }

    /// Takes over what an answer changes, before the answer leaves.
    pub(crate) fn settle(&self, outputs: &Outputs) {
        let quiet = outputs.peer_change.is_none() && outputs.issued.is_none();
        let granted = matches!(outputs.frame, Frame::Reply(_)) && self.is_new();
        if quiet && (!granted || self.device().is_some()) {
            return;
        }
        self.state.send_modify(|state| {
            state.progress = state.progress.wrapping_add(1);
            match outputs.peer_change {
                Some(PeerChange::Bind(device)) => state.device = Some(device),
                Some(PeerChange::Unbind) => {
                    state.device = None;
                    state.token = None;
                }
                None => {}
            }
            if outputs.issued.is_some() {
                state.token.clone_from(&outputs.issued);
            }
        });
    }

    /// Ends as soon as the connection has a device, which this gives.
    pub(crate) async fn bound(&self) -> DeviceRef {
        let mut changes = self.state.subscribe();
        // The sender lives as long as `self`, so this ends by the value alone.
        match changes.wait_for(|state| state.device.is_some()).await.map(|state| state.device) {
            Ok(Some(device)) => device,
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Ends when the connection belongs to another device, or to nobody: two logins may be under
    /// way at once.
    pub(crate) async fn left(&self, device: DeviceRef) {
        let mut changes = self.state.subscribe();
        // The sender lives as long as `self`, so this ends by the value alone.
        drop(changes.wait_for(|state| state.device != Some(device)).await);
    }

    /// Ends when the connection has been without a device for `patience` in which no request of it
    /// was granted.
    pub(crate) async fn overdue(&self, patience: Duration) {
        let mut changes = self.state.subscribe();
        loop {
            let bound = changes.borrow_and_update().device.is_some();
            let change = changes.changed();
            // The sender lives as long as `self`, so a change never fails.
            if bound {
                drop(change.await);
            } else if tokio::time::timeout(patience, change).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qpc_proto::{AccountId, DeviceId};

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn outputs(peer_change: Option<PeerChange>, issued: Option<Token>) -> Outputs {
        Outputs { peer_change, issued, ..Outputs::reply(bytes::Bytes::new()) }
    }

    #[test]
    fn the_newest_token_replaces_the_given_one_until_logout() {
        let binding = ChannelBinding { exporter: [1; 32], fingerprint: [2; 32] };
        let device = DeviceRef { account: AccountId([3; 16]), device: DeviceId([4; 16]) };
        let peer = PeerState::new(binding, HERE);
        let given = Token([5; 32]);
        assert_eq!(peer.newest_token(&given).as_bytes(), &[5; 32]);
        peer.settle(&outputs(Some(PeerChange::Bind(device)), Some(Token([6; 32]))));
        assert_eq!(peer.device(), Some(device));
        peer.settle(&outputs(None, Some(Token([7; 32]))));
        assert_eq!(peer.newest_token(&given).as_bytes(), &[7; 32]);
        peer.settle(&outputs(Some(PeerChange::Unbind), None));
        assert_eq!(peer.device(), None);
        assert_eq!(peer.newest_token(&given).as_bytes(), &[5; 32]);
    }

    #[test]
    fn case_015_a_stranger_with_ever_more_requests_is_overdue_all_the_same() {
        let binding = ChannelBinding { exporter: [1; 32], fingerprint: [2; 32] };
        let peer = PeerState::new(binding, HERE);
        let mut changes = peer.state.subscribe();
        let mut more_time = || {
            peer.settle(&outputs(None, None));
            let given = changes.has_changed().unwrap();
            changes.mark_unchanged();
            given
        };
        let given = (0..10 * PATIENT_REQUESTS_MAX).filter(|_| more_time()).count();
        assert_eq!(u64::try_from(given).unwrap(), PATIENT_REQUESTS_MAX);
    }
}
