//! The contract on `SQLite`, and what only a file can do.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alovoice_gateway::domain::analysis::{Stage, Status};
use alovoice_gateway::store::sqlite::{SqliteOpenError, SqliteStore, inspect};
use alovoice_gateway::store::{Queue, StoreError};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::cases::paces::{first_look, learn};
use crate::cases::replays::one_that_cannot_be_read_stops_no_other;
use crate::cases::webhooks::attempt_often;
use crate::harness::{Harness, acme, call_id, delivered, ready, store_context, submission, with_callback};
use crate::rows::Rows;

crate::contract!(super::open);

/// An engine on a new file.
async fn open() -> Harness {
    let folder = tempfile::tempdir().unwrap();
    let path = file_in(&folder);
    open_at(&path, folder)
}

fn open_at(path: &Path, keep: impl Send + Sync + 'static) -> Harness {
    let (context, clock) = store_context();
    let store = Arc::new(SqliteStore::open(path, context).unwrap());
    Harness::new(store, clock, Rows::of_file(path), keep)
}

fn file_in(folder: &TempDir) -> PathBuf {
    folder.path().join("store.db")
}

/// What another program finds in the file, or does to it.
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
async fn a_file_opened_again_holds_everything() {
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
async fn what_was_learned_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let harness = open_at(&file_in(&folder), ());
    let pace = learn(&harness).await;
    drop(harness);

    let harness = open_at(&file_in(&folder), ());
    assert_eq!(harness.rows.pace(&acme()).await, Some(pace));
    assert_eq!(first_look(&harness, "1").await, pace.first_look);
}

#[tokio::test]
async fn leases_of_a_process_that_died_are_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let harness = open_at(&file_in(&folder), ());
    harness.submit(submission("1")).await;
    let lost = harness.claim_one(Queue::Submits).await;
    drop(harness);

    // The same moment: its lease would have had long to go.
    let harness = open_at(&file_in(&folder), ());
    let stale = harness.store.apply(lost.lease, ready("salom")).await;
    assert!(matches!(stale, Err(StoreError::LeaseLost)), "{stale:?}");
    assert_eq!(harness.claim(Queue::Submits).await.len(), 0);
    assert_eq!(harness.claim_one(Queue::Polls).await.analysis.work.unwrap().stage, Stage::Confirm);
}

/// Each step of a replay may be the last of its process.
#[tokio::test]
async fn a_replay_goes_on_after_every_step_in_another_process() {
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
    // It took nothing from the first.
    harness.submit(submission("1")).await;
    harness.store.check().await.unwrap();
    drop(harness);
    open_at(&file_in(&folder), ()).find("1").await;
}

#[tokio::test]
async fn a_file_of_a_later_version_is_left_alone() {
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
    inspect(&file_in(&folder)).unwrap();
    assert_eq!(names(&entries(&folder)), names(&in_use));
    harness.submit(submission("2")).await;
    drop(harness);

    let at_rest = entries(&folder);
    inspect(&file_in(&folder)).unwrap();
    assert_eq!(names(&entries(&folder)), names(&at_rest));
    assert!(entries(&folder) == at_rest, "a file was written to");
}

#[test]
fn what_cannot_be_opened_says_why() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(file_in(&folder), "certainly not a database, whatever its name is").unwrap();
    let opened = SqliteStore::open(&file_in(&folder), store_context().0).map(|_| ());
    for outcome in [opened, inspect(&file_in(&folder))] {
        assert!(matches!(outcome, Err(SqliteOpenError::Sqlite { .. })), "{outcome:?}");
    }
    let nowhere = folder.path().join("missing").join("store.db");
    let opened = SqliteStore::open(&nowhere, store_context().0).map(|_| ());
    for outcome in [opened, inspect(&nowhere)] {
        assert!(matches!(outcome, Err(SqliteOpenError::Io { .. })), "{outcome:?}");
    }
}

#[tokio::test]
async fn an_answer_means_that_it_is_in_the_file() {
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
async fn a_value_that_cannot_be_read_is_said_to_be_corrupt() {
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
    // The writer and the readers are none the worse for it.
    assert_eq!(harness.submit(submission("2")).await.analysis.status, Status::Queued);
    harness.find("2").await;
}

#[tokio::test]
async fn of_many_attempts_the_last_hundred_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let harness = open_at(&file_in(&folder), ());
    harness.announce("1", &["https://a.example/"]).await;
    attempt_often(&harness, 104).await;
    let other = beside(&file_in(&folder));
    let kept = other.query_row("SELECT min(number), count(*) FROM attempts", [], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
    });
    assert_eq!(kept.unwrap(), (5, 100));
}

#[tokio::test]
async fn a_replay_that_cannot_be_read_stops_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let harness = open_at(&file_in(&folder), ());
    let other = beside(&file_in(&folder));
    one_that_cannot_be_read_stops_no_other(&harness, async |id| {
        assert_eq!(other.execute("UPDATE replays SET trace = '[]' WHERE id = ?", [id]).unwrap(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_transaction_that_breaks_loses_what_was_refused_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let harness = open_at(&file_in(&folder), ());
    harness.submit(with_callback("1", "https://a.example/")).await;
    let before = harness.find("1").await;
    harness.changes();

    // As with a full disk: the engine rolls everything back, in the middle of the work.
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

/// A look at the file would pass on a disk that takes no more writes.
#[tokio::test]
async fn a_check_of_the_store_is_a_write_to_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let harness = open_at(&file_in(&folder), ());
    let logged = || folder.path().join("store.db-wal").metadata().unwrap().len();
    let before = logged();
    harness.store.check().await.unwrap();
    assert!(logged() > before);
}

#[test]
fn the_files_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let _harness = open_at(&file_in(&folder), ());
    for file in ["store.db", "store.db-wal", "store.db.lock"] {
        let mode = folder.path().join(file).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}
