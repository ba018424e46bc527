//! The floor's one table. Opened as the server that ships opens its own: SQLCipher, a write-ahead
//! log, `synchronous=FULL`.

use std::path::Path;

use anyhow::{Result, bail};
use qpc_storage::{Key, Migration, Options, Outcome, Schema, StorageError, Store};

const POSTS: Schema = Schema {
    name: "floor",
    migrations: &[Migration {
        name: "create",
        sql: "CREATE TABLE post(no INTEGER PRIMARY KEY, channel INTEGER NOT NULL, \
              payload BLOB NOT NULL)",
    }],
    oldest_reader: 1,
};

/// Everything that was ever posted.
pub(crate) struct Posts(Store);

impl Posts {
    /// Makes the database in `dir`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn create(dir: &Path) -> Result<Self> {
        let options = Options::new(Key::from_bytes([7; 32]), vec![POSTS]);
        Ok(Self(Store::open(&dir.join("floor.db"), &options)?))
    }

    /// Stores messages in one synced commit; returns their numbers.
    ///
    /// # Errors
    /// When the database fails; nothing is stored then.
    pub(crate) fn insert<'a>(
        &mut self,
        posts: impl Iterator<Item = (u32, &'a [u8])>,
    ) -> Result<Vec<i64>> {
        let outcome = self.0.transact(|tx| {
            let mut insert =
                tx.prepare_cached("INSERT INTO post(channel, payload) VALUES (?1, ?2)")?;
            let numbers = posts.map(|post| insert.insert(post)).collect::<Result<Vec<_>, _>>();
            Ok::<_, StorageError>(numbers?)
        })?;
        match outcome {
            Outcome::Done(numbers) => Ok(numbers),
            Outcome::Refused(error) => Err(error.into()),
            Outcome::Panicked => bail!("the writer panicked"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut posts = Posts::create(dir.path()).unwrap();
        let two = [(1, [1; 4].as_slice()), (2, [2; 4].as_slice())];
        assert_eq!(posts.insert(two.into_iter()).unwrap(), [1, 2]);
        assert_eq!(posts.insert([(1, [3; 4].as_slice())].into_iter()).unwrap(), [3]);
    }
}
