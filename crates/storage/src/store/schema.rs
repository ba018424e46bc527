//! Migrations, and the table that says which older programs may still open the file.
//! Never runs a migration before it is sure that every schema in the file can be followed.

use refinery_core::Runner;
use rusqlite::OptionalExtension;

use crate::error::failure_in;
use crate::{Schema, StorageError, sql};

/// Checks all schemas, then migrates them in order; each schema's pending migrations are one
/// transaction. A schema that a newer program extended compatibly is left as it is.
pub(super) fn migrate(conn: &mut sql::Connection, schemas: &[Schema]) -> Result<(), StorageError> {
    let mut pending = Vec::with_capacity(schemas.len());
    for schema in schemas {
        if !is_ahead(conn, schema)? {
            pending.push(schema);
        }
    }
    for schema in pending {
        run(conn, schema)?;
        record(conn, schema)?;
    }
    Ok(())
}

/// The version that the file has of each schema, if this program can follow all of them.
pub(super) fn versions(
    conn: &sql::Connection,
    schemas: &[Schema],
) -> Result<Vec<(&'static str, u32)>, StorageError> {
    let version = |schema| {
        is_ahead(conn, schema)?;
        Ok((schema.name, applied(conn, schema)?))
    };
    schemas.iter().map(version).collect()
}

fn version(schema: &Schema) -> u32 {
    u32::try_from(schema.migrations.len()).unwrap_or(u32::MAX)
}

/// Whether the file is ahead of this program and may still be opened by it.
///
/// `storage_meta` is written after the migrations. If a crash fell in between, its version is
/// not the history's, and the file is refused: failing closed.
fn is_ahead(conn: &sql::Connection, schema: &Schema) -> Result<bool, StorageError> {
    let (file, supported) = (applied(conn, schema)?, version(schema));
    if file <= supported {
        return Ok(false);
    }
    let readable = meta(conn, schema, "schema")? == Some(file)
        && meta(conn, schema, "oldest_reader")?.is_some_and(|oldest| oldest <= supported);
    if readable {
        return Ok(true);
    }
    Err(StorageError::SchemaNewer { schema: schema.name, file, supported })
}

fn history(schema: &Schema) -> String {
    format!("{}_migrations", schema.name)
}

/// The version that the history records; 0 without one.
fn applied(conn: &sql::Connection, schema: &Schema) -> Result<u32, StorageError> {
    let table = history(schema);
    if !has_table(conn, &table)? {
        return Ok(0);
    }
    let query = format!("SELECT coalesce(max(version), 0) FROM {table}");
    Ok(conn.query_row(&query, [], |row| row.get(0))?)
}

fn has_table(conn: &sql::Connection, table: &str) -> Result<bool, StorageError> {
    let query = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?1";
    Ok(conn.query_row(query, [table], |row| row.get::<_, u32>(0))? > 0)
}

fn meta(conn: &sql::Connection, schema: &Schema, key: &str) -> Result<Option<u32>, StorageError> {
    if !has_table(conn, "storage_meta")? {
        return Ok(None);
    }
    let query = "SELECT value FROM storage_meta WHERE key = ?1";
    let key = format!("{}.{key}", schema.name);
    Ok(conn.query_row(query, [key], |row| row.get(0)).optional()?)
}

fn run(conn: &mut sql::Connection, schema: &Schema) -> Result<(), StorageError> {
    let failed = |error: refinery_core::Error| {
        let cause = failure_in(&error).map(|cause| StorageError::from_code(cause.extended_code));
        match cause {
            Some(cause) if cause.is_fatal() || cause.is_full() => cause,
            Some(_) | None => {
                StorageError::Migration { schema: schema.name, source: Box::new(error) }
            }
        }
    };
    let migrations = schema.migrations.iter().zip(1_u32..).map(|(migration, version)| {
        let name = format!("V{version}__{}", migration.name);
        refinery_core::Migration::unapplied(&name, migration.sql)
    });
    let migrations: Vec<_> = migrations.collect::<Result<_, _>>().map_err(failed)?;
    // Grouped: otherwise a migration and its record in the history are two transactions.
    let mut runner = Runner::new(&migrations).set_grouped(true);
    runner.set_migration_table_name(history(schema));
    runner.run(conn).map(drop).map_err(failed)
}

fn record(conn: &mut sql::Connection, schema: &Schema) -> Result<(), StorageError> {
    let wanted = [("schema", version(schema)), ("oldest_reader", schema.oldest_reader)];
    let mut stale = false;
    for (key, value) in wanted {
        stale |= meta(conn, schema, key)? != Some(value);
    }
    if !stale {
        return Ok(());
    }
    let tx = conn.transaction()?;
    tx.execute_batch(
        "CREATE TABLE IF NOT EXISTS storage_meta(
           key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;",
    )?;
    for (key, value) in wanted {
        tx.execute(
            "INSERT INTO storage_meta(key, value) VALUES (?1, ?2)
             ON CONFLICT(key) DO UPDATE SET value = excluded.value",
            (format!("{}.{key}", schema.name), value),
        )?;
    }
    tx.commit()?;
    Ok(())
}
