//! What a file says of the copy that was begun of it.
//!
//! The mark is a table that stands in the file only from the beginning of a copy on. A gateway that works on the file
//! again before the copy is finished takes it away, and with it the copy's right to go on: what it has copied is no
//! longer what the file holds. After the copy no gateway works on the file at all.

use std::path::Path;

use rusqlite::{Connection, Error, OptionalExtension, Row};

use super::OpenError;

pub(in crate::store) struct Mark {
    /// The copy's own; the database knows it too.
    pub(in crate::store) id: String,
    pub(in crate::store) is_finished: bool,
}

pub(super) fn read(connection: &Connection) -> Result<Option<Mark>, Error> {
    let mut table = connection.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'gateway_copy'")?;
    if !table.exists([])? {
        return Ok(None);
    }
    let mark = |row: &Row<'_>| Ok(Mark { id: row.get(0)?, is_finished: row.get(1)? });
    connection.query_row("SELECT id, finished FROM gateway_copy", [], mark).optional()
}

pub(super) fn set(connection: &Connection, id: &str) -> Result<(), Error> {
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

/// Makes the file a gateway's own again, unless its work has gone elsewhere.
pub(super) fn remove(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    check(connection, path)?;
    connection
        .execute_batch("DROP TABLE IF EXISTS gateway_copy")
        .map_err(|source| OpenError::Sqlite { path: path.to_owned(), source })
}

/// Whether the work that the file held has gone elsewhere.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    match read(connection) {
        Ok(Some(Mark { is_finished: true, .. })) => Err(OpenError::Moved(path.to_owned())),
        Ok(_) => Ok(()),
        Err(source) => Err(OpenError::Sqlite { path: path.to_owned(), source }),
    }
}
