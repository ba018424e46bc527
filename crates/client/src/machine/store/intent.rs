//! Group operations in progress, their claimed KeyPackages and sealed Commits.

use bytes::Bytes;
use qpc_proto::message::CommitBundle;
use qpc_proto::{AccountId, ChannelId, MessageId, RequestId};
use qpc_storage::sql::{self, OptionalExtension as _, Row, params};

use super::message::TIME_MAX;
use super::{Db, pack, unpack};

/// What is wanted. The number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IntentKind {
    Create,
    Add,
    Remove,
    Leave,
    /// Other devices of the own account come in.
    Sibling,
    /// Devices that their account's newest list took off go out.
    Revoke,
    /// This device asks to be taken in again.
    Rejoin,
    /// Devices that lost their place go out and in again by one Commit.
    TakeBack,
    /// The own leaf gets new keys.
    Update,
    /// Title, description or a role change.
    Context,
    /// What this device made of a Commit is said.
    Verdict,
}

/// How far it is. Below `Done` it is open. The number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IntentState {
    /// KeyPackages are still to be claimed.
    Claiming,
    /// Its Commit (or statement) is to be sealed.
    Ready,
    /// Its Commit is sealed; resent as it is until settled.
    Sealed,
    Done,
    Failed,
}

/// A group operation.
#[derive(Debug, Clone)]
pub(crate) struct IntentRow {
    pub(crate) id: u64,
    pub(crate) channel: ChannelId,
    pub(crate) kind: IntentKind,
    pub(crate) state: IntentState,
    pub(crate) request_id: RequestId,
    pub(crate) attempts: u32,
    pub(crate) not_before_ms: u64,
    pub(crate) reason: Option<String>,
    /// How often KeyPackages were waited for.
    pub(crate) claims: u32,
}

/// A sealed Commit.
#[derive(Debug, Clone)]
pub(crate) struct SealedCommitRow {
    pub(crate) intent: u64,
    pub(crate) bundle: CommitBundle,
}

impl IntentKind {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Create => 0,
            Self::Add => 1,
            Self::Remove => 2,
            Self::Leave => 3,
            Self::Sibling => 4,
            Self::Revoke => 5,
            Self::Rejoin => 6,
            Self::TakeBack => 7,
            Self::Update => 10,
            Self::Context => 11,
            Self::Verdict => 12,
        }
    }

    /// Whether it is done by a statement instead of a Commit.
    pub(crate) fn is_statement(self) -> bool {
        matches!(self, Self::Leave | Self::Rejoin | Self::Verdict)
    }
}

impl IntentState {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Claiming => 0,
            Self::Ready => 1,
            Self::Sealed => 2,
            Self::Done => 3,
            Self::Failed => 4,
        }
    }
}

const COLUMNS: &str =
    "id, channel, kind, state, request_id, attempts, not_before_ms, reason, claims";

fn read(row: &Row<'_>) -> sql::Result<IntentRow> {
    Ok(IntentRow {
        id: row.get(0)?,
        channel: ChannelId(row.get(1)?),
        kind: match row.get::<_, u8>(2)? {
            0 => IntentKind::Create,
            1 => IntentKind::Add,
            2 => IntentKind::Remove,
            4 => IntentKind::Sibling,
            5 => IntentKind::Revoke,
            6 => IntentKind::Rejoin,
            7 => IntentKind::TakeBack,
            10 => IntentKind::Update,
            11 => IntentKind::Context,
            12 => IntentKind::Verdict,
            _ => IntentKind::Leave,
        },
        state: match row.get::<_, u8>(3)? {
            0 => IntentState::Claiming,
            1 => IntentState::Ready,
            2 => IntentState::Sealed,
            3 => IntentState::Done,
            _ => IntentState::Failed,
        },
        request_id: RequestId(row.get(4)?),
        attempts: row.get(5)?,
        not_before_ms: row.get(6)?,
        reason: row.get(7)?,
        claims: row.get(8)?,
    })
}

