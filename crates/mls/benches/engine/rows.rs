//! What an operation of the engine left changed in the database: the content of the rows that are
//! new or differ. Neither what was written as it was nor what was erased counts, nor what an index
//! holds: so many bytes must be written, however it is done.

use std::collections::BTreeSet;

use qpc_mls::MlsError;
use qpc_storage::sql::{self, types::ValueRef};
use qpc_storage::{Store, Tx};

use crate::groups::done;

/// All rows of the engine's tables: of each its table and its content.
pub(crate) struct Rows(BTreeSet<(String, Vec<u8>)>);

impl Rows {
    pub(crate) fn read(store: &mut Store) -> Self {
        Self(done(store, |tx| Ok::<_, MlsError>(read(tx)?)))
    }

    /// The content of the rows that are not in `before`, one behind the other.
    pub(crate) fn changed_since(&self, before: &Self) -> Vec<u8> {
        let changed = self.0.difference(&before.0);
        changed.flat_map(|(_, content)| content.iter().copied()).collect()
    }
}

fn read(tx: &Tx<'_>) -> sql::Result<BTreeSet<(String, Vec<u8>)>> {
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table'
        AND name LIKE 'mls\\_%' ESCAPE '\\' AND name <> 'mls_migrations'";
    let mut tables = tx.prepare(tables)?;
    let names: Vec<String> = tables.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut all = BTreeSet::new();
    for name in names {
        let mut rows = tx.prepare(&format!("SELECT * FROM {name}"))?;
        let columns = rows.column_count();
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let mut content = Vec::new();
            for column in 0..columns {
                match row.get_ref(column)? {
                    ValueRef::Null => {}
                    ValueRef::Integer(number) => content.extend(number.to_be_bytes()),
                    ValueRef::Real(number) => content.extend(number.to_be_bytes()),
                    ValueRef::Text(bytes) | ValueRef::Blob(bytes) => content.extend(bytes),
                }
            }
            all.insert((name.clone(), content));
        }
    }
    Ok(all)
}
