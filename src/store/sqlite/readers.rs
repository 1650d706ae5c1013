//! A pool of read-only connections. In WAL mode readers and the writer do not block each other.
//!
//! Dropping the future of [`Readers::run`] interrupts the statement in progress, because the caller no longer waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::Semaphore;

use super::super::StoreError;
use super::super::scan_limits::ScanPermit;
use super::file_watch::Loss;
use super::writer::lock;

/// Number of instructions of `SQLite`'s virtual machine between two checks for an interruption. These instructions take less than
/// a millisecond. The number is small because a search in the full-text index executes few instructions for each page that it
/// reads.
const INSTRUCTIONS: i32 = 500;

pub(super) struct Readers {
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Mutex<Connection>>>>,
    loss: Loss,
}

impl Readers {
    pub(super) fn new(connections: Vec<Connection>, loss: Loss) -> Self {
        let permits = Arc::new(Semaphore::new(connections.len()));
        let idle = Arc::new(Mutex::new(connections.into_iter().map(Mutex::new).collect()));
        Self { permits, idle, loss }
    }

    /// Runs a query on an idle connection, on a blocking thread. All statements of the query see the same snapshot. A scan's
    /// permit is held until the connection is idle again. Once the files are lost, the function refuses the query, because the
    /// files may contain another database.
    pub(super) async fn run<T, F>(&self, scan: Option<ScanPermit>, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Mutex<Connection>, &Interruption) -> Result<T, StoreError> + Send + 'static,
    {
        if let Some(lost) = self.loss.get() {
            return Err(lost.clone().into());
        }
        let closed = || StoreError::Unavailable("the store is closed".into());
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| closed())?;
        let idle = Arc::clone(&self.idle);
        let interruption = Arc::new(Interruption::default());
        let _cancel = InterruptOnDrop(Arc::clone(&interruption));
        let query = move || {
            // The permits are dropped after the loan, even if the caller is cancelled, because each permit stands for
            // an idle connection.
            let _permits = (permit, scan);
            let loan = Loan::take(&idle);
            let connection = loan.connection.as_ref().ok_or_else(closed)?;
            let is_due = Arc::clone(&interruption);
            lock(connection).progress_handler(INSTRUCTIONS, Some(move || is_due.is_due()))?;
            lock(connection).execute_batch("BEGIN")?;
            query(connection, &interruption)
        };
        tokio::task::spawn_blocking(query).await.map_err(|error| StoreError::Unavailable(Box::new(error)))?
    }
}

/// Ends the statements of a query early.
#[derive(Default)]
pub(super) struct Interruption {
    is_cancelled: AtomicBool,
    /// Time at which the part of the query that runs now must end; `None` if this part has no time limit.
    limit: Mutex<Option<Instant>>,
}

impl Interruption {
    /// Runs a part of a query with a time limit. Returns `None` if the time limit ended this part.
    pub(super) fn within<T>(
        &self,
        limit: Duration,
        part: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        self.set_limit(Some(Instant::now() + limit));
        let outcome = part();
        self.set_limit(None);
        match outcome {
            Err(error) if is_interrupted(&error) && !self.is_cancelled.load(Ordering::Relaxed) => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    fn set_limit(&self, limit: Option<Instant>) {
        *self.limit.lock().unwrap_or_else(PoisonError::into_inner) = limit;
    }

    fn is_due(&self) -> bool {
        let limit = *self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_cancelled.load(Ordering::Relaxed) || limit.is_some_and(|limit| Instant::now() >= limit)
    }
}

fn is_interrupted(error: &StoreError) -> bool {
    let StoreError::Unavailable(source) = error else { return false };
    let source = source.downcast_ref::<rusqlite::Error>();
    source.and_then(rusqlite::Error::sqlite_error_code) == Some(ErrorCode::OperationInterrupted)
}

/// Interrupts a query when this value is dropped. If the query has already ended, the drop has no effect.
struct InterruptOnDrop(Arc<Interruption>);

impl Drop for InterruptOnDrop {
    fn drop(&mut self) {
        self.0.is_cancelled.store(true, Ordering::Relaxed);
    }
}

/// A connection that returns to the pool when this value is dropped, even if the query panics.
struct Loan<'a> {
    idle: &'a Mutex<Vec<Mutex<Connection>>>,
    connection: Option<Mutex<Connection>>,
}

impl<'a> Loan<'a> {
    fn take(idle: &'a Mutex<Vec<Mutex<Connection>>>) -> Self {
        let connection = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self { idle, connection }
    }
}

impl Drop for Loan<'_> {
    /// Ends the snapshot of the query.
    fn drop(&mut self) {
        if let Some(connection) = &self.connection
            && let Err(error) = end(&mut lock(connection))
        {
            tracing::error!(%error, "failed to end a read transaction");
        }
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).extend(self.connection.take());
    }
}

