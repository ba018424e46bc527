//! What each side may keep, in memory and on disk, all along and at rest.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use qpc_client::Core;

use crate::world::{SimClient, World};

/// A write-ahead log is cut at 16 MiB (`log_pages_max` of `qpc-storage`) after a commit; one more
/// may follow, with the largest bundle in it, and what SQLite writes beside each page.
const LOG_BYTES_MAX: u64 = 24 * 1_024 * 1_024;
/// Requests that a client has under way: a few for each channel and each account that it knows.
const REQUESTS_MAX: usize = 64;
/// Work that waits: of the same kinds.
const PAUSES_MAX: usize = 128;

/// What holds after every operation.
pub(crate) fn check_all_along(world: &World) -> Result<()> {
    check_log(&world.server_path())?;
    for (index, client) in world.clients.iter().enumerate() {
        check_log(&client.path)?;
        check_requests((index, client))?;
    }
    Ok(())
}

fn check_log(database: &Path) -> Result<()> {
    let log = database.with_extension("db-wal");
    let bytes = fs::metadata(&log).map_or(0, |log| log.len());
    ensure!(bytes <= LOG_BYTES_MAX, "a write-ahead log of {bytes} bytes: {}", log.display());
    Ok(())
}

/// At most one request of each piece of work is under way.
fn check_requests((index, client): (usize, &SimClient)) -> Result<()> {
    let mut seen = BTreeSet::new();
    for work in client.link.iter().flat_map(|link| link.under_way()) {
        ensure!(seen.insert(work.clone()), "{index} has two requests under way: {work:?}");
    }
    let gauges = client.core.as_ref().map(Core::machine).map(|machine| machine.gauges());
    let gauges = gauges.unwrap_or_default();
    ensure!(gauges.requests <= REQUESTS_MAX, "{index} has too much under way: {gauges:?}");
    ensure!(gauges.pauses <= PAUSES_MAX, "{index} keeps too many pauses: {gauges:?}");
    Ok(())
}

/// At rest nothing is left of what was under way.
pub(super) fn check_at_rest(world: &World) -> Result<()> {
    for (index, client) in world.clients.iter().enumerate() {
        let Some(machine) = client.core.as_ref().map(Core::machine) else { continue };
        if client.is_stopped() {
            continue;
        }
        let gauges = machine.gauges();
        let left = [gauges.requests, gauges.batches, gauges.accepted_commits, gauges.excused];
        ensure!(left == [0; 4] && gauges.spoken_of == 0, "{index} at rest: {gauges:?}");
    }
    Ok(())
}
