//! The store of a test, read directly and not through the gateway.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::postgres::database::Database;

/// A store of either engine. Both engines use the same table names.
pub(crate) enum Store {
    /// A SQLite file, which one process uses.
    File(PathBuf),
    /// A PostgreSQL database, which several processes can share.
    Database(Database),
}

impl Store {
    pub(crate) fn url(&self) -> String {
        match self {
            Self::File(path) => format!("sqlite://{}", path.display()),
            Self::Database(database) => database.url().to_owned(),
        }
    }

    /// Number of events of a call.
    pub(crate) async fn events_of(&self, call_id: &str) -> usize {
        let count: i64 = match self {
            Self::File(path) => {
                let count = "SELECT count(*) FROM events WHERE call_id = ?";
                open(path).query_row(count, [call_id], |row| row.get(0)).unwrap()
            }
            Self::Database(database) => {
                let count = "SELECT count(*) FROM events WHERE call_id = $1";
                database.connect().await.query_one(count, &[&call_id]).await.unwrap().get(0)
            }
        };
        usize::try_from(count).unwrap()
    }

    /// Runs a statement that changes this number of rows.
    pub(crate) async fn change(&self, statement: &str, rows: u64) {
        let changed = match self {
            Self::File(path) => open(path).execute(statement, []).unwrap() as u64,
            Self::Database(database) => database.connect().await.execute(statement, &[]).await.unwrap(),
        };
        assert_eq!(changed, rows, "{statement}");
    }

    /// Runs a statement that returns one number.
    pub(crate) async fn count(&self, statement: &str) -> i64 {
        match self {
            Self::File(path) => open(path).query_row(statement, [], |row| row.get(0)).unwrap(),
            Self::Database(database) => {
                database.connect().await.query_one(statement, &[]).await.unwrap().get(0)
            }
        }
    }

    /// Runs statements without parameters.
    pub(crate) async fn execute(&self, statements: &str) {
        match self {
            Self::File(path) => Connection::open(path).unwrap().execute_batch(statements).unwrap(),
            Self::Database(database) => database.connect().await.batch_execute(statements).await.unwrap(),
        }
    }

    /// All delivery attempts: their numbers, and whether their outcome is recorded.
    pub(crate) async fn attempts(&self) -> Vec<(i64, bool)> {
        let attempts = "SELECT number, outcome IS NOT NULL FROM attempts ORDER BY number";
        match self {
            Self::File(path) => {
                let file = open(path);
                let mut attempts = file.prepare(attempts).unwrap();
                let attempts = attempts.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
                attempts.map(Result::unwrap).collect()
            }
            Self::Database(database) => {
                let attempts = database.connect().await.query(attempts, &[]).await.unwrap();
                attempts.iter().map(|row| (row.get(0), row.get(1))).collect()
            }
        }
    }

    /// The text of every column of every table. The database files are not enough, since the engine splits long values there.
    pub(crate) async fn texts(&self) -> Vec<String> {
        match self {
            Self::File(path) => texts_of_file(&open(path)),
            Self::Database(database) => texts_of_database(database).await,
        }
    }
}

/// Opens the file. The gateway can lock it for a while, for example while it closes the file.
fn open(path: &Path) -> Connection {
    let file = Connection::open(path).unwrap();
    file.busy_timeout(Duration::from_mins(5)).unwrap();
    file
}

fn texts_of_file(file: &Connection) -> Vec<String> {
    let mut tables = file.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
    let tables: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert!(tables.len() >= 6, "{tables:?}");
    let mut texts = Vec::new();
    for table in tables {
        let mut rows = file.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = rows.column_count();
        let mut rows = rows.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            for column in 0..columns {
                if let ValueRef::Text(bytes) | ValueRef::Blob(bytes) = row.get_ref(column).unwrap() {
                    texts.push(String::from_utf8_lossy(bytes).into_owned());
                }
            }
        }
    }
    texts
}

/// Returns one text per row, with bytes shown as characters.
async fn texts_of_database(database: &Database) -> Vec<String> {
    let client = database.connect().await;
    client.batch_execute("SET bytea_output = 'escape'").await.unwrap();
    let tables = "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = current_schema";
    let tables = client.query(tables, &[]).await.unwrap();
    let tables: Vec<String> = tables.iter().map(|row| row.get(0)).collect();
    assert!(tables.len() >= 6, "{tables:?}");
    let mut texts = Vec::new();
    for table in tables {
        let rows = client.query(&format!("SELECT whole::text FROM {table} AS whole"), &[]).await.unwrap();
        texts.extend(rows.iter().map(|row| row.get::<_, String>(0)));
    }
    texts
}
