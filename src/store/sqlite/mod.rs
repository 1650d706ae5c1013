//! The embedded engine: one file beside the process, write-ahead log, every commit synced.

mod analyses;
mod claims;
mod deliveries;
mod readers;
mod writer;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use tokio::sync::broadcast;

use self::readers::Readers;
use self::writer::{Done, Writer};
use super::{
    Applied, Change, ClaimedDelivery, ClaimedWork, Claims, DeliverySlots, FinishedAttempt, Found, Lease,
    Queue, RecordedAttempt, RecordedDelivery, Stats, Store, StoreError, Surroundings,
};
use crate::domain::analysis::{Obtained, Submission};
use crate::domain::ids::{CallId, DeliveryId, TenantId};
use crate::domain::lifecycle::Step;
use crate::domain::trace::TraceContext;

/// The steps from an empty file to the present schema; the file's `user_version` counts those taken.
const MIGRATIONS: [&str; 1] = [include_str!("schema.sql")];
/// Readers cost memory for their page caches; more than this gain nothing on one file.
const READERS: usize = 4;
/// What the change feed holds for a slow listener before it is told that it missed some.
const CHANGE_BACKLOG: usize = 4096;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process works on it; two would take each other's leases for those of a dead one.
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    /// A later version of this program wrote it.
    #[error("{path} has schema {found}, this version knows up to {known}")]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: usize,
        /// The newest this program knows.
        known: usize,
    },
    /// The file or its lock could not be opened.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `SQLite` refused.
    #[error("{path}: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

/// A store in one file.
pub struct SqliteStore {
    writer: Writer,
    readers: Readers,
    changes: broadcast::Sender<Change>,
    surroundings: Arc<Surroundings>,
    /// Held for the store's life, and let go by the system however the process ends.
    _lock: File,
}

impl SqliteStore {
    /// Opens or makes the file, brings its schema up to date, and takes back the leases of a process that died.
    ///
    /// # Errors
    /// [`OpenError`] says which of these failed.
    pub fn open(path: &Path, surroundings: Surroundings) -> Result<Self, OpenError> {
        let lock = lock(path)?;
        let sqlite = |source| OpenError::Sqlite { path: path.to_owned(), source };
        let mut connection = Connection::open(path).map_err(sqlite)?;
        prepare(&connection).map_err(sqlite)?;
        migrate(&mut connection, path)?;
        // The lock is ours, so whoever held a lease is gone.
        let now = surroundings.clock.now();
        claims::release_all(&connection, now).map_err(sqlite)?;

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
        Ok(Self { writer, readers: Readers::new(readers), changes, surroundings, _lock: lock })
    }
}

/// Whether [`SqliteStore::open`] would work, without changing anything.
///
/// # Errors
/// [`OpenError`] says why it would not.
pub fn inspect(path: &Path) -> Result<(), OpenError> {
    if !path.exists() {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        return folder
            .metadata()
            .map(|_| ())
            .map_err(|source| OpenError::Io { path: folder.to_owned(), source });
    }
    let sqlite = |source| OpenError::Sqlite { path: path.to_owned(), source };
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(sqlite)?;
    schema_version(&connection, path).map(|_| ())
}

fn schema_version(connection: &Connection, path: &Path) -> Result<usize, OpenError> {
    let found: usize = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|source| OpenError::Sqlite { path: path.to_owned(), source })?;
    if found > MIGRATIONS.len() {
        return Err(OpenError::TooNew { path: path.to_owned(), found, known: MIGRATIONS.len() });
    }
    Ok(found)
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock_path = PathBuf::from(name);
    let io = |source| OpenError::Io { path: lock_path.clone(), source };
    let lock = OpenOptions::new().create(true).append(true).open(&lock_path).map_err(io)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}

