//! Migrations: killed, edited, and newer than the program.
//! Never tests the migration library, only what this crate promises about it.

use qpc_storage::{Migration, Schema, StorageError, Store};

use crate::{ITEMS, Place, done, insert, options_for, stored};

const ADD_SIZE: Migration = Migration {
    name: "add_size",
    sql: "ALTER TABLE item ADD COLUMN size INTEGER NOT NULL DEFAULT 0;",
};
const ADD_INDEX: Migration =
    Migration { name: "add_index", sql: "CREATE INDEX item_size ON item(size);" };
const CREATE: Migration = ITEMS.migrations[0];

const COMPATIBLE: Schema =
    Schema { migrations: &[CREATE, ADD_SIZE, ADD_INDEX], oldest_reader: 1, ..ITEMS };
const BREAKING: Schema = Schema { oldest_reader: 3, ..COMPATIBLE };

fn open(place: &Place, schemas: Vec<Schema>) -> Result<Store, StorageError> {
    Store::open(&place.path(), &options_for(schemas))
}

fn columns(store: &mut Store) -> i64 {
    let count = "SELECT count(*) FROM pragma_table_info('item')";
    done(store.transact(|tx| tx.query_row(count, [], |row| row.get(0))).unwrap())
}

#[test]
fn a_newer_program_migrates_an_older_file() {
    let place = Place::new();
    let mut store = open(&place, vec![ITEMS]).unwrap();
    done(store.transact(|tx| insert(tx, "old row")).unwrap());
    store.close().unwrap();
    let mut store = open(&place, vec![COMPATIBLE]).unwrap();
    assert_eq!(columns(&mut store), 3);
    assert_eq!(stored(&store), ["old row"]);
}

#[test]
fn case_213_older_program_is_refused_by_a_breaking_schema() {
    let place = Place::new();
    open(&place, vec![BREAKING]).unwrap().close().unwrap();
    let before = std::fs::read(place.path()).unwrap();
    let other = Schema {
        name: "other",
        migrations: &[Migration { name: "create", sql: "CREATE TABLE other(x);" }],
        oldest_reader: 1,
    };
    // The schema that could be migrated must stay as it is, too.
    let refused = open(&place, vec![other, ITEMS]);
    let Err(StorageError::SchemaNewer { schema, file, supported }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((schema, file, supported), ("items", 3, 1));
    assert_eq!(std::fs::read(place.path()).unwrap(), before);
}

#[test]
fn an_older_program_goes_on_with_a_compatible_schema() {
    let place = Place::new();
    open(&place, vec![COMPATIBLE]).unwrap().close().unwrap();
    let mut store = open(&place, vec![ITEMS]).unwrap();
    done(store.transact(|tx| insert(tx, "by the older one")).unwrap());
    store.close().unwrap();
    let mut store = open(&place, vec![COMPATIBLE]).unwrap();
    assert_eq!(columns(&mut store), 3);
    assert_eq!(stored(&store), ["by the older one"]);
}

#[test]
fn case_177_a_failed_migration_leaves_nothing_and_resumes() {
    const BROKEN: Schema = Schema {
        migrations: &[CREATE, ADD_SIZE, Migration { name: "bad", sql: "CREATE NONSENSE;" }],
        ..COMPATIBLE
    };
    let place = Place::new();
    open(&place, vec![ITEMS]).unwrap().close().unwrap();
    let failed = open(&place, vec![BROKEN]);
    assert!(matches!(failed, Err(StorageError::Migration { schema: "items", .. })), "{failed:?}");
    assert_eq!(columns(&mut open(&place, vec![ITEMS]).unwrap()), 2);
    assert_eq!(columns(&mut open(&place, vec![COMPATIBLE]).unwrap()), 3);
}

#[test]
fn case_177_a_crash_between_migrations_and_their_record_fails_closed() {
    let place = Place::new();
    let mut store = open(&place, vec![COMPATIBLE]).unwrap();
    let older = "UPDATE storage_meta SET value = 1 WHERE key = 'items.schema'";
    done(store.transact(|tx| tx.execute(older, [])).unwrap());
    store.close().unwrap();
    let refused = open(&place, vec![ITEMS]);
    assert!(matches!(refused, Err(StorageError::SchemaNewer { .. })), "{refused:?}");
    // The newer program repairs the record, and the older one may follow again.
    open(&place, vec![COMPATIBLE]).unwrap().close().unwrap();
    open(&place, vec![ITEMS]).unwrap();
}

#[test]
fn an_edited_migration_is_refused() {
    const EDITED: Schema = Schema {
        migrations: &[Migration { name: "create", sql: "CREATE TABLE item(name TEXT);" }],
        ..ITEMS
    };
    let place = Place::new();
    open(&place, vec![ITEMS]).unwrap().close().unwrap();
    let refused = open(&place, vec![EDITED]);
    assert!(matches!(refused, Err(StorageError::Migration { .. })), "{refused:?}");
}
