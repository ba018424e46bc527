//! What this device and others made of recent Commits, and the branch that it lost.

use qpc_proto::message::DeviceRef;
use qpc_proto::{AccountId, ChannelId, DeviceId, Digest};
use qpc_storage::sql::{self, OptionalExtension as _, Row, params};

use super::super::ballot::{Electorate, Tally, Voter};
use super::Db;
use super::message::State;

/// What this device made of a Commit. The number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    Unjudged,
    Applied,
    Void,
    /// Nothing: its base was none of this device's. Others said what they made of it.
    Elsewhere,
}

impl Made {
    fn code(self) -> u8 {
        match self {
            Self::Unjudged => 0,
            Self::Applied => 1,
            Self::Void => 2,
            Self::Elsewhere => 3,
        }
    }

    fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Unjudged,
            1 => Self::Applied,
            3 => Self::Elsewhere,
            _ => Self::Void,
        }
    }
}

/// A recent Commit.
#[derive(Debug, Clone)]
pub(crate) struct VerdictRow {
    pub(crate) channel: ChannelId,
    pub(crate) seq: u64,
    pub(crate) commit: Digest,
    pub(crate) base_commit: u64,
    pub(crate) made: Made,
    /// Accept time at which verdicts no longer count.
    pub(crate) until_ms: u64,
    pub(crate) electorate: Electorate,
    pub(crate) said: bool,
    pub(crate) told: bool,
    pub(crate) withholds: bool,
}

const COLUMNS: &str = "channel, seq, payload_hash, base_commit, own, until_ms, committer, said,
    told, withholds, leaves";

fn read(row: &Row<'_>) -> sql::Result<VerdictRow> {
    let [account, device]: [[u8; 16]; 2] = {
        let bytes: [u8; 32] = row.get(6)?;
        let (account, device) = bytes.split_at(16);
        [account.try_into().unwrap_or_default(), device.try_into().unwrap_or_default()]
    };
    let committer = DeviceRef { account: AccountId(account), device: DeviceId(device) };
    let leaves = Electorate::decode_leaves(&row.get::<_, Vec<u8>>(10)?).unwrap_or_default();
    Ok(VerdictRow {
        channel: ChannelId(row.get(0)?),
        seq: row.get(1)?,
        commit: Digest(row.get(2)?),
        base_commit: row.get(3)?,
        made: Made::from_code(row.get(4)?),
        until_ms: row.get(5)?,
        electorate: Electorate { committer, leaves },
        said: row.get(7)?,
        told: row.get(8)?,
        withholds: row.get(9)?,
    })
}

