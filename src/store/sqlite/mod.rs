//! The engine for a single gateway on one `SQLite` file, with a write-ahead log.
//!
//! - **Transaction rules** (`store::rules`) that write run on the writer's thread. Rules that only read run on a pool of
//!   read-only connections.
//! - **Group commit.** Jobs that arrive during a commit share the next transaction, which is synced to the disk once
//!   (`writer`). A successful write is on disk when the caller gets its result.
//! - **Leases.** A claim sets the end of the lease (`due_at`) and raises the fencing token of the row. The file belongs to
//!   one process, so opening the file releases the leases of a process that died.
//! - **Lost files.** The writer notices when another program removes, replaces or overwrites the files, and the store refuses all
//!   requests from then on (`file_watch`).
//! - **One process.** A lock file prevents a second process from opening the file; the system releases the lock when the
//!   process ends.

mod claims;
mod copy_marker;
mod deliveries;
mod delivery_claims;
mod file;
mod file_watch;
mod list_reader;
mod list_statement;
mod listings;
mod log_index;
mod open;
mod open_error;
#[cfg(test)]
mod plans;
mod readers;
mod rows;
mod source;
mod stats;
mod transaction;
mod usage;
mod word_search;
mod writer;

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::broadcast;

use self::readers::{Interruption, Readers};
use self::writer::{Done, Writer};
use super::engine::{Engine, measure};
use super::observations::Observed;
use super::rules::Rule;
use super::scan_limits::{ScanLimits, ScanPermit};
use super::selection::ReceiverCursors;
use super::{
    Change, ClaimBatch, ClaimedDelivery, ClaimedWork, DeliverySlots, Queue, RecordedDelivery, Resources,
    Store, StoreContext, StoreError, UnreadableDelivery, WorkSlots,
};
use crate::domain::clock::Timestamp;
use crate::domain::deliveries::DeliveryQuery;
use crate::domain::ids::TenantId;
use crate::domain::listing::{AnalysisPage, AnalysisQuery};
use crate::env::Env;

pub(super) use self::copy_marker::CopyMarker;
pub use self::file::inspect;
pub use self::open_error::SqliteOpenError;
pub(super) use self::source::Source;

/// A store in one file.
pub struct SqliteStore {
    path: PathBuf,
    readers: Readers,
    /// The writer, which is closed after the readers. The last connection that is closed copies the write-ahead log to the
    /// database, and readers cannot write.
    writer: Writer,
    /// The index file, which is closed after all connections: see [`FileWatch`](file_watch::FileWatch).
    _index: Arc<File>,
    changes: broadcast::Sender<Change>,
    scans: ScanLimits,
    feed_scans: ScanLimits,
    context: Arc<StoreContext>,
    cursors: Arc<Mutex<ReceiverCursors>>,
    /// Lock that is held as long as the store exists; `None` for a store that is attached beside a gateway.
    _lock: Option<File>,
}

impl SqliteStore {
    /// Runs an operation on the writer's thread and measures it under its name.
    async fn write<T, F>(&self, name: &'static str, operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Fn(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let began = Instant::now();
        let job = move |connection: &Mutex<Connection>| operation(&writer::lock(connection)).map(Done::quiet);
        let outcome = self.writer.run(job).await;
        measure(&self.context.env.metrics, name, began, &outcome);
        outcome
    }

    /// Runs a query on a read-only connection and measures it under its name.
    async fn read_only<T, F>(
        &self,
        name: &'static str,
        permit: Option<ScanPermit>,
        query: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Mutex<Connection>, &Interruption) -> Result<T, StoreError> + Send + 'static,
    {
        let began = Instant::now();
        let outcome = self.readers.run(permit, query).await;
        measure(&self.context.env.metrics, name, began, &outcome);
        outcome
    }

    /// Adds the observations of a [`Rule`] to the metrics and the log. Returns the rule's result.
    fn reported<T>(&self, (value, observations): Observed<T>) -> T {
        observations.iter().for_each(|observation| observation.report(&self.context.env.metrics));
        value
    }

    fn now(&self) -> Timestamp {
        self.context.env.clock.now()
    }
}