fn prepare(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // FULL syncs the log at every commit: an answered submission survives the loss of power.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let sqlite = |source| OpenError::Sqlite { path: path.to_owned(), source };
    let transaction = connection.transaction().map_err(sqlite)?;
    let found = schema_version(&transaction, path)?;
    for migration in &MIGRATIONS[found..] {
        transaction.execute_batch(migration).map_err(sqlite)?;
    }
    transaction.pragma_update(None, "user_version", MIGRATIONS.len()).map_err(sqlite)?;
    transaction.commit().map_err(sqlite)
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

#[async_trait]
impl Store for SqliteStore {
    async fn submit(&self, tenant: &TenantId, submission: Submission) -> Result<Found, StoreError> {
        let (around, tenant) = (Arc::clone(&self.surroundings), tenant.clone());
        self.writer.run(move |connection| analyses::submit(connection, &around, tenant, submission)).await
    }

    async fn adopt(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
        trace: TraceContext,
        obtained: Box<Obtained>,
    ) -> Result<(), StoreError> {
        let (around, tenant, call_id) = (Arc::clone(&self.surroundings), tenant.clone(), call_id.clone());
        self.writer
            .run(move |connection| analyses::adopt(connection, &around, tenant, call_id, trace, obtained))
            .await
    }

    async fn find_analysis(&self, tenant: &TenantId, call_id: &CallId) -> Result<Option<Found>, StoreError> {
        let (tenant, call_id) = (tenant.clone(), call_id.clone());
        self.readers.run(move |connection| analyses::find(connection, &tenant, &call_id)).await
    }

    async fn find_vendor_answer(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
    ) -> Result<Option<Bytes>, StoreError> {
        let (tenant, call_id) = (tenant.clone(), call_id.clone());
        self.readers.run(move |connection| analyses::vendor_answer(connection, &tenant, &call_id)).await
    }

    async fn claim_work_across_tenants(
        &self,
        queue: Queue,
        slots: Vec<(TenantId, usize)>,
        lease: Duration,
    ) -> Result<Claims<ClaimedWork>, StoreError> {
        let now = self.surroundings.clock.now();
        self.writer
            .run(move |connection| claims::work(connection, queue, &slots, now, lease).map(Done::quiet))
            .await
    }

    async fn apply(&self, lease: Lease, step: Step) -> Result<Applied, StoreError> {
        let around = Arc::clone(&self.surroundings);
        self.writer.run(move |connection| analyses::apply(connection, &around, lease, step)).await
    }

    async fn claim_deliveries_across_tenants(
        &self,
        slots: DeliverySlots,
        lease: Duration,
    ) -> Result<Claims<ClaimedDelivery>, StoreError> {
        let now = self.surroundings.clock.now();
        self.writer
            .run(move |connection| claims::deliveries(connection, &slots, now, lease).map(Done::quiet))
            .await
    }

    async fn finish_attempt(&self, lease: Lease, attempt: FinishedAttempt) -> Result<(), StoreError> {
        let now = self.surroundings.clock.now();
        self.writer
            .run(move |connection| deliveries::finish(connection, lease, &attempt, now).map(Done::quiet))
            .await
    }

    async fn release_across_tenants(&self) -> Result<(), StoreError> {
        let now = self.surroundings.clock.now();
        self.writer.run(move |connection| Ok(Done::quiet(claims::release_all(connection, now)?))).await
    }

    async fn stats_across_tenants(&self) -> Result<Stats, StoreError> {
        let now = self.surroundings.clock.now();
        self.readers.run(move |connection| claims::stats(connection, now)).await
    }

    async fn attempts(
        &self,
        tenant: &TenantId,
        delivery: DeliveryId,
    ) -> Result<Vec<RecordedAttempt>, StoreError> {
        let tenant = tenant.clone();
        self.readers.run(move |connection| deliveries::attempts(connection, &tenant, delivery)).await
    }

    async fn deliveries_of_call(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
    ) -> Result<Vec<RecordedDelivery>, StoreError> {
        let (tenant, call_id) = (tenant.clone(), call_id.clone());
        self.readers.run(move |connection| deliveries::of_call(connection, &tenant, &call_id)).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        // Through the writer: a dead disk or a stopped writer must show.
        self.writer
            .run(|connection| {
                connection.prepare_cached("SELECT 1")?.query_row([], |_| Ok(())).optional()?;
                Ok(Done::quiet(()))
            })
            .await
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}
