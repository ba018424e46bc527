//! The floor's one table. Opened as the server that ships opens its own: SQLCipher, a write-ahead
//! log, `synchronous=FULL`.

use std::path::Path;

use anyhow::{Result, bail};
use bytes::Bytes;
use qpc_storage::{Key, Migration, Options, Outcome, Reader, Schema, StorageError, Store};

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

    /// A connection that reads beside the writer.
    ///
    /// # Errors
    /// When the database cannot be opened.
    pub(crate) fn reader(&self) -> Result<PostReader> {
        Ok(PostReader(self.0.reader()?))
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

/// Reads what was posted.
pub(crate) struct PostReader(Reader);

impl PostReader {
    /// The payloads of rows, in their order, in one transaction.
    ///
    /// # Errors
    /// When the database fails, or there is no such row.
    pub(crate) fn read(&mut self, rows: &[i64]) -> Result<Vec<Bytes>> {
        let payloads = self.0.read(|tx| {
            let mut select = tx.prepare_cached("SELECT payload FROM post WHERE no = ?1")?;
            let payload = |row: &i64| select.query_row([row], |row| row.get::<_, Vec<u8>>(0));
            rows.iter().map(payload).collect::<Result<Vec<_>, _>>().map_err(StorageError::from)
        })?;
        Ok(payloads.into_iter().map(Bytes::from).collect())
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
        let mut reader = posts.reader().unwrap();
        assert_eq!(reader.read(&[3, 1]).unwrap(), [[3; 4].as_slice(), &[1; 4]]);
        assert!(reader.read(&[4]).is_err());
    }
}
