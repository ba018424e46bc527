//! Adding many: one Commit takes so many devices that it and its Welcome fit a frame, all of an
//! account together; the rest follows in the next. What does not fit is refused before anything is
//! sealed.

use std::collections::BTreeSet;

use qpc_mls::engine::{CommitPlan, bytes_of_add};
use qpc_proto::AccountId;
use qpc_proto::limits::PAYLOAD_BYTES_MAX;
use qpc_proto::roster::RosterChange;

use super::store::{ChannelRow, IntentKind, IntentState, SealedCommitRow};
use super::{Machine, Step, Work};
use crate::error::ClientError;

/// What one Commit may take.
#[derive(Debug, Clone, Copy)]
struct Room {
    /// Devices added.
    devices: usize,
    /// Bytes of the Commit and its Welcome together.
    bytes: usize,
}

/// Some 150 kB of proposals, and as much of a Welcome beside the tree; and a frame's bytes, without
/// those that it keeps for the rest of a request.
const ROOM: Room = Room { devices: 100, bytes: PAYLOAD_BYTES_MAX };
/// Claims on their way at a time: the server limits what one account claims.
const CLAIMS_AT_ONCE: usize = 16;

/// As many as one Commit takes, in order of accounts; `used` are the bytes it has without them. One
/// account at least: whether that fits is seen when it is sealed.
fn batch(
    mut adds: Vec<(AccountId, Vec<u8>)>,
    (room, mut used): (Room, usize),
) -> Vec<(AccountId, Vec<u8>)> {
    adds.sort_by_key(|(account, _)| *account);
    let mut batch: Vec<(AccountId, Vec<u8>)> = Vec::new();
    for devices in adds.chunk_by(|(one, _), (other, _)| one == other) {
        let len = batch.len().saturating_add(devices.len());
        let bytes = devices.iter().map(|(_, bytes)| bytes_of_add(bytes.len()));
        used = bytes.fold(used, usize::saturating_add);
        if !batch.is_empty() && (len > room.devices || used > room.bytes) {
            break;
        }
        batch.extend_from_slice(devices);
    }
    batch
}

/// Why a Commit of so many bytes is not sealed.
fn refusal(bytes: usize, room: Room) -> Option<String> {
    let most = room.bytes;
    (bytes > most).then(|| {
        format!(
            "TOO_LARGE: the change would take up to {bytes} bytes, and {most} fit into one: the \
             group is too large, or somebody's KeyPackages are"
        )
    })
}

impl Machine {
    /// The Commit that adds as many of these as one may; `None` when there is nobody.
    pub(super) fn plan_batch(
        &self,
        step: &Step<'_>,
        row: &ChannelRow,
        adds: Vec<(AccountId, Vec<u8>)>,
    ) -> Result<Option<CommitPlan>, ClientError> {
        let Some((_, any)) = adds.first() else { return Ok(None) };
        // With the tree, which a Commit has that adds anybody.
        let least = CommitPlan { adds: vec![any.clone()], ..CommitPlan::default() };
        let used = self.engine.bytes_of_commit(step.db.0, &row.group, &least)?;
        let used = used.saturating_sub(bytes_of_add(any.len()));
        let batch = batch(adds, (ROOM, used));
        let accounts: BTreeSet<AccountId> = batch.iter().map(|(account, _)| *account).collect();
        let view = self.engine.view(step.db.0, &row.group)?;
        let context = self.without_former_admins(&view, &accounts);
        let adds = batch.into_iter().map(|(_, bytes)| bytes).collect();
        Ok(Some(CommitPlan { adds, context, ..CommitPlan::default() }))
    }

    /// Why a planned Commit is not to be sealed: no frame would hold it.
    pub(super) fn too_large(
        &self,
        step: &Step<'_>,
        (row, plan): (&ChannelRow, &CommitPlan),
    ) -> Result<Option<String>, ClientError> {
        let bytes = self.engine.bytes_of_commit(step.db.0, &row.group, plan)?;
        Ok(refusal(bytes, ROOM))
    }

