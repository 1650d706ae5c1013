//! The contract on PostgreSQL, and what only a server can do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alovoice_gateway::config::{PostgresUrl, StoreSettings, StoreUrl};
use alovoice_gateway::store::postgres::PostgresStore;

use crate::harness::{Harness, surroundings};

crate::contract!(super::open);

static N: AtomicUsize = AtomicUsize::new(0);

async fn open() -> Harness {
    let n = N.fetch_add(1, Ordering::Relaxed);
    let name = format!("t{}_{n}", std::process::id());
    let base = std::env::var("TEST_PG").unwrap();
    let (client, connection) = tokio_postgres::connect(&base, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(&format!("CREATE SCHEMA {name}")).await.unwrap();
    let url = PostgresUrl::from(format!("{base}?options=-csearch_path%3D{name}"));
    let settings = StoreSettings {
        url: StoreUrl::Postgres(url.clone()),
        password_file: None,
        max_connections: 4,
        retention: Duration::from_secs(1),
    };
    let (surroundings, clock) = surroundings();
    let store = PostgresStore::open(&url, &settings, surroundings, |_| {}).await.unwrap();
    Harness::new(Arc::new(store), clock, ())
}
