//! The marker of a copy in the source file: a table with one row, which the start of the copy creates.
//!
//! A gateway that opens the file before the copy is finished removes the marker, because copied rows may then differ
//! from the file. Without the marker the copy cannot continue. A finished marker prevents gateways from opening the
//! file.

use std::path::Path;

use rusqlite::{Connection, Error, OptionalExtension, Row};

use super::open_error::SqliteOpenError;

/// The marker that `store copy` writes to the source file.
pub(in crate::store) struct CopyMarker {
    /// Id of the copy. The target database also records this id.
    pub(in crate::store) id: String,
    pub(in crate::store) is_finished: bool,
}

pub(super) fn read(connection: &Connection) -> Result<Option<CopyMarker>, Error> {
    let mut table = connection.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'gateway_copy'")?;
    if !table.exists([])? {
        return Ok(None);
    }
    let marker = |row: &Row<'_>| Ok(CopyMarker { id: row.get(0)?, is_finished: row.get(1)? });
    connection.query_row("SELECT id, finished FROM gateway_copy", [], marker).optional()
}

pub(super) fn create(connection: &Connection, id: &str) -> Result<(), Error> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(
        "DROP TABLE IF EXISTS gateway_copy; \
         CREATE TABLE gateway_copy (id TEXT NOT NULL, finished INTEGER NOT NULL DEFAULT 0) STRICT",
    )?;
    transaction.execute("INSERT INTO gateway_copy (id) VALUES (?)", [id])?;
    transaction.commit()
}

pub(super) fn finish(connection: &Connection) -> Result<(), Error> {
    connection.execute("UPDATE gateway_copy SET finished = 1", []).map(|_| ())
}

/// Removes an unfinished marker.
///
/// # Errors
/// [`SqliteOpenError::Moved`] if the copy is finished, or [`SqliteOpenError::Sqlite`] if the file cannot be used.
pub(super) fn remove(connection: &Connection, path: &Path) -> Result<(), SqliteOpenError> {
    check(connection, path)?;
    connection
        .execute_batch("DROP TABLE IF EXISTS gateway_copy")
        .map_err(|source| SqliteOpenError::Sqlite { path: path.to_owned(), source })
}

/// Checks that no finished copy of the file exists.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<(), SqliteOpenError> {
    match read(connection) {
        Ok(Some(CopyMarker { is_finished: true, .. })) => Err(SqliteOpenError::Moved(path.to_owned())),
        Ok(_) => Ok(()),
        Err(source) => Err(SqliteOpenError::Sqlite { path: path.to_owned(), source }),
    }
}
