//! The values found by a key of their own rather than by a group: signature and encryption key
//! pairs, key packages and pre-shared keys. Never deletes one on its own account.

use qpc_storage::sql::params;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ProviderError, Store, codec};

/// The statements of one table with a key and a value.
pub(super) struct Keyed {
    put: &'static str,
    get: &'static str,
    erase: &'static str,
}

macro_rules! keyed {
    ($table:literal, $key:literal) => {
        Keyed {
            put: concat!(
                "INSERT INTO ",
                $table,
                " (",
                $key,
                ", value) VALUES (?1, ?2) ",
                "ON CONFLICT (",
                $key,
                ") DO UPDATE SET value = excluded.value"
            ),
            get: concat!("SELECT value FROM ", $table, " WHERE ", $key, " = ?1"),
            erase: concat!("DELETE FROM ", $table, " WHERE ", $key, " = ?1"),
        }
    };
}

pub(super) const SIGNATURE_KEY_PAIR: Keyed = keyed!("mls_signature_key_pair", "public_key");
pub(super) const ENCRYPTION_KEY_PAIR: Keyed = keyed!("mls_encryption_key_pair", "public_key");
pub(super) const KEY_PACKAGE: Keyed = keyed!("mls_key_package", "reference");
pub(super) const PSK: Keyed = keyed!("mls_psk", "psk_id");

impl Store<'_> {
    pub(super) fn put_keyed(
        &self,
        table: &Keyed,
        key: &impl Serialize,
        value: &impl Serialize,
    ) -> Result<(), ProviderError> {
        let (key, value) = (codec::encode(key)?, codec::encode(value)?);
        self.execute(table.put, params![key.as_slice(), value.as_slice()])
    }

    pub(super) fn get_keyed<T: DeserializeOwned>(
        &self,
        table: &Keyed,
        key: &impl Serialize,
    ) -> Result<Option<T>, ProviderError> {
        let key = codec::encode(key)?;
        self.one(table.get, params![key.as_slice()])
    }

    pub(super) fn erase_keyed(
        &self,
        table: &Keyed,
        key: &impl Serialize,
    ) -> Result<(), ProviderError> {
        let key = codec::encode(key)?;
        self.execute(table.erase, params![key.as_slice()])
    }

    /// The keys of the key packages that are here.
    pub(crate) fn key_package_references<T: DeserializeOwned>(
        &self,
    ) -> Result<Vec<T>, ProviderError> {
        let query = "SELECT reference FROM mls_key_package";
        self.all(query, [], |row| super::decode(row, 0))
    }
}
