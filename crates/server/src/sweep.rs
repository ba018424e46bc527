//! What a node ends and deletes from time to time: expired rows, and accounts whose grace is over.
//!
//! Small steps, each whole in itself. Decides nothing about when; the server's timer does.

use bytes::Bytes;
use qpc_delivery::Room;
use qpc_proto::ChannelId;
use qpc_storage::{Outcome, StorageError, Store, Tx};
use rand_core::{CryptoRng, RngCore};

use crate::node::{Node, Outputs, Refused};
use crate::refusal::Refusal;
use crate::router::account::{self, Effects};
use crate::store;

/// How long answers to request ids are kept, in milliseconds: longer than any client retries.
const ANSWERS_KEPT_MS: u64 = 8 * 24 * 60 * 60 * 1_000;
/// Rows that one sweep deletes at most, so that it never holds up a group commit for long.
const SWEEP_ROWS_MAX: u32 = 512;
/// Channels that one sweep looks at because something was acknowledged in them.
pub(crate) const ACKED_AT_ONCE: usize = 256;

impl Node {
    /// Sweeps once, in a transaction of its own, for who drives a node without a server. In the
    /// channels `acked` something was acknowledged lately: at most 256. Gives what leaves, and
    /// whether another sweep has work.
    ///
    /// # Errors
    /// [`StorageError`] when the database fails: then nothing was swept.
    pub fn sweep_once<R: RngCore + CryptoRng + Send>(
        &self,
        store: &mut Store,
        (now_ms, rng): (u64, &mut R),
        acked: &[ChannelId],
    ) -> Result<(Outputs, bool), StorageError> {
        let swept = store.transact(|tx| {
            self.sweep(tx, now_ms, acked).map_err(|refusal| Refused::new(refusal, &mut *rng))
        })?;
        Ok(match swept {
            Outcome::Done(swept) => swept,
            Outcome::Refused(refused) => (*refused.outputs, false),
            Outcome::Panicked => {
                (Outputs::refusal(Refusal::internal("a sweep panicked"), rng), false)
            }
        })
    }

    /// Deletes some of what has outlived its use, and ends accounts whose time has come. Gives what
    /// leaves once that is on disk, and whether another call has work too. In the channels `acked`
    /// something was acknowledged lately: at most [`ACKED_AT_ONCE`].
    pub(crate) fn sweep(
        &self,
        tx: &Tx<'_>,
        now_ms: u64,
        acked: &[ChannelId],
    ) -> Result<(Outputs, bool), Refusal> {
        let answers_until_ms = now_ms.saturating_sub(ANSWERS_KEPT_MS);
        let mut room = Room::of(SWEEP_ROWS_MAX);
        self.delivery.trim_acked((tx, now_ms), acked, &mut room)?;
        let swept = [
            store::sweep_answers(tx, answers_until_ms, SWEEP_ROWS_MAX)?,
            self.auth.sweep_expired(tx, now_ms, SWEEP_ROWS_MAX)?,
            self.delivery.sweep_expired(tx, now_ms, &mut room)?,
        ];
        let full = usize::try_from(SWEEP_ROWS_MAX).unwrap_or(usize::MAX);
        let (effects, more) = account::sweep_deletions(self, (tx, now_ms), &mut room)?;
        let more = more || swept.iter().any(|rows| *rows >= full);
        let more = more || self.delivery.has_due(tx, now_ms)?;
        let Effects { wakes, ended, audit } = effects;
        let outputs = Outputs { wakes, ended, audit, ..Outputs::reply(Bytes::new()) };
        Ok((outputs, more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Policy, schemas};
    use qpc_proto::aad::{Aad, CommitBinding};
    use qpc_proto::message::{ChannelKind, CommitBundle, CreateChannel, Cursor, DeviceRef, Fetch};
    use qpc_proto::roster::RosterChange;
    use qpc_proto::{AccountId, DeviceId, MessageId, chain};
    use qpc_storage::{Durability, Key, Options};
    use rand_core::OsRng;

    const CHANNEL: ChannelId = ChannelId([7; 16]);

    fn started() -> (tempfile::TempDir, Store, Node) {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new(Key::from_bytes([1; 32]), schemas());
        let options = options.with_durability(Durability::Process);
        let mut store = Store::open(&dir.path().join("server.db"), &options).unwrap();
        let node = Node::open(&mut store, Policy::default(), &mut OsRng).unwrap();
        (dir, store, node)
    }

    /// A group of one, made by hand (RFC 9420 section 6).
    fn founding() -> CreateChannel {
        let change = RosterChange::default();
        let (roster_change, statements) = (change.digest(), chain::statements_digest(&[]));
        let commit = Some(CommitBinding { roster_change, statements });
        let aad = Aad { channel: CHANNEL, base_commit: 0, head_seq: 0, head: [0; 16], commit };
        let aad = aad.encode();
        let long = |bytes: &[u8]| {
            [&(0x4000 | u16::try_from(bytes.len()).unwrap()).to_be_bytes(), bytes].concat()
        };
        let group = [&[0, 1, 0, 2, 32][..], &[9; 32], &[0; 8], &[3], &long(&aad), &[1, 0, 1, 0]];
        let bundle = CommitBundle {
            message_id: MessageId([1; 16]),
            after_commit: 0,
            payload: group.concat().into(),
            roster_change: change.encode().into(),
            welcome: None,
            statements: Vec::new(),
        };
        CreateChannel {
            channel: CHANNEL,
            kind: ChannelKind::Group,
            bundle,
            retention_ms: 0,
            reset: None,
        }
    }

    #[test]
    fn what_all_have_acknowledged_goes_with_the_next_sweep() {
        let (_dir, mut store, node) = started();
        let caller = DeviceRef { account: AccountId([1; 16]), device: DeviceId([2; 16]) };
        let done = store.transact(|tx| {
            let call = qpc_delivery::Call { tx, caller, now_ms: 1_000 };
            let fetch = Fetch { channel: CHANNEL, after_seq: 0, bytes_max: 0 };
            node.delivery.create_channel(&call, &founding())?;
            node.sweep(tx, 1_000, &[CHANNEL]).unwrap();
            assert_eq!(node.delivery.fetch(&call, &fetch)?.entries.len(), 1);
            node.delivery.ack(&call, &[Cursor { channel: CHANNEL, seq: 1 }])?;
            node.sweep(tx, 1_000, &[]).unwrap();
            assert_eq!(node.delivery.fetch(&call, &fetch)?.entries.len(), 1);
            node.sweep(tx, 1_000, &[CHANNEL]).unwrap();
            Ok::<_, qpc_delivery::DeliveryError>(node.delivery.fetch(&call, &fetch).is_err())
        });
        assert!(matches!(done.unwrap(), Outcome::Done(true)));
    }

    #[test]
    fn a_sweep_that_leaves_work_says_so() {
        let (_dir, mut store, node) = started();
        let swept = store.transact(|tx| {
            for _ in 0..SWEEP_ROWS_MAX + 1 {
                node.create_invite(tx, 1_000, &mut OsRng).unwrap();
            }
            let sweep = || node.sweep(tx, u64::MAX / 4, &[]).unwrap().1;
            Ok::<_, qpc_storage::sql::Error>([sweep(), sweep()])
        });
        assert!(matches!(swept.unwrap(), Outcome::Done([true, false])));
    }
}
