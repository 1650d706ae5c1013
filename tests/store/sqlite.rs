//! The contract on `SQLite`, and tests of this engine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alovoice_gateway::domain::analysis::{Stage, Status};
use alovoice_gateway::store::sqlite::{SqliteOpenError, SqliteStore, inspect};
use alovoice_gateway::store::{Queue, StoreError};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::cases::paces::{first_poll_delay, learn};
use crate::cases::replays::check_unreadable_replay;
use crate::cases::webhooks::attempt_repeatedly;
use crate::harness::{Harness, acme, call_id, delivered, ready, store_context, submission, with_callback};
use crate::rows::Rows;

crate::contract!(super::open);

/// Opens a store on a new file.
async fn open() -> Harness {
    let folder = tempfile::tempdir().unwrap();
    let path = file_in(&folder);
    open_at(&path, folder)
}

fn open_at(path: &Path, keep: impl Send + Sync + 'static) -> Harness {
    let (context, clock) = store_context();
    let metrics = Arc::clone(&context.env.metrics);
    let store = Arc::new(SqliteStore::open(path, context).unwrap());
    Harness::new(store, clock, metrics, Rows::of_file(path), keep)
}

fn file_in(folder: &TempDir) -> PathBuf {
    folder.path().join("store.db")
}

/// Opens the file with a connection of another program.
fn beside(path: &Path) -> Connection {
    Connection::open(path).unwrap()
}

fn entries(folder: &TempDir) -> Vec<(PathBuf, Vec<u8>)> {
    let mut entries: Vec<_> = folder
        .path()
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    entries.sort();
    entries
}

#[tokio::test]
async fn a_reopened_file_has_all_rows() {
    let folder = tempfile::tempdir().unwrap();
    let harness = open_at(&file_in(&folder), ());
    harness.announce("1", &["https://a.example/"]).await;
    harness.submit(submission("2")).await;
    let before = (harness.find("1").await, harness.find("2").await);
    drop(harness);

    let harness = open_at(&file_in(&folder), ());
    assert_eq!((harness.find("1").await, harness.find("2").await), before);
    assert!(harness.store.find_vendor_answer(&acme(), &call_id("1")).await.unwrap().is_some());
    harness.advance(10);
    assert_eq!(harness.claim_delivery().await.delivery.call_id, Some(call_id("1")));
    assert_eq!(harness.claim_one(Queue::Submits).await.analysis.call_id, call_id("2"));
}

#[tokio::test]
async fn the_learned_pace_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let harness = open_at(&file_in(&folder), ());
    let pace = learn(&harness).await;
    drop(harness);

    let harness = open_at(&file_in(&folder), ());
    assert_eq!(harness.rows.pace(&acme()).await, Some(pace));
    assert_eq!(first_poll_delay(&harness, "1").await, pace.first_poll_after);
}

#[tokio::test]
async fn opening_the_file_releases_the_leases_of_a_dead_process() {
    let folder = tempfile::tempdir().unwrap();
    let harness = open_at(&file_in(&folder), ());
    harness.submit(submission("1")).await;
    let lost = harness.claim_one(Queue::Submits).await;
    drop(harness);

    // No time has passed, so the lease would still be valid.
    let harness = open_at(&file_in(&folder), ());
    let stale = harness.store.apply(lost.lease, ready("salom").into()).await;
    assert!(matches!(stale, Err(StoreError::LeaseLost)), "{stale:?}");
    assert_eq!(harness.claim(Queue::Submits).await.len(), 0);
    assert_eq!(harness.claim_one(Queue::Polls).await.analysis.work.unwrap().stage, Stage::Confirm);
}

