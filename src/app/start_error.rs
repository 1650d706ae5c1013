//! The errors of start-up.

use std::io;
use std::net::SocketAddr;

use crate::config::SettingsProblems;
use crate::store::{postgres, sqlite};

/// The reason why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings name a file or value that cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsProblems),
    /// The SQLite file cannot be opened.
    #[error("store: {0}")]
    File(#[from] sqlite::SqliteOpenError),
    /// The PostgreSQL database cannot be used.
    #[error("store: {0}")]
    Server(#[from] postgres::PostgresOpenError),
    /// A server cannot listen on its address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Address from the settings.
        address: SocketAddr,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A component cannot be built, for example an HTTP client on a machine without root certificates.
    #[error("cannot build {part}: {source}")]
    Part {
        /// Name of the component.
        part: &'static str,
        /// Error of the component.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StartError {
    /// Whether the settings are wrong. After other errors, a later start with the same settings may succeed.
    pub const fn is_of_settings(&self) -> bool {
        matches!(self, Self::Settings(_) | Self::Server(postgres::PostgresOpenError::Settings(_)))
    }

    pub(super) fn part<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        part: &'static str,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Part { part, source: source.into() }
    }
}
