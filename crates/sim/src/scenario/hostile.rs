//! A member with a program of its own in a group of honest ones: what it does at random, and what
//! must hold all the same. It is silent once there is peace.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Context as _, Result, ensure};
use qpc_client::view::{Channel, ChannelStatus, MessageState};
use qpc_mls::engine::CommitPlan;
use qpc_proto::ChannelId;
use qpc_proto::chain::sha256;
use qpc_proto::message::{CommitBundle, DeviceRef, EntryKind};
use qpc_proto::roster::RosterChange;

use super::members::hostile::{Attack, Lie};
use super::members::{Answer, Member};
use super::user::waits_for_its_user;
use crate::world::World;
use qpc_credential::Said;

/// Things that it does: its ids are counted in a byte.
const ACTS_MAX: u32 = 40;
/// A day of accept time, and a little: then an open verdict falls.
const DAY_MS: u64 = 24 * 3_600_000 + 60_000;

/// The hostile member, as long as it is in.
pub(crate) struct Intruder {
    member: Member,
    acts: u32,
}

/// A group of all clients and the hostile member: as one that client 0 adds, or as its founder and
/// only admin.
pub(super) fn enter(world: &mut World) -> Result<()> {
    let founds = world.chance(40);
    let all: Vec<usize> = (0..world.clients.len()).collect();
    let member = if founds {
        Member::found(world, &all)
    } else {
        let group = world.user(0, |m, s| m.create_group_channel(s, "Trap"))?.channel;
        world.settle()?;
        let mut others = Vec::new();
        for index in all.iter().skip(1) {
            others.push(world.account(*index)?);
        }
        world.user(0, move |m, s| m.change_members(s, &group, (true, &others)))?;
        world.settle()?;
        Member::enter(world, group)
    };
    world.trace.note(format!("a hostile member is in; it is the founder: {founds}"));
    world.intruder = Some(Intruder { member, acts: 0 });
    Ok(())
}

/// Something hostile. A double that can't go on is out.
pub(super) fn act(world: &mut World) -> Result<()> {
    let Some(mut intruder) = world.intruder.take() else { return Ok(()) };
    if intruder.acts >= ACTS_MAX || !intruder.member.may_read(world) {
        world.trace.note("the hostile member is out".to_owned());
        return Ok(());
    }
    intruder.acts = intruder.acts.saturating_add(1);
    let done = catch_unwind(AssertUnwindSafe(|| {
        intruder.member.follow(world);
        does(world, &mut intruder.member)
    }));
    let Ok(line) = done else {
        world.trace.note("the hostile member has broken its own state".to_owned());
        return Ok(());
    };
    world.trace.fault("hostile", &line?);
    world.intruder = Some(intruder);
    Ok(())
}

/// The clients' devices that the member sees in the group.
fn victims(world: &mut World, member: &mut Member) -> Result<Vec<(usize, DeviceRef)>> {
    let leaves = member.party.view().members;
    let inside: BTreeSet<DeviceRef> = leaves.iter().map(|leaf| leaf.certificate.device()).collect();
    let mut all = Vec::new();
    for index in 0..world.clients.len() {
        let device = DeviceRef { account: world.account(index)?, device: world.device(index)? };
        if inside.contains(&device) {
            all.push((index, device));
        }
    }
    Ok(all)
}

fn does(world: &mut World, member: &mut Member) -> Result<String> {
    let victims = victims(world, member)?;
    let at = world.below(victims.len());
    let (what, answer) = match (world.below(11), victims.get(at).copied()) {
        (choice @ 0..=3, Some(victim)) => lies_about_members(world, member, (choice, victim))?,
        (choice @ 4..=5, Some(victim)) => {
            let mut some = vec![victim.0];
            for (index, _) in victims.iter().filter(|_| choice == 4) {
                if world.chance(50) {
                    some.push(*index);
                }
            }
            let keys = member.keys_of(world, &some);
            let (what, lie) = match choice {
                4 => ("splits the group", Lie::RubbishForAll(keys)),
                _ => {
                    let key = keys.into_iter().next().unwrap_or_default();
                    ("gives one another secret", Lie::OtherSecretFor(key))
                }
            };
            let nothing = RosterChange::default();
            let bundle = member.crooked((&nothing, &[]), Attack { lie, ..Attack::default() });
            (what, member.commits(world, bundle))
        }
        (choice, _) => posts(world, member, choice)?,
    };
    Ok(format!("{what}: {answer:?}"))
}

