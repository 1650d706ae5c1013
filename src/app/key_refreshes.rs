//! Logs and counts the fetches of issuers' key sets.

use std::sync::Arc;

use crate::auth::{Refresh, RefreshOutcome};
use crate::telemetry::metrics::Metrics;

/// Returns an observer that logs and counts the fetches of issuers' key sets.
pub(super) fn observer(metrics: &Arc<Metrics>) -> impl Fn(&Refresh) + Send + Sync + 'static {
    let metrics = Arc::clone(metrics);
    move |refresh: &Refresh| {
        let outcome = match &refresh.outcome {
            RefreshOutcome::Updated => {
                tracing::info!(issuer = refresh.issuer, "issuer's keys changed");
                "updated"
            }
            RefreshOutcome::Unchanged => "unchanged",
            RefreshOutcome::Failed(error) => {
                tracing::error!(issuer = refresh.issuer, %error, "failed to load the issuer's keys");
                "failed"
            }
        };
        metrics.jwks_refreshes.with_label_values(&[outcome]).inc();
    }
}
