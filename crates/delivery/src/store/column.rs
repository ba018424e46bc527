//! Columns that need more than a type: absent numbers, canonical bytes.

use qpc_storage::{Number, sql};

/// A number that may be absent.
pub(super) fn number(row: &sql::Row<'_>, index: usize) -> sql::Result<Option<u64>> {
    Ok(row.get::<_, Option<Number>>(index)?.map(|number| number.0))
}

/// What canonical bytes in a column say. Only we write them: anything else is a damaged database.
pub(super) fn decoded<T>(index: usize, result: Result<T, qpc_proto::Malformed>) -> sql::Result<T> {
    result.map_err(|error| {
        sql::Error::FromSqlConversionFailure(index, sql::types::Type::Blob, error.into())
    })
}
