//! Keeps the keys of issuers, the secret files and the clock of schedules up to date.

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

/// How often secret files are read. File system notifications would miss changes: Kubernetes swaps symlinks, and network file
/// systems send none.
const SECRETS_INTERVAL: Duration = Duration::from_secs(5);

/// The worker that fetches the key sets that are due.
pub struct KeyRefresher {
    /// Holds the key sets.
    pub verifier: Arc<Verifier>,
    /// The clocks of tokens and of schedules.
    pub env: Env,
}

#[async_trait]
impl Worker for KeyRefresher {
    fn name(&self) -> &'static str {
        "key_refresher"
    }

    async fn run_once(self: Arc<Self>, _tasks: &TaskTracker) -> Result<Report, StoreError> {
        self.verifier.refresh_once().await;
        // The verifier uses the wall clock, the loop the clock of schedules.
        let pause = self.verifier.next_refresh().since(self.env.wall_clock.now());
        Ok(Report { started: 0, next_due: Some(self.env.clock.now() + pause) })
    }
}

/// The worker that reloads secret files.
pub struct SecretRefresher {
    /// Hold the vendor tokens and the callback secrets.
    pub tenants: Arc<Tenants>,
    /// Holds the keys that seal stored secrets.
    pub encryption: Arc<Encryption>,
    /// Headers for the collector of spans.
    pub collector_headers: Arc<CollectorHeaders>,
    /// The clock of schedules, and the metrics.
    pub env: Env,
}

#[async_trait]
impl Worker for SecretRefresher {
    fn name(&self) -> &'static str {
        "secret_refresher"
    }

    async fn run_once(self: Arc<Self>, _tasks: &TaskTracker) -> Result<Report, StoreError> {
        // On a thread of its own, since reads from a hanging mount block.
        let files = Arc::clone(&self);
        let reload = move || {
            let of_tenants = files.tenants.reload_once();
            let others = [files.encryption.reload_once(), files.collector_headers.reload_once()];
            of_tenants.into_iter().chain(others.into_iter().flatten()).collect::<Vec<_>>()
        };
        let reloads = tokio::task::spawn_blocking(reload).await.unwrap_or_default();
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

/// How often the clock of schedules is compared with the machine's clock.
const CLOCK_INTERVAL: Duration = Duration::from_secs(10);
/// The largest correction of one comparison, small enough that no lease ends early because of it.
const CLOCK_STEP: Duration = Duration::from_secs(1);

/// The worker that moves the clock of schedules towards the machine's clock, for a store without a clock of its own.
pub struct ClockSync {
    /// The clock of schedules and leases.
    pub steady: Arc<SteadyClock>,
    /// The machine's clock.
    pub wall: Arc<dyn Clock>,
}

#[async_trait]
impl Worker for ClockSync {
    fn name(&self) -> &'static str {
        "clock_sync"
    }

    async fn run_once(self: Arc<Self>, _tasks: &TaskTracker) -> Result<Report, StoreError> {
        self.steady.approach(self.wall.now(), CLOCK_STEP);
        Ok(Report { started: 0, next_due: Some(self.steady.now() + CLOCK_INTERVAL) })
    }
}
