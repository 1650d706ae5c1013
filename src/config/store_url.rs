//! URL of a store: a SQLite file or a PostgreSQL server.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use secrecy::zeroize::Zeroizing;
use url::Url;

/// Location of a store.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// A SQLite file on this machine.
    Sqlite(PathBuf),
    /// A PostgreSQL server, which several replicas can use.
    Postgres(PostgresUrl),
}

/// A connection URL in the form that libpq defines. It does not implement `Debug`, because it may contain a password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl(Zeroizing<String>);

impl PostgresUrl {
    /// Returns the URL with its password.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for PostgresUrl {
    fn from(url: String) -> Self {
        Self(url.into())
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(_) => f.write_str("postgres://…"),
        }
    }
}

/// Reason why a string is not the URL of a store. It does not repeat the string, which may contain a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidStoreUrl(&'static str);

impl FromStr for StoreUrl {
    type Err = InvalidStoreUrl;

    fn from_str(url: &str) -> Result<Self, InvalidStoreUrl> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return match Url::parse(url) {
                Ok(parsed) if parsed.fragment().is_none() => {
                    Ok(Self::Postgres(PostgresUrl::from(url.to_owned())))
                }
                _ => Err(InvalidStoreUrl("must be \"postgres://user@host:5432/database\"")),
            };
        }
        if url.contains(":memory:") {
            return Err(InvalidStoreUrl(
                "must name a file, \"sqlite://path\": a store in memory would lose accepted calls at the next restart",
            ));
        }
        match url.strip_prefix("sqlite://") {
            Some(path) if path.contains(['?', '#', '\0']) => {
                Err(InvalidStoreUrl("must be \"sqlite://path\" without options after the path"))
            }
            Some(path) if !path.is_empty() => Ok(Self::Sqlite(PathBuf::from(path))),
            _ => Err(InvalidStoreUrl("must be \"sqlite://path\" or \"postgres://user@host:5432/database\"")),
        }
    }
}
