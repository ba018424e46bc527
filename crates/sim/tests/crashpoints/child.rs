//! The process that dies. Its orders come on standard input; without any it is a test that has
//! nothing to do.

use std::path::{Path, PathBuf};

use qpc_faultvfs::{Fault, FaultVfs, Op, Plan};
use qpc_sim::World;

use crate::notes::Notes;
use crate::stages::{NAMES, STAGES, birth, remember};

/// What the process is to do.
#[derive(Debug, Clone)]
pub(crate) struct Orders {
    pub(crate) stage: usize,
    /// So many calls to the disk succeed.
    pub(crate) after: u64,
    /// Files to begin from.
    pub(crate) template: PathBuf,
    pub(crate) now_ms: u64,
}

impl Orders {
    pub(crate) fn line(&self) -> String {
        let Self { stage, after, template, now_ms } = self;
        format!("{stage} {after} {now_ms} {}\n", template.display())
    }

    fn read(line: &str) -> Option<Self> {
        let mut words = line.trim_end().splitn(4, ' ');
        let mut number = || words.next()?.parse::<u64>().ok();
        let (stage, after, now_ms) = (number()?, number()?, number()?);
        let template = PathBuf::from(words.next()?);
        Some(Self { stage: usize::try_from(stage).ok()?, after, template, now_ms })
    }

    /// Every third death is in the middle of its write.
    fn plan(&self) -> Plan {
        let halfway = self.after % 3 == 1;
        let fault = if halfway { Fault::AbortHalfway } else { Fault::Abort };
        let on = vec![Op::Write, Op::Sync, Op::Truncate, Op::Delete];
        Plan { on, ..Plan::from(Op::Write, self.after, fault) }
    }
}

/// Runs a stage from its template; the world at its end.
pub(crate) fn play(
    (stage, template, now_ms): (usize, &Path, u64),
    notes: &mut Notes,
    begins: impl FnOnce(),
) -> World {
    // Another for each: the same would draw the same tokens again.
    let seed = 100 + u64::try_from(stage).unwrap();
    let stage = &STAGES[stage];
    if stage.clients == 0 {
        begins();
        return birth(notes);
    }
    let mut world = World::resume((seed, now_ms), template, &NAMES[..stage.clients]).unwrap();
    remember(&mut world);
    begins();
    (stage.run)(&mut world, notes);
    world
}

#[test]
#[ignore = "the child process of the others"]
fn dies() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let Some(orders) = Orders::read(&line) else { return };
    let vfs = FaultVfs::register_as_default().unwrap();
    vfs.forget_writes();
    let mut notes = Notes::begin(&std::env::temp_dir());
    let at = (orders.stage, orders.template.as_path(), orders.now_ms);
    let world = play(at, &mut notes, || vfs.set(orders.plan()));
    drop(world);
}
