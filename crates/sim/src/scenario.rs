//! One seeded run: random commands and faults for a while, then peace, then the invariants.

use anyhow::{Context as _, Result};
use qpc_client::view::ChannelStatus;
use qpc_proto::ChannelId;

use crate::invariants::check;
use crate::world::World;

/// Clients of a world.
const CLIENTS: usize = 3;
/// What a run did.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Digest of the trace.
    pub digest: String,
    /// Events.
    pub events: u64,
    /// Faults among them.
    pub faults: u64,
    /// Messages written.
    pub messages: usize,
}

/// A run that broke an invariant.
#[derive(Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What broke.
    pub error: anyhow::Error,
    /// The last events.
    pub trace: Vec<String>,
}

/// Runs a seed with `operations` random events before peace.
///
/// # Errors
/// [`Failure`] with the trace, when an invariant broke.
pub fn run(seed: u64, operations: u32) -> Result<Report, Failure> {
    let mut world = match World::new(seed, CLIENTS) {
        Ok(world) => world,
        Err(error) => return Err(Failure { seed, error, trace: Vec::new() }),
    };
    match play(&mut world, operations) {
        Ok(()) => Ok(Report {
            seed,
            digest: world.trace.digest(),
            events: world.trace.events,
            faults: world.trace.faults,
            messages: world.written.len(),
        }),
        Err(error) => {
            let trace = world.trace.tail().map(str::to_owned).collect();
            Err(Failure { seed, error, trace })
        }
    }
}

fn play(world: &mut World, operations: u32) -> Result<()> {
    for index in 0..CLIENTS {
        world.connect(index)?;
    }
    // KeyPackages must be there before anybody can be added.
    world.settle()?;
    for _ in 0..operations {
        random_event(world)?;
    }
    world.settle()?;
    check(world)
}

fn random_event(world: &mut World) -> Result<()> {
    let index = world.below(world.clients.len());
    if world.client(index)?.is_stopped() {
        return Ok(());
    }
    match world.below(100) {
        0..=34 => {
            let count = world.below(4).saturating_add(1);
            let (twice, lose) = (world.chance(6), world.chance(6));
            world.deliver_up(count, (twice, lose)).map(drop)
        }
        35..=69 => world.deliver_down(index).map(drop),
        70..=83 => command(world, index),
        84 => change_devices(world, index),
        85..=90 => world.tick(400),
        91..=92 => {
            world.trace.fault(format!("{index} loses its connection"));
            world.disconnect(index)
        }
        93..=97 => reconnect(world, index),
        98 => {
            world.trace.fault(format!("{index} crashes"));
            world.client(index)?.reopen()
        }
        _ => {
            world.trace.fault("the server restarts".to_owned());
            world.restart_server()
        }
    }
}

fn reconnect(world: &mut World, index: usize) -> Result<()> {
    if world.client(index)?.link.is_some() { Ok(()) } else { world.connect(index) }
}

/// Devices of all accounts at most: each costs as much as a client.
const DEVICES_MAX: usize = 6;

/// A primary device that is online links another, revokes one, or is lost and recovered from.
fn change_devices(world: &mut World, index: usize) -> Result<()> {
    let client = world.client(index)?;
    let Some(machine) = client.core.as_ref().map(qpc_client::Core::machine) else { return Ok(()) };
    if !machine.is_primary() || client.link.is_none() {
        return Ok(());
    }
    let list = machine.own_identity().list.clone();
    let choice = world.below(10);
    let full = world.clients.len() >= DEVICES_MAX;
    match choice {
        0..=5 if !full => world.link(index).map(drop),
        6..=8 => {
            let mut others = Vec::new();
            for other in 0..world.clients.len() {
                let device = world.device(other)?;
                if other != index && list.get(&device).is_some() {
                    others.push(other);
                }
            }
            let pick = world.below(others.len());
            others.get(pick).map_or(Ok(()), |gone| world.revoke(index, &[*gone]))
        }
        9 if !full && index < CLIENTS => world.recover(index).map(drop),
        _ => Ok(()),
    }
}

/// What a client may do something with now.
struct Open {
    /// Channels that take messages.
    writable: Vec<ChannelId>,
    /// Groups that may change.
    groups: Vec<ChannelId>,
}

fn open_channels(world: &mut World, index: usize) -> Result<Open> {
    let (now_ms, rng) = (world.now_ms, &mut world.rng);
    let client = world.clients.get_mut(index).context("no such client")?;
    let channels = client.with((now_ms, rng), |machine, step| machine.channels(step))?;
    let over = [ChannelStatus::Left, ChannelStatus::Failed, ChannelStatus::Leaving];
    let live = [ChannelStatus::Active, ChannelStatus::Unconfirmed];
    let mut open = Open { writable: Vec::new(), groups: Vec::new() };
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

/// A random command of the user.
fn command(world: &mut World, index: usize) -> Result<()> {
    let choice = world.below(100);
    let other = (index % CLIENTS + 1 + world.below(CLIENTS - 1)) % CLIENTS;
    if world.client(other)?.account()? == world.client(index)?.account()? {
        return Ok(());
    }
    let pick = world.below(8);
    let open = open_channels(world, index)?;
    let group = open.groups.get(pick % open.groups.len().max(1)).copied();
    let line = match (choice, group) {
        (0..=69, _) => {
            let channel = open.writable.get(pick % open.writable.len().max(1)).copied();
            let Some(channel) = channel else { return Ok(()) };
            write(world, index, channel)?
        }
        (70..=77, _) => {
            let account = world.client(other)?.account()?;
            world.user(index, move |m, s| m.direct(s, &account))?;
            format!("{index} opens a direct channel with {other}")
        }
        (78..=82, _) => {
            let title = format!("group of {index} {}", world.written.len());
            world.user(index, move |m, s| m.create_group_channel(s, &title))?;
            format!("{index} creates a group")
        }
        (83..=95, Some(group)) => {
            let add = choice <= 92;
            let account = world.client(other)?.account()?;
            // Only an admin may: others are told so.
            let allowed =
                world.user(index, move |m, s| m.change_members(s, &group, (add, &[account])));
            format!("{index} {} {other}: {}", if add { "adds" } else { "removes" }, allowed.is_ok())
        }
        (_, Some(group)) => {
            // The only admin must make another first.
            let allowed = world.user(index, move |m, s| m.leave(s, &group));
            format!("{index} leaves: {}", allowed.is_ok())
        }
        (_, None) => return Ok(()),
    };
    world.trace.note(line);
    Ok(())
}

fn write(world: &mut World, index: usize, channel: ChannelId) -> Result<String> {
    let number = world.written.len();
    world.write(index, (&channel, &format!("text {number} of {index}")))?;
    Ok(format!("{index} writes {number}"))
}
