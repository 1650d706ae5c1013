//! Keeps the keys of issuers, the secrets of tenants and the clock of the schedules fresh.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::task::TaskTracker;

use super::{Report, Worker};
use crate::auth::Verifier;
use crate::domain::clock::{Clock, SteadyClock};
use crate::env::Env;
use crate::secrets::{Encryption, ReloadOutcome};
use crate::store::StoreError;
use crate::telemetry::metrics::whole;
use crate::telemetry::spans::CollectorHeaders;
use crate::tenants::Tenants;

/// How often secret files are compared with what is held. Contents are compared, not watched: Kubernetes swaps
/// symlinks, and network file systems do not tell of changes.
const SECRETS_INTERVAL: Duration = Duration::from_secs(5);

/// Fetches the key sets that are due.
pub struct KeyRefresher {
    /// Whose keys.
    pub verifier: Arc<Verifier>,
}

#[async_trait]
impl Worker for KeyRefresher {
    fn name(&self) -> &'static str {
        "key_refresher"
    }

    async fn step(self: Arc<Self>, _tasks: &TaskTracker) -> Result<Report, StoreError> {
        self.verifier.refresh_once().await;
        Ok(Report { started: 0, next_due: Some(self.verifier.next_refresh()) })
    }
}

/// Reads the files of secrets anew.
pub struct SecretRefresher {
    /// Whose secrets.
    pub tenants: Arc<Tenants>,
    /// The keys that seal.
    pub encryption: Arc<Encryption>,
    /// What the collector of traces wants to see.
    pub collector_headers: Arc<CollectorHeaders>,
    /// The clocks and the metrics.
    pub env: Env,
}

#[async_trait]
impl Worker for SecretRefresher {
    fn name(&self) -> &'static str {
        "secret_refresher"
    }

    async fn step(self: Arc<Self>, _tasks: &TaskTracker) -> Result<Report, StoreError> {
        // Files on a mount that hangs must not hold up a thread that others need.
        let files = Arc::clone(&self);
        let look = move || {
            let of_tenants = files.tenants.reload_once();
            let others = [files.encryption.reload_once(), files.collector_headers.reload_once()];
            of_tenants.into_iter().chain(others.into_iter().flatten()).collect::<Vec<_>>()
        };
        let reloads = tokio::task::spawn_blocking(look).await.unwrap_or_default();
        for reload in reloads {
            let secret = reload.key;
            let outcome = match &reload.outcome {
                ReloadOutcome::Changed => {
                    tracing::info!(secret, "secret changed");
                    "changed"
                }
                ReloadOutcome::Failed(error) => {
                    tracing::error!(secret, %error, "failed to read a secret; the previous value stays in use");
                    "failed"
                }
                ReloadOutcome::Recovered => {
                    tracing::info!(secret, "secret readable again");
                    "recovered"
                }
            };
            self.env.metrics.secret_reloads.with_label_values(&[outcome]).inc();
        }
        let (tokens, secrets) = self.tenants.failing();
        for (kind, failing) in [
            ("vendor_token", tokens),
            ("callback_secret", secrets),
            ("encryption_key", usize::from(self.encryption.is_failing())),
            ("collector_headers", usize::from(self.collector_headers.is_failing())),
        ] {
            self.env.metrics.secrets_unreadable.with_label_values(&[kind]).set(whole(failing));
        }
        Ok(Report { started: 0, next_due: Some(self.env.clock.now() + SECRETS_INTERVAL) })
    }
}

/// How often the clock of the schedules is compared with the machine's.
const CLOCK_INTERVAL: Duration = Duration::from_secs(10);
/// How far it is moved then: little enough that no lease ends early for it.
const CLOCK_STEP: Duration = Duration::from_secs(1);

/// Leads the clock of the schedules towards the machine's, for a store that has no clock of its own.
pub struct ClockKeeper {
    /// What schedules and leases go by.
    pub steady: Arc<SteadyClock>,
    /// The machine's.
    pub wall: Arc<dyn Clock>,
}

#[async_trait]
impl Worker for ClockKeeper {
    fn name(&self) -> &'static str {
        "clock_keeper"
    }

    async fn step(self: Arc<Self>, _tasks: &TaskTracker) -> Result<Report, StoreError> {
        self.steady.approach(self.wall.now(), CLOCK_STEP);
        Ok(Report { started: 0, next_due: Some(self.steady.now() + CLOCK_INTERVAL) })
    }
}
