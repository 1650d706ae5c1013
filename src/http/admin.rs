//! The admin port: metrics and probes, never to be reached from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::{HttpResponse, web};

use super::state::ApiState;
use crate::store::{Queue, StoreError};

/// How long readiness waits for the store.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// Whether requests are wanted. Cleared at the begin of a drain.
#[derive(Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// From now on, or no longer.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::SeqCst);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// The routes of the admin port.
pub fn configure(config: &mut web::ServiceConfig) {
    config
        .route("/metrics", web::get().to(metrics))
        .route("/livez", web::get().to(livez))
        .route("/readyz", web::get().to(readyz));
}

/// The process answers.
async fn livez() -> HttpResponse {
    HttpResponse::Ok().body("ok\n")
}

/// Requests are wanted, and the store takes writes.
async fn readyz(readiness: web::Data<Readiness>, state: web::Data<ApiState>) -> HttpResponse {
    if !readiness.get() {
        return HttpResponse::ServiceUnavailable().body("not ready: starting or draining\n");
    }
    match tokio::time::timeout(STORE_PATIENCE, state.store.check()).await {
        Ok(Ok(())) => HttpResponse::Ok().body("ok\n"),
        Ok(Err(_)) | Err(_) => {
            HttpResponse::ServiceUnavailable().body("not ready: the store cannot be used\n")
        }
    }
}

/// Everything in Prometheus' text format. The store's numbers are read now, so that nobody who does not ask pays.
async fn metrics(state: web::Data<ApiState>) -> HttpResponse {
    if let Err(error) = observe_store(&state).await {
        tracing::error!(%error, "the store's numbers cannot be read");
    }
    state.metrics.cache_bytes.set(i64::try_from(state.analyses.cached_bytes()).unwrap_or(i64::MAX));
    match state.metrics.render() {
        Ok(text) => HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            HttpResponse::InternalServerError().finish()
        }
    }
}

async fn observe_store(state: &ApiState) -> Result<(), StoreError> {
    let tenants: Vec<_> = state.tenants.all().map(|tenant| tenant.id().clone()).collect();
    let (metrics, stats) = (&state.metrics, state.store.stats_across_tenants(&tenants).await?);
    for (status, count) in &stats.unfinished {
        let count = i64::try_from(*count).unwrap_or(i64::MAX);
        metrics.analyses.with_label_values(&[status.as_str()]).set(count);
    }
    for (queue, lag) in &stats.work_lag {
        let queue = match queue {
            Queue::Submits => "submits",
            Queue::Polls => "polls",
        };
        metrics.work_lag.with_label_values(&[queue]).set(lag.as_secs_f64());
    }
    metrics.callbacks_pending.set(i64::try_from(stats.pending_deliveries).unwrap_or(i64::MAX));
    metrics.callback_lag.set(stats.delivery_lag.as_secs_f64());
    Ok(())
}
