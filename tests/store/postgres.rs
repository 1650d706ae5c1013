//! The contract on PostgreSQL, and tests of this engine.

mod clock_steps;
mod commits;
mod failover;
mod limited_reads;
mod outages;
mod replicas;
mod schema;
mod webhook_locks;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use alovoice_gateway::config::{StoreSettings, StoreUrl};
use alovoice_gateway::store::postgres::PostgresStore;
use alovoice_gateway::store::{Change, StoreContext, StoreError};

use crate::harness::{Harness, store_context};
use crate::patience::PATIENCE;
use crate::postgres_server::server::Server;
use crate::rows::Rows;

crate::contract!(super::open);

/// Opens a store on a new database.
async fn open() -> Harness {
    let database = Server::shared().await.fresh_database().await;
    let url = database.url().to_owned();
    open_at(&url, database).await
}

/// Opens one more store on a database, with its own clock.
async fn open_at(url: &str, keep: impl Send + Sync + 'static) -> Harness {
    open_with(&settings(url), url, keep).await
}

/// Opens a store with these settings. `direct` is a URL of the database for one server and without a pooler.
async fn open_with(settings: &StoreSettings, direct: &str, keep: impl Send + Sync + 'static) -> Harness {
    open_limited(settings, direct, PATIENCE, keep).await
}

/// Opens a store as [`open_with`] does, with this time limit of an operation.
async fn open_limited(
    settings: &StoreSettings,
    direct: &str,
    operation_timeout: Duration,
    keep: impl Send + Sync + 'static,
) -> Harness {
    let StoreUrl::Postgres(url) = &settings.url else { panic!("the URL of a file") };
    let (context, clock) = store_context();
    let metrics = Arc::clone(&context.env.metrics);
    let context = StoreContext { operation_timeout, ..context };
    let store = PostgresStore::open(url, settings, context, |_| {}).await.unwrap();
    Harness::new(Arc::new(store), clock, metrics, Rows::of_server(direct), keep)
}

fn settings(url: &str) -> StoreSettings {
    StoreSettings {
        url: StoreUrl::Postgres(url.to_owned().into()),
        listen_url: None,
        password_file: None,
        lock_timeout: None,
        max_connections: 4,
        retention: Duration::from_secs(1),
    }
}

/// Waits for a future. The time limit only ends a test that would never end.
async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(PATIENCE, future).await else {
        panic!("timed out: {what}");
    };
    value
}

/// Waits until a replica announces this change.
async fn expect_change(harness: &Harness, wanted: Change) {
    let mut changes = harness.store.changes();
    let heard = async { while changes.recv().await.unwrap() != wanted {} };
    within(&format!("{wanted:?}"), heard).await;
}

fn is_unavailable<T>(outcome: &Result<T, StoreError>) -> bool {
    matches!(outcome, Err(StoreError::Unavailable(_)))
}
