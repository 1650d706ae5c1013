//! Creates metric series at start-up. A counter that first appears with the value 1 has no visible increase, so alerts would miss
//! its first increment.

use crate::domain::answer_warnings::WarningCode;
use crate::domain::events::EventKind;
use crate::domain::learned_answers::ProbeOutcome;
use crate::domain::retries::AttemptOutcome;
use crate::domain::webhooks::DisabledReason;
use crate::secrets::SecretKind;
use crate::telemetry::metrics::Metrics;
use crate::tenants::Tenants;

/// Creates the series in which alerts and dashboards must see the first increment.
pub(super) fn create_series(metrics: &Metrics, tenants: &Tenants) {
    for outcome in ["changed", "failed", "recovered"] {
        let _ = metrics.secret_reloads.with_label_values(&[outcome]);
    }
    for outcome in ["updated", "unchanged", "failed"] {
        let _ = metrics.jwks_refreshes.with_label_values(&[outcome]);
    }
    for direction in ["forward", "backward"] {
        let _ = metrics.clock_steps.with_label_values(&[direction]);
        let _ = metrics.clock_jumps.with_label_values(&[direction]);
    }
    for table in ["analyses", "deliveries", "events", "replays", "webhooks"] {
        let _ = metrics.store_unreadable_rows.with_label_values(&[table]);
    }
    for reason in ["queue_full", "export_failed"] {
        let _ = metrics.trace_spans_dropped.with_label_values(&[reason]);
    }
    for code in WarningCode::ALL {
        let _ = metrics.vendor_answer_warnings.with_label_values(&[code.as_str()]);
    }
    for kind in SecretKind::ALL {
        metrics.secrets_unreadable.with_label_values(&[kind.label()]).set(0);
    }
    let unsigned = AttemptOutcome::Unsigned { detail: String::new() };
    for outcome in [unsigned.label(), AttemptOutcome::UNRENDERED] {
        let _ = metrics.callback_attempts.with_label_values(&[outcome]);
    }
    for tenant in tenants.all().map(|tenant| tenant.id().as_str()) {
        for counter in [
            &metrics.rate_limited,
            &metrics.callbacks_given_up,
            &metrics.results_discarded,
            &metrics.vendor_token_refusals,
            &metrics.submissions_unconfirmed,
            &metrics.submissions_repeated,
            &metrics.webhook_events_filtered,
        ] {
            let _ = counter.with_label_values(&[tenant]);
        }
        for resource in [
            "answers",
            "connections",
            "large_bodies",
            "recordings",
            "renderings",
            "small_bodies",
            "write_buffers",
        ] {
            let _ = metrics.overload_refusals.with_label_values(&[tenant, resource]);
        }
        for outcome in ProbeOutcome::ALL.map(ProbeOutcome::as_str).into_iter().chain(["failed"]) {
            let _ = metrics.vendor_probes.with_label_values(&[tenant, outcome]);
        }
        for outcome in ["tenant_limit", "deadline", "cancelled"] {
            let _ = metrics.store_scans.with_label_values(&[tenant, outcome]);
        }
        for kind in EventKind::ALL {
            let _ = metrics.events.with_label_values(&[tenant, kind.as_str()]);
        }
        for reason in [DisabledReason::Gone, DisabledReason::Failing] {
            let _ = metrics.webhooks_disabled.with_label_values(&[tenant, reason.as_str()]);
        }
    }
}
