//! What must hold when the world is at rest, judged from what each client shows its user.

mod gauges;
mod owed;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use qpc_client::machine::Standing;
use qpc_client::view::{Channel, ChannelStatus, Loss, Message, MessageState};
use qpc_proto::ChannelId;
use qpc_proto::message::DeviceRef;

use crate::world::{SimClient, World};

pub(crate) use gauges::check_all_along;

/// One client's view of one channel.
struct Seen {
    client: usize,
    channel: Channel,
    standing: Option<Standing>,
    history: Vec<Message>,
    losses: Vec<Loss>,
}

/// Checks everything.
///
/// # Errors
/// The first invariant that does not hold.
pub fn check(world: &mut World) -> Result<()> {
    check_alarms(world)?;
    gauges::check_at_rest(world)?;
    let mut by_channel: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
    let mut texts: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for index in 0..world.clients.len() {
        // A revoked device stands where it was when it heard of it.
        if world.client(index)?.is_stopped() {
            continue;
        }
        for seen in views(world, index)? {
            check_client(&seen, world.calm)
                .with_context(|| others(world, &seen.channel.channel))?;
            for message in &seen.history {
                if matches!(message.state, MessageState::Received | MessageState::Accepted) {
                    let first = texts.entry(message.text.clone()).or_default().insert(index);
                    ensure!(first, "{index} shows {:?} twice", message.text);
                }
            }
            by_channel.entry(seen.channel.channel.clone()).or_default().push(seen);
        }
    }
    for seen in by_channel.values() {
        check_taken_in(world, seen)?;
        check_in_step(seen)?;
        if world.calm {
            check_same_log(seen)?;
        }
        check_devices(world, seen)?;
    }
    owed::check(world, &by_channel)?;
    check_written(world, &by_channel)
}

/// What was put back from a copy says so, and lacks KeyPackages that it made since; nothing else is
/// alarming in an honest run.
fn check_alarms(world: &World) -> Result<()> {
    for client in &world.clients {
        let expected = |alarm: &&String| {
            let older = ["restored from an older copy", "its KeyPackage is not of this home"];
            (client.put_back && older.iter().any(|text| alarm.contains(text)))
                || (world.model.is_none() && alarm.contains("restored from a backup"))
        };
        let alarm = client.alarms.iter().find(|alarm| !expected(alarm));
        ensure!(alarm.is_none(), "an honest run raised an alarm: {alarm:?}");
    }
    Ok(())
}

fn views(world: &mut World, index: usize) -> Result<Vec<Seen>> {
    let (now_ms, rng) = (world.now_ms, &mut world.rng);
    let client = world.clients.get_mut(index).context("no such client")?;
    let channels = client.with((now_ms, &mut *rng), |m, s| m.channels(s))?;
    let mut all = Vec::new();
    for channel in channels {
        let id = ChannelId::from_hex(&channel.channel)?;
        let history = client.with((now_ms, &mut *rng), |m, s| m.history(s, (&id, 100_000)))?;
        let live = matches!(channel.status, ChannelStatus::Active | ChannelStatus::Unconfirmed);
        let standing = if live {
            Some(client.with((now_ms, &mut *rng), |m, s| m.standing(s, &id))?)
        } else {
            None
        };
        let losses = client.with((now_ms, &mut *rng), |m, s| m.losses(s, Some(&id)))?;
        all.push(Seen { client: index, channel, standing, history, losses });
    }
    Ok(all)
}

/// What every client shows of a channel, for a failure's report.
fn others(world: &mut World, channel: &str) -> String {
    let mut text = String::new();
    for index in 0..world.clients.len() {
        for seen in views(world, index).unwrap_or_default() {
            if seen.channel.channel == channel {
                let log = seen.history.iter().map(|m| (m.seq, m.state, m.text.as_str()));
                let log: Vec<_> = log.collect();
                text = format!("{text}\nclient {index}: {:?} {log:?}", seen.channel);
            }
        }
    }
    text
}

/// The outbox is empty, nothing is stuck; where nobody had to be taken in again, nothing was
/// unreadable.
fn check_client(seen: &Seen, calm: bool) -> Result<()> {
    let channel = &seen.channel;
    // Whether anybody could take it in is judged by all together.
    let waits = !calm && channel.status == ChannelStatus::Rejoining;
    ensure!(
        matches!(
            channel.status,
            ChannelStatus::Active
                | ChannelStatus::Unconfirmed
                | ChannelStatus::Left
                | ChannelStatus::Failed
                | ChannelStatus::Closed
        ) || waits,
        "client {} is stuck in {channel:?}",
        seen.client
    );
    ensure!(channel.outbox == 0 || waits, "client {} still sends in {channel:?}", seen.client);
    for message in &seen.history {
        ensure!(
            !calm || message.state != MessageState::Unreadable,
            "client {} could not read {message:?}",
            seen.client
        );
    }
    let seqs: Vec<u64> = texts_of(seen).map(|(seq, _)| seq).collect();
    let distinct: BTreeSet<u64> = seqs.iter().copied().collect();
    ensure!(distinct.len() == seqs.len(), "client {} shows one entry twice", seen.client);
    Ok(())
}

