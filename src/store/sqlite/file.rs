//! The database file: how it is opened, its lock and its schema version.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::copy_marker;
use super::open_error::SqliteOpenError;

/// The steps from an empty file to the current schema. The file's `user_version` is the number of completed steps.
/// Append only: a released step never changes. Each step has a counterpart in `postgres/migrations.rs`.
pub(super) const MIGRATIONS: [&str; 6] = [
    include_str!("schema.sql"),
    include_str!("0002.sql"),
    include_str!("0003.sql"),
    include_str!("0004.sql"),
    include_str!("0005.sql"),
    include_str!("0006.sql"),
];

/// Checks whether [`SqliteStore::open`](super::SqliteStore::open) would succeed. Does not change the database.
///
/// # Errors
/// The [`SqliteOpenError`] that opening would fail with.
pub fn inspect(path: &Path) -> Result<(), SqliteOpenError> {
    check_folder(path)?;
    if !path.exists() {
        return Ok(());
    }
    // The file is opened as the store opens it, which needs the right to write.
    create_private(path).map_err(|source| SqliteOpenError::Io { path: path.to_owned(), source })?;
    let sqlite = |source| SqliteOpenError::Sqlite { path: path.to_owned(), source };
    let read_only = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(inspected(path), read_only).map_err(sqlite)?;
    schema_version(&connection, path)?;
    copy_marker::check(&connection, path)?;
    // This check is the last one, because a caller may accept that a gateway uses the file.
    if beside(path, ".lock").exists() { lock(path).map(drop) } else { Ok(()) }
}

/// Checks that the file has the current schema and is not being copied.
pub(super) fn check_present(connection: &Connection, path: &Path) -> Result<(), SqliteOpenError> {
    let found = schema_version(connection, path)?;
    if found < MIGRATIONS.len() {
        return Err(SqliteOpenError::TooOld { path: path.to_owned(), found, known: MIGRATIONS.len() });
    }
    copy_marker::check(connection, path)?;
    match copy_marker::read(connection) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(SqliteOpenError::BeingCopied(path.to_owned())),
        Err(source) => Err(SqliteOpenError::Sqlite { path: path.to_owned(), source }),
    }
}

/// Checks that this process may create files beside the database, as `SQLite` does. The check creates a file and removes it,
/// because there is no other way to check permissions, read-only file systems and quotas.
fn check_folder(path: &Path) -> Result<(), SqliteOpenError> {
    let probe = beside(path, ".check");
    let created = create_private(&probe).and_then(|_| std::fs::remove_file(&probe));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    created.map_err(|source| SqliteOpenError::Folder { path: folder.to_owned(), source })
}

/// Returns the URI that opens the file for inspection. A reader of a WAL database would create a log file, perhaps as another
/// user than the service. The option `immutable` prevents this. The option is safe while there is no log, because then no process
/// writes.
fn inspected(path: &Path) -> OsString {
    if beside(path, "-wal").exists() {
        return path.into();
    }
    let escaped = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    format!("file:{escaped}?immutable=1").into()
}

/// Returns the name of a file beside the database, such as its log.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn schema_version(connection: &Connection, path: &Path) -> Result<usize, SqliteOpenError> {
    let found: usize = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|source| SqliteOpenError::Sqlite { path: path.to_owned(), source })?;
    if found > MIGRATIONS.len() {
        return Err(SqliteOpenError::TooNew { path: path.to_owned(), found, known: MIGRATIONS.len() });
    }
    Ok(found)
}

/// Opens or creates the file for this process alone.
pub(super) fn open_exclusive(path: &Path) -> Result<(Connection, File), SqliteOpenError> {
    let lock = lock(path)?;
    let sqlite = |source| SqliteOpenError::Sqlite { path: path.to_owned(), source };
    create_private(path).map_err(|source| SqliteOpenError::Io { path: path.to_owned(), source })?;
    let connection = Connection::open(path).map_err(sqlite)?;
    configure(&connection).map_err(sqlite)?;
    Ok((connection, lock))
}

/// Creates the file if it does not exist. Only its owner can read the file. `SQLite` gives the files beside the database the same
/// mode.
fn create_private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn lock(path: &Path) -> Result<File, SqliteOpenError> {
    let lock_path = beside(path, ".lock");
    let io = |source| SqliteOpenError::Io { path: lock_path.clone(), source };
    let lock = create_private(&lock_path).map_err(io)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(SqliteOpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}

/// Enables write-ahead logging, with a sync at every commit.
pub(super) fn configure(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(Duration::from_secs(5))?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        // Write-ahead logging needs shared memory, which some network file systems do not have.
        let message =
            format!("write-ahead logging is not supported here (journal_mode {mode}); use a local disk");
        return Err(rusqlite::Error::InvalidPath(message.into()));
    }
    // FULL syncs the log at every commit, so an answered submission survives a power failure.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    keep_plans(connection)?;
    // The writer has fewer statements, so each of them is prepared once.
    connection.set_prepared_statement_cache_capacity(256);
    Ok(())
}

/// Makes the plans of statements independent of the values of their parameters. Otherwise `SQLite` prepares a statement again
/// whenever the value of its `LIMIT` changes.
pub(super) fn keep_plans(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Runs the missing steps, all of them in one transaction.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), SqliteOpenError> {
    let found = schema_version(connection, path)?;
    take_steps(connection, found, &MIGRATIONS)
        .map_err(|source| SqliteOpenError::Sqlite { path: path.to_owned(), source })
}

fn take_steps(connection: &mut Connection, found: usize, steps: &[&str]) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction()?;
    for step in &steps[found..] {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", steps.len())?;
    transaction.commit()
}

/// Returns the sizes in bytes of the file and of its write-ahead log.
pub(super) fn sizes(path: &Path) -> std::io::Result<(u64, u64)> {
    // The log does not exist before the first write.
    let log = std::fs::metadata(beside(path, "-wal")).map_or(0, |log| log.len());
    Ok((std::fs::metadata(path)?.len(), log))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates a file of the first version, with a row.
    fn old() -> Connection {
        let mut old = Connection::open_in_memory().unwrap();
        take_steps(&mut old, 0, &MIGRATIONS[..1]).unwrap();
        old.execute("INSERT INTO feeds (tenant, last) VALUES ('acme', 7)", []).unwrap();
        old
    }

    fn version(connection: &Connection) -> usize {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_later_step_keeps_the_rows() {
        let mut file = old();
        let steps = [MIGRATIONS[0], "ALTER TABLE feeds ADD COLUMN note TEXT NOT NULL DEFAULT 'none'"];
        take_steps(&mut file, 1, &steps).unwrap();
        assert_eq!(version(&file), 2);
        let row = file.query_row("SELECT last, note FROM feeds", [], |row| Ok((row.get(0)?, row.get(1)?)));
        assert_eq!(row, Ok((7, "none".to_owned())));
    }

    #[test]
    fn a_step_that_fails_undoes_the_steps_before_it() {
        let mut file = old();
        let steps = [MIGRATIONS[0], "DELETE FROM feeds", "ALTER TABLE missing ADD COLUMN note TEXT"];
        take_steps(&mut file, 1, &steps).unwrap_err();
        assert_eq!(version(&file), 1);
        assert_eq!(file.query_row("SELECT last FROM feeds", [], |row| row.get::<_, i64>(0)), Ok(7));
    }
}
