//! Conversions between values of `rusqlite` and of the domain.

use rusqlite::Row;
use rusqlite::types::Value;

use crate::domain::clock::Timestamp;

pub(super) fn text(text: &str) -> Value {
    Value::from(text.to_owned())
}

pub(super) fn time_if_any(row: &Row<'_>, column: &str) -> Result<Option<Timestamp>, rusqlite::Error> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis))
}