/// A Commit that is none, or that does not do what it says.
fn lies_about_members(
    world: &mut World,
    member: &mut Member,
    (choice, (index, device)): (usize, (usize, DeviceRef)),
) -> Result<(&'static str, Answer)> {
    let (what, bundle) = match choice {
        0 => ("commits for nothing", member.seals(&CommitPlan::default())),
        1 => {
            let mut bundle = member.seals(&CommitPlan::default());
            let mut payload = bundle.payload.to_vec();
            if let Some(last) = payload.last_mut() {
                *last ^= 1;
            }
            bundle.payload = payload.into();
            ("spoils a Commit", bundle)
        }
        2 => {
            let attack =
                Attack { removes: vec![member.leaf_of(world, index)], ..Attack::default() };
            ("removes without saying so", member.crooked((&RosterChange::default(), &[]), attack))
        }
        _ => {
            let change = RosterChange { removes: [device].into(), ..RosterChange::default() };
            ("says that it removes", member.crooked((&change, &[]), Attack::default()))
        }
    };
    Ok((what, member.commits(world, bundle)))
}

/// Something that is not what it is posted as, or not its own.
fn posts(world: &mut World, member: &mut Member, choice: usize) -> Result<(&'static str, Answer)> {
    Ok(match choice {
        6 => {
            let bundle = member.seals(&CommitPlan::default());
            ("posts a Commit as a message", member.posts(world, bundle.payload))
        }
        7 => {
            let payload = member.message(b"no Commit");
            let bundle = CommitBundle { payload, ..member.seals(&CommitPlan::default()) };
            ("posts a message as a Commit", member.commits(world, bundle))
        }
        8 => {
            let log = member.log(world);
            let again = log.iter().rev().find(|entry| entry.kind == EntryKind::Application);
            let payload = again.map(|entry| entry.payload.clone()).unwrap_or_default();
            ("posts another's message again", member.posts(world, payload))
        }
        9 => {
            let log = member.log(world);
            let commit = log.iter().rev().find(|entry| entry.kind == EntryKind::Commit);
            let commit = commit.context("a log without a Commit")?;
            let (commit_seq, applied) = (commit.seq, world.chance(50));
            let commit = sha256(&commit.payload);
            let verdict = member.verdict(Said { commit_seq, commit, applied });
            ("says what it made of a Commit", member.states(world, verdict))
        }
        _ => {
            let payload = member.message(b"hello");
            ("posts bytes that are no content", member.posts(world, payload))
        }
    })
}

/// Peace after a hostile member: all speak, a day passes, all speak again, and those who were cut
/// off are taken in.
pub(super) fn make_peace(world: &mut World, hours: u32) -> Result<()> {
    all_speak(world, 0)?;
    world.settle()?;
    world.sleep_for(DAY_MS)?;
    world.settle()?;
    all_speak(world, 1)?;
    world.settle()?;
    for _ in 0..hours {
        world.sleep_for(super::HOUR_MS)?;
        world.settle()?;
    }
    all_speak(world, 2)?;
    world.settle()
}

fn all_speak(world: &mut World, round: u32) -> Result<()> {
    for index in 0..world.clients.len() {
        if world.client(index)?.is_stopped() {
            continue;
        }
        for channel in live(world, index)? {
            let text = format!("{round} in peace, {index} in {channel}");
            world.write(index, (&channel, &text))?;
        }
    }
    Ok(())
}

/// The channels that a client is in.
fn live(world: &mut World, index: usize) -> Result<Vec<ChannelId>> {
    let channels = world.user(index, |m, s| m.channels(s))?;
    let is_live = |status| matches!(status, ChannelStatus::Active | ChannelStatus::Unconfirmed);
    let live = channels.iter().filter(|channel| is_live(channel.status));
    live.map(|channel| Ok(ChannelId::from_hex(&channel.channel)?)).collect()
}

/// Nobody honest is starved, wedged, split or shown anything twice. Who leaves last, when nobody
/// but the hostile member is left to remove it, waits for that one: it is no wedge. Nor is what
/// waits for its user's word, or the limit of two honest voters.
pub(super) fn check(world: &mut World) -> Result<()> {
    let mut standings = std::collections::BTreeMap::new();
    for index in 0..world.clients.len() {
        if world.client(index)?.is_stopped() {
            continue;
        }
        for channel in world.user(index, |m, s| m.channels(s))? {
            let id = ChannelId::from_hex(&channel.channel)?;
            let held = waits_for_its_user(&channel) || is_outvoted(world, (&channel, &id))?;
            ensure!(channel.outbox == 0 || held, "{index} still sends in {channel:?}");
            let ends = matches!(
                channel.status,
                ChannelStatus::Active
                    | ChannelStatus::Unconfirmed
                    | ChannelStatus::Left
                    | ChannelStatus::Failed
                    | ChannelStatus::Closed
            );
            let waits = channel.status == ChannelStatus::Leaving
                && waits_for_the_hostile(world, (index, &id))?;
            ensure!(ends || waits || held, "{index} is stuck in {channel:?}");
            check_history(world, (index, id), held)?;
            if matches!(channel.status, ChannelStatus::Active | ChannelStatus::Unconfirmed) {
                let standing = world.user(index, |m, s| m.standing(s, &id))?;
                let (first, same) =
                    standings.entry(id).or_insert_with(|| (index, standing.clone()));
                ensure!(*same == standing, "{first} and {index} are split in {channel:?}");
            }
        }
    }
    Ok(())
}

