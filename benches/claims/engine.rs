//! Filled stores of both engines.

use std::sync::Arc;
use std::time::Duration;

use alovoice_gateway::config::{StoreSettings, StoreUrl};
use alovoice_gateway::domain::clock::{Clock, SystemEntropy, Timestamp};
use alovoice_gateway::domain::polling::PollingPolicy;
use alovoice_gateway::domain::public_url::PublicUrl;
use alovoice_gateway::env::Env;
use alovoice_gateway::store::postgres::PostgresStore;
use alovoice_gateway::store::sqlite::SqliteStore;
use alovoice_gateway::store::{Store, StoreContext};
use alovoice_gateway::telemetry::metrics::Metrics;
use rusqlite::Connection;

use crate::postgres::server::{Options, Server};

/// Current time of the stores. All due rows were due long before.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_795_374_000_000);

#[derive(Debug, Clone, Copy)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

/// A store, with the resources that it needs.
pub(crate) struct Opened {
    pub(crate) store: Box<dyn Store>,
    _keep: Box<dyn std::any::Any>,
}

struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        NOW
    }
}

impl Engine {
    /// Opens a store and runs SQL that fills it.
    pub(crate) async fn open(self, sql: &str) -> Opened {
        match self {
            Self::Sqlite => {
                let home = tempfile::tempdir().unwrap();
                let path = home.path().join("store.db");
                drop(SqliteStore::open(&path, store_context()).unwrap());
                Connection::open(&path).unwrap().execute_batch(sql).unwrap();
                let store = SqliteStore::open(&path, store_context()).unwrap();
                Opened { store: Box::new(store), _keep: Box::new(home) }
            }
            Self::Postgres => {
                let server = Server::start(Options { fsync: true, ..Options::default() }).await;
                let database = server.fresh_database().await;
                let url = database.url().to_owned().into();
                let settings = StoreSettings {
                    url: StoreUrl::Postgres(database.url().to_owned().into()),
                    listen_url: None,
                    password_file: None,
                    lock_timeout: None,
                    max_connections: 4,
                    retention: Duration::MAX,
                };
                let store = PostgresStore::open(&url, &settings, store_context(), |_| {}).await.unwrap();
                let client = database.connect().await;
                client.batch_execute(sql).await.unwrap();
                // PostgreSQL does this by itself after a while.
                client.batch_execute("VACUUM ANALYZE").await.unwrap();
                Opened { store: Box::new(store), _keep: Box::new((database, server)) }
            }
        }
    }
}

fn store_context() -> StoreContext {
    StoreContext {
        env: Env {
            clock: Arc::new(FixedClock),
            wall_clock: Arc::new(FixedClock),
            entropy: Arc::new(SystemEntropy),
            encryption: Arc::default(),
            metrics: Arc::new(Metrics::new().unwrap()),
            public_url: PublicUrl::default(),
        },
        policy: PollingPolicy::default(),
        operation_timeout: StoreContext::OPERATION_TIMEOUT,
    }
}
