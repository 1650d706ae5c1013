//! Spans: the trace of a call, from the request that submits it to its callback.
//!
//! A span is a [`tracing::Span`]. While `traces.otlp_endpoint` is set, a layer of `tracing-opentelemetry` turns the
//! spans of this crate into OpenTelemetry spans and sends them to the collector by OTLP over HTTP. Otherwise the
//! spans of this module are disabled and cost nothing.
//!
//! A call outlives the request and often the process. Its [`TraceContext`] is stored with the analysis and with each delivery.
//! [`resume`] makes this context the parent of the spans of later work, on any replica.
//!
//! Only the fields in the table of `attributes` leave the process. The collector never delays work: finished spans
//! wait in a bounded queue, and a separate thread sends them. Spans that do not fit into the queue are dropped and
//! counted.

mod attributes;
mod collector;
mod exporter;
mod headers;
mod queue;
mod resource;
mod sampler;
#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::field::{Empty, display};
use tracing::subscriber::Interest;
use tracing::{Instrument, Level, Metadata, Span, Subscriber, debug_span, span_enabled};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, dynamic_filter_fn};
use tracing_subscriber::registry::LookupSpan;
use url::Url;

use self::collector::CollectorClient;
pub use self::headers::CollectorHeaders;
use self::queue::BoundedQueue;
use self::sampler::sampler;
use super::metrics::Metrics;
use crate::config::{Settings, StoreUrl};
use crate::domain::ids::{CallId, TenantId};
use crate::domain::trace::TraceContext;
use crate::http_client::Network;

/// Target of spans that are exported and do not appear in log lines. Log lines inside such a span show the surrounding
/// span.
pub(super) const EXPORT_ONLY: &str = "alovoice_gateway::export_only";
/// Prefix of the targets of exported spans. The targets of all spans of this crate begin with this prefix.
const EXPORTED_TARGETS: &str = "alovoice_gateway";

/// Reason why the exporter could not be built.
#[derive(Debug, thiserror::Error)]
pub enum ExporterError {
    /// The HTTP client failed to build.
    #[error("cannot build the HTTP client of the collector: {0}")]
    Client(#[from] reqwest::Error),
    /// The OTLP exporter failed to build.
    #[error("cannot build the exporter: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// The export of finished spans to the collector. The export is off if `traces.otlp_endpoint` is not set.
#[derive(Debug, Clone, Default)]
pub(super) struct Export(Option<SdkTracerProvider>);

impl Export {
    /// Prepares the export. The exporter does not connect before the first span ends.
    pub(super) fn new(
        settings: &Settings,
        network: &Network,
        headers: &Arc<CollectorHeaders>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, ExporterError> {
        let Some(endpoint) = &settings.traces.otlp_endpoint else { return Ok(Self(None)) };
        let database = match settings.store.url {
            StoreUrl::Sqlite(_) => attributes::Database::Sqlite,
            StoreUrl::Postgres(_) => attributes::Database::Postgresql,
        };
        let exporter = exporter::exporter(
            endpoint,
            CollectorClient::new(network, headers.clone())?,
            database,
            metrics.clone(),
        )?;
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampler(&settings.traces))
            .with_resource(resource::describe())
            .with_span_processor(BoundedQueue::new(exporter, metrics.clone()))
            .build();
        Ok(Self(Some(provider)))
    }

    /// Returns the layer that exports spans, or `None` if the export is off. The layer ignores events, so no log line becomes
    /// part of a span.
    pub(super) fn layer<S>(&self) -> Option<impl Layer<S> + use<S>>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        let tracer = attributes::KindTracer(self.0.as_ref()?.tracer_with_scope(scope));
        let layer = tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            // The parent of a span is the surrounding span, not the context of a thread.
            .with_context_activation(false);
        let is_exported = |metadata: &Metadata<'_>| {
            metadata.is_span()
                && metadata.target().starts_with(EXPORTED_TARGETS)
                && *metadata.level() <= Level::DEBUG
        };
        let filter = dynamic_filter_fn(move |metadata, _| is_exported(metadata))
            // The interest is "sometimes" and not "always", so that this filter checks each span. With "always", the
            // result of the last `enabled!` of the thread would apply to a span that all layers enable.
            .with_callsite_filter(move |metadata| match is_exported(metadata) {
                true => Interest::sometimes(),
                false => Interest::never(),
            })
            .with_max_level_hint(LevelFilter::DEBUG);
        Some(layer.with_filter(filter))
    }

    /// Exports the waiting spans within `patience`.
    pub(super) async fn flush(&self, patience: Duration) {
        let Some(provider) = self.0.clone() else { return };
        let ended = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(patience)).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::warn!("trace export incomplete at shutdown: the last spans may be lost");
        }
    }
}

