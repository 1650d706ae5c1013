//! Connections that only read. In WAL mode they neither wait for the writer nor hold it up.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::super::StoreError;

pub(super) struct Readers {
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    pub(super) fn new(connections: Vec<Connection>) -> Self {
        let permits = Arc::new(Semaphore::new(connections.len()));
        Self { permits, idle: Arc::new(Mutex::new(connections)) }
    }

    /// Runs a query on an idle connection, off the async threads. All its statements see the same moment.
    pub(super) async fn run<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let gone = || StoreError::Unavailable("the store is closed".into());
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| gone())?;
        let idle = Arc::clone(&self.idle);
        let query = move || {
            // Given back last, and also by a query whose caller has gone: a permit always finds a connection.
            let _permit = permit;
            let loan = Loan::take(&idle);
            let snapshot = loan.1.as_ref().ok_or_else(gone)?.unchecked_transaction()?;
            query(&snapshot)
        };
        tokio::task::spawn_blocking(query).await.map_err(|error| StoreError::Unavailable(Box::new(error)))?
    }
}

/// A connection on loan; it goes back also if the query panics.
struct Loan<'a>(&'a Mutex<Vec<Connection>>, Option<Connection>);

impl<'a> Loan<'a> {
    fn take(idle: &'a Mutex<Vec<Connection>>) -> Self {
        let connection = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self(idle, connection)
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(self.1.take());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn one_reader() -> Readers {
        Readers::new(vec![Connection::open_in_memory().unwrap()])
    }

    async fn answers(readers: &Readers) -> bool {
        readers.run(|connection| Ok(connection.query_row("SELECT 1", [], |_| Ok(()))?)).await.is_ok()
    }

    #[tokio::test]
    async fn a_query_that_panics_gives_its_connection_back() {
        let readers = one_reader();
        let outcome = readers.run(|_| -> Result<(), StoreError> { panic!("a fault in a query") }).await;
        assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
        assert!(answers(&readers).await);
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_leaves_the_next_one_a_connection() {
        let readers = Arc::new(one_reader());
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (go_on, wait) = mpsc::channel::<()>();
        let first = tokio::spawn({
            let readers = Arc::clone(&readers);
            async move {
                readers
                    .run(move |_| {
                        let _ = begun.send(());
                        // An error is as good: then the test is over.
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
            _ = &mut second => panic!("the only connection is still at work"),
            () = std::future::ready(()) => {}
        }
        go_on.send(()).unwrap();
        assert!(second.await);
    }

    #[tokio::test]
    async fn a_query_sees_one_moment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let writer = Connection::open(&path).unwrap();
        writer.pragma_update(None, "journal_mode", "WAL").unwrap();
        writer.execute_batch("CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (1)").unwrap();
        let readers = Readers::new(vec![Connection::open(&path).unwrap()]);
        let seen = readers
            .run(move |connection| {
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
