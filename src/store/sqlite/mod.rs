//! The embedded engine: one file beside the process, write-ahead log, every commit synced.

mod claims;
mod deliveries;
mod delivery_claims;
mod file;
mod listings;
mod mark;
#[cfg(test)]
mod plans;
mod readers;
mod rows;
mod source;
mod stats;
mod transaction;
mod usage;
mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::broadcast;

use self::delivery_claims::Walks;
use self::file::{lock, migrate, prepare};
use self::readers::Readers;
use self::writer::{Done, Writer};
use super::rules::{Engine, Rule, measure};
use super::{
    CHANGE_BACKLOG, Change, ClaimBatch, ClaimedDelivery, ClaimedWork, DeliverySlots, Queue, RecordedDelivery,
    Resources, Store, StoreError, Surroundings, WorkSlots,
};
use crate::domain::clock::Timestamp;
use crate::domain::deliveries::DeliveryQuery;
use crate::domain::ids::TenantId;
use crate::domain::listing::{AnalysisQuery, ListedAnalysis};

pub use self::file::{OpenError, inspect};
pub(super) use self::mark::Mark;
pub(super) use self::source::Source;

/// Readers cost memory for their page caches; more than this gain nothing on one file.
const READERS: usize = 4;

/// A store in one file.
pub struct SqliteStore {
    path: PathBuf,
    writer: Writer,
    readers: Readers,
    changes: broadcast::Sender<Change>,
    surroundings: Arc<Surroundings>,
    walks: Arc<Mutex<Walks>>,
    /// Held for the store's life, and let go by the system however the process ends. Whoever is beside a gateway has none.
    _lock: Option<File>,
}

impl SqliteStore {
    /// Opens or makes the file, brings its schema up to date, and takes back the leases of a process that died.
    ///
    /// # Errors
    /// [`OpenError`] says which of these failed.
    pub fn open(path: &Path, surroundings: Surroundings) -> Result<Self, OpenError> {
        let (mut connection, lock) = take(path)?;
        mark::remove(&connection, path)?;
        settle(&mut connection, path, surroundings.clock.now())?;
        Self::build(path, connection, Some(lock), surroundings)
    }

    /// Opens a file that a gateway may be working on, without taking it from that gateway: for what may be done beside one,
    /// in short transactions, and tells it nothing. The file must be there and have the present schema.
    ///
    /// # Errors
    /// [`OpenError`] says why not.
    pub fn attach(path: &Path, surroundings: Surroundings) -> Result<Self, OpenError> {
        let sqlite = |source| OpenError::Sqlite { path: path.to_owned(), source };
        let existing = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, existing).map_err(sqlite)?;
        prepare(&connection).map_err(sqlite)?;
        file::check_present(&connection, path)?;
        Self::build(path, connection, None, surroundings)
    }

    fn build(
        path: &Path,
        connection: Connection,
        lock: Option<File>,
        surroundings: Surroundings,
    ) -> Result<Self, OpenError> {
        let sqlite = |source| OpenError::Sqlite { path: path.to_owned(), source };
        let read_only = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let readers = (0..READERS)
            .map(|_| {
                let reader = Connection::open_with_flags(path, read_only)?;
                reader.busy_timeout(Duration::from_secs(5))?;
                reader.set_prepared_statement_cache_capacity(32);
                Ok(reader)
            })
            .collect::<Result<_, rusqlite::Error>>()
            .map_err(sqlite)?;
        let (changes, _) = broadcast::channel(CHANGE_BACKLOG);
        let writer = Writer::start(connection, changes.clone())
            .map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        let surroundings = Arc::new(surroundings);
        Ok(Self {
            path: path.to_owned(),
            writer,
            readers: Readers::new(readers),
            changes,
            surroundings,
            walks: Arc::default(),
            _lock: lock,
        })
    }
}

/// Opens or makes the file for this process alone.
fn take(path: &Path) -> Result<(Connection, File), OpenError> {
    let lock = lock(path)?;
    let sqlite = |source| OpenError::Sqlite { path: path.to_owned(), source };
    file::private(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    let connection = Connection::open(path).map_err(sqlite)?;
    prepare(&connection).map_err(sqlite)?;
    Ok((connection, lock))
}

/// Brings the file's schema up to date, and ends the leases: the file is ours, so whoever held one is gone.
fn settle(connection: &mut Connection, path: &Path, now: Timestamp) -> Result<(), OpenError> {
    migrate(connection, path)?;
    claims::release_all(connection, now)
        .and_then(|()| claims::release_keys(connection, now))
        .map_err(|source| OpenError::Sqlite { path: path.to_owned(), source })
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::FromSqlConversionFailure(_, _, source) => Self::Corrupt(source.to_string()),
            rusqlite::Error::IntegralValueOutOfRange(..) | rusqlite::Error::InvalidColumnType(..) => {
                Self::Corrupt(error.to_string())
            }
            other => Self::Unavailable(Box::new(other)),
        }
    }
}