/// What is left of a channel that a client is not in any more.
const OVER: [ChannelStatus; 3] =
    [ChannelStatus::Left, ChannelStatus::Failed, ChannelStatus::Closed];

/// The accounts of all clients: every other one is the hostile member's.
fn honest_accounts(world: &mut World) -> Result<BTreeSet<String>> {
    (0..world.clients.len()).map(|index| Ok(world.account(index)?.to_string())).collect()
}

/// Whether the one voice of the hostile member weighed as much as all honest ones about a Commit:
/// of two honest accounts one made it, and has none. Both come back once the hostile one lets them,
/// see docs/security/known-limits.md.
fn is_outvoted(world: &mut World, (channel, id): (&Channel, &ChannelId)) -> Result<bool> {
    if channel.status != ChannelStatus::Rejoining {
        return Ok(false);
    }
    let honest = honest_accounts(world)?;
    let mut accounts = BTreeSet::new();
    for index in 0..world.clients.len() {
        let account = world.account(index)?;
        if world.client(index)?.is_stopped() {
            continue;
        }
        let all = world.user(index, |m, s| m.channels(s))?;
        let here = all.into_iter().find(|of| of.channel == id.to_string());
        let Some(here) = here.filter(|of| !OVER.contains(&of.status)) else { continue };
        if here.status != ChannelStatus::Rejoining {
            return Ok(false);
        }
        let members = world.user(index, |m, s| m.members(s, id))?;
        if members.iter().all(|member| honest.contains(&member.account)) {
            return Ok(false);
        }
        accounts.insert(account);
    }
    Ok(accounts.len() <= 2)
}

/// Whether nobody is left in a channel who could carry out a client's leave but the hostile member:
/// no device removes itself, and nobody can make that one do it.
fn waits_for_the_hostile(world: &mut World, (index, id): (usize, &ChannelId)) -> Result<bool> {
    let own = world.account(index)?;
    let is_in = |of: &Channel| of.channel == id.to_string() && !OVER.contains(&of.status);
    let honest = honest_accounts(world)?;
    for other in 0..world.clients.len() {
        if world.account(other)? == own || world.client(other)?.is_stopped() {
            continue;
        }
        if world.user(other, |m, s| m.channels(s))?.iter().any(is_in) {
            return Ok(false);
        }
    }
    let members = world.user(index, |m, s| m.members(s, id))?;
    Ok(members.iter().any(|member| !honest.contains(&member.account)))
}

fn check_history(
    world: &mut World,
    (index, channel): (usize, ChannelId),
    held: bool,
) -> Result<()> {
    let history = world.user(index, |m, s| m.history(s, (&channel, 100_000)))?;
    let mut texts = BTreeSet::new();
    for line in &history {
        let shown = matches!(line.state, MessageState::Received | MessageState::Accepted);
        if shown && world.written.contains_key(&line.text) {
            ensure!(texts.insert(&line.text), "{index} shows {:?} twice", line.text);
        }
        let own = world.written.get(&line.text).is_some_and(|(writer, _)| *writer == index);
        let ended = !matches!(line.state, MessageState::Waiting | MessageState::Sealed);
        let waits = held && line.state == MessageState::Waiting;
        ensure!(!own || ended || waits, "{line:?} of {index} has not ended");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clients 0 to 2 in a group of a hostile founder.
    fn trap() -> (World, ChannelId) {
        let mut world = World::new(7, 3).unwrap();
        world.settle().unwrap();
        let channel = Member::found(&mut world, &[0, 1, 2]).channel;
        (world, channel)
    }

    fn leaves(world: &mut World, (index, group): (usize, &ChannelId)) {
        world.user(index, |m, s| m.leave(s, group)).unwrap();
    }

    #[test]
    fn who_leaves_last_may_wait_for_the_hostile_member() {
        let (mut world, group) = trap();
        (0..3).for_each(|index| leaves(&mut world, (index, &group)));
        let error = check(&mut world).unwrap_err().to_string();
        assert!(error.starts_with("0 is stuck"), "the others have not done it yet: {error}");
        world.settle().unwrap();
        let waiting = (0..3).filter(|index| live(&mut world, *index).unwrap().is_empty()).count();
        assert_eq!(waiting, 3, "nobody is in");
        check(&mut world).unwrap();
    }

    #[test]
    fn who_leaves_others_that_could_remove_it_may_not_wait() {
        let (mut world, group) = trap();
        leaves(&mut world, (1, &group));
        let error = check(&mut world).unwrap_err().to_string();
        assert!(error.starts_with("1 is stuck"), "{error}");
        world.settle().unwrap();
        check(&mut world).unwrap();
    }
}
