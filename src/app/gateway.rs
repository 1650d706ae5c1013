//! A running gateway and its shutdown.

use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::http::admin::Readiness;
use crate::store::Store;
use crate::telemetry::Telemetry;

/// Last part of the grace period. This part is reserved for releasing the leases, exporting the last spans and closing the
/// store. A busy database needs this time. Leases that are not released delay their work until they expire.
const CLOSING_SHARE: Duration = Duration::from_secs(3);
/// Part of [`CLOSING_SHARE`] during which the shutdown waits for the current steps of the worker loops. A claim that is
/// still in progress would take new leases after the release.
const STEP_PATIENCE: Duration = Duration::from_secs(2);
/// Interval at which the shutdown checks whether the store is still in use.
const RELEASE_PAUSE: Duration = Duration::from_millis(1);

/// A running gateway.
pub struct Gateway {
    pub(super) api: Url,
    pub(super) admin: Url,
    pub(super) api_server: ServerHandle,
    pub(super) admin_server: ServerHandle,
    pub(super) readiness: Readiness,
    pub(super) tasks: Tasks,
    pub(super) store: Arc<dyn Store>,
    pub(super) telemetry: Telemetry,
    /// Value of `server.shutdown_grace`: the maximum duration of a shutdown.
    pub(super) grace: Duration,
    /// Value of `server.shutdown_delay`: the time from the end of readiness until the API server accepts no more requests.
    pub(super) delay: Duration,
}

/// The tasks of a gateway, grouped by the order in which they end.
#[derive(Default)]
pub(super) struct Tasks {
    /// Token that is cancelled when the shutdown begins. Workers then claim no more work, waiting requests are answered, and
    /// streams end.
    pub(super) draining: CancellationToken,
    /// Token that is cancelled when the grace period ends before all work has ended. Workers then discard the outcomes
    /// that are not stored yet.
    pub(super) grace_over: CancellationToken,
    /// Token that is cancelled when requests and work have ended. The followers of the store's changes then end.
    pub(super) stopping: CancellationToken,
    /// The loops of the workers.
    pub(super) workers: TaskTracker,
    /// The work that the workers started.
    pub(super) work: TaskTracker,
    /// Requests with an `Idempotency-Key`. They run to their end even if their callers disconnect.
    pub(super) keyed_requests: TaskTracker,
    /// The servers and the followers of the store's changes.
    pub(super) background: TaskTracker,
}

impl Gateway {
    /// Returns the root of the API's URLs.
    pub const fn api(&self) -> &Url {
        &self.api
    }

    /// Returns the root of the URLs of metrics and probes.
    pub const fn admin(&self) -> &Url {
        &self.admin
    }

    /// Returns the store, for tests and tools.
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// Shuts down in order. Returns whether all requests and all work ended within the grace period.
    pub async fn drain(self) -> bool {
        // Readiness is switched off before the log line, so that an operator who reads the line finds `/readyz` off.
        self.readiness.set(false);
        tracing::info!(grace = ?self.grace, "shutdown started: /readyz answers 503, no new work is claimed");
        self.tasks.draining.cancel();
        for tasks in [&self.tasks.workers, &self.tasks.work, &self.tasks.background] {
            tasks.close();
        }
        let patience = self.grace.saturating_sub(CLOSING_SHARE);
        let in_time = tokio::time::timeout(patience, self.requests_and_work()).await.is_ok();
        if in_time {
            tracing::info!("shutdown: all requests and work finished");
        } else {
            tracing::warn!("grace period over: unfinished requests and work are aborted");
            self.tasks.grace_over.cancel();
            self.api_server.stop(false).await;
        }
        // Spans of finished work have ended by now and can be exported.
        tokio::join!(self.release_leases(), self.telemetry.flush(CLOSING_SHARE));
        self.tasks.stopping.cancel();
        self.admin_server.stop(true).await;
        self.tasks.background.wait().await;
        self.store_unused().await;
        tracing::info!("stopped");
        in_time
    }

    /// Waits until all requests and all work have ended. Requests are accepted for a while after readiness is off, because load
    /// balancers notice the change of readiness with a delay.
    async fn requests_and_work(&self) {
        let work = async {
            // The loops must end first, because a step in progress can still start work.
            self.tasks.workers.wait().await;
            self.tasks.work.wait().await;
        };
        let requests = async {
            tokio::time::sleep(self.delay).await;
            self.api_server.stop(true).await;
            self.tasks.keyed_requests.close();
            self.tasks.keyed_requests.wait().await;
        };
        tokio::join!(requests, work);
    }

    /// Releases the leases of this process, so that other replicas continue its work at once. If a busy database exceeds the time
    /// limit, the release continues until the process ends.
    async fn release_leases(&self) {
        let (store, workers) = (Arc::clone(&self.store), self.tasks.workers.clone());
        let released = tokio::spawn(async move {
            let has_ended = tokio::time::timeout(STEP_PATIENCE, workers.wait()).await.is_ok();
            release(&*store).await;
            if !has_ended {
                tracing::warn!(
                    "worker steps still running: the remaining leases are released when all steps have ended"
                );
                workers.wait().await;
                release(&*store).await;
            }
        });
        if tokio::time::timeout(CLOSING_SHARE, released).await.is_err() {
            tracing::error!("failed to release the leases in time");
        }
    }

    /// Waits until this gateway holds the last reference to the store. The threads of the servers drop their references shortly
    /// after the servers have ended.
    async fn store_unused(&self) {
        let unused = async {
            while Arc::strong_count(&self.store) > 1 {
                tokio::time::sleep(RELEASE_PAUSE).await;
            }
        };
        if tokio::time::timeout(CLOSING_SHARE, unused).await.is_err() {
            tracing::debug!("store still in use at the end of the shutdown");
        }
    }
}

async fn release(store: &dyn Store) {
    match store.release_across_tenants().await {
        Ok(()) => tracing::info!("leases released"),
        Err(error) => tracing::error!(%error, "failed to release the leases: they will expire"),
    }
}
