//! What a database holds at a time: rows and bytes of each table, and since when each row is there,
//! which is told by its primary key. Judges nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use qpc_storage::{Reader, Tx, sql};

/// A table at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

/// The most that a database had in the first weeks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Early {
    pub(crate) sizes: BTreeMap<String, Size>,
    pub(crate) used: u64,
}

impl Early {
    /// Rows of all tables, each when it had the most.
    pub(crate) fn rows(&self) -> u64 {
        self.sizes.values().map(|size| size.rows).sum()
    }

    pub(crate) fn note(&mut self, watched: &Watched) {
        self.used = self.used.max(watched.used);
        for (table, size) in &watched.sizes {
            let most = self.sizes.entry(table.clone()).or_default();
            (most.rows, most.bytes) = (most.rows.max(size.rows), most.bytes.max(size.bytes));
        }
    }
}

/// A database as it was found each time.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    /// When each row was first found, by table and key.
    since: BTreeMap<String, BTreeMap<String, u64>>,
    pub(crate) sizes: BTreeMap<String, Size>,
    /// The most rows that each table has had.
    most: BTreeMap<String, u64>,
    /// Bytes of the file, and of the pages that are used.
    pub(crate) file: u64,
    pub(crate) used: u64,
    /// The longest time between the first and the last row of a channel, by table.
    pub(crate) spans_ms: BTreeMap<&'static str, u64>,
}

impl Watched {
    /// Looks at all tables.
    pub(crate) fn look(&mut self, (reader, path): (&mut Reader, &Path), now_ms: u64) {
        let found = reader.read(all).unwrap();
        for (table, (keys, bytes)) in found {
            let rows = u64::try_from(keys.len()).unwrap();
            self.sizes.insert(table.clone(), Size { rows, bytes });
            let most = self.most.entry(table.clone()).or_default();
            *most = rows.max(*most);
            let since = self.since.entry(table).or_default();
            since.retain(|key, _| keys.contains(key));
            for key in keys {
                since.entry(key).or_insert(now_ms);
            }
        }
        self.file = std::fs::metadata(path).map_or(0, |file| file.len());
        self.used = reader.read(|tx| number(tx, USED)).unwrap();
        for (table, time) in TIMED.iter().filter(|(table, _)| self.sizes.contains_key(*table)) {
            let span = format!(
                "SELECT coalesce(max(span), 0) FROM
                    (SELECT max({time}) - min({time}) AS span FROM {table} GROUP BY channel)"
            );
            self.spans_ms.insert(table, reader.read(|tx| number(tx, &span)).unwrap());
        }
    }

    /// Rows of all tables, each when it had the most.
    pub(crate) fn most_rows(&self) -> u64 {
        self.most.values().sum()
    }

    /// How many rows of a table are known to be there since before a time.
    pub(crate) fn older(&self, table: &str, than_ms: u64) -> u64 {
        let since = self.since.get(table).into_iter().flat_map(BTreeMap::values);
        since.filter(|since| **since < than_ms).map(|_| 1).sum()
    }
}

const USED: &str = "SELECT (page_count - freelist_count) * page_size
    FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
/// Tables whose rows are told apart by a time, of each channel.
const TIMED: [(&str, &str); 2] = [("sealed_id", "sealed_at_ms"), ("verdict", "until_ms")];

type Found = BTreeMap<String, (BTreeSet<String>, u64)>;

fn all(tx: &Tx<'_>) -> sql::Result<Found> {
    let mut found = Found::new();
    let names = column(
        tx,
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
    )?;
    for table in names {
        let info = |what: &str| {
            column(tx, &format!("SELECT name FROM pragma_table_info('{table}') {what}"))
        };
        let (columns, mut key) = (info("")?, info("WHERE pk > 0 ORDER BY pk")?);
        if key.is_empty() {
            key.push("rowid".to_owned());
        }
        let quoted: Vec<_> = key.iter().map(|name| format!("quote({name})")).collect();
        let rows = column(tx, &format!("SELECT {} FROM {table}", quoted.join(" || ' ' || ")))?;
        let lengths: Vec<_> =
            columns.iter().map(|name| format!("coalesce(octet_length({name}), 0)")).collect();
        let sum = format!("SELECT coalesce(sum({}), 0) FROM {table}", lengths.join(" + "));
        let bytes = number(tx, &sum)?;
        found.insert(table, (rows.into_iter().collect(), bytes));
    }
    Ok(found)
}

fn column(tx: &Tx<'_>, query: &str) -> sql::Result<Vec<String>> {
    tx.prepare(query)?.query_map([], |row| row.get(0))?.collect()
}

fn number(tx: &Tx<'_>, query: &str) -> sql::Result<u64> {
    tx.query_row(query, [], |row| row.get(0))
}
