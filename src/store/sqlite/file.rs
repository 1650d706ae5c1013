//! The file itself: whose it is, which schema it has, and how it is opened.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::mark;

/// The steps from an empty file to the present schema; the file's `user_version` counts those taken.
pub(super) const MIGRATIONS: [&str; 12] = [
    include_str!("schema.sql"),
    include_str!("fair_claims.sql"),
    include_str!("paces.sql"),
    include_str!("deadlines.sql"),
    include_str!("feed.sql"),
    include_str!("listings.sql"),
    include_str!("usage.sql"),
    include_str!("counts.sql"),
    include_str!("idempotency.sql"),
    include_str!("webhooks.sql"),
    include_str!("signing.sql"),
    include_str!("delivered.sql"),
];

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
    /// An earlier version of this program wrote it, and none of this version has worked on it yet.
    #[error(
        "{path} has schema {found}, this version works on {known}: start a gateway of this version first"
    )]
    TooOld {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: usize,
        /// This program's.
        known: usize,
    },
    /// A copy of it was begun, which would not be what the file is if that changed now.
    #[error("{0} is being copied to a PostgreSQL server: finish that first, or start a gateway on the file")]
    BeingCopied(PathBuf),
    /// It was copied to a server, which has its work now; to do it here as well would be to do it twice.
    #[error(
        "{0} was copied to a PostgreSQL server, which goes on with its work: set store.url to that server \
         (to come back to this file all the same, drop its table gateway_copy, and do not start the server's gateways)"
    )]
    Moved(PathBuf),
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

/// Whether [`SqliteStore::open`](super::SqliteStore::open) would work, without changing anything.
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
    let read_only = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(inspected(path), read_only).map_err(sqlite)?;
    schema_version(&connection, path)?;
    mark::check(&connection, path)
}

/// Whether this version's gateways work on the file as it is, and nobody copies it.
pub(super) fn check_present(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let found = schema_version(connection, path)?;
    if found < MIGRATIONS.len() {
        return Err(OpenError::TooOld { path: path.to_owned(), found, known: MIGRATIONS.len() });
    }
    mark::check(connection, path)?;
    match mark::read(connection) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(OpenError::BeingCopied(path.to_owned())),
        Err(source) => Err(OpenError::Sqlite { path: path.to_owned(), source }),
    }
}

/// The file, as it is opened to be looked at. Even a reader makes a log and leaves it behind, perhaps as another
/// user than the service's; it does not if it is told that nobody writes, and without a log nobody does.
fn inspected(path: &Path) -> OsString {
    if beside(path, "-wal").exists() {
        return path.into();
    }
    let escaped = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    format!("file:{escaped}?immutable=1").into()
}

/// The file's name with an ending.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
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

/// Makes the file, if it is not there, for its owner alone: transcripts are nobody else's. `SQLite` gives the files
/// beside it the same mode.
pub(super) fn private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

pub(super) fn lock(path: &Path) -> Result<File, OpenError> {
    let lock_path = beside(path, ".lock");
    let io = |source| OpenError::Io { path: lock_path.clone(), source };
    let lock = private(&lock_path).map_err(io)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}

pub(super) fn prepare(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(Duration::from_secs(5))?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        // Some network file systems: without shared memory, readers and the writer would stand in each other's way.
        let message =
            format!("write-ahead logging is not to be had here (journal_mode {mode}); use a local disk");
        return Err(rusqlite::Error::InvalidPath(message.into()));
    }
    // FULL syncs the log at every commit: an answered submission survives the loss of power.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let sqlite = |source| OpenError::Sqlite { path: path.to_owned(), source };
    let transaction = connection.transaction().map_err(sqlite)?;
    let found = schema_version(&transaction, path)?;
    for migration in &MIGRATIONS[found..] {
        transaction.execute_batch(migration).map_err(sqlite)?;
    }
    transaction.pragma_update(None, "user_version", MIGRATIONS.len()).map_err(sqlite)?;
    transaction.commit().map_err(sqlite)
}

/// Bytes of the file, and of the log beside it of what is not in it yet.
pub(super) fn sizes(path: &Path) -> std::io::Result<(u64, u64)> {
    let mut log = path.to_owned().into_os_string();
    log.push("-wal");
    // The log is made with the first write.
    Ok((std::fs::metadata(path)?.len(), std::fs::metadata(log).map_or(0, |log| log.len())))
}
