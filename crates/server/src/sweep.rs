//! What a node ends and deletes from time to time: expired rows, and accounts whose grace is over.
//!
//! Small steps, each whole in itself. Decides nothing about when; the server's timer does.

use bytes::Bytes;
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

impl Node {
    /// Sweeps once, in a transaction of its own, for who drives a node without a server. Gives what
    /// leaves, and whether another sweep has work.
    ///
    /// # Errors
    /// [`StorageError`] when the database fails: then nothing was swept.
    pub fn sweep_once<R: RngCore + CryptoRng + Send>(
        &self,
        store: &mut Store,
        (now_ms, rng): (u64, &mut R),
    ) -> Result<(Outputs, bool), StorageError> {
        let swept = store.transact(|tx| {
            self.sweep(tx, now_ms).map_err(|refusal| Refused::new(refusal, &mut *rng))
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
    /// leaves once that is on disk, and whether another call has work too.
    pub(crate) fn sweep(&self, tx: &Tx<'_>, now_ms: u64) -> Result<(Outputs, bool), Refusal> {
        let answers_until_ms = now_ms.saturating_sub(ANSWERS_KEPT_MS);
        let swept = [
            store::sweep_answers(tx, answers_until_ms, SWEEP_ROWS_MAX)?,
            self.auth.sweep_expired(tx, now_ms, SWEEP_ROWS_MAX)?,
            self.delivery.sweep_expired(tx, now_ms, SWEEP_ROWS_MAX)?,
        ];
        let full = usize::try_from(SWEEP_ROWS_MAX).unwrap_or(usize::MAX);
        let (effects, more) = account::sweep_deletions(self, (tx, now_ms, SWEEP_ROWS_MAX))?;
        let Effects { wakes, ended, audit } = effects;
        let outputs = Outputs { wakes, ended, audit, ..Outputs::reply(Bytes::new()) };
        Ok((outputs, more || swept.iter().any(|rows| *rows >= full)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{Policy, schemas};
    use qpc_storage::{Durability, Key, Options};
    use rand_core::OsRng;

    #[test]
    fn a_sweep_that_leaves_work_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new(Key::from_bytes([1; 32]), schemas());
        let options = options.with_durability(Durability::Process);
        let mut store = Store::open(&dir.path().join("server.db"), &options).unwrap();
        let node = Node::open(&mut store, Policy::default(), &mut OsRng).unwrap();
        let swept = store.transact(|tx| {
            for _ in 0..SWEEP_ROWS_MAX + 1 {
                node.create_invite(tx, 1_000, &mut OsRng).unwrap();
            }
            let sweep = || node.sweep(tx, u64::MAX / 4).unwrap().1;
            Ok::<_, qpc_storage::sql::Error>([sweep(), sweep()])
        });
        assert!(matches!(swept.unwrap(), Outcome::Done([true, false])));
    }
}
