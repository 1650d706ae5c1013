//! Reasons why a `SQLite` file could not be opened.

use std::path::PathBuf;

/// Reason why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SqliteOpenError {
    /// Another process uses the file. If two processes used it, each would end the leases of the other.
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    /// A later version of this program has migrated the file to a schema that this version does not know.
    #[error("{path} has schema version {found}, this program supports versions up to {known}")]
    TooNew {
        /// The path of the database file.
        path: PathBuf,
        /// The schema version of the file.
        found: usize,
        /// The newest schema version that this program knows.
        known: usize,
    },
    /// The file is empty, or its schema is older than the schema that this version of the program needs.
    #[error(
        "{path} has schema version {found}, this program needs version {known}: start a gateway of this version first"
    )]
    TooOld {
        /// The path of the database file.
        path: PathBuf,
        /// The schema version of the file.
        found: usize,
        /// The schema version of this program.
        known: usize,
    },
    /// A copy of the file has begun. The copy would miss a change that is made now.
    #[error("{0} is being copied to a PostgreSQL server: finish the copy, or start a gateway on the file")]
    BeingCopied(PathBuf),
    /// The file was copied to a PostgreSQL server, which continues the work in the file. A gateway on the file would do this work
    /// a second time.
    #[error(
        "{0} was copied to a PostgreSQL server, which continues its work: set store.url to that server \
         (to use this file again instead, drop its table gateway_copy, and do not start gateways on the server)"
    )]
    Moved(PathBuf),
    /// No file can be created in the folder of the database.
    #[error("cannot create files in {path}: {source}")]
    Folder {
        /// The folder of the database.
        path: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
    /// The file or its lock could not be opened.
    #[error("{path}: {source}")]
    Io {
        /// The path of the database file.
        path: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
    /// `SQLite` reported an error.
    #[error("{path}: {source}")]
    Sqlite {
        /// The path of the database file.
        path: PathBuf,
        /// The error of `SQLite`.
        source: rusqlite::Error,
    },
}
