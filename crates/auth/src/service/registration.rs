//! New accounts and the invites that let them in. Never issues a token.

use qpc_credential::{AccountKey, DeviceEntry, DeviceList};
use qpc_proto::AccountId;
use qpc_proto::binding::Purpose;
use qpc_proto::chain::sha256;
use qpc_proto::limits::INVITE_BYTES;
use qpc_proto::message::{DeviceRef, Register, RegistrationMode};
use qpc_storage::Tx;
use rand_core::{CryptoRng, RngCore};
use zeroize::Zeroizing;

use super::{Auth, Call, check_proof, contradiction};
use crate::name::skeleton;
use crate::store::accounts::{self, NewAccount};
use crate::store::invites;
use crate::{AuthError, normalise};

impl Auth {
    /// Creates an account with its first device.
    ///
    /// The account key is of generation 1, the device list of version 1, under the normalised name,
    /// and holds exactly the registering device, which signed this connection's binding.
    ///
    /// # Errors
    /// [`AuthError::RegistrationClosed`], [`AuthError::InviteRequired`],
    /// [`AuthError::ProofOfWorkRequired`],
    /// [`AuthError::NameInvalid`], [`AuthError::Identity`],
    /// [`AuthError::Unauthenticated`] (the proof),
    /// [`AuthError::DuplicateKey`], [`AuthError::NameTaken`], [`AuthError::Store`].
    pub fn register(&self, call: &Call<'_>, register: &Register) -> Result<AccountId, AuthError> {
        // The cheap gate first; the caller's rollback gives an invite back if the rest fails.
        self.admit(call, register)?;
        let name = normalise(&register.name)?;
        let account_key = AccountKey::verify(&register.account_key)?;
        self.check_work(call, &account_key.account(), register.proof_of_work)?;
        let list = DeviceList::verify(&register.device_list, &account_key)?;
        let entry = first_device(&account_key, &list, register)?;
        if list.name != name {
            return Err(contradiction("the device list names another account name"));
        }
        if entry.not_after_ms <= call.now_ms {
            return Err(contradiction("the device's entry has ended"));
        }
        let device = DeviceRef { account: account_key.account(), device: register.device };
        let signed = (&device, Purpose::Register);
        check_proof(call.binding, &entry.key, signed, &register.proof)?;
        let new = NewAccount {
            device,
            device_key: entry.key,
            root: account_key.root,
            name: &name,
            skeleton: &skeleton(&name),
            created_at_ms: call.now_ms,
        };
        if accounts::knows(call.tx, &new)? {
            return Err(AuthError::DuplicateKey);
        }
        if accounts::looks_taken(call.tx, new.skeleton)? {
            return Err(AuthError::NameTaken);
        }
        accounts::insert(call.tx, &new)?;
        accounts::insert_account_key(call.tx, &account_key, &register.account_key)?;
        accounts::insert_list(call.tx, &list, &register.device_list)?;
        Ok(device.account)
    }

    /// Makes a one-use invite. The code is returned once; only its SHA-256 is kept.
    ///
    /// # Errors
    /// [`AuthError::Store`].
    pub fn create_invite(
        &self,
        tx: &Tx<'_>,
        now_ms: u64,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<Zeroizing<[u8; INVITE_BYTES]>, AuthError> {
        let mut code = Zeroizing::new([0; INVITE_BYTES]);
        rng.fill_bytes(code.as_mut());
        let expires_at_ms = now_ms.saturating_add(self.config.invite_ttl_ms);
        invites::insert(tx, &sha256(code.as_ref()), expires_at_ms)?;
        Ok(code)
    }

    fn admit(&self, call: &Call<'_>, register: &Register) -> Result<(), AuthError> {
        match self.config.registration {
            RegistrationMode::Open => match register.proof_of_work {
                // Without one, no signature is worth checking.
                None => self.check_work(call, &AccountId::ZERO, None),
                Some(_) => Ok(()),
            },
            RegistrationMode::Closed => Err(AuthError::RegistrationClosed),
            RegistrationMode::Invite => {
                let taken = invites::take(call.tx, &sha256(&register.invite), call.now_ms)?;
                taken.then_some(()).ok_or(AuthError::InviteRequired)
            }
        }
    }
}

/// The one device of a first list.
fn first_device(
    account_key: &AccountKey,
    list: &DeviceList,
    register: &Register,
) -> Result<DeviceEntry, AuthError> {
    if account_key.generation != 1 || list.version != 1 {
        return Err(contradiction("a registration is generation 1, version 1"));
    }
    match list.devices.as_slice() {
        [entry] if entry.device == register.device => Ok(*entry),
        _ => Err(contradiction("the first list holds the registering device alone")),
    }
}
