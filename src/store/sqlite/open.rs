//! Opens a store in a file.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tokio::sync::broadcast;

use super::super::scan_limits::{ScanLimits, ScanShares};
use super::super::{CHANGE_BACKLOG, StoreContext};
use super::file::{check_present, configure, keep_plans, migrate, open_exclusive};
use super::file_watch::FileWatch;
use super::readers::Readers;
use super::writer::Writer;
use super::{SqliteOpenError, SqliteStore, claims, copy_marker, word_search};
use crate::domain::clock::Timestamp;

/// Number of read-only connections. Each has a page cache, and more connections do not make one file faster. Cheap reads have the
/// connections that scans cannot use.
const READERS: usize = 8;
/// The limits of lists, searches and statistics.
const SCANS: ScanShares = ScanShares { total: 4, per_tenant: 2, waiting: 16 };
/// The limits of reads of the feed. An event wakes all streams of its tenant at once, so many reads may wait.
const FEED_SCANS: ScanShares = ScanShares { total: 2, per_tenant: 2, waiting: 100_000 };

impl SqliteStore {
    /// Opens or creates the file, migrates its schema, and releases the leases of a process that died.
    ///
    /// # Errors
    /// [`SqliteOpenError`] says which step failed.
    pub fn open(path: &Path, context: StoreContext) -> Result<Self, SqliteOpenError> {
        let (mut connection, lock) = open_exclusive(path)?;
        copy_marker::remove(&connection, path)?;
        migrate_and_release(&mut connection, path, context.env.clock.now())?;
        Self::build(path, connection, Some(lock), context)
    }

    /// Opens a file that a gateway may be using, for short transactions beside that gateway. The gateway gets no announcement of
    /// the changes. The file must exist and have the present schema.
    ///
    /// # Errors
    /// [`SqliteOpenError`] if the file cannot be used.
    pub fn attach(path: &Path, context: StoreContext) -> Result<Self, SqliteOpenError> {
        let sqlite = |source| SqliteOpenError::Sqlite { path: path.to_owned(), source };
        let existing = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, existing).map_err(sqlite)?;
        configure(&connection).map_err(sqlite)?;
        check_present(&connection, path)?;
        Self::build(path, connection, None, context)
    }

    fn build(
        path: &Path,
        connection: Connection,
        lock: Option<File>,
        context: StoreContext,
    ) -> Result<Self, SqliteOpenError> {
        let sqlite = |source| SqliteOpenError::Sqlite { path: path.to_owned(), source };
        let read_only = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let readers = (0..READERS)
            .map(|_| {
                let reader = Connection::open_with_flags(path, read_only)?;
                reader.busy_timeout(Duration::from_secs(5))?;
                keep_plans(&reader)?;
                reader.set_prepared_statement_cache_capacity(32);
                reader.execute_batch(word_search::TERMS_TABLE)?;
                Ok(reader)
            })
            .collect::<Result<_, rusqlite::Error>>()
            .map_err(sqlite)?;
        // The first read opens the log and its index.
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(sqlite)?;
        let io = |source| SqliteOpenError::Io { path: path.to_owned(), source };
        let watch = FileWatch::start(path, Arc::clone(&context.env.metrics)).map_err(io)?;
        let (changes, _) = broadcast::channel(CHANGE_BACKLOG);
        let (readers, index) = (Readers::new(readers, watch.loss()), watch.index_file());
        let writer = Writer::start(connection, watch, changes.clone()).map_err(io)?;
        Ok(Self {
            path: path.to_owned(),
            writer,
            readers,
            _index: index,
            changes,
            scans: ScanLimits::new(SCANS, &context),
            feed_scans: ScanLimits::new(FEED_SCANS, &context),
            context: Arc::new(context),
            cursors: Arc::default(),
            _lock: lock,
        })
    }
}

/// Migrates the schema, and releases all leases. The file belongs to this process, so the processes that held the
/// leases have ended.
pub(super) fn migrate_and_release(
    connection: &mut Connection,
    path: &Path,
    now: Timestamp,
) -> Result<(), SqliteOpenError> {
    migrate(connection, path)?;
    claims::release_all(connection, now)
        .and_then(|()| claims::release_keys(connection, now))
        .map_err(|source| SqliteOpenError::Sqlite { path: path.to_owned(), source })
}
