//! A file as it is copied to a server: its rows in the order of their keys.

use std::fs::File;
use std::path::Path;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, params_from_iter};

use super::super::StoreError;
use super::super::copy::{Cell, Kind, Row, Table};
use super::mark::{self, Mark};
use super::{OpenError, settle, take};
use crate::domain::clock::Timestamp;

/// A batch ends with the row that reaches either.
const BATCH_ROWS: usize = 500;
const BATCH_BYTES: usize = 8 << 20;

/// A file that nobody else works on.
pub(in crate::store) struct Source {
    connection: Connection,
    _lock: File,
}

impl Source {
    /// Opens the file as a gateway would, if it is there: its schema is brought up to date, and leases end.
    pub(in crate::store) fn open(path: &Path, now: Timestamp) -> Result<Self, OpenError> {
        path.metadata().map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        let (mut connection, lock) = take(path)?;
        settle(&mut connection, path, now)?;
        Ok(Self { connection, _lock: lock })
    }

    /// The names of a table's columns; none if there is no such table.
    pub(in crate::store) fn columns(&self, table: &str) -> Result<Vec<String>, StoreError> {
        let mut columns = self.connection.prepare("SELECT name FROM pragma_table_info(?)")?;
        let names = columns.query_map([table], |row| row.get(0))?;
        Ok(names.collect::<Result<_, _>>()?)
    }

    /// The next rows in the order of the key.
    pub(in crate::store) fn batch(
        &self,
        table: &Table,
        after: Option<&[Cell]>,
    ) -> Result<Vec<Row>, StoreError> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        self.walk(table, after, |row| {
            bytes += row.iter().map(Cell::size).sum::<usize>();
            batch.push(row);
            batch.len() < BATCH_ROWS && bytes < BATCH_BYTES
        })?;
        Ok(batch)
    }

    /// Every row in the order of the key.
    pub(in crate::store) fn read(
        &self,
        table: &Table,
        mut each: impl FnMut(&[Cell]),
    ) -> Result<(), StoreError> {
        self.walk(table, None, |row| {
            each(&row);
            true
        })
    }

    fn walk(
        &self,
        table: &Table,
        after: Option<&[Cell]>,
        mut goes_on: impl FnMut(Row) -> bool,
    ) -> Result<(), StoreError> {
        if !table.is_in_file {
            return Ok(());
        }
        let mut statement = self.connection.prepare_cached(&walk_sql(table, after.is_some()))?;
        let mut rows = statement.query(params_from_iter(after.unwrap_or_default()))?;
        while let Some(row) = rows.next()? {
            let cells = table.columns.iter().enumerate().map(|(index, column)| {
                let value = row.get_ref(index)?;
                cell(column.kind, value).ok_or_else(|| {
                    let what =
                        format!("table {}, column {}: a value of another kind", table.name, column.name);
                    StoreError::Corrupt(what)
                })
            });
            if !goes_on(cells.collect::<Result<_, StoreError>>()?) {
                break;
            }
        }
        Ok(())
    }

    /// The highest number that was ever given in this column, as far as the file knows.
    pub(in crate::store) fn highest(&self, table: &Table, column: &str) -> Result<i64, StoreError> {
        let sql = format!(
            "SELECT max(coalesce((SELECT max(\"{column}\") FROM {0}), 0), \
             coalesce((SELECT seq FROM sqlite_sequence WHERE name = '{0}'), 0))",
            table.name
        );
        Ok(self.connection.query_row(&sql, [], |row| row.get(0))?)
    }

    pub(in crate::store) fn mark(&self) -> Result<Option<Mark>, StoreError> {
        Ok(mark::read(&self.connection)?)
    }

    pub(in crate::store) fn set_mark(&self, id: &str) -> Result<(), StoreError> {
        Ok(mark::set(&self.connection, id)?)
    }

    pub(in crate::store) fn finish_mark(&self) -> Result<(), StoreError> {
        Ok(mark::finish(&self.connection)?)
    }
}

fn walk_sql(table: &Table, begins_after: bool) -> String {
    let (name, columns, key) = (table.name, table.column_list(), table.key_list(""));
    let condition = if begins_after {
        let marks = vec!["?"; table.key.len()].join(", ");
        format!("WHERE ({key}) > ({marks})")
    } else {
        String::new()
    };
    format!("SELECT {columns} FROM {name} {condition} ORDER BY {key}")
}

/// The value as the server can hold it; `None` if it is not of this kind.
fn cell(kind: Kind, value: ValueRef<'_>) -> Option<Cell> {
    Some(match (kind, value) {
        (_, ValueRef::Null) => Cell::Null,
        (Kind::Integer, ValueRef::Integer(number)) => Cell::Integer(number),
        (Kind::Boolean, ValueRef::Integer(number @ (0 | 1))) => Cell::Boolean(number == 1),
        // The server's texts cannot hold NUL; in JSON, which is most of them, it is escaped and stays.
        (Kind::Text, ValueRef::Text(text)) => {
            Cell::Text(std::str::from_utf8(text).ok()?.replace('\0', "\u{fffd}"))
        }
        (Kind::Bytes, ValueRef::Blob(bytes)) => Cell::Bytes(bytes.to_vec()),
        (Kind::Integer | Kind::Boolean | Kind::Text | Kind::Bytes, _) => return None,
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
    use crate::store::copy::TABLES;

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
        // The copy derives these from the results.
        let derived = ["listings", "tags"];
        for table in tables.iter().filter(|table| !table.starts_with("search")) {
            let is_known = TABLES.contains(&table.as_str()) || derived.contains(&table.as_str());
            assert!(is_known, "{table} is not in the list of what is copied");
        }
    }
}
