//! Every Prometheus metric, in one struct. Label values come from fixed sets, and from the settings: `tenant` is one of the
//! configured tenants. Nothing that a caller sends makes a series.
//!
//! A histogram has no `tenant`: it would be multiplied by its buckets.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Answers from memory to long waits.
const REQUEST_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Requests over the internet, up to their deadlines.
const REMOTE_BUCKETS: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0];
/// From a few seconds to a day.
const COMPLETION_BUCKETS: &[f64] =
    &[5.0, 15.0, 30.0, 60.0, 120.0, 180.0, 300.0, 600.0, 1200.0, 3600.0, 10_800.0, 43_200.0, 86_400.0];
const POLL_BUCKETS: &[f64] = &[1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 25.0, 50.0, 100.0, 300.0];

#[derive(Debug)]
/// The metrics. Fields are public: whoever does a thing counts it.
pub struct Metrics {
    registry: Registry,
    /// Requests by route template, method and status.
    pub http_requests: HistogramVec,
    /// Requests being answered.
    pub http_in_flight: IntGauge,
    /// 1 while `/readyz` says so.
    pub ready: IntGauge,
    /// Requests to the vendor by operation and outcome.
    pub vendor_requests: HistogramVec,
    /// 1 while the vendor did not answer a tenant of late and is asked little or nothing.
    pub breakers_open: IntGaugeVec,
    /// Requests that the vendor refused for a tenant's token.
    pub vendor_token_refusals: IntCounterVec,
    /// Analyses under way by tenant and status.
    pub analyses: IntGaugeVec,
    /// Analyses finished by tenant and event.
    pub events: IntCounterVec,
    /// Event streams that are open.
    pub event_streams: IntGauge,
    /// From submission to completion.
    pub completion: Histogram,
    /// Looks at the result until completion.
    pub polls: Histogram,
    /// How long the oldest due work has waited, by tenant and queue.
    pub work_lag: GaugeVec,
    /// Reads of finished analyses from memory.
    pub cache_hits: IntCounter,
    /// Reads that went to the store.
    pub cache_misses: IntCounter,
    /// Bytes of finished analyses in memory.
    pub cache_bytes: IntGauge,
    /// Attempts to deliver callbacks by outcome.
    pub callback_attempts: HistogramVec,
    /// Deliveries whose outcome is open, by tenant.
    pub callbacks_pending: IntGaugeVec,
    /// How long the oldest due delivery has waited, by tenant.
    pub callback_lag: GaugeVec,
    /// Deliveries that did not arrive and are not tried again, by tenant.
    pub callbacks_given_up: IntCounterVec,
    /// Registered endpoints by tenant and state.
    pub webhooks: IntGaugeVec,
    /// Endpoints that the gateway disabled, by tenant and reason.
    pub webhooks_disabled: IntCounterVec,
    /// Refused tokens by reason.
    pub token_rejections: IntCounterVec,
    /// Fetches of key sets by outcome.
    pub jwks_refreshes: IntCounterVec,
    /// Secret files read anew by outcome.
    pub secret_reloads: IntCounterVec,
    /// Secret files that cannot be used now, by kind; what they held before counts.
    pub secrets_unreadable: IntGaugeVec,
    /// Requests refused for a tenant's rate limit, by tenant.
    pub rate_limited: IntCounterVec,
    /// Failed operations of the store.
    pub store_errors: IntCounter,
    /// Spans that the collector took.
    pub trace_spans_exported: IntCounter,
    /// Spans that were lost by reason.
    pub trace_spans_dropped: IntCounterVec,
    /// Connections to the store's server by state; none for a file.
    pub store_connections: IntGaugeVec,
    /// The most connections to the store's server; 0 for a file.
    pub store_connections_max: IntGauge,
    /// Pieces of work that wait for a connection to the store's server.
    pub store_connections_waiting: IntGauge,
    /// The size of the store's files; none for a server.
    pub store_file_bytes: IntGaugeVec,
}

