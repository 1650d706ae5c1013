//! One request to the vendor, as metrics, spans and log lines report it.

use std::time::Instant;

use tracing::Span;
use url::Url;

use crate::domain::ids::{CallId, TenantId};
use crate::domain::lifecycle::VendorFault;
use crate::domain::trace::TraceContext;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::spans;

/// One request to the vendor and its answer.
pub(super) struct Exchange<'a> {
    /// The label `operation` in metrics and log lines.
    pub(super) operation: &'static str,
    pub(super) tenant: &'a TenantId,
    pub(super) call_id: &'a CallId,
    pub(super) began: Instant,
    span: Span,
    /// Status of the answer; `None` until the answer has arrived.
    status: Option<u16>,
}

impl<'a> Exchange<'a> {
    /// Begins a request. `template` is the path for the span, without token and call id.
    pub(super) fn begin(
        operation: &'static str,
        (tenant, call_id): (&'a TenantId, &'a CallId),
        (method, base_url, template): (&'static str, &Url, Option<&'static str>),
    ) -> Self {
        let span = spans::client(method, base_url, template);
        Self { operation, tenant, call_id, began: Instant::now(), span, status: None }
    }

    /// Starts the span of the request, and returns the `traceparent` for the request. If the span is not exported, `trace`
    /// determines the `traceparent`.
    pub(super) fn traceparent(&self, trace: TraceContext) -> String {
        spans::start(&self.span, trace).traceparent()
    }

    /// Records the status of the answer.
    pub(super) fn answered(&mut self, status: u16) {
        spans::record_status(&self.span, status);
        self.status = Some(status);
    }

    /// Reports the outcome; `fault` is the reason if the request failed.
    pub(super) fn finish(self, metrics: &Metrics, outcome: &'static str, fault: Option<&VendorFault>) {
        metrics.vendor_request(self.operation, outcome, self.began.elapsed());
        self.span.record("outcome", outcome);
        let Some(fault) = fault else { return };
        let reason = fault.code.as_str();
        spans::fail(&self.span, reason);
        let Self { operation, tenant, call_id, status, .. } = self;
        tracing::warn!(%tenant, %call_id, operation, status, reason, detail = fault.detail, "vendor request failed");
    }
}
