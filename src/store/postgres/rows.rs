//! Reads columns of rows.

use serde::de::DeserializeOwned;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::super::StoreError;
use super::fault::Fault;

/// A parameter of a statement.
pub(super) type Parameter<'a> = &'a (dyn ToSql + Sync);

pub(super) fn from_json<T: DeserializeOwned>(row: &Row, column: &str) -> Result<Option<T>, Fault> {
    let text: Option<&str> = row.try_get(column)?;
    text.map(|text| serde_json::from_str(text).map_err(|_| unreadable(column))).transpose()
}

pub(super) fn parsed<T, E>(row: &Row, column: &str, parse: fn(&str) -> Result<T, E>) -> Result<T, Fault> {
    let text: &str = row.try_get(column)?;
    parse(text).map_err(|_| unreadable(column))
}

/// Reads a number from a `bigint` column.
pub(super) fn number<T: TryFrom<i64>>(row: &Row, column: &str) -> Result<T, Fault> {
    let number: i64 = row.try_get(column)?;
    T::try_from(number).map_err(|_| unreadable(column))
}

/// Returns the error for a stored value that cannot be read. The error does not contain the value, which may be the content of a
/// call.
pub(super) fn unreadable(column: &str) -> Fault {
    StoreError::Corrupt(format!("column {column} holds an unexpected value")).into()
}
