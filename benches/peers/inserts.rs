//! The peer of `submit_analysis`: plain SQLite inserts of the same row, 32 per commit, with each commit synced.

use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

const BATCH: usize = 32;
const PERIOD: Duration = Duration::from_secs(5);

/// Measures rows per second.
pub(crate) fn run() -> f64 {
    let home = tempfile::tempdir().expect("a temporary folder");
    let connection = Connection::open(home.path().join("peer.db")).expect("a database");
    connection
        .execute_batch(include_str!("../../src/store/sqlite/schema.sql"))
        .and_then(|()| connection.pragma_update(None, "journal_mode", "WAL"))
        .and_then(|()| connection.pragma_update(None, "synchronous", "FULL"))
        .expect("the schema");
    let mut insert = connection
        .prepare(
            "INSERT INTO analyses (tenant, call_id, status, revision, submitted_at, metadata, trace, stage, due_at, \
             started_at) VALUES ('acme', ?, 'queued', 0, 1795374000000, '{}', ?, 'submit', 1795374000000, 1795374000000)",
        )
        .expect("a statement");
    let trace = r#"{"trace_id":101518349412345678901234567890,"flags":0}"#;
    let (began, mut rows) = (Instant::now(), 0_usize);
    while began.elapsed() < PERIOD {
        connection.execute_batch("BEGIN IMMEDIATE").expect("a transaction");
        for _ in 0..BATCH {
            insert.execute(params![format!("1795374000-{rows}"), trace]).expect("a row");
            rows += 1;
        }
        connection.execute_batch("COMMIT").expect("a commit");
    }
    rows as f64 / began.elapsed().as_secs_f64()
}
