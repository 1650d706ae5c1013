//! Keeps the keys of issuers, the secrets of tenants and the clock of the schedules fresh.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::task::TaskTracker;

use super::{Report, Worker};
use crate::auth::Verifier;
use crate::domain::clock::{Clock, SteadyClock};
use crate::env::Env;
use crate::secrets::{Reload, ReloadableSecrets, SecretKind};
use crate::store::StoreError;
use crate::telemetry::metrics::whole;

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
        Ok(Report { started: 0, next_due: self.verifier.next_refresh() })
    }
}

/// Reads the files of all secrets again.
pub struct SecretRefresher {
    /// The secrets of the tenants, the encryption, the issuers and the trace collector.
    pub secrets: Arc<ReloadableSecrets>,
    /// The clocks and the metrics.
    pub env: Env,
}

impl SecretRefresher {
    fn report(&self, key: &str, reload: &Reload) {
        let outcome = match reload {
            Reload::Changed => {
                tracing::info!(secret = key, "secret changed");
                "changed"
            }
            Reload::Failed(error) => {
                tracing::error!(secret = key, %error, "failed to read secret, the previous value stays in force");
                "failed"
            }
            Reload::Recovered => {
                tracing::info!(secret = key, "secret can be read again");
                "recovered"
            }
        };
        self.env.metrics.secret_reloads.with_label_values(&[outcome]).inc();
    }
}

#[async_trait]
impl Worker for SecretRefresher {
    fn name(&self) -> &'static str {
        "secret_refresher"
    }

    async fn step(self: Arc<Self>, _tasks: &TaskTracker) -> Result<Report, StoreError> {
        // On a blocking thread: a file system that hangs must not block the async threads.
        let secrets = Arc::clone(&self.secrets);
        let reload = move || secrets.iter().map(|secret| secret.reload()).collect::<Vec<_>>();
        let reloads = tokio::task::spawn_blocking(reload).await.unwrap_or_default();
        for (secret, reload) in self.secrets.iter().zip(reloads) {
            if let Some(reload) = reload {
                self.report(secret.key(), &reload);
            }
        }
        for kind in SecretKind::ALL {
            let of_kind = self.secrets.iter().filter(|secret| secret.kind() == kind);
            let unreadable = of_kind.filter(|secret| secret.is_unreadable()).count();
            self.env.metrics.secrets_unreadable.with_label_values(&[kind.label()]).set(whole(unreadable));
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
