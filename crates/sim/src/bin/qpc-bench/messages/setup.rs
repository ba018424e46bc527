//! Accounts, channels and long streams of the pairs, before anything is measured.
//!
//! At the full server both ends of a pair are one device on two connections with a session each.

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use qpc_proto::message::Response;
use qpc_proto::{ChannelId, Token};
use qpc_transport::{ClientLimits, Connection, ServerUrl, connect};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;

use super::content::{Maker, Taker};
use super::follower::Follower;
use super::mls;
use super::poster::Poster;
use super::round::STALL;
use super::wire::Wire;
use crate::account::{Account, call};

/// Both ends of a pair.
pub(super) type Pair = (Poster, Follower);

/// Pairs at the floor, `count` of them.
///
/// # Errors
/// When there is no connection.
pub(super) async fn floor(url: &ServerUrl, count: u32) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for pair in 0..count {
        let wire = Wire::Floor { channel: pair };
        let from = connect(url, &ClientLimits::default()).await?;
        let to = connect(url, &ClientLimits::default()).await?;
        pairs.push(opened(pair, (from, wire.clone()), (to, wire)).await?);
    }
    Ok(pairs)
}

/// Pairs at the full server, one an invite, each with an account and a channel of its own.
///
/// # Errors
/// When there is no connection, or the server refuses.
pub(super) async fn full(url: &ServerUrl, invites: &[Bytes]) -> Result<Vec<Pair>> {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut pairs = Vec::new();
    for (pair, invite) in (0..).zip(invites) {
        let account = Account::new(usize::try_from(pair)?, &mut rng);
        account.register(url, invite.clone()).await.context("registering")?;
        let channel = ChannelId(u128::from(pair).saturating_add(1).to_be_bytes());
        let from = session(&account, url, channel).await?;
        let to = session(&account, url, channel).await?;
        let Wire::Full { token, .. } = &from.1 else { bail!("not the full server") };
        let created = call(&from.0, token, &mls::create_channel(channel)).await?;
        let Response::Accepted(accepted) = created else { bail!("an odd answer to a channel") };
        ensure!(accepted.seq == mls::FIRST_COMMIT, "a channel that is not empty");
        pairs.push(opened(pair, from, to).await?);
    }
    Ok(pairs)
}

async fn session(
    account: &Account,
    url: &ServerUrl,
    channel: ChannelId,
) -> Result<(Connection, Wire)> {
    let (connection, token): (_, Token) = account.open(url).await?;
    Ok((connection, Wire::Full { channel, token }))
}

/// Opens the long streams; the subscription has begun.
async fn opened(
    pair: u32,
    (from, from_wire): (Connection, Wire),
    (to, to_wire): (Connection, Wire),
) -> Result<Pair> {
    let mut items = to.open_stream().await?;
    items.0.send(&to_wire.follow()).await?;
    let first = tokio::time::timeout(STALL, items.1.next()).await.context("nothing is followed")?;
    let first = first?.context("a subscription ended at once")?;
    ensure!(to_wire.delivered(0, first)?.is_empty(), "a channel that is not empty");
    let follower = Follower {
        pair,
        wire: to_wire,
        items,
        acks: to.open_stream().await?,
        _connection: to,
        taker: Taker::new(pair),
    };
    let (sender, receiver) = from.open_stream().await?;
    let maker = Maker::new(pair);
    Ok((Poster { pair, wire: from_wire, _connection: from, sender, receiver, maker }, follower))
}