/// Who asks to be taken in again is, if anybody is left in the channel who could do it: where all
/// have lost their place nobody is, and the user makes the channel anew.
fn check_taken_in(world: &mut World, all: &[Seen]) -> Result<()> {
    let waits = |seen: &&Seen| seen.channel.status == ChannelStatus::Rejoining;
    let Some(first) = all.iter().find(waits) else { return Ok(()) };
    let id = ChannelId::from_hex(&first.channel.channel)?;
    let roster = world.model.as_ref().map(|model| model.roster(&id)).unwrap_or_default();
    let mut left = roster.clone();
    for seen in all.iter().filter(waits) {
        let (account, device) = (world.account(seen.client)?, world.device(seen.client)?);
        left.remove(&DeviceRef { account, device });
    }
    ensure!(
        !roster.is_empty() && left.is_empty(),
        "client {} is stuck in {:?}, with {left:?}",
        first.client,
        first.channel
    );
    Ok(())
}

/// Messages with a place in the log.
fn texts_of(seen: &Seen) -> impl Iterator<Item = (u64, &str)> {
    seen.history.iter().filter_map(|message| match message.state {
        MessageState::Received | MessageState::Accepted => {
            message.seq.map(|seq| (seq, message.text.as_str()))
        }
        MessageState::Waiting
        | MessageState::Sealed
        | MessageState::Refused
        | MessageState::Unreadable
        | MessageState::Cancelled
        | MessageState::Notice => None,
    })
}

/// All who are in have read the same log to its end and hold the same keys.
fn check_in_step(all: &[Seen]) -> Result<()> {
    let mut live = all.iter().filter_map(|seen| seen.standing.as_ref().map(|s| (seen.client, s)));
    let Some((first, standing)) = live.next() else { return Ok(()) };
    for (other, same) in live {
        ensure!(
            standing == same,
            "clients {first} and {other} are out of step in {:?}: {standing:?} {same:?}",
            all.first().map(|seen| &seen.channel)
        );
    }
    Ok(())
}

/// Of an account that is in, all devices are but those that were revoked.
fn check_devices(world: &mut World, all: &[Seen]) -> Result<()> {
    let Some(live) = all.iter().find(|seen| seen.standing.is_some()) else { return Ok(()) };
    let id = ChannelId::from_hex(&live.channel.channel)?;
    let members = world.user(live.client, |m, s| m.members(s, &id))?;
    for index in 0..world.clients.len() {
        let account = world.account(index)?.to_string();
        let device = world.device(index)?.to_string();
        let Some(member) = members.iter().find(|member| member.account == account) else {
            continue;
        };
        let out = world.client(index)?.is_stopped();
        ensure!(
            member.devices.contains(&device) != out,
            "device {index} (out: {out}) in {:?}: {member:?}",
            live.channel
        );
    }
    Ok(())
}

/// The first number that a client could read: that of its own joining.
fn joined_at(seen: &Seen) -> u64 {
    let notices = seen.history.iter().filter(|message| message.state == MessageState::Notice);
    notices.filter(|m| m.text.ends_with("added you")).filter_map(|m| m.seq).max().unwrap_or(0)
}

/// Two clients that are in show the same messages in the same places since both are in.
fn check_same_log(all: &[Seen]) -> Result<()> {
    let live: Vec<&Seen> = all.iter().filter(|seen| seen.standing.is_some()).collect();
    for (position, one) in live.iter().enumerate() {
        for other in live.iter().skip(position.saturating_add(1)) {
            let since = joined_at(one).max(joined_at(other));
            let log = |seen: &Seen| -> BTreeMap<u64, String> {
                let texts = texts_of(seen).filter(|(seq, _)| *seq > since);
                texts.map(|(seq, text)| (seq, text.to_owned())).collect()
            };
            let (a, b) = (log(one), log(other));
            ensure!(
                a == b,
                "clients {} and {} show different logs since {since}: {a:?} {b:?}",
                one.client,
                other.client
            );
        }
    }
    Ok(())
}

/// Every text written is accepted or visibly refused at its writer, and nothing else is anywhere.
fn check_written(world: &World, by_channel: &BTreeMap<String, Vec<Seen>>) -> Result<()> {
    let mut own: BTreeMap<&str, MessageState> = BTreeMap::new();
    let mut held = BTreeSet::new();
    for seen in by_channel.values().flatten() {
        for message in seen.history.iter().filter(|m| m.state != MessageState::Notice) {
            if message.state == MessageState::Unreadable {
                ensure!(message.text.is_empty(), "{message:?} is unreadable and has a text");
                continue;
            }
            let (writer, _) = world
                .written
                .get(&message.text)
                .with_context(|| format!("nobody wrote {message:?}"))?;
            if *writer == seen.client {
                own.insert(&message.text, message.state);
                // Nobody is left who could take its device in: `check_taken_in`.
                if seen.channel.status == ChannelStatus::Rejoining {
                    held.insert(message.text.as_str());
                }
            }
        }
    }
    for (text, (writer, _)) in &world.written {
        // What was written after the copy is not in it.
        let gone = |client: &SimClient| client.is_stopped() || client.put_back;
        if world.clients.get(*writer).is_some_and(gone) {
            continue;
        }
        let state = own.get(text.as_str());
        let waits = state == Some(&MessageState::Waiting) && held.contains(text.as_str());
        ensure!(
            waits
                || matches!(
                    state,
                    Some(MessageState::Accepted | MessageState::Refused | MessageState::Cancelled)
                ),
            "{text:?} of {writer} ended as {state:?}"
        );
    }
    Ok(())
}
