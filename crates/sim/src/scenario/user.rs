//! What the people do: commands of one client, chosen among those that make sense there.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use qpc_client::ClientError;
use qpc_client::machine::{Machine, Step};
use qpc_client::view::{Channel, ChannelStatus, MessageState};
use qpc_proto::{AccountId, ChannelId};

use super::kind::Kind;
use crate::world::World;

/// Devices of all accounts at most: each costs as much as a client.
const DEVICES_MAX: usize = 6;

/// What a client may do something with now.
#[derive(Default)]
struct Open {
    /// Channels that take messages.
    writable: Vec<ChannelId>,
    /// Groups that may change.
    groups: Vec<ChannelId>,
}

/// Whether what is written in a channel waits for its user's word, who is told so: somebody took
/// this device in whom it does not know from there, or had removed itself.
pub(super) fn waits_for_its_user(channel: &Channel) -> bool {
    let told = |reason: &String| reason.contains("who was not in before");
    channel.status == ChannelStatus::Unconfirmed && channel.reason.as_ref().is_some_and(told)
}

/// The people compare the safety numbers that they are told to compare.
pub(super) fn give_their_word(world: &mut World) -> Result<()> {
    let all = 0..world.clients.len();
    let accounts: BTreeSet<_> = all.map(|index| world.account(index)).collect::<Result<_>>()?;
    for index in 0..world.clients.len() {
        if world.client(index)?.is_stopped() {
            continue;
        }
        let channels = world.user(index, |m, s| m.channels(s))?;
        let asked = channels.iter().filter(|channel| waits_for_its_user(channel));
        let reasons: Vec<_> = asked.filter_map(|channel| channel.reason.clone()).collect();
        for contact in world.user(index, |m, s| m.contacts(s))? {
            let command = format!("`qpc verify {} --yes`", contact.name);
            if reasons.iter().any(|reason| reason.contains(&command)) {
                let account = AccountId::from_hex(&contact.account)?;
                ensure!(accounts.contains(&account), "{index} is to compare with a stranger");
                world.user(index, |m, s| m.set_verified(s, &account, true))?;
            }
        }
    }
    world.settle()
}

fn open_channels(world: &mut World, index: usize) -> Result<Open> {
    let channels = world.user(index, |machine, step| machine.channels(step))?;
    let over =
        [ChannelStatus::Left, ChannelStatus::Failed, ChannelStatus::Leaving, ChannelStatus::Closed];
    let live = [ChannelStatus::Active, ChannelStatus::Unconfirmed];
    let mut open = Open::default();
    for channel in &channels {
        let id = ChannelId::from_hex(&channel.channel)?;
        if !over.contains(&channel.status) {
            open.writable.push(id);
        }
        if channel.kind == "group" && live.contains(&channel.status) {
            open.groups.push(id);
        }
    }
    Ok(open)
}

/// One of those, if there are any.
fn pick<T: Copy>(world: &mut World, of: &[T]) -> Option<T> {
    let at = world.below(of.len());
    of.get(at).copied()
}

/// A client's account, of somebody else than this one's.
fn somebody_else(world: &mut World, index: usize) -> Result<Option<(usize, AccountId)>> {
    let own = world.account(index)?;
    let mut others = Vec::new();
    for other in 0..world.clients.len() {
        let account = world.account(other)?;
        if account != own {
            others.push((other, account));
        }
    }
    Ok(pick(world, &others))
}