    /// The Commit of an operation is in force; one that has more to add goes on.
    pub(super) fn commit_done(
        &self,
        step: &Step<'_>,
        sealed: &SealedCommitRow,
    ) -> Result<(), ClientError> {
        let intent = sealed.intent;
        let adds = step.db.intent(intent)?.is_some_and(|row| row.kind == IntentKind::Add);
        let added =
            RosterChange::decode(&sealed.bundle.roster_change).map_or(0, |it| it.adds.len());
        let goes_on = adds && step.db.key_packages(intent)?.len() > added;
        let state = if goes_on { IntentState::Ready } else { IntentState::Done };
        Ok(step.db.set_intent(intent, (state, None))?)
    }

    /// Whether another claim may be on its way.
    pub(super) fn may_claim_more(&self) -> bool {
        let claims = self.in_flight.iter().filter(|work| matches!(work, Work::Claim(..)));
        claims.count() < CLAIMS_AT_ONCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY_PACKAGE: usize = 1_000;

    /// Accounts with so many devices each.
    fn adds(accounts: &[usize]) -> Vec<(AccountId, Vec<u8>)> {
        let of = |(at, devices): (usize, &usize)| {
            vec![(AccountId([u8::try_from(at).unwrap(); 16]), vec![0; KEY_PACKAGE]); *devices]
        };
        accounts.iter().enumerate().flat_map(of).collect()
    }

    /// How many devices each Commit takes, until none is left.
    fn batches(accounts: &[usize], room: Room) -> Vec<usize> {
        let (mut left, mut sizes) = (adds(accounts), Vec::new());
        while !left.is_empty() {
            let next = batch(left.clone(), (room, 0));
            left.retain(|(account, _)| next.iter().all(|(it, _)| it != account));
            sizes.push(next.len());
        }
        sizes
    }

    const MANY: Room = Room { bytes: usize::MAX, ..ROOM };

    #[test]
    fn case_129_five_hundred_devices_go_in_commits_of_a_hundred() {
        assert_eq!(batches(&[2; 250], MANY), [100; 5]);
        assert_eq!(batches(&[1; 99], MANY), [99]);
        assert_eq!(batches(&[1; 100], MANY), [100]);
        assert_eq!(batches(&[1; 101], MANY), [100, 1]);
        assert_eq!(batches(&[], MANY), [0; 0]);
    }

    #[test]
    fn case_129_the_devices_of_an_account_come_in_one_commit() {
        assert_eq!(batches(&[10; 15], MANY), [100, 50]);
        // Ninety-nine and two are more than a hundred.
        let mut accounts = [1; 101];
        accounts[99] = 2;
        assert_eq!(batches(&accounts, MANY), [99, 3]);
    }

    #[test]
    fn case_129_devices_with_large_key_packages_go_in_smaller_commits() {
        let each = bytes_of_add(KEY_PACKAGE);
        let room = |bytes| Room { devices: 100, bytes };
        assert_eq!(batches(&[1; 10], room(each * 4)), [4, 4, 2]);
        assert_eq!(batches(&[1; 10], room(each * 4 - 1)), [3, 3, 3, 1]);
        // What the Commit takes without them counts, too.
        assert_eq!(batch(adds(&[1; 10]), (room(each * 4), each)).len(), 3);
        // One that fits nowhere is not passed over: sealing refuses it.
        assert_eq!(batches(&[3], room(each)), [3]);
    }

    #[test]
    fn case_129_what_no_frame_holds_is_refused() {
        assert_eq!(refusal(PAYLOAD_BYTES_MAX, ROOM), None);
        let text = refusal(PAYLOAD_BYTES_MAX + 1, ROOM).unwrap();
        assert!(text.starts_with("TOO_LARGE"), "{text}");
    }
}