/// A process may end after any step of a replay.
#[tokio::test]
async fn a_replay_continues_in_another_process_after_every_step() {
    let folder = tempfile::tempdir().unwrap();
    let harness = open_at(&file_in(&folder), ());
    crate::cases::webhooks::events(&harness, "event", 450).await;
    let webhook = crate::cases::webhooks::registered(&harness, "https://a.example/").await;
    let replay = crate::cases::replays::replay_to(&harness, webhook.id, 1);
    harness.store.begin_replay(&acme(), replay.clone()).await.unwrap();
    drop(harness);
    let mut sent = std::collections::HashMap::<String, usize>::new();
    loop {
        let harness = open_at(&file_in(&folder), ());
        harness.store.advance_replays_across_tenants().await.unwrap();
        drop(harness);
        let harness = open_at(&file_in(&folder), ());
        for claimed in harness.claim_deliveries(1000, 1000).await {
            *sent.entry(claimed.delivery.event_id.to_string()).or_default() += 1;
            harness.store.finish_attempt(claimed.lease, delivered()).await.unwrap();
        }
        let found = harness.store.find_replay(&acme(), webhook.id, replay.id).await.unwrap().unwrap();
        if found.finished_at.is_some() {
            assert_eq!(found.sent, 450);
            break;
        }
    }
    assert!(sent.len() == 450 && sent.values().all(|times| *times == 1), "{sent:?}");
}

#[tokio::test]
async fn a_file_belongs_to_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let harness = open_at(&file_in(&folder), ());
    let second = SqliteStore::open(&file_in(&folder), store_context().0).map(|_| ());
    assert!(matches!(second, Err(SqliteOpenError::InUse(_))), "{second:?}");
    // The failed opening did not affect the first store.
    harness.submit(submission("1")).await;
    harness.store.check().await.unwrap();
    drop(harness);
    open_at(&file_in(&folder), ()).find("1").await;
}

#[tokio::test]
async fn a_file_of_a_later_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open_at(&file_in(&folder), ()));
    beside(&file_in(&folder)).pragma_update(None, "user_version", 99).unwrap();
    let opened = SqliteStore::open(&file_in(&folder), store_context().0).map(|_| ());
    for outcome in [opened, inspect(&file_in(&folder))] {
        assert!(matches!(outcome, Err(SqliteOpenError::TooNew { found: 99, .. })), "{outcome:?}");
    }
    let version: i64 =
        beside(&file_in(&folder)).pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 99);
}

#[tokio::test]
async fn an_inspection_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    inspect(&file_in(&folder)).unwrap();
    assert_eq!(entries(&folder), []);

    let harness = open_at(&file_in(&folder), ());
    harness.submit(submission("1")).await;
    let names =
        |entries: &[(PathBuf, Vec<u8>)]| entries.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let in_use = entries(&folder);
    let refused = inspect(&file_in(&folder));
    assert!(matches!(refused, Err(SqliteOpenError::InUse(_))), "{refused:?}");
    assert_eq!(names(&entries(&folder)), names(&in_use));
    harness.submit(submission("2")).await;
    drop(harness);

    let at_rest = entries(&folder);
    inspect(&file_in(&folder)).unwrap();
    assert_eq!(names(&entries(&folder)), names(&at_rest));
    assert!(entries(&folder) == at_rest, "the inspection changed a file");
}

#[test]
fn an_unusable_file_is_reported_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(file_in(&folder), "certainly not a database, whatever its name is").unwrap();
    let opened = SqliteStore::open(&file_in(&folder), store_context().0).map(|_| ());
    for outcome in [opened, inspect(&file_in(&folder))] {
        assert!(matches!(outcome, Err(SqliteOpenError::Sqlite { .. })), "{outcome:?}");
    }
    let nowhere = folder.path().join("missing").join("store.db");
    let opened = SqliteStore::open(&nowhere, store_context().0).map(|_| ());
    assert!(matches!(opened, Err(SqliteOpenError::Io { .. })), "{opened:?}");
    let inspected = inspect(&nowhere);
    assert!(matches!(inspected, Err(SqliteOpenError::Folder { .. })), "{inspected:?}");
}

#[tokio::test]
async fn a_successful_write_is_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let harness = open_at(&file_in(&folder), ());
    let other = beside(&file_in(&folder));
    let journal: String = other.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(journal, "wal");
    for count in 1..=3 {
        harness.submit(submission(&count.to_string())).await;
        let seen: i64 = other.query_row("SELECT count(*) FROM analyses", [], |row| row.get(0)).unwrap();
        assert_eq!(seen, count);
    }
}

