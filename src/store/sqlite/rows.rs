//! Readers of columns.

use rusqlite::Row;
use rusqlite::types::{Type, Value};

use crate::domain::clock::Timestamp;

pub(super) fn text(text: &str) -> Value {
    Value::from(text.to_owned())
}

pub(super) fn text_id<T, E>(
    row: &Row<'_>,
    column: &str,
    parse: fn(&str) -> Result<T, E>,
) -> Result<T, rusqlite::Error> {
    let text: String = row.get(column)?;
    parse(&text).map_err(|_| unreadable(column, &text))
}

pub(super) fn time(row: &Row<'_>, column: &str) -> Result<Timestamp, rusqlite::Error> {
    row.get(column).map(Timestamp::from_millis)
}

pub(super) fn time_if_any(row: &Row<'_>, column: &str) -> Result<Option<Timestamp>, rusqlite::Error> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis))
}

/// A value of ours that does not read back.
pub(super) fn unreadable(column: &str, value: &str) -> rusqlite::Error {
    let message = format!("column {column} holds {value:?}");
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, message.into())
}