/// A command; that it may be refused is part of it.
fn command<T>(
    world: &mut World,
    (index, line): (usize, String),
    work: impl FnOnce(&mut Machine, &mut Step<'_>) -> Result<T, ClientError> + Send,
) -> Result<()> {
    let allowed = world.user(index, work).is_ok();
    world.trace.note(format!("{index} {line}: {allowed}"));
    world.client(index)?.die_if_due()
}

/// A command of a user.
#[expect(clippy::wildcard_enum_match_arm, reason = "all others are another function's")]
pub(super) fn act(world: &mut World, (index, kind): (usize, Kind)) -> Result<()> {
    let open = open_channels(world, index)?;
    match kind {
        Kind::Write => write(world, (index, &open)),
        Kind::Direct => {
            let Some((other, account)) = somebody_else(world, index)? else { return Ok(()) };
            let line = format!("opens a direct channel with {other}");
            command(world, (index, line), move |m, s| m.direct(s, &account))
        }
        Kind::Create => {
            let title = format!("group {}", world.below(1_000));
            let line = "creates a group".to_owned();
            command(world, (index, line), move |m, s| m.create_group_channel(s, &title))
        }
        Kind::Add | Kind::Remove | Kind::Promote | Kind::Demote => {
            change_member(world, (index, kind), &open)
        }
        Kind::Leave | Kind::Title | Kind::Describe => change_group(world, (index, kind), &open),
        Kind::Cancel | Kind::Resend => change_outbox(world, (index, kind)),
        _ => change_devices(world, (index, kind)),
    }
}

fn write(world: &mut World, (index, open): (usize, &Open)) -> Result<()> {
    let Some(channel) = pick(world, &open.writable) else { return Ok(()) };
    let number = world.written.len();
    world.write(index, (&channel, &format!("text {number} of {index}")))?;
    world.trace.note(format!("{index} writes {number}"));
    world.client(index)?.die_if_due()
}

/// Only an admin may: others are told so.
#[expect(clippy::wildcard_enum_match_arm, reason = "all others are another function's")]
fn change_member(world: &mut World, (index, kind): (usize, Kind), open: &Open) -> Result<()> {
    let Some(group) = pick(world, &open.groups) else { return Ok(()) };
    let Some((other, account)) = somebody_else(world, index)? else { return Ok(()) };
    let line = (index, format!("{} {other}", kind.name()));
    match kind {
        Kind::Add | Kind::Remove => {
            let add = kind == Kind::Add;
            command(world, line, move |m, s| m.change_members(s, &group, (add, &[account])))
        }
        _ => {
            let admin = kind == Kind::Promote;
            command(world, line, move |m, s| m.set_admin(s, &group, (&account, admin)))
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all others are another function's")]
fn change_group(world: &mut World, (index, kind): (usize, Kind), open: &Open) -> Result<()> {
    let Some(group) = pick(world, &open.groups) else { return Ok(()) };
    let text = format!("about {}", world.below(1_000));
    let line = (index, kind.name().to_owned());
    match kind {
        // The only admin must make another first.
        Kind::Leave => command(world, line, move |m, s| m.leave(s, &group)),
        Kind::Title => command(world, line, move |m, s| m.set_title(s, &group, &text)),
        _ => command(world, line, move |m, s| m.set_description(s, &group, &text)),
    }
}

/// Takes a message back, or sends one again that was refused or taken back.
fn change_outbox(world: &mut World, (index, kind): (usize, Kind)) -> Result<()> {
    let outbox = world.user(index, |m, s| m.outbox(s))?;
    let cancel = kind == Kind::Cancel;
    let fits = |state| state == MessageState::Refused || (state == MessageState::Waiting) == cancel;
    let ids: Vec<u64> = outbox.iter().filter(|m| fits(m.state)).map(|m| m.id).collect();
    let Some(id) = pick(world, &ids) else { return Ok(()) };
    let line = (index, format!("{} {id}", kind.name()));
    if cancel {
        command(world, line, move |m, s| m.cancel(s, id))
    } else {
        command(world, line, move |m, s| m.resend(s, id))
    }
}

/// A primary device that is online links another, revokes one, or is lost and recovered from.
#[expect(clippy::wildcard_enum_match_arm, reason = "all others are another function's")]
fn change_devices(world: &mut World, (index, kind): (usize, Kind)) -> Result<()> {
    let client = world.client(index)?;
    let Some(machine) = client.core.as_ref().map(qpc_client::Core::machine) else { return Ok(()) };
    if !machine.is_primary() || client.link.is_none() {
        return Ok(());
    }
    let list = machine.own_identity().list.clone();
    let recovers = world.user(index, |m, _| Ok(m.phrase()))?.is_some();
    let full = world.clients.len() >= DEVICES_MAX;
    match kind {
        Kind::Link if !full => world.link(index).map(drop),
        Kind::Revoke => {
            let mut others = Vec::new();
            for other in 0..world.clients.len() {
                let device = world.device(other)?;
                if other != index && list.get(&device).is_some() {
                    others.push(other);
                }
            }
            let gone = pick(world, &others);
            gone.map_or(Ok(()), |gone| world.revoke(index, &[gone]))
        }
        Kind::Recover if !full && recovers => world.recover(index).map(drop),
        _ => Ok(()),
    }
    .context(kind.name())
}
