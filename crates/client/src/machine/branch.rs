//! What comes of a Commit that members disagreed about, once it is settled: who is on the side that
//! was given up comes back, and what it wrote there is sent again.

use qpc_credential::RejoinReason;

use super::ballot::Outcome;
use super::store::{ChannelRow, Made, Status, VerdictRow};
use super::{Machine, Step};
use crate::error::ClientError;

/// Why a message that was accepted waits again.
const AGAIN: &str = "it was sent where others could not read it: it is sent again";

impl Machine {
    /// A Commit stands or has fallen, for everybody alike.
    pub(super) fn settled(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        (noted, outcome): (&VerdictRow, Outcome),
    ) -> Result<(), ClientError> {
        let lost = match (outcome, noted.made) {
            (Outcome::Stands, Made::Unjudged) | (Outcome::Falls, Made::Applied) => true,
            // Against an own judgement nothing is done: the user was told.
            (_, Made::Void | Made::Elsewhere) => false,
            (Outcome::Stands, Made::Applied) | (Outcome::Falls, Made::Unjudged) => false,
        };
        if lost {
            return self.lose_branch(step, row, noted);
        }
        step.db.drop_verdict(&row.channel, noted.seq)?;
        if !noted.told || noted.made == Made::Void {
            return Ok(());
        }
        let text = "it is settled: this device goes on; those on the other side come back, and \
            what they wrote meanwhile comes again";
        self.notice(step, row, (noted.electorate.committer, row.cursor, text.to_owned()))
    }

    /// The group goes on without what this device built on.
    fn lose_branch(
        &mut self,
        step: &mut Step<'_>,
        row: &mut ChannelRow,
        noted: &VerdictRow,
    ) -> Result<(), ClientError> {
        step.db.drop_verdicts(&row.channel)?;
        // Who is out stays out.
        if !row.status.reads() || row.status == Status::Creating {
            return Ok(());
        }
        step.db.put_lost(&row.channel, noted.seq)?;
        if row.status == Status::Leaving {
            self.rebase(step, row)?;
            return self.end_leave(step, row);
        }
        self.want_rejoin(step, row, RejoinReason::Branch)
    }

    /// This device was taken into a channel that it knew: what it sent where the others could not
    /// read it goes again. Who could read it knows it by its content id. Who had left is a new
    /// member: what it wrote before is not for those who are in now.
    pub(super) fn came_back(
        &mut self,
        step: &mut Step<'_>,
        (row, old): (&ChannelRow, Option<&ChannelRow>),
    ) -> Result<(), ClientError> {
        if old.is_some_and(|old| old.status == Status::Left) {
            step.db.drop_verdicts(&row.channel)?;
            return Ok(step.db.drop_lost(&row.channel)?);
        }
        let lost = match step.db.lost(&row.channel)? {
            Some(seq) => Some(seq),
            None => step.db.first_unjudged(&row.channel)?,
        };
        step.db.drop_verdicts(&row.channel)?;
        let Some(lost) = lost else { return Ok(()) };
        step.db.drop_lost(&row.channel)?;
        let own = self.profile.identity.device.device;
        // An answer that is on its way speaks of bytes that are dropped here.
        self.batches.remove(&row.channel);
        for id in step.db.send_again((&row.channel, &own), (lost, AGAIN))? {
            self.show_own(step, id)?;
        }
        Ok(())
    }
}
