//! The proof of work that an open registration brings (Dwork and Naor 1992), and how much of it.
//!
//! A proof is for one account id, which registers once: nothing is kept of proofs.

use std::fmt;

use qpc_proto::chain::sha256;
use qpc_proto::codec::Writer;
use qpc_proto::limits::PROOF_OF_WORK_BITS_MAX;
use qpc_proto::message::{ProofOfWork, RegistrationMode};
use qpc_proto::{AccountId, Digest};
use qpc_storage::Tx;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{Auth, Call};
use crate::AuthError;
use crate::store::accounts;

/// How long a seed is asked for, and the time over which accounts are counted, in milliseconds. A
/// proof counts until the end of the window after its own.
const WINDOW_MS: u64 = 10 * 60 * 1_000;

/// 32 random bytes from which seeds follow, so that no proof can be prepared. Another one after a
/// restart costs whoever is registering a second proof, and nothing else.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct PowSecret([u8; 32]);

impl PowSecret {
    /// Takes 32 bytes of a cryptographic generator.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for PowSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PowSecret(redacted)")
    }
}

impl Auth {
    /// What a registration must prove at this time; `None` where the mode or the configuration asks
    /// for none.
    ///
    /// # Errors
    /// [`AuthError::Store`].
    pub fn proof_of_work(
        &self,
        tx: &Tx<'_>,
        now_ms: u64,
    ) -> Result<Option<ProofOfWork>, AuthError> {
        let base = self.config.pow_bits;
        if self.config.registration != RegistrationMode::Open || base == 0 {
            return Ok(None);
        }
        let since_ms = now_ms.saturating_sub(WINDOW_MS);
        let created = accounts::created_since(tx, since_ms)?;
        let raised = base.saturating_add(raise(created, self.config.pow_raise_above));
        let bits = raised.min(PROOF_OF_WORK_BITS_MAX);
        Ok(Some(ProofOfWork { seed: self.seed(now_ms / WINDOW_MS), bits }))
    }

    /// Checks the proof that a registration brings. At most two hashes and their seeds.
    pub(super) fn check_work(
        &self,
        call: &Call<'_>,
        account: &AccountId,
        nonce: Option<[u8; 8]>,
    ) -> Result<(), AuthError> {
        let Some(asked) = self.proof_of_work(call.tx, call.now_ms)? else {
            return Ok(());
        };
        let before = (call.now_ms / WINDOW_MS).saturating_sub(1);
        let earlier = ProofOfWork { seed: self.seed(before), ..asked };
        let accepts = |nonce| asked.accepts(account, nonce) || earlier.accepts(account, nonce);
        match nonce.is_some_and(accepts) {
            true => Ok(()),
            false => Err(AuthError::ProofOfWorkRequired(asked)),
        }
    }

    fn seed(&self, window: u64) -> [u8; 32] {
        let input = Writer::with_label("qpc/v1 proof of work seed")
            .fixed(self.pow_secret.0)
            .fixed(self.incarnation)
            .u64(window)
            .finish();
        let Digest(seed) = sha256(&zeroize::Zeroizing::new(input));
        seed
    }
}

/// One bit when `created` reaches `above`, and one for each doubling.
fn raise(created: u64, above: u64) -> u8 {
    let doublings = (created / above.max(1)).checked_ilog2();
    doublings.map_or(0, |doublings| u8::try_from(doublings).unwrap_or(u8::MAX).saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_doubling_of_the_load_asks_for_a_bit() {
        let raised = [0, 29, 30, 59, 60, 120, 100_000].map(|created| raise(created, 30));
        assert_eq!(raised, [0, 0, 1, 1, 2, 3, 12]);
        assert_eq!(raise(5, 0), 3);
        assert_eq!(raise(u64::MAX, 1), 64);
    }

    #[test]
    fn the_secret_never_shows() {
        assert_eq!(format!("{:?}", PowSecret::new([7; 32])), "PowSecret(redacted)");
    }
}
