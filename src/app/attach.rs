//! A store beside the gateways that work on it: for commands.

use std::sync::Arc;

use super::StartError;
use crate::config::{Settings, StoreUrl};
use crate::domain::clock::{SystemClock, SystemEntropy};
use crate::store::postgres::{self, PostgresStore};
use crate::store::sqlite::SqliteStore;
use crate::store::{Store, Surroundings};
use crate::telemetry::metrics::Metrics;

/// Opens the store of the settings, whether or not gateways work on it, and takes nothing from them.
///
/// # Errors
/// [`StartError`], if it cannot be used; a file or schema of this version has to be there already.
pub async fn attach(settings: &Settings) -> Result<Arc<dyn Store>, StartError> {
    let surroundings = Surroundings {
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        policy: settings.vendor.polling.clone(),
        metrics: Arc::new(Metrics::new().map_err(StartError::part("the metrics"))?),
    };
    Ok(match &settings.store.url {
        StoreUrl::Sqlite(path) => Arc::new(SqliteStore::attach(path, surroundings)?),
        StoreUrl::Postgres(url) => {
            // To open it would bring it up to date, beside gateways of the version before.
            if !postgres::inspect(url, &settings.store).await? {
                return Err(postgres::OpenError::TooOld.into());
            }
            Arc::new(PostgresStore::open(url, &settings.store, surroundings, |_| {}).await?)
        }
    })
}
