//! One seeded run: random commands and faults for a while, then peace, then the invariants.

use anyhow::{Context as _, Result};
use qpc_client::machine::Input;
use qpc_client::view::ChannelStatus;

use crate::invariants::check;
use crate::world::World;

/// Clients of a world.
const CLIENTS: usize = 3;
/// Rounds of peace before the world must have settled.
const ROUNDS_MAX: usize = 4_000;

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
    settle(world)?;
    for _ in 0..operations {
        random_event(world)?;
    }
    settle(world)?;
    check(world)
}

fn random_event(world: &mut World) -> Result<()> {
    let index = world.below(CLIENTS);
    match world.below(100) {
        0..=34 => {
            let count = world.below(4).saturating_add(1);
            let (twice, lose) = (world.chance(6), world.chance(6));
            world.deliver_up(count, (twice, lose)).map(drop)
        }
        35..=69 => world.deliver_down(index).map(drop),
        70..=84 => command(world, index),
        85..=90 => tick(world, 400),
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
            restart_server(world)
        }
    }
}

fn restart_server(world: &mut World) -> Result<()> {
    for index in 0..CLIENTS {
        world.disconnect(index)?;
    }
    world.server.restart(&mut world.rng)
}

fn reconnect(world: &mut World, index: usize) -> Result<()> {
    if world.client(index)?.link.is_some() { Ok(()) } else { world.connect(index) }
}

/// Lets time pass for everybody.
fn tick(world: &mut World, most_ms: usize) -> Result<()> {
    let passed = u64::try_from(world.below(most_ms).saturating_add(1)).unwrap_or(1);
    world.now_ms = world.now_ms.saturating_add(passed);
    let (now_ms, rng) = (world.now_ms, &mut world.rng);
    for client in &mut world.clients {
        client.step((now_ms, rng), Input::Tick)?;
    }
    // A step may have asked to follow other logs: the server begins with what is there.
    (0..CLIENTS).try_for_each(|index| world.push(index))
}

/// A random command of the user.
fn command(world: &mut World, index: usize) -> Result<()> {
    let (now_ms, choice) = (world.now_ms, world.below(100));
    let other = (index + 1 + world.below(CLIENTS - 1)) % CLIENTS;
    let account = world.client(other)?.account()?;
    let number = world.written.len();
    let pick = world.below(8);
    let rng = &mut world.rng;
    let client = world.clients.get_mut(index).context("no such client")?;
    let channels = client.with((now_ms, &mut *rng), |machine, step| machine.channels(step))?;
    let writable: Vec<_> = channels
        .iter()
        .filter(|c| {
            !matches!(
                c.status,
                ChannelStatus::Left | ChannelStatus::Failed | ChannelStatus::Leaving
            )
        })
        .filter_map(|c| qpc_proto::ChannelId::from_hex(&c.channel).ok().map(|id| (id, c)))
        .collect();
    let groups: Vec<_> = writable
        .iter()
        .filter(|(_, c)| {
            c.kind == "group"
                && matches!(c.status, ChannelStatus::Active | ChannelStatus::Unconfirmed)
        })
        .map(|(id, _)| *id)
        .collect();
    let group = groups.get(pick % groups.len().max(1)).copied();
    let line = match choice {
        0..=69 => {
            let Some((channel, _)) = writable.get(pick % writable.len().max(1)) else {
                return Ok(());
            };
            let (channel, text) = (*channel, format!("text {number} of {index}"));
            let sent = text.clone();
            client.with((now_ms, rng), move |m, s| m.queue(s, &channel, &sent).map(drop))?;
            world.written.insert(text, (index, channel));
            format!("{index} writes {number}")
        }
        70..=77 => {
            client.with((now_ms, rng), move |m, s| m.direct(s, &account))?;
            format!("{index} opens a direct channel with {other}")
        }
        78..=82 => {
            let title = format!("group of {index} {number}");
            client.with((now_ms, rng), move |m, s| m.create_group_channel(s, &title))?;
            format!("{index} creates a group")
        }
        83..=92 => {
            let Some(group) = group else { return Ok(()) };
            let add = move |m: &mut qpc_client::machine::Machine,
                            s: &mut qpc_client::machine::Step<'_>| {
                m.change_members(s, &group, (true, &[account]))
            };
            // Only an admin may: others are told so.
            let allowed = client.with((now_ms, rng), add).is_ok();
            format!("{index} adds {other}: {allowed}")
        }
        93..=95 => {
            let Some(group) = group else { return Ok(()) };
            let remove = move |m: &mut qpc_client::machine::Machine,
                               s: &mut qpc_client::machine::Step<'_>| {
                m.change_members(s, &group, (false, &[account]))
            };
            let allowed = client.with((now_ms, rng), remove).is_ok();
            format!("{index} removes {other}: {allowed}")
        }
        _ => {
            let Some(group) = group else { return Ok(()) };
            client.with((now_ms, rng), move |m, s| m.leave(s, &group))?;
            format!("{index} leaves")
        }
    };
    world.trace.note(line);
    Ok(())
}

/// Peace: everybody connected, nothing lost, until nothing is on its way and nothing waits.
fn settle(world: &mut World) -> Result<()> {
    let mut idle = 0;
    for _ in 0..ROUNDS_MAX {
        let mut moved = false;
        for index in 0..CLIENTS {
            reconnect(world, index)?;
            while world.deliver_down(index)? {
                moved = true;
            }
        }
        while world.deliver_up(8, (false, false))? {
            moved = true;
        }
        if moved {
            idle = 0;
            continue;
        }
        idle += 1;
        // Longer than any pause of a client, in steps that its timers can see.
        if idle > 40 {
            return Ok(());
        }
        tick(world, 4_000)?;
    }
    anyhow::bail!("the world does not settle")
}
