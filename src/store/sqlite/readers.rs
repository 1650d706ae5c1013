//! Connections that only read. In WAL mode they neither wait for the writer nor hold it up.

use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;
use std::sync::Arc;
use tokio::sync::Semaphore;

use super::super::StoreError;

pub(super) struct Readers {
    permits: Semaphore,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    pub(super) fn new(connections: Vec<Connection>) -> Self {
        Self { permits: Semaphore::new(connections.len()), idle: Arc::new(Mutex::new(connections)) }
    }

    /// Runs a query on an idle connection, off the async threads.
    pub(super) async fn run<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let gone = || StoreError::Unavailable("the store is closed".into());
        let _permit = self.permits.acquire().await.map_err(|_| gone())?;
        let idle = Arc::clone(&self.idle);
        let query = move || {
            let connection = idle.lock().unwrap_or_else(PoisonError::into_inner).pop().ok_or_else(gone)?;
            let result = query(&connection);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            result
        };
        tokio::task::spawn_blocking(query).await.map_err(|error| StoreError::Unavailable(Box::new(error)))?
    }
}
