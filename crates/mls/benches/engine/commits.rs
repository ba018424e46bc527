//! How large a self-update's Commit is, in a group that one Commit filled and in one whose members
//! renewed their leaves soon after they came. Bytes of messages: nothing is timed.

use std::path::Path;

use qpc_mls::engine::{CommitEntry, CommitPlan};
use qpc_mls::{Engine, Verdict};
use qpc_storage::Store;

use crate::child::Side;
use crate::groups::{self, GROUP, Person, done, files, now_ms, open, place, pointer};

/// The founder's next self-update where all came by one Commit: nobody but the founder has keys
/// above its leaf.
pub(crate) fn fresh(dir: &Path) -> usize {
    let file = files(dir, Side::Ours);
    let mut store = open(&file("founder.db"));
    let engine = Person::new(0).engine();
    let sealed =
        done(&mut store, |tx| engine.commit(tx, &GROUP, (&place(), &CommitPlan::default())));
    sealed.payload.len()
}

/// As above, where one of each two that came made a Commit before the next two came: of two
/// neighbours in the tree it takes one to give the node above both its keys. Nobody else needs to
/// be there for it: each of them joins the group as it is then.
pub(crate) fn renewed(dir: &Path, members: u32) -> usize {
    let mut founder = groups::founder(&dir.join("renewed.db"));
    let mut fillers = open(&dir.join("renewed-fillers.db"));
    let mut count = 1;
    while count < members {
        let other = Person::new(count.saturating_add(1)).engine();
        let more = members.saturating_sub(count).min(2);
        let package = || done(&mut fillers, |tx| other.key_package(tx, false, now_ms())).bytes;
        let filler = (more == 2).then(package);
        renew_one(&mut founder, dir, (count, filler));
        count = count.saturating_add(more);
    }
    let (engine, store) = &mut founder;
    let plan = CommitPlan::default();
    done(store, |tx| engine.commit(tx, &GROUP, (&place(), &plan))).payload.len()
}

/// Person `number` comes, with another if there is one, and renews its leaf.
fn renew_one(
    (founder, store): &mut (Engine, Store),
    dir: &Path,
    (number, other): (u32, Option<Vec<u8>>),
) {
    let path = dir.join(format!("renewed{number}.db"));
    let (person, mut own) = (Person::new(number).engine(), open(&path));
    let package = done(&mut own, |tx| person.key_package(tx, false, now_ms())).bytes;
    let adds = std::iter::once(package).chain(other).collect();
    let plan = CommitPlan { adds, ..CommitPlan::default() };
    let welcome = done(store, |tx| {
        let sealed = founder.commit(tx, &GROUP, (&place(), &plan))?;
        founder.merge_pending(tx, &GROUP)?;
        Ok(sealed.welcome.unwrap())
    });
    let update = done(&mut own, |tx| {
        person.join(tx, &pointer(&welcome), &welcome)?;
        person.commit(tx, &GROUP, (&place(), &CommitPlan::default()))
    });
    drop(own);
    std::fs::remove_file(path).unwrap();
    let change = update.change.encode();
    let entry = CommitEntry {
        payload: &update.payload,
        roster_change: &change,
        statements: &[],
        accepted_at_ms: now_ms(),
    };
    let verdict = done(store, |tx| founder.judge(tx, &GROUP, &entry));
    assert!(matches!(verdict, Verdict::Applied(_)), "a self-update is applied");
}