/// Whether spans are exported.
pub fn are_exported() -> bool {
    span_enabled!(target: EXPORT_ONLY, Level::DEBUG)
}

/// Starts `span` in the trace of the surrounding span, or in a new trace.
///
/// Returns the trace context for work inside `span`. If spans are not exported, returns `trace`. If the sampler dropped `span`,
/// returns `trace` without the sampled flag.
pub fn start(span: &Span, trace: TraceContext) -> TraceContext {
    let context = span.context();
    let context = context.span().span_context().clone();
    if !context.is_valid() {
        return trace;
    }
    let (trace_id, span_id) = (context.trace_id(), context.span_id());
    let Some(parent) = NonZeroU64::new(u64::from_be_bytes(span_id.to_bytes())) else { return trace };
    if !context.is_sampled() {
        return trace.sampled(false);
    }
    span.record("trace_id", display(trace_id));
    span.record("span_id", display(span_id));
    TraceContext::of_span(u128::from_be_bytes(trace_id.to_bytes()), parent)
}

/// Starts `span` as a child of a trace context from a request or from the store. Returns the trace context for work inside
/// `span`, by the rules of [`start`].
pub fn resume(span: &Span, trace: TraceContext) -> TraceContext {
    let parent = SpanContext::new(
        TraceId::from(trace.trace_id()),
        SpanId::from(trace.span_id().get()),
        if trace.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED },
        true,
        TraceState::NONE,
    );
    // The call fails if spans are not exported.
    let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    start(span, trace)
}

/// Creates the span of a request to another server. Only the host and the port of `url` are exported. `template` is
/// the part of the path that may be exported.
pub fn client(method: &'static str, url: &Url, template: Option<&'static str>) -> Span {
    let space = if template.is_some() { " " } else { "" };
    debug_span!(
        target: EXPORT_ONLY,
        "client",
        otel.kind = "client",
        otel.name = %format_args!("{method}{space}{}", template.unwrap_or_default()),
        otel.status_code = Empty,
        method,
        host = url.host_str(),
        port = url.port_or_known_default().map(i64::from),
        template,
        resend_count = Empty,
        status = Empty,
        outcome = Empty,
        error_type = Empty,
    )
}

/// Creates the span of an operation of the store. `table` is the table that the operation uses.
pub fn store(operation: &'static str, table: &'static str) -> Span {
    debug_span!(
        target: EXPORT_ONLY,
        "store",
        otel.kind = "internal",
        otel.name = %format_args!("{operation} {table}"),
        otel.status_code = Empty,
        operation,
        table,
        batch_size = Empty,
        tenant = Empty,
        call_id = Empty,
        error_type = Empty,
    )
}

/// Creates the span of an operation of the store on one call.
pub fn store_call(operation: &'static str, tenant: &TenantId, call_id: &CallId) -> Span {
    let span = store(operation, "analyses");
    span.record("tenant", display(tenant));
    span.record("call_id", display(call_id));
    span
}

/// Adds a field to the current span for the export. Log lines do not contain the field.
pub fn export(field: &'static str, value: impl Display) {
    let span = Span::current();
    if !span.is_disabled() {
        span.set_attribute(field, value.to_string());
    }
}

/// Runs `work` inside `span`. If `work` fails, the span gets the label of the error.
///
/// # Errors
/// The errors of `work`.
pub async fn run<T, E>(
    span: Span,
    label: impl FnOnce(&E) -> &'static str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let result = work.instrument(span.clone()).await;
    if let Err(error) = &result {
        fail(&span, label(error));
    }
    result
}

/// Records the status of an answer to a request that this process sent.
pub fn record_status(span: &Span, status: u16) {
    span.record("status", i64::from(status));
    if status >= 400 {
        fail(span, status);
    }
}

/// Marks a span as failed. `reason` must be one of a few constants, never text of a caller or of another server. If
/// there are several reasons, the first one is exported.
pub fn fail(span: &Span, reason: impl Display) {
    span.record("otel.status_code", "error");
    span.record("error_type", display(reason));
}

/// Records the answer to a caller's request, and its route. The route is known only when the answer is ready.
pub fn record_answer(span: &Span, method: &'static str, route: &str, status: u16) {
    let context = span.context();
    let exported = context.span();
    if !exported.is_recording() {
        return;
    }
    exported.update_name(format!("{method} {route}"));
    exported.set_attribute(KeyValue::new("route", route.to_owned()));
    exported.set_attribute(KeyValue::new("scheme", "http"));
    exported.set_attribute(KeyValue::new("status", i64::from(status)));
    if status >= 500 {
        exported.set_status(opentelemetry::trace::Status::error(""));
        exported.set_attribute(KeyValue::new("error_type", status.to_string()));
    }
}
