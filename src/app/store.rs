//! Opens the store that the settings name.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::StartError;
use crate::config::{Settings, StoreUrl};
use crate::domain::clock::{SteadyClock, SystemClock, SystemEntropy};
use crate::domain::public_url::PublicUrl;
use crate::env::Env;
use crate::secrets::Encryption;
use crate::store::postgres::{self, PostgresStore};
use crate::store::sqlite::{SqliteOpenError, SqliteStore};
use crate::store::{Store, StoreContext};
use crate::telemetry::metrics::Metrics;

/// Interval between attempts to lock a SQLite file.
const LOCK_INTERVAL: Duration = Duration::from_millis(100);

/// Opens the store for a gateway. `clock` shows the time of a PostgreSQL server, which all replicas share.
pub(super) async fn open(
    settings: &Settings,
    env: &Env,
    clock: Arc<SteadyClock>,
) -> Result<Arc<dyn Store>, StartError> {
    Ok(match &settings.store.url {
        StoreUrl::Sqlite(path) => Arc::new(open_file(path, settings, env).await?),
        StoreUrl::Postgres(url) => {
            let set = move |now| clock.set(now);
            Arc::new(PostgresStore::open(url, &settings.store, context(settings, env.clone()), set).await?)
        }
    })
}

/// Opens a SQLite file. If another process uses the file, waits up to `store.lock_timeout` until that process releases it. A
/// gateway that shuts down uses the file until its last requests have finished.
async fn open_file(path: &Path, settings: &Settings, env: &Env) -> Result<SqliteStore, SqliteOpenError> {
    let limit = settings.store.lock_timeout.unwrap_or(settings.server.shutdown_grace);
    let mut waited = Duration::ZERO;
    loop {
        match SqliteStore::open(path, context(settings, env.clone())) {
            Err(error @ SqliteOpenError::InUse(_)) if waited < limit => {
                if waited.is_zero() {
                    tracing::warn!(%error, timeout = ?limit, "waiting for the store");
                }
                tokio::time::sleep(LOCK_INTERVAL).await;
                waited += LOCK_INTERVAL;
            }
            opened => return opened,
        }
    }
}

/// Opens the store for a command. Gateways may use the store at the same time. The file or the schema must exist and
/// have the version of this program.
///
/// # Errors
/// [`StartError`] if the store cannot be used.
pub async fn attach(settings: &Settings) -> Result<Arc<dyn Store>, StartError> {
    let env = Env {
        clock: Arc::new(SystemClock),
        wall_clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        encryption: Arc::new(Encryption::load(&settings.encryption)?),
        metrics: Arc::new(Metrics::new().map_err(StartError::part("the metrics"))?),
        public_url: PublicUrl::new(settings.server.public_url.as_ref()),
    };
    let context = context(settings, env);
    Ok(match &settings.store.url {
        StoreUrl::Sqlite(path) => Arc::new(SqliteStore::attach(path, context)?),
        StoreUrl::Postgres(url) => {
            // `open` migrates the schema, which would break gateways of the previous version.
            if !postgres::inspect(url, &settings.store).await? {
                return Err(postgres::PostgresOpenError::TooOld.into());
            }
            Arc::new(PostgresStore::open(url, &settings.store, context, |_| {}).await?)
        }
    })
}

fn context(settings: &Settings, env: Env) -> StoreContext {
    StoreContext {
        env,
        policy: settings.vendor.polling.clone(),
        operation_timeout: StoreContext::OPERATION_TIMEOUT,
    }
}
