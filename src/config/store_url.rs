//! URL of a store: a SQLite file or a PostgreSQL server.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::postgres_url::{InvalidPostgresUrl, PostgresUrl};

/// Location of a store.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A SQLite file on this machine.
    Sqlite(PathBuf),
    /// A PostgreSQL server, which several replicas can use.
    Postgres(PostgresUrl),
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

/// Reason why a string is not the URL of a store. It does not repeat the string, which may contain a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStoreUrl {
    /// The URL of a file is invalid.
    #[error("{0}")]
    Sqlite(&'static str),
    /// The URL of a server is invalid.
    #[error(transparent)]
    Postgres(#[from] InvalidPostgresUrl),
}

impl FromStr for StoreUrl {
    type Err = InvalidStoreUrl;

    fn from_str(url: &str) -> Result<Self, InvalidStoreUrl> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres(url.parse()?));
        }
        if url.contains(":memory:") {
            return Err(InvalidStoreUrl::Sqlite(
                "must name a file, \"sqlite://path\": a store in memory would lose accepted calls at the next restart",
            ));
        }
        match url.strip_prefix("sqlite://") {
            Some(path) if path.contains(['?', '#', '\0']) => {
                Err(InvalidStoreUrl::Sqlite("must be \"sqlite://path\" without options after the path"))
            }
            Some(path) if !path.is_empty() => Ok(Self::Sqlite(PathBuf::from(path))),
            _ => Err(InvalidStoreUrl::Sqlite(
                "must be \"sqlite://path\" or \"postgres://user@host:5432/database\"",
            )),
        }
    }
}
