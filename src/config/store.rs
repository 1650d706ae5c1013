//! `[store]`: the database.

use std::path::PathBuf;
use std::time::Duration;

use super::accepts::Accepts;
use super::declare::settings;
use super::keys::Contents;
use super::postgres_url::PostgresUrl;
use super::rules::{duration, file, integer, secret_text};
use super::store_url::StoreUrl;
use super::units::{DAY, HOUR, SECOND};

settings! {
    /// The database that keeps analyses, events, deliveries and webhooks.
    struct StoreSettings {
        /// URL of the database: "sqlite://relative/path" or "sqlite:///absolute/path" for a SQLite file, or
        /// "postgres://user:password@host:5432/database?sslmode=verify-full&sslrootcert=/path/ca.pem" for a PostgreSQL server
        /// (version 15 or newer), with the parameters of psql. Several hosts, "postgres://user@one,two/database", are tried in their
        /// order until one can be written to. Several replicas need PostgreSQL.
        url: StoreUrl = secret_text(Accepts::StoreUrl).default("sqlite://alovoice-gateway.db").example("postgres://gateway@db.example.uz:5432/gateway"),
        /// URL of a direct connection to the same PostgreSQL database, for LISTEN. Needed if url leads to a connection pooler that
        /// pools by transaction.
        listen_url: Option<PostgresUrl> = secret_text(Accepts::PostgresUrl).optional().example("postgres://gateway@db-direct.example.uz:5432/gateway"),
        /// File with the password for PostgreSQL. The gateway reads the file for every new connection.
        password_file: Option<PathBuf> = file().optional().example("/run/secrets/alovoice/database-password"),
        /// Maximum time that a starting gateway waits for a SQLite file in use by another process, such as a gateway that is stopping.
        /// The default is server.shutdown_grace.
        lock_timeout: Option<Duration> = duration(Duration::ZERO..=HOUR).optional().example("35s"),
        /// Maximum number of connections from this process to PostgreSQL. One more connection listens for changes by other replicas.
        max_connections: usize = integer(2..=1000).default(16),
        /// Time after which finished analyses, their events and their deliveries are deleted.
        retention: Duration = duration(SECOND..=36_500 * DAY).default("90d"),
    }
    check |section| {
        if let (Some(StoreUrl::Sqlite(_)), Some(Some(_))) = (&url, &listen_url) {
            section.problem("listen_url", "needs a PostgreSQL database in url".to_owned());
        }
    }
}