impl Engine for SqliteStore {
    async fn transact<R: Rule>(&self, rule: R) -> Result<R::Output, StoreError> {
        let (context, began) = (Arc::clone(&self.context), Instant::now());
        let job = move |connection: &Mutex<Connection>| transaction::run(connection, &context, &rule);
        let outcome = self.writer.run(job).await;
        measure(&self.context.env.metrics, R::NAME, began, &outcome);
        Ok(self.reported(outcome?))
    }

    async fn read<R: Rule>(&self, rule: R, permit: Option<ScanPermit>) -> Result<R::Output, StoreError> {
        let context = Arc::clone(&self.context);
        let query = move |connection: &Mutex<Connection>, _: &Interruption| {
            transaction::run(connection, &context, &rule).map(|done| done.value)
        };
        Ok(self.reported(self.read_only(R::NAME, permit, query).await?))
    }

    fn scans(&self) -> &ScanLimits {
        &self.scans
    }

    fn feed_scans(&self) -> &ScanLimits {
        &self.feed_scans
    }

    fn env(&self) -> &Env {
        &self.context.env
    }

    async fn list(
        &self,
        tenant: &TenantId,
        query: AnalysisQuery,
        permit: ScanPermit,
    ) -> Result<AnalysisPage, StoreError> {
        let tenant = tenant.clone();
        let list = move |connection: &Mutex<Connection>, interruption: &Interruption| {
            list_reader::list(connection, interruption, &tenant, &query)
        };
        self.read_only("list_analyses", Some(permit), list).await
    }

    async fn claim_work(
        &self,
        queue: Queue,
        slots: Vec<WorkSlots>,
        lease: Duration,
    ) -> Result<ClaimBatch<ClaimedWork>, StoreError> {
        let now = self.now();
        self.write("claim_work", move |connection| claims::work(connection, queue, &slots, now, lease)).await
    }

    async fn claim_deliveries(
        &self,
        slots: DeliverySlots,
        lease: Duration,
    ) -> Result<ClaimBatch<ClaimedDelivery>, StoreError> {
        let (now, cursors) = (self.now(), Arc::clone(&self.cursors));
        self.write("claim_deliveries", move |connection| {
            let mut cursors = cursors.lock().unwrap_or_else(PoisonError::into_inner);
            delivery_claims::claim(connection, &slots, &mut cursors, now, lease)
        })
        .await
    }

    async fn deliveries(
        &self,
        tenant: &TenantId,
        query: DeliveryQuery,
        permit: ScanPermit,
    ) -> Result<Vec<Result<RecordedDelivery, UnreadableDelivery>>, StoreError> {
        let tenant = tenant.clone();
        let list = move |connection: &Mutex<Connection>, _: &Interruption| {
            deliveries::list(&writer::lock(connection), &tenant, &query)
        };
        self.read_only("list_deliveries", Some(permit), list).await
    }

    /// Does nothing. There is one writer, so an event gets its position when the event is written.
    async fn number_events(&self, _tenant: &TenantId) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Does nothing: usage is written in the transaction of the work.
    async fn flush_usage(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn release_across_tenants(&self) -> Result<(), StoreError> {
        let now = self.now();
        self.write("release", move |connection| Ok(claims::release_all(connection, now)?)).await
    }

    async fn resources(&self) -> Result<Resources, StoreError> {
        let path = self.path.clone();
        // The check runs on a blocking thread, because the disk may hang.
        let read = tokio::task::spawn_blocking(move || file::sizes(&path)).await;
        let sizes = read.map_err(std::io::Error::other).and_then(|sizes| sizes);
        let (database, log) = sizes.map_err(|error| StoreError::Unavailable(Box::new(error)))?;
        Ok(Resources::File { database, log })
    }

    async fn check(&self) -> Result<(), StoreError> {
        // This write changes nothing, but it reaches the disk, so it fails on a broken or full disk.
        self.write("check", |connection| {
            connection.pragma_update(None, "user_version", file::MIGRATIONS.len())?;
            Ok(())
        })
        .await
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Returns `true` until the files are lost: no other process writes to the files, so `changes` reports every commit.
    fn is_current(&self) -> bool {
        !self.writer.is_lost()
    }
}
