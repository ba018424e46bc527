//! What happens between clients and the server, and what goes wrong there.

use anyhow::Result;

use super::kind::Kind;
use super::{hostile, user};
use crate::world::{Fate, Moment, World};

/// The longest that a client is away or takes nothing, in operations.
const AWAY_MAX: usize = 150;
/// The longest step of a client's clock: less than the hour that it would warn of.
const CLIENT_STEP_MS: usize = 20 * 60_000;
/// The longest step of the server's.
const SERVER_STEP_MS: usize = 20 * 60_000;
/// Longer than an access token counts.
const TOKEN_MS: u64 = 16 * 60_000;

/// Does what an operation says, if it makes sense now.
#[expect(clippy::wildcard_enum_match_arm, reason = "all others are the users'")]
pub(super) fn apply(world: &mut World, kind: Kind) -> Result<()> {
    let index = world.below(world.clients.len());
    if world.client(index)?.is_stopped() {
        return Ok(());
    }
    match kind {
        Kind::Up => up(world, Fate::Answered),
        Kind::Double => up(world, Fate::Twice),
        Kind::LoseAnswers => up(world, Fate::Lost),
        Kind::RestartAtCommit => {
            let fate = if world.chance(50) { Fate::Unheard } else { Fate::Lost };
            up(world, fate)?;
            world.trace.fault(kind.name(), &format!("the server dies: {fate:?}"));
            world.restart_server()
        }
        Kind::Down => world.deliver_down(index).map(drop),
        Kind::Tick => {
            world.refresh_due()?;
            world.tick(400)
        }
        Kind::Connect => connect(world, index),
        Kind::Break => {
            world.trace.fault(kind.name(), &format!("{index} loses its connection"));
            world.disconnect(index)
        }
        Kind::Crash => {
            world.trace.fault(kind.name(), &format!("{index} dies"));
            world.crash(index)
        }
        Kind::CrashAtCommit => {
            let moment = if world.chance(50) { Moment::Before } else { Moment::After };
            let steps = world.below(4);
            world.will_crash(index, (steps, moment))
        }
        Kind::Restart => {
            world.trace.fault(kind.name(), "the server dies");
            world.restart_server()
        }
        Kind::Partition => partition(world),
        Kind::Stall => {
            let length = world.below(AWAY_MAX);
            world.trace.fault(kind.name(), &format!("{index} takes nothing"));
            world.stall(index, length)
        }
        Kind::ClientClock => {
            let step_ms = step(world, CLIENT_STEP_MS);
            world.trace.fault(kind.name(), &format!("{index}'s clock is off by {step_ms} ms"));
            world.set_client_clock(index, step_ms)
        }
        Kind::ServerClock => {
            let step_ms = step(world, SERVER_STEP_MS);
            world.trace.fault(kind.name(), &format!("the server's clock is off by {step_ms} ms"));
            world.set_server_clock(step_ms);
            Ok(())
        }
        Kind::TokensEnd => {
            world.trace.fault(kind.name(), "time passes all tokens by");
            world.pass(TOKEN_MS)
        }
        Kind::Refresh => {
            let lost = world.chance(25);
            world.refresh(index, lost)
        }
        Kind::Hours | Kind::Days => sleep(world, kind),
        Kind::Copy | Kind::PutBack => copies(world, (index, kind)),
        Kind::BackUp | Kind::Restore => backups(world, kind),
        Kind::Hostile => hostile::act(world),
        _ => user::act(world, (index, kind)),
    }
}

/// Hours or days pass with nobody there.
fn sleep(world: &mut World, kind: Kind) -> Result<()> {
    let (unit_ms, most) = if kind == Kind::Hours { (3_600_000, 12) } else { (86_400_000, 8) };
    let count = u64::try_from(world.below(most))?.saturating_add(1);
    if world.sleep_for(count.saturating_mul(unit_ms))? {
        world.trace.fault(kind.name(), &format!("{count} pass"));
    }
    Ok(())
}

/// A client's home is copied, or put back from the copy.
fn copies(world: &mut World, (index, kind): (usize, Kind)) -> Result<()> {
    if kind == Kind::Copy {
        world.trace.note(format!("{index}'s home is copied"));
        return world.copy(index);
    }
    if world.put_back(index)? {
        world.trace.fault(kind.name(), &format!("{index}'s home is put back"));
    }
    Ok(())
}

/// The server is backed up, or put back from the backup if no device came or went since, and all
/// are over the last time.
fn backups(world: &mut World, kind: Kind) -> Result<()> {
    if kind == Kind::BackUp {
        world.trace.note("the server is backed up".to_owned());
        return world.back_up_server();
    }
    if world.can_restore_server() && world.is_over_its_restore()? {
        world.trace.fault(kind.name(), "the server is put back from its backup");
        return world.restore_server();
    }
    Ok(())
}

/// Some requests arrive in one group commit.
fn up(world: &mut World, fate: Fate) -> Result<()> {
    let count = world.below(4).saturating_add(1);
    world.deliver_up(count, fate).map(drop)
}

fn connect(world: &mut World, index: usize) -> Result<()> {
    let connected = world.client(index)?.link.is_some();
    if connected || world.is_away(index)? { Ok(()) } else { world.connect(index) }
}

/// A time up to `most_ms`, forwards or backwards.
fn step(world: &mut World, most_ms: usize) -> i64 {
    let size = i64::try_from(world.below(most_ms)).unwrap_or(0);
    if world.chance(50) { size } else { size.saturating_neg() }
}

/// Half of the clients, or one, are cut off for long.
fn partition(world: &mut World) -> Result<()> {
    let length = world.below(AWAY_MAX);
    for index in 0..world.clients.len() {
        if world.chance(50) {
            world.trace.fault(Kind::Partition.name(), &format!("{index} is cut off"));
            world.cut_off_for(index, length)?;
        }
    }
    Ok(())
}
