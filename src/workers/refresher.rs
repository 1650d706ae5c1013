//! Keeps the keys of issuers and the secret files up to date.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::task::TaskTracker;

use super::{Report, Wake, Worker};
use crate::auth::Verifier;
use crate::env::Env;
use crate::secrets::{Reload, ReloadableSecret, ReloadableSecrets, SecretKind};
use crate::store::StoreError;
use crate::telemetry::metrics::whole;

/// Interval at which secret files are read. File system notifications would miss changes: Kubernetes swaps symlinks,
/// and network file systems send none.
const SECRETS_INTERVAL: Duration = Duration::from_secs(5);

/// The worker that fetches the key sets that are due.
pub struct KeyRefresher {
    /// Holds the key sets.
    pub verifier: Arc<Verifier>,
    /// Environment, for two clocks: the wall clock, which tokens use, and the clock of schedules.
    pub env: Env,
}

#[async_trait]
impl Worker for KeyRefresher {
    fn name(&self) -> &'static str {
        "key_refresher"
    }

    async fn run_once(self: Arc<Self>, _tasks: &TaskTracker) -> Result<Report, StoreError> {
        self.verifier.refresh_once().await;
        // The verifier uses the wall clock, and the loop uses the clock of schedules.
        let Env { clock, wall_clock, .. } = &self.env;
        let next_due = self.verifier.next_refresh().map(|due| clock.now() + due.since(wall_clock.now()));
        Ok(Report { has_more: false, next_due })
    }
}

/// The worker that reloads secret files.
pub struct SecretRefresher {
    /// All secrets from files: the secrets of the tenants, of the encryption, of the issuers and of the trace collector.
    pub secrets: Arc<ReloadableSecrets>,
    /// Wakes the token watcher.
    pub token_watcher: Wake,
    /// Environment, for the clock of schedules and the metrics.
    pub env: Env,
}

impl SecretRefresher {
    fn report(&self, secret: &dyn ReloadableSecret, reload: &Reload) {
        let key = secret.key();
        let outcome = match reload {
            Reload::Changed => {
                tracing::info!(secret = key, "secret changed");
                if secret.kind() == SecretKind::VendorToken {
                    self.token_watcher.wake();
                }
                "changed"
            }
            Reload::Failed(error) => {
                tracing::error!(secret = key, %error, "failed to read secret: the previous value stays in use");
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

    async fn run_once(self: Arc<Self>, _tasks: &TaskTracker) -> Result<Report, StoreError> {
        // The read runs on a blocking thread, because a file system that hangs must not block the async threads.
        let secrets = Arc::clone(&self.secrets);
        let reload = move || secrets.iter().map(|secret| secret.reload()).collect::<Vec<_>>();
        let reloads = tokio::task::spawn_blocking(reload).await.unwrap_or_default();
        for (secret, reload) in self.secrets.iter().zip(reloads) {
            if let Some(reload) = reload {
                self.report(&**secret, &reload);
            }
        }
        for kind in SecretKind::ALL {
            let of_kind = self.secrets.iter().filter(|secret| secret.kind() == kind);
            let unreadable = of_kind.filter(|secret| secret.is_unreadable()).count();
            self.env.metrics.secrets_unreadable.with_label_values(&[kind.label()]).set(whole(unreadable));
        }
        Ok(Report { has_more: false, next_due: Some(self.env.clock.now() + SECRETS_INTERVAL) })
    }
}
