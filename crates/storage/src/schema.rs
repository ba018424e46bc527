//! Migrations of the crates that own tables, and the record of which version may read the file.
//!
//! Each schema advances on its own; a file from a newer program is opened only if that program said
//! that this one may.

use refinery_core::{Migration as Step, Runner};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::error::StorageError;

/// The tables of one crate.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// Owner; names the table that records applied migrations.
    pub name: &'static str,
    /// In order; a migration's version is its place from 1. Never edited once released.
    pub migrations: &'static [Migration],
}

/// One step of a schema.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// What it does, in lower-case letters and underscores.
    pub name: &'static str,
    /// SQL statements, run in one transaction.
    pub sql: &'static str,
}

const META: &str = "CREATE TABLE IF NOT EXISTS storage_meta (
    schema TEXT PRIMARY KEY, version INTEGER NOT NULL, oldest_reader INTEGER NOT NULL
) WITHOUT ROWID";

impl Schema {
    fn version(&self) -> u32 {
        u32::try_from(self.migrations.len()).unwrap_or(u32::MAX)
    }

    /// Brings the file to this schema's version, or accepts a newer one that allows it.
    pub(crate) fn migrate(&self, connection: &mut Connection) -> Result<(), StorageError> {
        connection.execute_batch(META)?;
        let found: Option<(u32, u32)> = connection
            .query_row(
                "SELECT version, oldest_reader FROM storage_meta WHERE schema = ?1",
                [self.name],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        let known = self.version();
        match found {
            Some((found, oldest)) if found > known => {
                if known >= oldest {
                    return Ok(());
                }
                return Err(StorageError::SchemaNewer {
                    schema: self.name,
                    found,
                    known,
                });
            }
            Some((found, _)) if found == known => return Ok(()),
            Some(_) | None => {}
        }
        self.run(connection)?;
        connection.execute(
            "INSERT OR REPLACE INTO storage_meta (schema, version, oldest_reader)
             VALUES (?1, ?2, ?2)",
            params![self.name, known],
        )?;
        Ok(())
    }

    fn run(&self, connection: &mut Connection) -> Result<(), StorageError> {
        let failed = |error: refinery_core::Error| StorageError::Migration(error.to_string());
        let steps = self
            .migrations
            .iter()
            .zip(1_u32..)
            .map(|(step, version)| Step::unapplied(&format!("V{version}__{}", step.name), step.sql))
            .collect::<Result<Vec<_>, _>>()
            .map_err(failed)?;
        let mut runner = Runner::new(&steps)
            .set_grouped(true)
            .set_abort_divergent(true);
        runner.set_migration_table_name(format!("{}_migrations", self.name));
        runner.run(connection).map_err(failed)?;
        Ok(())
    }
}
