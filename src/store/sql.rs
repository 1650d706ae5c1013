//! SQL statements. Each statement is written once, and is translated for the engine on first use.

use std::sync::OnceLock;

/// Declares a static [`Sql`] from literals and constants.
///
/// The dialect: parameters are `?1`, `?2`, …; a statement contains no other `?`. Row locks are written for PostgreSQL
/// (`FOR UPDATE`, `FOR NO KEY UPDATE`, both with or without `SKIP LOCKED`). `SQLite` has one writer and runs the statement
/// without the row locks.
macro_rules! sql {
    ($($part:expr),+ $(,)?) => {{
        static STATEMENT: $crate::store::sql::Sql = $crate::store::sql::Sql::new(&[$($part),+]);
        &STATEMENT
    }};
}
pub(super) use sql;

/// Row locks, which `SQLite` does not support. If one clause is the prefix of another, the longer clause comes first.
const LOCKS: [&str; 4] =
    [" FOR NO KEY UPDATE SKIP LOCKED", " FOR NO KEY UPDATE", " FOR UPDATE SKIP LOCKED", " FOR UPDATE"];

type Parts = &'static [&'static str];

/// A statement for both engines.
#[derive(Debug)]
pub(super) struct Sql {
    sqlite_parts: Parts,
    postgres_parts: Parts,
    key: Option<&'static str>,
    sqlite: OnceLock<String>,
    postgres: OnceLock<String>,
}

impl Sql {
    /// Joins the parts of a statement in the dialect of [`sql!`](super::sql).
    pub(super) const fn new(parts: Parts) -> Self {
        Self::per_engine(parts, parts)
    }

    /// Creates a statement that has to differ between the engines. An empty statement is not run.
    pub(super) const fn per_engine(sqlite_parts: Parts, postgres_parts: Parts) -> Self {
        Self { sqlite_parts, postgres_parts, key: None, sqlite: OnceLock::new(), postgres: OnceLock::new() }
    }

    /// Creates an `INSERT` of at most one row, whose number is in the column `key`. See
    /// [`Transaction::insert`](super::rules::Transaction::insert).
    pub(super) const fn insert(key: &'static str, parts: Parts) -> Self {
        let key = Some(key);
        Self {
            sqlite_parts: parts,
            postgres_parts: parts,
            key,
            sqlite: OnceLock::new(),
            postgres: OnceLock::new(),
        }
    }

    pub(super) fn sqlite(&self) -> &str {
        self.sqlite.get_or_init(|| {
            let joined = self.sqlite_parts.concat();
            LOCKS.iter().fold(joined, |text, lock| text.replace(lock, ""))
        })
    }

    pub(super) fn postgres(&self) -> &str {
        self.postgres.get_or_init(|| {
            let text = self.postgres_parts.concat().replace('?', "$");
            self.key.map_or_else(|| text.clone(), |key| format!("{text} RETURNING {key}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_translated_for_each_engine() {
        const COLUMNS: &str = "id, name";
        let select = sql!(
            "SELECT ",
            COLUMNS,
            " FROM t WHERE id IN (SELECT id FROM t FOR UPDATE SKIP LOCKED) AND n = ?1"
        );
        assert_eq!(select.sqlite(), "SELECT id, name FROM t WHERE id IN (SELECT id FROM t) AND n = ?1");
        assert_eq!(
            select.postgres(),
            "SELECT id, name FROM t WHERE id IN (SELECT id FROM t FOR UPDATE SKIP LOCKED) AND n = $1"
        );
        static INSERT: Sql = Sql::insert("id", &["INSERT INTO t (n) VALUES (?1)"]);
        assert_eq!(INSERT.sqlite(), "INSERT INTO t (n) VALUES (?1)");
        assert_eq!(INSERT.postgres(), "INSERT INTO t (n) VALUES ($1) RETURNING id");
    }
}
