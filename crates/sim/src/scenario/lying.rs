//! Honest clients under a server that lies to one of them about a channel: whatever the lie, it is
//! caught, by channel and number, once members on both sides speak; and nothing is before it.

use anyhow::{Context as _, Result, bail, ensure};
use qpc_client::view::ChannelStatus;
use qpc_proto::ChannelId;
use qpc_proto::message::{Fetch, Request, Response};

use crate::tamper::{Chain, Lie};
use crate::world::World;

/// Clients that are in from the beginning; one more is added and removed.
const INSIDE: usize = 3;
/// Entries that the victim is shown as they are before the lie, at most.
const BEFORE_MAX: usize = 8;
/// Each of so many operations does something: each is some rounds of peace.
const EVERY: u32 = 8;
/// Everybody hears everybody in so many rounds, whatever was held back.
const SPEECHES: usize = 4;

/// Clients of such a world.
pub(super) const CLIENTS: usize = INSIDE + 1;

/// The channel that the lie is about, and its victim.
pub(super) struct Lying {
    group: ChannelId,
    victim: usize,
    /// What is to be told, for a report.
    lie: String,
    said: usize,
    is_in: bool,
}

impl Lying {
    /// Clients 0 (an admin), 1 and 2 in a group whose server will lie to one of them.
    pub(super) fn begin(world: &mut World) -> Result<Self> {
        let other = group(world)?;
        world.write(0, (&other, "elsewhere"))?;
        world.settle()?;
        let elsewhere = last_payload(world, other)?;
        let group = group(world)?;
        let victim = world.below(INSIDE);
        world.tamper(&group, &[victim])?;
        let lie = lie(world, (victim, elsewhere))?;
        let chain = if world.chance(25) { Chain::True } else { Chain::Recomputed };
        let told = format!("{lie:?} ({chain:?}) to client {victim}");
        let after = u64::try_from(world.below(BEFORE_MAX))?;
        world.trace.fault("lie", &told);
        let mut lying = Self { group, victim, lie: told, said: 0, is_in: false };
        for index in 0..INSIDE {
            lying.say(world, index)?;
        }
        world.settle()?;
        world.plan((lie, chain), after);
        Ok(lying)
    }

    fn say(&mut self, world: &mut World, index: usize) -> Result<()> {
        self.said = self.said.saturating_add(1);
        let (group, text) = (self.group, format!("text {} of {index}", self.said));
        // Who was alarmed writes no more.
        let channel = world.user(index, |m, s| m.channel(s, &group))?;
        if channel.status == ChannelStatus::Alarm {
            return Ok(());
        }
        world.write(index, (&group, &text))
    }

    /// Somebody writes, or client 0 adds or removes the last one. Nothing, once the lie is told:
    /// who is stopped by it would be out of step with what is still to come.
    pub(super) fn step(&mut self, world: &mut World, number: u32) -> Result<()> {
        if !number.is_multiple_of(EVERY) || world.told_at().is_some() {
            return Ok(());
        }
        if world.below(4) == 0 {
            let (group, comes) = (self.group, !self.is_in);
            let account = world.account(INSIDE)?;
            world.user(0, |m, s| m.change_members(s, &group, (comes, &[account])))?;
            self.is_in = comes;
        } else {
            let index = world.below(INSIDE);
            self.say(world, index)?;
        }
        let rounds = world.below(4);
        world.rounds(rounds)?;
        if world.told_at().is_none() {
            let alarms = alarms(world)?;
            ensure!(alarms.is_empty(), "alarmed before the lie: {alarms:?}");
        }
        Ok(())
    }

    /// All write until what was held back has been shown and everybody has heard everybody; then a
    /// lie is named, and no number before it.
    pub(super) fn end(&mut self, world: &mut World) -> Result<()> {
        for _ in 0..SPEECHES {
            for index in 0..INSIDE {
                self.say(world, index)?;
                world.rounds(3)?;
            }
        }
        let mut named = Vec::new();
        for index in 0..INSIDE {
            named.extend(world.named(index, &self.group)?);
        }
        let alarms = alarms(world)?;
        let Some(told_at) = world.told_at() else {
            ensure!(alarms.is_empty(), "alarmed without a lie: {alarms:?}");
            return Ok(());
        };
        let what = format!("{} at {told_at}, to client {}", self.lie, self.victim);
        ensure!(named.iter().any(|seq| *seq >= told_at), "a lie is not caught: {what}");
        ensure!(named.iter().all(|seq| *seq >= told_at), "the wrong number is named: {what}");
        Ok(())
    }
}

fn group(world: &mut World) -> Result<ChannelId> {
    let group = world.user(0, |m, s| m.create_group_channel(s, "Fishing"))?.channel;
    world.settle()?;
    let accounts = [world.account(1)?, world.account(2)?];
    world.user(0, move |m, s| m.change_members(s, &group, (true, &accounts)))?;
    world.settle()?;
    Ok(group)
}

fn last_payload(world: &mut World, channel: ChannelId) -> Result<Vec<u8>> {
    let cursor = world.user(0, |m, s| m.standing(s, &channel))?.cursor;
    let after_seq = cursor.saturating_sub(1);
    let fetch = Request::Fetch(Fetch { channel, after_seq, bytes_max: 0 });
    let Response::Page(page) = world.ask(0, &fetch)? else { bail!("no page") };
    Ok(page.entries.last().context("an empty page")?.payload.to_vec())
}

fn lie(world: &mut World, to: (usize, Vec<u8>)) -> Result<Lie> {
    let kind = world.below(usize::try_from(Lie::KINDS)?);
    Ok(Lie::of_kind(u32::try_from(kind)?, to))
}

fn alarms(world: &mut World) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for index in 0..world.clients.len() {
        all.extend(world.alarms(index)?.to_vec());
    }
    Ok(all)
}
