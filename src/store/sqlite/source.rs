//! The source file of a copy, read in the order of the primary keys.

use std::fs::File;
use std::path::Path;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, params_from_iter};

use super::super::StoreError;
use super::super::tables::{Cell, Cells, ColumnKind, Table};
use super::SqliteOpenError;
use super::copy_marker::{self, CopyMarker};
use super::file::open_exclusive;
use super::open::migrate_and_release;
use crate::domain::clock::Timestamp;

/// Limits of a batch. The row that reaches a limit is the last row of the batch.
const BATCH_ROWS: usize = 500;
const BATCH_BYTES: usize = 8 << 20;

/// The source file, opened exclusively.
pub(in crate::store) struct Source {
    connection: Connection,
    _lock: File,
}

impl Source {
    /// Opens an existing file as a gateway does: migrates its schema, and releases its leases.
    pub(in crate::store) fn open(path: &Path, now: Timestamp) -> Result<Self, SqliteOpenError> {
        path.metadata().map_err(|source| SqliteOpenError::Io { path: path.to_owned(), source })?;
        let (mut connection, lock) = open_exclusive(path)?;
        migrate_and_release(&mut connection, path, now)?;
        Ok(Self { connection, _lock: lock })
    }

    /// Reads the names of a table's columns. The list is empty if the table does not exist.
    pub(in crate::store) fn columns(&self, table: &str) -> Result<Vec<String>, StoreError> {
        let mut columns = self.connection.prepare("SELECT name FROM pragma_table_info(?)")?;
        let names = columns.query_map([table], |row| row.get(0))?;
        Ok(names.collect::<Result<_, _>>()?)
    }

    /// Reads the next rows in the order of the key.
    pub(in crate::store) fn batch(
        &self,
        table: &Table,
        after: Option<&[Cell]>,
    ) -> Result<Vec<Cells>, StoreError> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        self.scan(table, after, |row| {
            bytes += row.iter().map(Cell::size).sum::<usize>();
            batch.push(row);
            batch.len() < BATCH_ROWS && bytes < BATCH_BYTES
        })?;
        Ok(batch)
    }

    /// Reads every row in the order of the key.
    pub(in crate::store) fn read(
        &self,
        table: &Table,
        mut each: impl FnMut(&[Cell]),
    ) -> Result<(), StoreError> {
        self.scan(table, None, |row| {
            each(&row);
            true
        })
    }

    fn scan(
        &self,
        table: &Table,
        after: Option<&[Cell]>,
        mut continues: impl FnMut(Cells) -> bool,
    ) -> Result<(), StoreError> {
        if !table.is_in_file {
            return Ok(());
        }
        let mut statement = self.connection.prepare_cached(&scan_sql(table, after.is_some()))?;
        let mut rows = statement.query(params_from_iter(after.unwrap_or_default()))?;
        while let Some(row) = rows.next()? {
            let cells = table.columns.iter().enumerate().map(|(index, column)| {
                let value = row.get_ref(index)?;
                cell(column.kind, value).ok_or_else(|| {
                    let (table, column) = (table.name, &column.name);
                    StoreError::Corrupt(format!(
                        "table {table}, column {column}: value of an unexpected type"
                    ))
                })
            });
            if !continues(cells.collect::<Result<_, StoreError>>()?) {
                break;
            }
        }
        Ok(())
    }

    /// Returns the highest number that the file has ever assigned in a column.
    pub(in crate::store) fn highest(&self, table: &Table, column: &str) -> Result<i64, StoreError> {
        let sql = format!(
            "SELECT max(coalesce((SELECT max(\"{column}\") FROM {0}), 0), \
             coalesce((SELECT seq FROM sqlite_sequence WHERE name = '{0}'), 0))",
            table.name
        );
        Ok(self.connection.query_row(&sql, [], |row| row.get(0))?)
    }

    pub(in crate::store) fn copy_marker(&self) -> Result<Option<CopyMarker>, StoreError> {
        Ok(copy_marker::read(&self.connection)?)
    }

    pub(in crate::store) fn create_copy_marker(&self, id: &str) -> Result<(), StoreError> {
        Ok(copy_marker::create(&self.connection, id)?)
    }

    pub(in crate::store) fn finish_copy_marker(&self) -> Result<(), StoreError> {
        Ok(copy_marker::finish(&self.connection)?)
    }
}

fn scan_sql(table: &Table, has_start: bool) -> String {
    let (name, columns, key) = (table.name, table.column_list(), table.key_list(""));
    let condition = if has_start {
        let marks = vec!["?"; table.key.len()].join(", ");
        format!("WHERE ({key}) > ({marks})")
    } else {
        String::new()
    };
    format!("SELECT {columns} FROM {name} {condition} ORDER BY {key}")
}

/// Converts a value for PostgreSQL. Returns `None` if the value has another type.
fn cell(kind: ColumnKind, value: ValueRef<'_>) -> Option<Cell> {
    Some(match (kind, value) {
        (_, ValueRef::Null) => Cell::Null,
        (ColumnKind::Integer, ValueRef::Integer(number)) => Cell::Integer(number),
        (ColumnKind::Boolean, ValueRef::Integer(number @ (0 | 1))) => Cell::Boolean(number == 1),
        // PostgreSQL cannot store NUL in a text column. Most texts are JSON, which escapes NUL and so preserves it.
        (ColumnKind::Text, ValueRef::Text(text)) => {
            Cell::Text(std::str::from_utf8(text).ok()?.replace('\0', "\u{fffd}"))
        }
        (ColumnKind::Bytes, ValueRef::Blob(bytes)) => Cell::Bytes(bytes.to_vec()),
        (ColumnKind::Integer | ColumnKind::Boolean | ColumnKind::Text | ColumnKind::Bytes, _) => return None,
    })
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Boolean(is) => ValueRef::Integer(i64::from(*is)),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::MIGRATIONS;
    use super::*;
    use crate::store::tables::TABLES;

    #[test]
    fn every_table_is_copied() {
        let connection = Connection::open_in_memory().unwrap();
        for migration in MIGRATIONS {
            connection.execute_batch(migration).unwrap();
        }
        let mut tables = connection
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
            .unwrap();
        let tables: Vec<String> =
            tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert!(tables.len() >= 6);
        // The copy derives these tables from the results.
        let derived = ["listings", "tags"];
        for table in tables.iter().filter(|table| !table.starts_with("search")) {
            let is_known = TABLES.contains(&table.as_str()) || derived.contains(&table.as_str());
            assert!(is_known, "table {table} is not copied");
        }
    }
}
