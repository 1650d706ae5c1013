//! The admin port: metrics and probes. It must not be reachable from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::{HttpResponse, web};

use super::page;
use super::state::ApiState;
use crate::store::{Queue, Resources, StoreError, WebhookCounts};
use crate::telemetry::metrics::{Metrics, whole};

/// Timeout of the readiness check of the store.
const READINESS_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout of the store's statistics for `/metrics`: half of the default scrape timeout of Prometheus.
const STATISTICS_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether this replica accepts requests. At the beginning of a drain, the value becomes `false`.
#[derive(Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Sets the readiness.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::SeqCst);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Adds the routes of the admin port.
pub fn configure(config: &mut web::ServiceConfig) {
    config.service(page("/metrics", metrics)).service(page("/livez", livez)).service(page("/readyz", readyz));
}

/// Answers 200 while the process runs.
async fn livez() -> HttpResponse {
    HttpResponse::Ok().body("ok\n")
}

/// The line in the body of `/readyz` while notifications of other replicas may be lost.
const NOT_CURRENT: &str =
    "the notifications of other replicas may not arrive: reads go to the store before the cache\n";

/// Answers 200 if this replica accepts requests and the store accepts writes. Further lines of the body warn if the clock may be
/// wrong, and if notifications of other replicas may be lost.
async fn readyz(readiness: web::Data<Readiness>, state: web::Data<ApiState>) -> HttpResponse {
    match check(&readiness, &state).await {
        Ok(()) => {
            let clock = state.clock_status.warning(state.env.clock.now());
            let clock = clock.map(|warning| format!("{warning}\n")).unwrap_or_default();
            let note = if state.store.is_current() { "" } else { NOT_CURRENT };
            HttpResponse::Ok().body(format!("ok\n{clock}{note}"))
        }
        Err(reason) => HttpResponse::ServiceUnavailable().body(format!("not ready: {reason}\n")),
    }
}

/// Checks whether this replica is ready. The error is the reason why the replica is not ready.
async fn check(readiness: &Readiness, state: &ApiState) -> Result<(), String> {
    if !readiness.get() {
        return Err("starting or draining".to_owned());
    }
    match tokio::time::timeout(READINESS_TIMEOUT, state.store.check()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(lost @ StoreError::FileLost(_))) => Err(lost.to_string()),
        Ok(Err(_)) | Err(_) => Err("the store cannot be used".to_owned()),
    }
}

/// Returns all metrics in the text format of Prometheus. The statistics of the store are read on each scrape.
async fn metrics(readiness: web::Data<Readiness>, state: web::Data<ApiState>) -> HttpResponse {
    let metrics = &state.env.metrics;
    // The resources are read first, because reading the statistics uses a connection of the store.
    observe_resources(&state).await;
    let (ready, observed) = tokio::join!(
        check(&readiness, &state),
        tokio::time::timeout(STATISTICS_TIMEOUT, observe_store(&state))
    );
    metrics.ready.set(ready.is_ok().into());
    metrics.store_notifications_arrive.set(state.store.is_current().into());
    match observed {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::error!(%error, "failed to read the statistics of the store");
            forget_store(metrics);
        }
        Err(_) => {
            tracing::error!("failed to read the statistics of the store in time");
            forget_store(metrics);
        }
    }
    metrics.cache_bytes.set(whole(state.analyses.cached_bytes()));
    match metrics.render() {
        Ok(text) => HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text),
        Err(error) => {
            tracing::error!(%error, "failed to encode the metrics");
            HttpResponse::InternalServerError().finish()
        }
    }
}

async fn observe_store(state: &ApiState) -> Result<(), StoreError> {
    let tenants: Vec<_> = state.tenants.all().map(|tenant| tenant.id().clone()).collect();
    let metrics = &state.env.metrics;
    for (tenant, stats) in &state.store.stats_across_tenants(&tenants).await? {
        let tenant = tenant.as_str();
        for (status, count) in &stats.unfinished {
            metrics.analyses.with_label_values(&[tenant, status.as_str()]).set(whole(*count));
        }
        for (queue, lag) in &stats.work_lag {
            let queue = match queue {
                Queue::Submits => "submits",
                Queue::Polls => "polls",
            };
            metrics.work_lag.with_label_values(&[tenant, queue]).set(lag.as_secs_f64());
        }
        metrics.callbacks_pending.with_label_values(&[tenant]).set(whole(stats.pending_deliveries));
        metrics.callback_lag.with_label_values(&[tenant]).set(stats.delivery_lag.as_secs_f64());
        let WebhookCounts { enabled, paused, disabled } = stats.webhooks;
        for (state, count) in [("enabled", enabled), ("paused", paused), ("disabled", disabled)] {
            metrics.webhooks.with_label_values(&[tenant, state]).set(whole(count));
        }
    }
    Ok(())
}

/// Removes the statistics of the store. Stale values would delay alerts or keep them firing.
fn forget_store(metrics: &Metrics) {
    metrics.analyses.reset();
    metrics.work_lag.reset();
    metrics.callbacks_pending.reset();
    metrics.callback_lag.reset();
    metrics.webhooks.reset();
}

async fn observe_resources(state: &ApiState) {
    let metrics = &state.env.metrics;
    match state.store.resources().await {
        Ok(Resources::File { database, log }) => {
            for (file, bytes) in [("database", database), ("wal", log)] {
                metrics.store_file_bytes.with_label_values(&[file]).set(whole(bytes));
            }
        }
        Ok(Resources::Server { in_use, idle, most, waiting }) => {
            for (state, connections) in [("in_use", in_use), ("idle", idle)] {
                metrics.store_connections.with_label_values(&[state]).set(whole(connections));
            }
            metrics.store_connections_max.set(whole(most));
            metrics.store_connections_waiting.set(whole(waiting));
        }
        Err(error) => tracing::error!(%error, "failed to read the file sizes of the store"),
    }
}
