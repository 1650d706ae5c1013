//! Tests of groups in which a job fails or panics, or the transaction is lost.

use std::sync::Arc;

use super::*;
use crate::domain::ids::{CallId, TenantId};
use crate::telemetry::metrics::Metrics;

type TestJob = fn(&Connection) -> Result<Done<()>, StoreError>;

/// Creates a writer on a new file with one table, and a second connection that reads the committed data.
fn writer() -> (tempfile::TempDir, Writer, Connection) {
    let (folder, writer, disk, _) = writer_with_listener();
    (folder, writer, disk)
}

/// Creates the same as [`writer`], and a receiver of the announced changes.
fn writer_with_listener() -> (tempfile::TempDir, Writer, Connection, broadcast::Receiver<Change>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.execute_batch("CREATE TABLE t (n INTEGER PRIMARY KEY)").unwrap();
    let (changes, announced) = broadcast::channel(16);
    let metrics = Arc::new(Metrics::new().unwrap());
    let watch = FileWatch::start(&path, metrics).unwrap();
    let writer = Writer::start(connection, watch, changes).unwrap();
    (folder, writer, Connection::open(&path).unwrap(), announced)
}

fn insert(connection: &Connection, n: i64) -> Result<Done<()>, StoreError> {
    connection.execute("INSERT INTO t VALUES (?)", [n])?;
    Ok(Done::quiet(()))
}

fn on_disk(connection: &Connection) -> Vec<i64> {
    let mut rows = connection.prepare("SELECT n FROM t ORDER BY n").unwrap();
    rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

async fn run(
    writer: &Writer,
    job: impl Fn(&Connection) -> Result<Done<()>, StoreError> + Send + 'static,
) -> Result<(), StoreError> {
    writer.run(move |connection| job(&lock(connection))).await
}

/// Queues jobs while the thread is blocked, so that they form one group. Returns their outcomes.
async fn in_one_group<const N: usize>(writer: &Writer, jobs: [TestJob; N]) -> Vec<Result<(), StoreError>> {
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let (begun, mut has_begun) = mpsc::channel(1);
    let wait = Mutex::new(wait);
    let hold = writer.run(move |_| {
        let _ = begun.try_send(());
        // The wait ends as soon as the sender is dropped, also if the job runs again.
        let _ = wait.lock().unwrap().recv();
        Ok(Done::quiet(()))
    });
    let group = async {
        has_begun.recv().await.unwrap();
        // Polling a job queues it, before the thread continues.
        let release = async move { drop(go_on) };
        futures_util::future::join(futures_util::future::join_all(jobs.map(|job| run(writer, job))), release)
            .await
            .0
    };
    // The outcome of the blocking job depends on its group.
    futures_util::future::join(hold, group).await.1
}

#[tokio::test]
async fn a_failed_job_does_not_affect_its_group() {
    let (_folder, writer, disk) = writer();
    let outcomes = in_one_group(
        &writer,
        [
            |connection| insert(connection, 1),
            |connection| {
                insert(connection, 2)?;
                insert(connection, 1)
            },
            |connection| {
                insert(connection, 3)?;
                Err(StoreError::LeaseLost)
            },
            |connection| insert(connection, 4),
        ],
    )
    .await;
    let worked: Vec<_> = outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(worked, [true, false, false, true]);
    assert!(matches!(outcomes[2], Err(StoreError::LeaseLost)), "{:?}", outcomes[2]);
    assert_eq!(on_disk(&disk), [1, 4]);
}

#[tokio::test]
async fn a_job_that_panics_is_rolled_back_and_the_thread_continues() {
    let (_folder, writer, disk) = writer();
    let outcomes = in_one_group(
        &writer,
        [
            |connection| insert(connection, 1),
            |connection| {
                insert(connection, 2)?;
                panic!("the job failed")
            },
            |connection| insert(connection, 3),
        ],
    )
    .await;
    let worked: Vec<_> = outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(worked, [true, false, true]);
    run(&writer, |connection| insert(connection, 4)).await.unwrap();
    assert_eq!(on_disk(&disk), [1, 3, 4]);
}

#[tokio::test]
async fn a_failed_commit_fails_its_whole_group_and_no_later_one() {
    let (_folder, writer, disk) = writer();
    let outcomes = in_one_group(
        &writer,
        [
            |connection| insert(connection, 1),
            // SQLite also rolls the transaction back when the disk is full.
            |connection| {
                connection.execute_batch("ROLLBACK")?;
                Err(StoreError::Unavailable("the disk is full".into()))
            },
        ],
    )
    .await;
    assert!(outcomes.iter().all(Result::is_err), "{outcomes:?}");
    assert_eq!(on_disk(&disk), [0_i64; 0]);
    run(&writer, |connection| insert(connection, 2)).await.unwrap();
    assert_eq!(on_disk(&disk), [2]);
}

#[tokio::test]
async fn changes_are_announced_after_the_commit() {
    let (_folder, writer, disk, mut changes) = writer_with_listener();
    let failed = run(&writer, |connection| {
        insert(connection, 1)?;
        connection.execute("INSERT INTO t VALUES (1)", [])?;
        Ok(Done { value: (), changes: vec![Change::Delivery], usage: Vec::new() })
    })
    .await;
    assert!(failed.is_err());
    assert!(changes.try_recv().is_err());
    run(&writer, |connection| insert_with_change(connection, 1)).await.unwrap();
    assert_eq!(changes.try_recv(), Ok(Change::Delivery));
    assert_eq!(on_disk(&disk), [1]);
}

#[tokio::test]
async fn dropping_the_writer_waits_for_queued_jobs() {
    let (_folder, writer, disk) = writer();
    let mut queued = Box::pin(run(&writer, |connection| insert(connection, 1)));
    tokio::select! {
        biased;
        outcome = &mut queued => outcome.unwrap(),
        () = std::future::ready(()) => {}
    }
    drop(queued);
    drop(writer);
    assert_eq!(on_disk(&disk), [1]);
}

#[tokio::test]
async fn equal_changes_are_announced_once_per_group() {
    let (_folder, writer, _disk, mut changes) = writer_with_listener();
    in_one_group(
        &writer,
        [|connection| insert_with_change(connection, 1), |connection| insert_with_change(connection, 2)],
    )
    .await;
    assert_eq!(changes.try_recv(), Ok(Change::Delivery));
    assert!(changes.try_recv().is_err());
    run(&writer, |connection| insert_with_change(connection, 3)).await.unwrap();
    assert_eq!(changes.try_recv(), Ok(Change::Delivery));
}

#[tokio::test]
async fn effects_of_a_repeated_job_count_once() {
    let (_folder, writer, disk, mut changes) = writer_with_listener();
    let outcomes = in_one_group(
        &writer,
        [
            |connection| {
                insert(connection, 1)?;
                let changed = Change::Analysis(TenantId::parse("acme").unwrap(), CallId::parse("1").unwrap());
                Ok(Done { value: (), changes: vec![changed], usage: Vec::new() })
            },
            |_| Err(StoreError::LeaseLost),
        ],
    )
    .await;
    assert!(outcomes[0].is_ok() && outcomes[1].is_err(), "{outcomes:?}");
    assert!(matches!(changes.try_recv(), Ok(Change::Analysis(..))));
    assert!(changes.try_recv().is_err());
    assert_eq!(on_disk(&disk), [1]);
}

fn insert_with_change(connection: &Connection, n: i64) -> Result<Done<()>, StoreError> {
    insert(connection, n)?;
    Ok(Done { value: (), changes: vec![Change::Delivery], usage: Vec::new() })
}
