//! A pool of read-only connections. In WAL mode readers and the writer do not block each other.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::super::StoreError;
use super::file_watch::Loss;
use super::writer::lock;

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

    /// Runs a query on an idle connection, on a blocking thread. All its statements see the same snapshot. Refuses the query
    /// once the files are lost, because their content may belong to another database.
    pub(super) async fn run<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Mutex<Connection>) -> Result<T, StoreError> + Send + 'static,
    {
        if let Some(lost) = self.loss.get() {
            return Err(lost.clone().into());
        }
        let closed = || StoreError::Unavailable("the store is closed".into());
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| closed())?;
        let idle = Arc::clone(&self.idle);
        let query = move || {
            // The permit is dropped after the loan, even if the caller is cancelled, because each permit stands for
            // an idle connection.
            let _permit = permit;
            let loan = Loan::take(&idle);
            let connection = loan.connection.as_ref().ok_or_else(closed)?;
            lock(connection).execute_batch("BEGIN")?;
            query(connection)
        };
        tokio::task::spawn_blocking(query).await.map_err(|error| StoreError::Unavailable(Box::new(error)))?
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
    /// Ends the snapshot.
    fn drop(&mut self) {
        if let Some(connection) = &self.connection
            && let Err(error) = end(&lock(connection))
        {
            tracing::error!(%error, "failed to end a read transaction");
        }
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).extend(self.connection.take());
    }
}

fn end(connection: &Connection) -> Result<(), rusqlite::Error> {
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
        readers.run(|connection| Ok(lock(connection).query_row("SELECT 1", [], |_| Ok(()))?)).await.is_ok()
    }

    #[tokio::test]
    async fn a_query_that_panics_returns_its_connection() {
        let readers = one_reader();
        let outcome = readers.run(|_| -> Result<(), StoreError> { panic!("query failed") }).await;
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
                    .run(move |_| {
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

    #[tokio::test]
    async fn a_query_sees_one_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let writer = Connection::open(&path).unwrap();
        writer.pragma_update(None, "journal_mode", "WAL").unwrap();
        writer.execute_batch("CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (1)").unwrap();
        let readers = Readers::new(vec![Connection::open(&path).unwrap()], Loss::default());
        let seen = readers
            .run(move |connection| {
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