fn end(connection: &mut Connection) -> Result<(), rusqlite::Error> {
    connection.progress_handler(0, None::<fn() -> bool>)?;
    if connection.is_autocommit() { Ok(()) } else { connection.execute_batch("ROLLBACK") }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn one_reader() -> Readers {
        Readers::new(vec![Connection::open_in_memory().unwrap()], Loss::default())
    }

    async fn answers(readers: &Readers) -> bool {
        readers
            .run(None, |connection, _| Ok(lock(connection).query_row("SELECT 1", [], |_| Ok(()))?))
            .await
            .is_ok()
    }

    #[tokio::test]
    async fn a_query_that_panics_returns_its_connection() {
        let readers = one_reader();
        let outcome = readers.run(None, |_, _| -> Result<(), StoreError> { panic!("query failed") }).await;
        assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
        assert!(answers(&readers).await);
    }

    #[tokio::test]
    async fn a_cancelled_query_returns_its_connection() {
        let readers = Arc::new(one_reader());
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (go_on, wait) = mpsc::channel::<()>();
        let first = tokio::spawn({
            let readers = Arc::clone(&readers);
            async move {
                readers
                    .run(None, move |_, _| {
                        let _ = begun.send(());
                        // An error also ends the wait.
                        let _ = wait.recv();
                        Ok(())
                    })
                    .await
            }
        });
        has_begun.await.unwrap();
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());

        let mut second = Box::pin(answers(&readers));
        tokio::select! {
            biased;
            _ = &mut second => panic!("the only connection is still in use"),
            () = std::future::ready(()) => {}
        }
        go_on.send(()).unwrap();
        assert!(second.await);
    }

    /// Runs a statement that never ends by itself.
    fn endless(connection: &Mutex<Connection>) -> Result<i64, StoreError> {
        const SQL: &str = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers) SELECT count(*) FROM numbers";
        Ok(lock(connection).query_row(SQL, [], |row| row.get(0))?)
    }

    #[tokio::test]
    async fn dropping_a_query_interrupts_its_statement() {
        let readers = one_reader();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let query = readers.run(None, move |connection, _| {
            let _ = begun.send(());
            endless(connection)
        });
        tokio::select! {
            biased;
            outcome = query => panic!("the statement ended: {outcome:?}"),
            begun = has_begun => begun.unwrap(),
        }
        assert!(answers(&readers).await, "the only connection is free again");
    }

    #[tokio::test]
    async fn a_part_of_a_query_has_a_time_limit() {
        let readers = one_reader();
        let query = |connection: &Mutex<Connection>, interruption: &Interruption| {
            assert_eq!(interruption.within(Duration::ZERO, || endless(connection))?, None);
            // The limit does not apply to the rest of the query.
            Ok(lock(connection).query_row("SELECT 1", [], |row| row.get::<_, i64>(0))?)
        };
        assert_eq!(readers.run(None, query).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_query_sees_one_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let writer = Connection::open(&path).unwrap();
        writer.pragma_update(None, "journal_mode", "WAL").unwrap();
        writer.execute_batch("CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (1)").unwrap();
        let readers = Readers::new(vec![Connection::open(&path).unwrap()], Loss::default());
        let seen = readers
            .run(None, move |connection, _| {
                let connection = lock(connection);
                let read = || connection.query_row("SELECT n FROM t", [], |row| row.get::<_, i64>(0));
                let before = read()?;
                writer.execute("UPDATE t SET n = 2", [])?;
                Ok((before, read()?))
            })
            .await
            .unwrap();
        assert_eq!(seen, (1, 1));
    }
}
