//! Logs and counts the reloads of issuers' keys.

use std::sync::Arc;

use crate::auth::{Refresh, RefreshOutcome};
use crate::telemetry::metrics::Metrics;

/// An observer for [`Verifier::new`](crate::auth::Verifier::new).
pub(super) fn observer(metrics: &Arc<Metrics>) -> impl Fn(&Refresh) + Send + Sync + 'static {
    let metrics = Arc::clone(metrics);
    move |refresh: &Refresh| {
        let unreadable = metrics.secrets_unreadable.with_label_values(&["issuer_key"]);
        match (refresh.is_file, refresh.failed_before, &refresh.outcome) {
            (true, false, RefreshOutcome::Failed(_)) => unreadable.inc(),
            (true, true, RefreshOutcome::Updated | RefreshOutcome::Unchanged) => unreadable.dec(),
            _ => {}
        }
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
        if let Some(reload) = file_reload(refresh) {
            metrics.secret_reloads.with_label_values(&[reload]).inc();
        }
    }
}

/// The outcome of a key file's reload in the terms of secret files, which count changes only.
fn file_reload(refresh: &Refresh) -> Option<&'static str> {
    match (&refresh.outcome, refresh.failed_before) {
        _ if !refresh.is_file => None,
        (RefreshOutcome::Updated, _) => Some("changed"),
        (RefreshOutcome::Failed(_), false) => Some("failed"),
        (RefreshOutcome::Unchanged, true) => Some("recovered"),
        (RefreshOutcome::Failed(_), true) | (RefreshOutcome::Unchanged, false) => None,
    }
}
