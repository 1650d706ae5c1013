//! Every Prometheus metric, in one struct. Label values come from fixed sets: no tenant's data makes a series.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
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

/// The metrics. Fields are public: whoever does a thing counts it.
pub struct Metrics {
    registry: Registry,
    /// Requests by route template, method and status.
    pub http_requests: HistogramVec,
    /// Requests being answered.
    pub http_in_flight: IntGauge,
    /// Requests to the vendor by operation and outcome.
    pub vendor_requests: HistogramVec,
    /// Tenants whose vendor did not answer of late and is asked little or nothing.
    pub breakers_open: IntGauge,
    /// Analyses under way by status.
    pub analyses: IntGaugeVec,
    /// Analyses finished by event.
    pub events: IntCounterVec,
    /// Event streams that are open.
    pub event_streams: IntGauge,
    /// From submission to completion.
    pub completion: Histogram,
    /// Looks at the result until completion.
    pub polls: Histogram,
    /// How long the oldest due work has waited, by queue.
    pub work_lag: GaugeVec,
    /// Reads of finished analyses from memory.
    pub cache_hits: IntCounter,
    /// Reads that went to the store.
    pub cache_misses: IntCounter,
    /// Bytes of finished analyses in memory.
    pub cache_bytes: IntGauge,
    /// Attempts to deliver callbacks by outcome.
    pub callback_attempts: HistogramVec,
    /// Deliveries whose outcome is open.
    pub callbacks_pending: IntGauge,
    /// How long the oldest due delivery has waited.
    pub callback_lag: Gauge,
    /// Refused tokens by reason.
    pub token_rejections: IntCounterVec,
    /// Fetches of key sets by outcome.
    pub jwks_refreshes: IntCounterVec,
    /// Secret files read anew by outcome.
    pub secret_reloads: IntCounterVec,
    /// Requests refused for a tenant's rate limit.
    pub rate_limited: IntCounter,
    /// Failed operations of the store.
    pub store_errors: IntCounter,
    /// Spans that the collector took.
    pub trace_spans_exported: IntCounter,
    /// Spans that were lost by reason.
    pub trace_spans_dropped: IntCounterVec,
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
            vendor_requests: r.histograms(
                "vendor_request_duration_seconds",
                "Time of requests to the vendor by operation and outcome.",
                REMOTE_BUCKETS,
                &["operation", "outcome"],
            )?,
            breakers_open: r.gauge(
                "vendor_breakers_open",
                "Tenants whose vendor did not answer of late and is asked little or nothing.",
            )?,
            analyses: r.gauges("analyses", "Analyses under way by status.", &["status"])?,
            events: r.counters("events_total", "Events written by type.", &["type"])?,
            event_streams: r.gauge("event_streams_open", "Event streams that are open.")?,
            completion: r.histogram(
                "analysis_completion_seconds",
                "From submission to completion.",
                COMPLETION_BUCKETS,
            )?,
            polls: r.histogram("analysis_polls", "Looks at the result until it was there.", POLL_BUCKETS)?,
            work_lag: r.register(GaugeVec::new(
                Opts::new("due_work_lag_seconds", "How long the oldest due work has waited by queue."),
                &["queue"],
            )?)?,
            cache_hits: r.counter("cache_hits_total", "Reads of finished analyses answered from memory.")?,
            cache_misses: r.counter("cache_misses_total", "Reads of analyses that went to the store.")?,
            cache_bytes: r.gauge("cache_bytes", "Bytes of finished analyses in memory.")?,
            callback_attempts: r.histograms(
                "callback_attempt_duration_seconds",
                "Time of attempts to deliver callbacks by outcome.",
                REMOTE_BUCKETS,
                &["outcome"],
            )?,
            callbacks_pending: r.gauge("callbacks_pending", "Deliveries whose outcome is open.")?,
            callback_lag: r.register(Gauge::new(
                "callbacks_due_lag_seconds",
                "How long the oldest due delivery has waited.",
            )?)?,
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
            rate_limited: r.counter("rate_limited_total", "Requests refused for a tenant's rate limit.")?,
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
            registry,
        };
        let version = Opts::new("build_info", "Always 1; the label tells the version.")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        let build_info = Registrar(&metrics.registry).register(IntGauge::with_opts(version)?)?;
        build_info.set(1);
        // There from the start: a rate cannot be taken of what appears with its first count.
        for outcome in ["changed", "failed", "recovered"] {
            let _ = metrics.secret_reloads.with_label_values(&[outcome]);
        }
        for outcome in ["updated", "unchanged", "failed"] {
            let _ = metrics.jwks_refreshes.with_label_values(&[outcome]);
        }
        for reason in ["queue_full", "export_failed", "rejected"] {
            let _ = metrics.trace_spans_dropped.with_label_values(&[reason]);
        }
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