impl Metrics {
    /// Registers everything once.
    ///
    /// # Errors
    /// If two metrics share a name, which a test would have found.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new_custom(Some("alovoice_gateway".to_owned()), None)?;
        let r = Registrar(&registry);
        let metrics = Self {
            http_requests: r.histograms(
                "http_request_duration_seconds",
                "Time to answer a request by route template, method and status.",
                REQUEST_BUCKETS,
                &["route", "method", "status"],
            )?,
            http_in_flight: r.gauge("http_requests_in_flight", "Requests being answered.")?,
            ready: r
                .gauge("ready", "1 while requests are wanted and the store can be used, as readyz says.")?,
            vendor_requests: r.histograms(
                "vendor_request_duration_seconds",
                "Time of requests to the vendor by operation and outcome.",
                REMOTE_BUCKETS,
                &["operation", "outcome"],
            )?,
            breakers_open: r.gauges(
                "vendor_breakers_open",
                "1 while the vendor did not answer a tenant of late and is asked little or nothing.",
                &["tenant"],
            )?,
            vendor_token_refusals: r.counters(
                "vendor_token_refusals_total",
                "Requests that the vendor refused for a tenant's token.",
                &["tenant"],
            )?,
            analyses: r.gauges(
                "analyses",
                "Analyses under way by tenant and status.",
                &["tenant", "status"],
            )?,
            events: r.counters("events_total", "Events written by tenant and type.", &["tenant", "type"])?,
            event_streams: r.gauge("event_streams_open", "Event streams that are open.")?,
            completion: r.histogram(
                "analysis_completion_seconds",
                "From submission to completion.",
                COMPLETION_BUCKETS,
            )?,
            polls: r.histogram("analysis_polls", "Looks at the result until it was there.", POLL_BUCKETS)?,
            work_lag: r.seconds(
                "due_work_lag_seconds",
                "How long the oldest due work has waited by tenant and queue.",
                &["tenant", "queue"],
            )?,
            cache_hits: r.counter("cache_hits_total", "Reads of finished analyses answered from memory.")?,
            cache_misses: r.counter("cache_misses_total", "Reads of analyses that went to the store.")?,
            cache_bytes: r.gauge("cache_bytes", "Bytes of finished analyses in memory.")?,
            callback_attempts: r.histograms(
                "callback_attempt_duration_seconds",
                "Time of attempts to deliver callbacks by outcome.",
                REMOTE_BUCKETS,
                &["outcome"],
            )?,
            callbacks_pending: r.gauges(
                "callbacks_pending",
                "Deliveries whose outcome is open by tenant.",
                &["tenant"],
            )?,
            callback_lag: r.seconds(
                "callbacks_due_lag_seconds",
                "How long the oldest due delivery has waited by tenant.",
                &["tenant"],
            )?,
            callbacks_given_up: r.counters(
                "callbacks_given_up_total",
                "Deliveries that did not arrive and are not tried again by tenant.",
                &["tenant"],
            )?,
            webhooks: r.gauges(
                "webhooks",
                "Registered endpoints by tenant and state.",
                &["tenant", "state"],
            )?,
            webhooks_disabled: r.counters(
                "webhooks_disabled_total",
                "Endpoints that the gateway disabled by tenant and reason.",
                &["tenant", "reason"],
            )?,
            token_rejections: r.counters(
                "token_rejections_total",
                "Refused tokens by reason.",
                &["reason"],
            )?,
            jwks_refreshes: r.counters(
                "jwks_refreshes_total",
                "Fetches of key sets by outcome.",
                &["outcome"],
            )?,
            secret_reloads: r.counters(
                "secret_reloads_total",
                "Secret files read anew by outcome.",
                &["outcome"],
            )?,
            secrets_unreadable: r.gauges(
                "secrets_unreadable",
                "Secret files that cannot be used now by kind.",
                &["kind"],
            )?,
            rate_limited: r.counters(
                "rate_limited_total",
                "Requests refused for a tenant's rate limit.",
                &["tenant"],
            )?,
            store_errors: r.counter("store_errors_total", "Failed operations of the store.")?,
            trace_spans_exported: r.counter(
                "trace_spans_exported_total",
                "Spans that were sent to the collector of traces and taken.",
            )?,
            trace_spans_dropped: r.counters(
                "trace_spans_dropped_total",
                "Spans that were lost by reason.",
                &["reason"],
            )?,
            store_connections: r.gauges(
                "store_connections",
                "Connections to the store's server by state.",
                &["state"],
            )?,
            store_connections_max: r.gauge(
                "store_connections_max",
                "The most connections to the store's server that this replica makes.",
            )?,
            store_connections_waiting: r.gauge(
                "store_connections_waiting",
                "Pieces of work that wait for a connection to the store's server.",
            )?,
            store_file_bytes: r.gauges("store_file_bytes", "Size of the store's files.", &["file"])?,
            registry,
        };
        let version = Opts::new("build_info", "Always 1; the label tells the version.")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        let build_info = Registrar(&metrics.registry).register(IntGauge::with_opts(version)?)?;
        build_info.set(1);
        #[cfg(target_os = "linux")]
        prometheus::register(Box::new(prometheus::process_collector::ProcessCollector::for_self())).or_else(
            // Several gateways in one process share the one process.
            |error| if matches!(error, prometheus::Error::AlreadyReg) { Ok(()) } else { Err(error) },
        )?;
        Ok(metrics)
    }

    /// Everything in the text exposition format, version 0.0.4.
    ///
    /// # Errors
    /// If a metric cannot be written, which would be a fault of this program.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut families = self.registry.gather();
        families.extend(prometheus::gather());
        let mut text = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }

    /// Counts a request to the vendor.
    pub fn vendor_request(&self, operation: &'static str, outcome: &'static str, took: Duration) {
        self.vendor_requests.with_label_values(&[operation, outcome]).observe(took.as_secs_f64());
    }
}

/// A number as a gauge takes it.
pub fn whole(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// Makes a metric and registers it, so that none can be forgotten.
struct Registrar<'a>(&'a Registry);

impl Registrar<'_> {
    fn register<C: Collector + Clone + 'static>(&self, metric: C) -> Result<C, prometheus::Error> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.register(IntCounter::new(name, help)?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.register(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.register(IntGauge::new(name, help)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn seconds(&self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, prometheus::Error> {
        self.register(GaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, prometheus::Error> {
        self.register(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
        labels: &[&str],
    ) -> Result<HistogramVec, prometheus::Error> {
        self.register(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)?)
    }
}