impl Db<'_> {
    /// Notes an operation, at `now_ms`.
    pub(crate) fn insert_intent(&self, intent: &IntentRow, now_ms: u64) -> sql::Result<u64> {
        self.0
            .prepare_cached(
                "INSERT INTO intent (channel, kind, state, request_id, not_before_ms,
                    waits_since_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                intent.channel.0,
                intent.kind.code(),
                intent.state.code(),
                intent.request_id.0,
                intent.not_before_ms,
                now_ms.min(TIME_MAX)
            ])?;
        Ok(u64::try_from(self.0.last_insert_rowid()).unwrap_or(0))
    }

    pub(crate) fn insert_intent_account(
        &self,
        intent: u64,
        (account, request_id): (&AccountId, &RequestId),
    ) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "INSERT OR IGNORE INTO intent_account (intent, account, request_id)
                 VALUES (?1, ?2, ?3)",
            )?
            .execute(params![intent, account.0, request_id.0])?;
        Ok(())
    }

    pub(crate) fn intent(&self, id: u64) -> sql::Result<Option<IntentRow>> {
        let query = format!("SELECT {COLUMNS} FROM intent WHERE id = ?1");
        self.0.prepare_cached(&query)?.query_row([id], read).optional()
    }

    /// Open operations, oldest first.
    pub(crate) fn open_intents(&self) -> sql::Result<Vec<IntentRow>> {
        let query = format!("SELECT {COLUMNS} FROM intent WHERE state < 3 ORDER BY id");
        self.0.prepare_cached(&query)?.query_map([], read)?.collect()
    }

    /// All operations of a channel.
    pub(crate) fn intents_of(&self, channel: &ChannelId) -> sql::Result<Vec<u64>> {
        self.0
            .prepare_cached("SELECT id FROM intent WHERE channel = ?1")?
            .query_map([channel.0], |row| row.get(0))?
            .collect()
    }

    /// Open operations of a channel, oldest first.
    pub(crate) fn open_in(&self, channel: &ChannelId) -> sql::Result<Vec<IntentRow>> {
        let query =
            format!("SELECT {COLUMNS} FROM intent WHERE channel = ?1 AND state < 3 ORDER BY id");
        self.0.prepare_cached(&query)?.query_map([channel.0], read)?.collect()
    }

    pub(crate) fn set_intent(
        &self,
        id: u64,
        (state, reason): (IntentState, Option<&str>),
    ) -> sql::Result<()> {
        self.0
            .prepare_cached("UPDATE intent SET state = ?2, reason = ?3 WHERE id = ?1")?
            .execute(params![id, state.code(), reason])?;
        Ok(())
    }

    /// Keeps the signed statement of an operation: every retry sends the same bytes.
    pub(crate) fn put_statement(
        &self,
        id: u64,
        (statement, now_ms): (&[u8], u64),
    ) -> sql::Result<()> {
        self.0
            .prepare_cached("UPDATE intent SET statement = ?2 WHERE id = ?1")?
            .execute(params![id, statement])?;
        // The request's id is the entry's message id.
        self.0
            .prepare_cached(
                "INSERT INTO sealed_id (channel, message_id, sealed_at_ms)
                 SELECT channel, request_id, ?2 FROM intent WHERE id = ?1",
            )?
            .execute(params![id, now_ms.min(TIME_MAX)])?;
        Ok(())
    }

    /// The statement that an operation relies on; it stands in the log already.
    pub(crate) fn rely_on(&self, id: u64, statement: &[u8]) -> sql::Result<()> {
        self.0
            .prepare_cached("UPDATE intent SET statement = ?2 WHERE id = ?1")?
            .execute(params![id, statement])?;
        Ok(())
    }

    /// Whether a removal that relied on a statement failed for good in a channel.
    pub(crate) fn gave_up(&self, channel: &ChannelId, statement: &[u8]) -> sql::Result<bool> {
        self.0
            .prepare_cached(
                "SELECT 1 FROM intent
                 WHERE channel = ?1 AND statement = ?2 AND kind = ?3 AND state = ?4",
            )?
            .exists(params![
                channel.0,
                statement,
                IntentKind::Revoke.code(),
                IntentState::Failed.code()
            ])
    }

    /// The signed statement of an operation.
    pub(crate) fn statement(&self, id: u64) -> sql::Result<Option<Vec<u8>>> {
        self.0
            .prepare_cached("SELECT statement FROM intent WHERE id = ?1")?
            .query_row([id], |row| row.get(0))
    }

    /// The operation is about another channel: the pair's live one.
    pub(crate) fn move_intent(&self, id: u64, channel: &ChannelId) -> sql::Result<()> {
        self.0
            .prepare_cached("UPDATE intent SET channel = ?2 WHERE id = ?1")?
            .execute(params![id, channel.0])?;
        Ok(())
    }

    /// Counts an attempt, and gives the operation a new request id; nothing makes it wait.
    pub(crate) fn retry_intent(&self, id: u64, request_id: &RequestId) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "UPDATE intent SET attempts = attempts + 1, request_id = ?2, not_before_ms = 0
                 WHERE id = ?1",
            )?
            .execute(params![id, request_id.0])?;
        Ok(())
    }

    /// Ends what waits by a clock that was ahead of `now_ms`: operations made to wait later than
    /// that, what was asked for later, and what waits until after `end_ms`, successors to be made
    /// and channels that are quiet, which never are for longer than `quiet_ms`.
    pub(crate) fn end_waits(&self, now_ms: u64, (end_ms, quiet_ms): (u64, u64)) -> sql::Result<()> {
        let quiet_end_ms = end_ms.min(now_ms.saturating_add(quiet_ms));
        for (ends, until_ms) in [
            ("UPDATE intent SET not_before_ms = 0 WHERE state < 3 AND waits_since_ms > ?1", now_ms),
            ("UPDATE channel SET quiet_until_ms = 0 WHERE quiet_until_ms > ?1", quiet_end_ms),
            ("UPDATE rejoin SET asked_ms = ?1 WHERE asked_ms > ?1", now_ms),
        ] {
            self.0.prepare_cached(ends)?.execute([until_ms.min(TIME_MAX)])?;
        }
        self.0
            .prepare_cached("UPDATE ended SET at_ms = ?2 WHERE at_ms > ?1")?
            .execute([end_ms.min(TIME_MAX), now_ms.min(TIME_MAX)])?;
        Ok(())
    }

    /// Counts a wait for KeyPackages, and says until when.
    pub(crate) fn wait_for_claim(
        &self,
        id: u64,
        (now_ms, not_before_ms): (u64, u64),
    ) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "UPDATE intent SET claims = claims + 1, not_before_ms = ?2, waits_since_ms = ?3
                 WHERE id = ?1",
            )?
            .execute(params![id, not_before_ms, now_ms.min(TIME_MAX)])?;
        Ok(())
    }

    /// An account is out: open removals have nothing left to do about it.
    pub(crate) fn drop_removals(
        &self,
        channel: &ChannelId,
        account: &AccountId,
    ) -> sql::Result<()> {
        self.0
            .prepare_cached(
                "DELETE FROM intent_account WHERE account = ?2 AND intent IN
                    (SELECT id FROM intent WHERE channel = ?1 AND kind = ?3 AND state < 3)",
            )?
            .execute(params![channel.0, account.0, IntentKind::Remove.code()])?;
        Ok(())
    }

    pub(crate) fn put_sealed_commit(
        &self,
        channel: &ChannelId,
        (sealed, now_ms): (&SealedCommitRow, u64),
    ) -> sql::Result<()> {
        let bundle = &sealed.bundle;
        self.0
            .prepare_cached(
                "INSERT INTO sealed_commit (intent, channel, message_id, after_commit, payload,
                    roster_change, welcome, statements)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                sealed.intent,
                channel.0,
                bundle.message_id.0,
                bundle.after_commit,
                bundle.payload.as_ref(),
                bundle.roster_change.as_ref(),
                bundle.welcome.as_deref(),
                pack(&bundle.statements),
            ])?;
        self.0
            .prepare_cached(
                "INSERT INTO sealed_id (channel, message_id, sealed_at_ms) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![channel.0, bundle.message_id.0, now_ms.min(TIME_MAX)])?;
        Ok(())
    }

    /// The pending Commit of a channel.
    pub(crate) fn sealed_commit(
        &self,
        channel: &ChannelId,
    ) -> sql::Result<Option<SealedCommitRow>> {
        self.0
            .prepare_cached(
                "SELECT intent, message_id, after_commit, payload, roster_change, welcome,
                        statements
                 FROM sealed_commit WHERE channel = ?1",
            )?
            .query_row([channel.0], |row| {
                let bytes = |index| row.get::<_, Vec<u8>>(index).map(Bytes::from);
                let statements: Vec<u8> = row.get(6)?;
                Ok(SealedCommitRow {
                    intent: row.get(0)?,
                    bundle: CommitBundle {
                        message_id: MessageId(row.get(1)?),
                        after_commit: row.get(2)?,
                        payload: bytes(3)?,
                        roster_change: bytes(4)?,
                        welcome: row.get::<_, Option<Vec<u8>>>(5)?.map(Bytes::from),
                        statements: unpack(&statements).into_iter().map(Bytes::from).collect(),
                    },
                })
            })
            .optional()
    }

    pub(crate) fn drop_sealed_commit(&self, channel: &ChannelId) -> sql::Result<()> {
        self.0
            .prepare_cached("DELETE FROM sealed_commit WHERE channel = ?1")?
            .execute([channel.0])?;
        Ok(())
    }
}
