//! One seeded run: operations for a while, each from a generator of its own, then peace, then the
//! invariants.

mod faults;
mod hostile;
mod kind;
mod lying;
#[expect(dead_code, reason = "shared with the tests, which use the rest")]
#[expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a double; a run in which it can't go on goes on without it"
)]
#[path = "../tests/cases/members.rs"]
mod members;
mod profile;
mod user;

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Result, anyhow};

use crate::counts::Counts;
use crate::invariants::{check, check_all_along};
use crate::only::Only;
use crate::world::World;
pub(crate) use hostile::Intruder;
use kind::Feature;
use profile::{Profile, Stream, stream};

/// Hours of peace for those who must be taken in again.
const HOURS: u32 = 3;
const HOUR_MS: u64 = 3_600_000 + 60_000;
/// Characters of an error that tell failures apart.
const KIND_CHARS: usize = 80;

/// Which run.
#[derive(Debug, Clone)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// Operations before peace.
    pub operations: u32,
    /// Those of them that take place; all, if it does not say.
    pub only: Option<Only>,
}

impl Run {
    /// A whole run.
    pub fn new(seed: u64, operations: u32) -> Self {
        Self { seed, operations, only: None }
    }

    /// The numbers of the operations that take place.
    pub(crate) fn numbers(&self) -> Box<dyn Iterator<Item = u32> + '_> {
        match &self.only {
            Some(only) => Box::new(only.iter().filter(|number| *number < self.operations)),
            None => Box::new(0..self.operations),
        }
    }
}

/// What a run did.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Digest of the trace.
    pub digest: String,
    /// Events: operations and what came of them.
    pub events: u64,
    /// Operations, by kind.
    pub operations: Counts,
    /// Faults that happened, by kind.
    pub faults: Counts,
    /// Messages written.
    pub messages: usize,
}

/// A run that broke an invariant.
#[derive(Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The operation at which it broke; none after the last.
    pub at: Option<u32>,
    /// What broke.
    pub error: anyhow::Error,
    /// The last events.
    pub trace: Vec<String>,
}

impl Failure {
    /// What broke, without the numbers and names of this one run: two failures of the same kind
    /// have the same.
    pub fn kind(&self) -> String {
        let cause = self.error.root_cause().to_string();
        let words = cause.split(|c: char| "{[(\"'".contains(c)).next().unwrap_or_default();
        words.chars().filter(|c| !c.is_ascii_digit()).take(KIND_CHARS).collect()
    }
}

/// Plays a run.
///
/// # Errors
/// [`Failure`] with the trace, when an invariant broke.
pub fn run(run: &Run) -> Result<Report, Failure> {
    let seed = run.seed;
    let profile = Profile::draw(seed);
    let failed = |error, at, trace| Failure { seed, at, error, trace };
    let mut world = match World::earlier((seed, profile.clients), profile.earlier_ms()) {
        Ok(world) => world,
        Err(error) => return Err(failed(error, None, Vec::new())),
    };
    world.calm = !profile.needs_hours();
    world.trace.note(format!("{} clients; {:?}", profile.clients, profile.features));
    let mut operations = Counts::default();
    let mut at = None;
    // What panics in a transaction is rolled back there; this is for all else.
    let played = catch_unwind(AssertUnwindSafe(|| {
        play((run, &profile), &mut world, (&mut operations, &mut at))
    }));
    let played = played.unwrap_or_else(|panic| Err(panicked(panic.as_ref())));
    match played {
        Ok(()) => Ok(Report {
            seed,
            digest: world.trace.digest(),
            events: world.trace.events,
            operations,
            faults: std::mem::take(&mut world.trace.faults),
            messages: world.written.len(),
        }),
        Err(error) => Err(failed(error, at, world.trace.tail().map(str::to_owned).collect())),
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> anyhow::Error {
    let said = panic.downcast_ref::<String>().map(String::as_str);
    let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
    anyhow!("panicked: {}", said.unwrap_or("without a word"))
}

fn play(
    (run, profile): (&Run, &Profile),
    world: &mut World,
    (operations, at): (&mut Counts, &mut Option<u32>),
) -> Result<()> {
    for index in 0..profile.clients {
        world.connect(index)?;
    }
    // KeyPackages must be there before anybody can be added.
    world.settle()?;
    let mut lying = None;
    if profile.has(Feature::Hostile) {
        hostile::enter(world)?;
        world.settle()?;
    } else if profile.has(Feature::Liar) {
        lying = Some(lying::Lying::begin(world)?);
    }
    for number in run.numbers() {
        *at = Some(number);
        let (kind, rng) = profile.operation((run.seed, number));
        world.rng = rng;
        let name = if lying.is_some() { "under-a-liar" } else { kind.name() };
        world.trace.note(format!("#{number} {name}"));
        operations.note(name);
        world.begin_operation(number)?;
        match lying.as_mut() {
            Some(lying) => lying.step(world, number)?,
            None => faults::apply(world, kind)?,
        }
        check_all_along(world)?;
    }
    *at = None;
    world.rng = stream(run.seed, Stream::Peace);
    if let Some(mut lying) = lying {
        return lying.end(world);
    }
    world.make_peace()?;
    world.settle()?;
    if profile.has(Feature::Hostile) {
        hostile::make_peace(world, HOURS)?;
        return hostile::check(world);
    }
    if profile.needs_hours() {
        // A device asks to be taken in again once an hour.
        for _ in 0..HOURS {
            world.sleep_for(HOUR_MS)?;
            world.settle()?;
        }
    }
    user::give_their_word(world)?;
    check(world)
}