impl Db<'_> {
    /// Notes a Commit, of which nobody has said anything yet: what was, while it was read as one of
    /// another branch, is read again behind it.
    pub(crate) fn put_verdict(&self, row: &VerdictRow) -> sql::Result<()> {
        self.0
            .prepare_cached("DELETE FROM verdict_vote WHERE channel = ?1 AND seq = ?2")?
            .execute(params![row.channel.0, row.seq])?;
        self.0
            .prepare_cached(
                "INSERT OR REPLACE INTO verdict (channel, seq, payload_hash, base_commit, own,
                    until_ms, committer, said, told, withholds, leaves)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )?
            .execute(params![
                row.channel.0,
                row.seq,
                row.commit.0,
                row.base_commit,
                row.made.code(),
                row.until_ms,
                Voter::Device(row.electorate.committer).bytes(),
                row.said,
                row.told,
                row.withholds,
                row.electorate.encode_leaves(),
            ])?;
        Ok(())
    }

    /// The own verdict was posted, or the user told; the leaves are not written again.
    pub(crate) fn mark_verdict(&self, row: &VerdictRow) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "UPDATE verdict SET said = ?3, told = ?4 WHERE channel = ?1 AND seq = ?2",
            )?
            .execute(params![row.channel.0, row.seq, row.said, row.told])?;
        Ok(())
    }

    /// What is known of a Commit.
    pub(crate) fn verdict(&self, channel: &ChannelId, seq: u64) -> sql::Result<Option<VerdictRow>> {
        let query = format!("SELECT {COLUMNS} FROM verdict WHERE channel = ?1 AND seq = ?2");
        self.0.prepare_cached(&query)?.query_row(params![channel.0, seq], read).optional()
    }

    /// The Commit at which an entry with this base parts from this device's branch: the one applied
    /// here on that base, or the one that is the base and was not applied here.
    pub(crate) fn parting(
        &self,
        channel: &ChannelId,
        base: u64,
    ) -> sql::Result<Option<VerdictRow>> {
        let query = format!(
            "SELECT {COLUMNS} FROM verdict WHERE channel = ?1
                AND ((own = 1 AND base_commit = ?2) OR (own IN (0, 2) AND seq = ?2))
             ORDER BY seq LIMIT 1"
        );
        self.0.prepare_cached(&query)?.query_row(params![channel.0, base], read).optional()
    }

    /// The first Commit whose verdicts no longer count at this accept time.
    pub(crate) fn overdue(
        &self,
        channel: &ChannelId,
        accepted_at_ms: u64,
    ) -> sql::Result<Option<VerdictRow>> {
        let query = format!(
            "SELECT {COLUMNS} FROM verdict WHERE channel = ?1 AND until_ms <= ?2
             ORDER BY seq LIMIT 1"
        );
        self.0
            .prepare_cached(&query)?
            .query_row(params![channel.0, accepted_at_ms], read)
            .optional()
    }

    /// Whether a Commit that this device could not judge keeps its messages back at this time.
    pub(crate) fn withholds(&self, channel: &ChannelId, now_ms: u64) -> sql::Result<bool> {
        self.0
            .prepare_cached(
                "SELECT 1 FROM verdict WHERE channel = ?1 AND withholds = 1 AND until_ms > ?2",
            )?
            .exists(params![channel.0, now_ms])
    }

    /// The first Commit of a channel that this device could not judge.
    pub(crate) fn first_unjudged(&self, channel: &ChannelId) -> sql::Result<Option<u64>> {
        self.0
            .prepare_cached("SELECT min(seq) FROM verdict WHERE channel = ?1 AND own = 0")?
            .query_row([channel.0], |row| row.get(0))
    }

    /// Counts a verdict, if it is its voter's first.
    pub(crate) fn vote(
        &self,
        row: &VerdictRow,
        (voter, applied): (&Voter, bool),
    ) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "INSERT OR IGNORE INTO verdict_vote (channel, seq, voter, applied)
                 VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![row.channel.0, row.seq, voter.bytes(), applied])?;
        Ok(())
    }

    pub(crate) fn has_voted(&self, row: &VerdictRow, voter: &Voter) -> sql::Result<bool> {
        self.0
            .prepare_cached(
                "SELECT 1 FROM verdict_vote WHERE channel = ?1 AND seq = ?2 AND voter = ?3",
            )?
            .exists(params![row.channel.0, row.seq, voter.bytes()])
    }

    pub(crate) fn tally(&self, row: &VerdictRow) -> sql::Result<Tally> {
        self.0
            .prepare_cached(
                "SELECT count(*), coalesce(sum(applied), 0) FROM verdict_vote
                 WHERE channel = ?1 AND seq = ?2",
            )?
            .query_row(params![row.channel.0, row.seq], |row| {
                let (all, applied): (usize, usize) = (row.get(0)?, row.get(1)?);
                Ok(Tally { applied, unjudged: all.saturating_sub(applied) })
            })
    }

    /// What is open in a channel, oldest first.
    pub(crate) fn open_verdicts(&self, channel: &ChannelId) -> sql::Result<Vec<VerdictRow>> {
        let query = format!("SELECT {COLUMNS} FROM verdict WHERE channel = ?1 ORDER BY seq");
        self.0.prepare_cached(&query)?.query_map([channel.0], read)?.collect()
    }

    /// One of the voters has no voice any more; the leaves are those without it.
    pub(crate) fn silence(&self, row: &VerdictRow, voter: &Voter) -> sql::Result<()> {
        self.0
            .prepare_cached("UPDATE verdict SET leaves = ?3 WHERE channel = ?1 AND seq = ?2")?
            .execute(params![row.channel.0, row.seq, row.electorate.encode_leaves()])?;
        self.0
            .prepare_cached(
                "DELETE FROM verdict_vote WHERE channel = ?1 AND seq = ?2 AND voter = ?3",
            )?
            .execute(params![row.channel.0, row.seq, voter.bytes()])?;
        Ok(())
    }

    /// A Commit is settled: nothing more is said about it.
    pub(crate) fn drop_verdict(&self, channel: &ChannelId, seq: u64) -> sql::Result<()> {
        for table in ["verdict", "verdict_vote"] {
            let statement = format!("DELETE FROM {table} WHERE channel = ?1 AND seq = ?2");
            self.0.prepare_cached(&statement)?.execute(params![channel.0, seq])?;
        }
        Ok(())
    }

    /// This device's branch is not the group's: what it made of Commits on it is of no use.
    pub(crate) fn drop_verdicts(&self, channel: &ChannelId) -> sql::Result<()> {
        for table in ["verdict_vote", "verdict"] {
            let statement = format!(
                "DELETE FROM {table} WHERE channel = ?1 AND seq IN
                    (SELECT seq FROM verdict WHERE channel = ?1 AND own != 3)"
            );
            self.0.prepare_cached(&statement)?.execute([channel.0])?;
        }
        Ok(())
    }

    /// Whether an account gave a verdict on a Commit before a place that was none for this device
    /// to judge.
    pub(crate) fn spoke_elsewhere(
        &self,
        channel: &ChannelId,
        (account, before): (&AccountId, u64),
    ) -> sql::Result<bool> {
        self.0
            .prepare_cached(
                "SELECT 1 FROM verdict JOIN verdict_vote USING (channel, seq)
                 WHERE channel = ?1 AND own = 3 AND voter = ?2 AND seq < ?3",
            )?
            .exists(params![channel.0, Voter::Account(*account).bytes(), before])
    }

    pub(crate) fn put_lost(&self, channel: &ChannelId, seq: u64) -> sql::Result<()> {
        self.0
            .prepare_cached("INSERT OR IGNORE INTO lost_branch (channel, seq) VALUES (?1, ?2)")?
            .execute(params![channel.0, seq])?;
        Ok(())
    }

    pub(crate) fn lost(&self, channel: &ChannelId) -> sql::Result<Option<u64>> {
        self.0
            .prepare_cached("SELECT seq FROM lost_branch WHERE channel = ?1")?
            .query_row([channel.0], |row| row.get(0))
            .optional()
    }

    pub(crate) fn drop_lost(&self, channel: &ChannelId) -> sql::Result<()> {
        self.0
            .prepare_cached("DELETE FROM lost_branch WHERE channel = ?1")?
            .execute([channel.0])?;
        Ok(())
    }

    /// Own messages that were accepted, or may have been, behind a place: they wait again, and are
    /// sealed anew under the content ids that they have. In the order of writing.
    pub(crate) fn send_again(
        &self,
        (channel, device): (&ChannelId, &DeviceId),
        (after, reason): (u64, &str),
    ) -> sql::Result<Vec<u64>> {
        let accepted: Vec<u64> = self
            .0
            .prepare_cached(
                "SELECT id FROM message
                 WHERE channel = ?1 AND device = ?2 AND state = ?3 AND seq > ?4 ORDER BY id",
            )?
            .query_map(params![channel.0, device.0, State::Accepted.code(), after], |row| {
                row.get(0)
            })?
            .collect::<sql::Result<_>>()?;
        for id in &accepted {
            self.0
                .prepare_cached("INSERT OR IGNORE INTO outbox (id, channel) VALUES (?1, ?2)")?
                .execute(params![id, channel.0])?;
        }
        self.0
            .prepare_cached(
                "UPDATE outbox SET message_id = NULL, after_commit = NULL, payload = NULL,
                    accepted_seq = NULL
                 WHERE channel = ?1",
            )?
            .execute([channel.0])?;
        let waiting: Vec<u64> = self
            .0
            .prepare_cached("SELECT id FROM outbox WHERE channel = ?1 ORDER BY id")?
            .query_map([channel.0], |row| row.get(0))?
            .collect::<sql::Result<_>>()?;
        for id in &waiting {
            self.0
                .prepare_cached(
                    "UPDATE message SET seq = NULL, accepted_at_ms = NULL WHERE id = ?1",
                )?
                .execute([id])?;
            let sent = accepted.contains(id).then_some(reason);
            self.set_state(*id, (State::Waiting, sent))?;
        }
        Ok(accepted)
    }
}
