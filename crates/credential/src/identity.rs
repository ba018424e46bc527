//! An account's public identity as a server hands it out, verified. Never decides whether it is the
//! newest, or whether its root is the one that the user trusts.

use bytes::Bytes;
use qpc_proto::AccountId;
use qpc_proto::content::DeviceListDigest;
use qpc_proto::message::Identity;

use crate::account::AccountKey;
use crate::device_list::DeviceList;
use crate::error::CredentialError;

/// A verified identity with the bytes it was verified from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicIdentity {
    /// The account key, as its root states it.
    pub account_key: AccountKey,
    /// The device list that the account key signed.
    pub list: DeviceList,
    /// Signed bytes of the account key statement.
    pub account_key_bytes: Bytes,
    /// Signed bytes of the device list.
    pub list_bytes: Bytes,
}

impl PublicIdentity {
    /// Verifies both objects, and that they belong to the named account.
    ///
    /// # Errors
    /// [`CredentialError::Identity`] when anything does not.
    pub fn verify(identity: &Identity) -> Result<Self, CredentialError> {
        let account_key = AccountKey::verify(&identity.account_key)?;
        if account_key.account() != identity.account {
            return Err(CredentialError::Identity("account id is not of this root"));
        }
        Ok(Self {
            list: DeviceList::verify(&identity.device_list, &account_key)?,
            account_key,
            account_key_bytes: identity.account_key.clone(),
            list_bytes: identity.device_list.clone(),
        })
    }

    /// The account.
    pub fn account(&self) -> AccountId {
        self.list.account
    }

    /// Names the device list, for peers to compare.
    pub fn digest(&self) -> DeviceListDigest {
        self.list.digest(&self.list_bytes)
    }

    /// The identity as it travels.
    pub fn to_message(&self) -> Identity {
        Identity {
            account: self.account(),
            account_key: self.account_key_bytes.clone(),
            device_list: self.list_bytes.clone(),
        }
    }
}
