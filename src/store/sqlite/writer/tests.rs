//! Groups whose jobs fail, panic, or lose their transaction.

use super::*;

type TestJob = fn(&Connection) -> Result<Done<()>, StoreError>;

/// A writer on a new file with one table, and another connection to see what is on disk.
fn writer() -> (tempfile::TempDir, Writer, Connection) {
    let (folder, writer, disk, _) = listened_to();
    (folder, writer, disk)
}

/// The same, with what it tells of changes.
fn listened_to() -> (tempfile::TempDir, Writer, Connection, broadcast::Receiver<Change>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let connection = Connection::open(&path).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.execute_batch("CREATE TABLE t (n INTEGER PRIMARY KEY)").unwrap();
    let (changes, told) = broadcast::channel(16);
    (folder, Writer::start(connection, changes).unwrap(), Connection::open(&path).unwrap(), told)
}

fn insert(connection: &Connection, n: i64) -> Result<Done<()>, StoreError> {
    connection.execute("INSERT INTO t VALUES (?)", [n])?;
    Ok(Done::quiet(()))
}

fn on_disk(connection: &Connection) -> Vec<i64> {
    let mut rows = connection.prepare("SELECT n FROM t ORDER BY n").unwrap();
    rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

/// Queues jobs while the thread is held up, so that they make one group, and gives their outcomes.
async fn in_one_group<const N: usize>(writer: &Writer, jobs: [TestJob; N]) -> Vec<Result<(), StoreError>> {
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let (begun, has_begun) = oneshot::channel();
    let hold = writer.run(move |_| {
        let _ = begun.send(());
        let _ = wait.recv();
        Ok(Done::quiet(()))
    });
    let group = async {
        has_begun.await.unwrap();
        // Polled in this order: the jobs wait in the queue before the thread goes on.
        let release = async {
            go_on.send(()).unwrap();
        };
        futures_util::future::join(futures_util::future::join_all(jobs.map(|job| writer.run(job))), release)
            .await
            .0
    };
    // What the holder is told depends on how its group fares.
    futures_util::future::join(hold, group).await.1
}

#[tokio::test]
async fn a_job_that_fails_takes_nothing_of_its_group_with_it() {
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
async fn a_job_that_panics_is_undone_and_the_thread_goes_on() {
    let (_folder, writer, disk) = writer();
    let outcomes = in_one_group(
        &writer,
        [
            |connection| insert(connection, 1),
            |connection| {
                insert(connection, 2)?;
                panic!("a fault in a job")
            },
            |connection| insert(connection, 3),
        ],
    )
    .await;
    let worked: Vec<_> = outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(worked, [true, false, true]);
    writer.run(|connection| insert(connection, 4)).await.unwrap();
    assert_eq!(on_disk(&disk), [1, 3, 4]);
}

#[tokio::test]
async fn a_commit_that_fails_fails_its_group_and_the_next_one_works() {
    let (_folder, writer, disk) = writer();
    let outcomes = in_one_group(
        &writer,
        [
            |connection| insert(connection, 1),
            // What SQLite does on its own when the disk is full.
            |connection| {
                connection.execute_batch("ROLLBACK")?;
                Err(StoreError::Unavailable("the disk is full".into()))
            },
        ],
    )
    .await;
    assert!(outcomes.iter().all(Result::is_err), "{outcomes:?}");
    assert_eq!(on_disk(&disk), [0_i64; 0]);
    writer.run(|connection| insert(connection, 2)).await.unwrap();
    assert_eq!(on_disk(&disk), [2]);
}

#[tokio::test]
async fn changes_are_told_once_they_are_on_disk_and_only_then() {
    let (_folder, writer, disk, mut changes) = listened_to();
    let failed = writer
        .run(|connection| {
            insert(connection, 1)?;
            connection.execute("INSERT INTO t VALUES (1)", [])?;
            Ok(Done { value: (), changes: vec![Change::Delivery] })
        })
        .await;
    assert!(failed.is_err());
    assert!(changes.try_recv().is_err());
    writer
        .run(|connection| {
            insert(connection, 1)?;
            Ok(Done { value: (), changes: vec![Change::Delivery] })
        })
        .await
        .unwrap();
    assert_eq!(changes.try_recv(), Ok(Change::Delivery));
    assert_eq!(on_disk(&disk), [1]);
}

#[tokio::test]
async fn dropping_the_writer_waits_for_what_it_took() {
    let (_folder, writer, disk) = writer();
    let mut taken = Box::pin(writer.run(|connection| insert(connection, 1)));
    tokio::select! {
        biased;
        outcome = &mut taken => outcome.unwrap(),
        () = std::future::ready(()) => {}
    }
    drop(taken);
    drop(writer);
    assert_eq!(on_disk(&disk), [1]);
}

#[tokio::test]
async fn that_there_is_work_is_told_once_for_a_group() {
    let (_folder, writer, _disk, mut changes) = listened_to();
    in_one_group(&writer, [|connection| told_of(connection, 1), |connection| told_of(connection, 2)]).await;
    assert_eq!(changes.try_recv(), Ok(Change::Delivery));
    assert!(changes.try_recv().is_err());
    writer.run(|connection| told_of(connection, 3)).await.unwrap();
    assert_eq!(changes.try_recv(), Ok(Change::Delivery));
}

fn told_of(connection: &Connection, n: i64) -> Result<Done<()>, StoreError> {
    insert(connection, n)?;
    Ok(Done { value: (), changes: vec![Change::Delivery] })
}
