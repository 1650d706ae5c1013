//! Where a store is, as a text.

use std::path::PathBuf;
use std::str::FromStr;

use url::Url;

use super::settings::{PostgresUrl, StoreUrl};

/// Why a text says of no store where it is. Does not repeat the text, which may hold a password.
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
                "must name a file, \"sqlite://path\": a store in memory would lose what was accepted at the next restart",
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
