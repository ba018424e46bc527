//! Accounts, channels and long streams of the pairs, before anything is measured.
//!
//! At the full server both ends of a pair are one device on two connections with a session each.

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use qpc_proto::ChannelId;
use qpc_proto::message::Response;
use qpc_transport::{ClientLimits, Connection, ServerUrl, connect};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;

use super::follower::Follower;
use super::poster::Poster;
use super::round::STALL;
use crate::account::{Account, call};
use crate::content::{Maker, Taker};
use crate::mls;
use crate::wire::Wire;

/// Both ends of a pair.
pub(crate) type Pair = (Poster, Follower);

/// Who may write to and read one channel.
pub(crate) struct Party {
    pair: u32,
    /// The floor knows none.
    account: Option<Account>,
}

impl Party {
    /// Opens a connection; at the full server with a session of its own.
    ///
    /// # Errors
    /// When there is no connection, or no session.
    async fn open(&self, url: &ServerUrl) -> Result<(Connection, Wire)> {
        let Some(account) = &self.account else {
            let connection = connect(url, &ClientLimits::default()).await?;
            return Ok((connection, Wire::Floor { channel: self.pair }));
        };
        let (connection, token) = account.open(url).await?;
        let channel = ChannelId(u128::from(self.pair).saturating_add(1).to_be_bytes());
        Ok((connection, Wire::Full { channel, token }))
    }

    /// The sending end. Its first connection makes the channel.
    ///
    /// # Errors
    /// When there is no connection, or the server refuses.
    pub(crate) async fn poster(&self, url: &ServerUrl) -> Result<Poster> {
        let (connection, wire) = self.open(url).await?;
        if let Wire::Full { channel, token } = &wire {
            let created = call(&connection, token, &mls::create_channel(*channel)).await?;
            let Response::Accepted(accepted) = created else { bail!("an odd answer to a channel") };
            ensure!(accepted.seq == mls::FIRST_COMMIT, "a channel that is not empty");
        }
        let (sender, receiver) = connection.open_stream().await?;
        let (pair, maker) = (self.pair, Maker::new(self.pair));
        Ok(Poster { pair, wire, _connection: connection, sender, receiver, maker })
    }

    /// The receiving end, which has read all before message `next` and asks for nothing yet.
    ///
    /// # Errors
    /// When there is no connection, or no session.
    pub(crate) async fn follower(&self, url: &ServerUrl, next: u64) -> Result<Follower> {
        let (connection, wire) = self.open(url).await?;
        Ok(Follower {
            pair: self.pair,
            wire,
            items: connection.open_stream().await?,
            acks: Some(connection.open_stream().await?),
            connection,
            taker: Taker::at(self.pair, next),
        })
    }
}

/// Parties at the floor, `count` of them.
pub(crate) fn floor(count: u32) -> Vec<Party> {
    (0..count).map(|pair| Party { pair, account: None }).collect()
}

/// Parties at the full server, one an invite, each with an account.
///
/// # Errors
/// When there is no connection, or the server refuses.
pub(crate) async fn full(url: &ServerUrl, invites: &[Bytes]) -> Result<Vec<Party>> {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut parties = Vec::new();
    for (pair, invite) in (0..).zip(invites) {
        let account = Account::new(usize::try_from(pair)?, &mut rng);
        account.register(url, invite.clone()).await.context("registering")?;
        parties.push(Party { pair, account: Some(account) });
    }
    Ok(parties)
}

/// Pairs whose receivers follow.
///
/// # Errors
/// When there is no connection, or the server refuses.
pub(crate) async fn pairs(url: &ServerUrl, parties: &[Party]) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for party in parties {
        let poster = party.poster(url).await?;
        let mut follower = party.follower(url, 0).await?;
        follower.ask().await?;
        let first = tokio::time::timeout(STALL, follower.items.1.next()).await;
        let first = first.context("nothing is followed")??.context("a subscription ended")?;
        ensure!(follower.wire.delivered(0, first)?.is_empty(), "a channel that is not empty");
        pairs.push((poster, follower));
    }
    Ok(pairs)
}