impl SqliteStore {
    async fn write<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<Done<T>, StoreError> + Send + 'static,
    {
        self.writer
            .run(move |connection| job(&transaction::lock(connection)))
            .await
            .inspect_err(|error| self.count(error))
    }

    async fn read<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.readers
            .run(move |connection| query(&transaction::lock(connection)))
            .await
            .inspect_err(|error| self.count(error))
    }

    fn count(&self, error: &StoreError) {
        match error {
            // A worker's misfortune, not the store's.
            StoreError::LeaseLost => {}
            StoreError::Unavailable(_) | StoreError::Corrupt(_) => {
                self.surroundings.metrics.store_errors.inc();
            }
        }
    }
}

impl Engine for SqliteStore {
    async fn transact<R: Rule>(&self, rule: R) -> Result<R::Output, StoreError> {
        let (env, began) = (Arc::clone(&self.surroundings), Instant::now());
        let job = move |connection: &Mutex<Connection>| transaction::run(connection, &env, &rule);
        let outcome = self.writer.run(job).await;
        measure(&self.surroundings.metrics, R::NAME, began, &outcome);
        outcome
    }

    async fn query<R: Rule>(&self, rule: R) -> Result<R::Output, StoreError> {
        let (env, began) = (Arc::clone(&self.surroundings), Instant::now());
        let query = move |connection: &Mutex<Connection>| {
            transaction::run(connection, &env, &rule).map(|done| done.value)
        };
        let outcome = self.readers.run(query).await;
        measure(&self.surroundings.metrics, R::NAME, began, &outcome);
        outcome
    }

    fn env(&self) -> &Surroundings {
        &self.surroundings
    }

    async fn list(&self, tenant: &TenantId, page: AnalysisQuery) -> Result<Vec<ListedAnalysis>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| listings::list(connection, &tenant, &page)).await
    }

    async fn claim_work(
        &self,
        queue: Queue,
        slots: Vec<WorkSlots>,
        lease: Duration,
    ) -> Result<ClaimBatch<ClaimedWork>, StoreError> {
        let (now, began) = (self.surroundings.clock.now(), Instant::now());
        let claim = move |connection: &Connection| {
            claims::work(connection, queue, &slots, now, lease).map(Done::quiet)
        };
        let outcome = self.writer.run(move |connection| claim(&transaction::lock(connection))).await;
        measure(&self.surroundings.metrics, "claim_work", began, &outcome);
        outcome
    }

    async fn claim_deliveries(
        &self,
        slots: DeliverySlots,
        lease: Duration,
    ) -> Result<ClaimBatch<ClaimedDelivery>, StoreError> {
        let now = self.surroundings.clock.now();
        let walks = Arc::clone(&self.walks);
        self.write(move |connection| {
            let mut walks = walks.lock().unwrap_or_else(PoisonError::into_inner);
            delivery_claims::claim(connection, &slots, &mut walks, now, lease).map(Done::quiet)
        })
        .await
    }

    async fn deliveries(
        &self,
        tenant: &TenantId,
        query: DeliveryQuery,
    ) -> Result<Vec<RecordedDelivery>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| deliveries::list(connection, &tenant, &query)).await
    }

    /// There is one writer, so an event gets its position when it is written.
    async fn number_events(&self, _tenant: &TenantId) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Usage is written in the transaction of the work.
    async fn flush_usage(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn release_across_tenants(&self) -> Result<(), StoreError> {
        let now = self.surroundings.clock.now();
        self.write(move |connection| Ok(Done::quiet(claims::release_all(connection, now)?))).await
    }

    async fn resources(&self) -> Result<Resources, StoreError> {
        let path = self.path.clone();
        // The disk may hang.
        let look = tokio::task::spawn_blocking(move || file::sizes(&path)).await;
        let sizes = look.map_err(std::io::Error::other).and_then(|sizes| sizes);
        let (database, log) = sizes.map_err(|error| StoreError::Unavailable(Box::new(error)))?;
        Ok(Resources::File { database, log })
    }

    async fn check(&self) -> Result<(), StoreError> {
        // A write that changes nothing and yet has to reach the disk: a dead or full one must show.
        self.write(|connection| {
            connection.pragma_update(None, "user_version", file::MIGRATIONS.len())?;
            Ok(Done::quiet(()))
        })
        .await
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Nobody else has the file.
    fn is_current(&self) -> bool {
        true
    }
}
