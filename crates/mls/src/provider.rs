//! The OpenMLS provider: its crypto, its randomness and its storage, over SQL tables in the
//! caller's transaction, so that a ratchet step and the application's rows commit or vanish
//! together. It opens no transaction or savepoint and keeps nothing between calls: after a
//! rollback an `MlsGroup` held in memory is ahead of the tables, which its stamp shows.

mod codec;
#[cfg(test)]
mod equivalence;
mod group;
mod keys;
pub(crate) mod listening;
pub(crate) mod overheard;
mod proposals;
pub(crate) mod put_off;
mod stamp;
mod storage;

pub(crate) use stamp::Stamp;

use openmls_rust_crypto::RustCrypto;
use openmls_traits::OpenMlsProvider;
use openmls_traits::storage::CURRENT_VERSION;
use qpc_storage::sql::{self, Connection, Params, Row};
use qpc_storage::{Migration, Schema};
use serde::de::DeserializeOwned;

// The tables hold version 1 of the values of OpenMLS. A library with a newer version must not
// compile before a migration carries the stored values over.
const _: () = assert!(CURRENT_VERSION == 1);

/// The tables of the OpenMLS state, to be opened together with those of the application.
#[must_use]
pub fn schema() -> Schema {
    const MIGRATIONS: &[Migration] = &[
        Migration { name: "provider", sql: include_str!("../migrations/0001_provider.sql") },
        Migration {
            name: "message_secrets",
            sql: include_str!("../migrations/0002_message_secrets.sql"),
        },
    ];
    // An older program would look for the message secrets where they are no more.
    Schema { name: "mls", migrations: MIGRATIONS, oldest_reader: 2 }
}

/// Why the provider could not read or write a value. Never carries stored content.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// SQLite refused; `qpc_storage::StorageError::from_sql` tells who must act.
    #[error("the MLS state could not be read or written")]
    Sql(#[from] sql::Error),
    /// A stored value does not have the expected form: written by another version, or damaged.
    #[error("a stored MLS value could not be decoded")]
    Decode,
    /// A value has no encoding: a bug of this crate or of OpenMLS.
    #[error("an MLS value could not be encoded")]
    Encode,
}

/// What OpenMLS needs for one operation, bound to one transaction.
pub struct Provider<'t> {
    crypto: &'t RustCrypto,
    storage: Store<'t>,
}

impl<'t> Provider<'t> {
    /// A provider that reads and writes on `tx`, which has the tables of [`schema`].
    #[must_use]
    pub fn new(crypto: &'t RustCrypto, tx: &'t Connection) -> Self {
        Provider { crypto, storage: Store::new(tx) }
    }
}

impl<'t> OpenMlsProvider for Provider<'t> {
    type CryptoProvider = RustCrypto;
    type RandProvider = RustCrypto;
    type StorageProvider = Store<'t>;

    fn storage(&self) -> &Store<'t> {
        &self.storage
    }

    fn crypto(&self) -> &RustCrypto {
        self.crypto
    }

    fn rand(&self) -> &RustCrypto {
        self.crypto
    }
}

/// The OpenMLS storage on one transaction.
pub struct Store<'t> {
    tx: &'t Connection,
}

impl<'t> Store<'t> {
    /// The storage on `tx`, which has the tables of [`schema`].
    #[must_use]
    pub fn new(tx: &'t Connection) -> Self {
        Store { tx }
    }

    fn execute(&self, statement: &str, params: impl Params) -> Result<(), ProviderError> {
        self.tx.prepare_cached(statement)?.execute(params)?;
        Ok(())
    }

    fn one<T: DeserializeOwned>(
        &self,
        query: &str,
        params: impl Params,
    ) -> Result<Option<T>, ProviderError> {
        let mut statement = self.tx.prepare_cached(query)?;
        let mut rows = statement.query(params)?;
        rows.next()?.map(|row| decode(row, 0)).transpose()
    }

    fn all<T>(
        &self,
        query: &str,
        params: impl Params,
        read: impl Fn(&Row<'_>) -> Result<T, ProviderError>,
    ) -> Result<Vec<T>, ProviderError> {
        let mut statement = self.tx.prepare_cached(query)?;
        let mut rows = statement.query(params)?;
        let mut values = Vec::new();
        while let Some(row) = rows.next()? {
            values.push(read(row)?);
        }
        Ok(values)
    }
}

// Decodes from SQLite's own memory: no copy of a secret is made on the way.
fn decode<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<T, ProviderError> {
    let bytes = row.get_ref(column)?.as_blob();
    codec::decode(bytes.map_err(|_| ProviderError::Decode)?)
}