#[tokio::test]
async fn an_unreadable_value_is_reported_as_corrupt() {
    let folder = tempfile::tempdir().unwrap();
    let harness = open_at(&file_in(&folder), ());
    let other = beside(&file_in(&folder));
    for damage in [
        "status = 'lost'",
        "stage = 'nowhere'",
        "metadata = '{'",
        "trace = '[]'",
        "revision = -1",
        "polls = 5000000000",
        "last_error = '{\"code\": \"new\"}'",
    ] {
        harness.submit(submission("1")).await;
        other.execute(&format!("UPDATE analyses SET {damage}"), []).unwrap();
        let found = harness.store.find_analysis(&acme(), &call_id("1")).await;
        assert!(matches!(found, Err(StoreError::Corrupt(_))), "{damage}: {found:?}");
        let submitted = harness.store.submit(&acme(), submission("1")).await;
        assert!(matches!(submitted, Err(StoreError::Corrupt(_))), "{damage}: {submitted:?}");
        other.execute("DELETE FROM analyses", []).unwrap();
    }
    harness.complete(submission("1"), "salom").await;
    other.execute("UPDATE results SET result = '{}'", []).unwrap();
    let found = harness.store.find_analysis(&acme(), &call_id("1")).await;
    assert!(matches!(found, Err(StoreError::Corrupt(_))), "{found:?}");
    // The writer and the readers still work.
    assert_eq!(harness.submit(submission("2")).await.analysis.status, Status::Queued);
    harness.find("2").await;
}

#[tokio::test]
async fn the_last_hundred_attempts_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let harness = open_at(&file_in(&folder), ());
    harness.announce("1", &["https://a.example/"]).await;
    attempt_repeatedly(&harness, 104).await;
    let other = beside(&file_in(&folder));
    let kept = other.query_row("SELECT min(number), count(*) FROM attempts", [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
    });
    assert_eq!(kept.unwrap(), (5, 100));
}

#[tokio::test]
async fn an_unreadable_replay_does_not_block_others() {
    let folder = tempfile::tempdir().unwrap();
    let harness = open_at(&file_in(&folder), ());
    let other = beside(&file_in(&folder));
    check_unreadable_replay(&harness, async |id| {
        assert_eq!(other.execute("UPDATE replays SET trace = '[]' WHERE id = ?", [id]).unwrap(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_rolled_back_transaction_loses_only_its_own_writes() {
    let folder = tempfile::tempdir().unwrap();
    let harness = open_at(&file_in(&folder), ());
    harness.submit(with_callback("1", "https://a.example/")).await;
    let before = harness.find("1").await;
    harness.changes();

    // As on a full disk, the engine rolls back the transaction in the middle of the operation.
    let other = beside(&file_in(&folder));
    let full = "CREATE TRIGGER full BEFORE INSERT ON callbacks BEGIN SELECT RAISE(ROLLBACK, 'full'); END";
    other.execute_batch(full).unwrap();
    let refused = harness.store.submit(&acme(), with_callback("2", "https://a.example/")).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert_eq!(harness.store.find_analysis(&acme(), &call_id("2")).await.unwrap(), None);
    assert_eq!(harness.find("1").await, before);
    assert_eq!(harness.changes(), []);

    other.execute_batch("DROP TRIGGER full").unwrap();
    harness.store.check().await.unwrap();
    harness.submit(with_callback("2", "https://a.example/")).await;
}

/// Reading the file would succeed even on a full disk.
#[tokio::test]
async fn a_check_of_the_store_writes_to_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let harness = open_at(&file_in(&folder), ());
    let logged = || folder.path().join("store.db-wal").metadata().unwrap().len();
    let before = logged();
    harness.store.check().await.unwrap();
    assert!(logged() > before);
}

#[test]
fn the_files_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let _harness = open_at(&file_in(&folder), ());
    for file in ["store.db", "store.db-wal", "store.db.lock"] {
        let mode = folder.path().join(file).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}
