//! On the way to the collector: a bounded queue, batches, and a count of what is lost.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::InstrumentationScope;
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanExporter, SpanProcessor,
};
use url::Url;

use super::client::CollectorClient;
use super::{BuildError, CollectorHeaders};
use crate::domain::clock::Clock;
use crate::telemetry::metrics::Metrics;

/// Spans in memory at most, with those that are being sent: a few MB. Those of a second or so at full load.
const MAX_WAITING: usize = 4096;
/// Spans in one request.
const MAX_BATCH: usize = 512;
/// The longest that a span waits while all is well.
const MAX_DELAY: Duration = Duration::from_secs(1);
/// How long one batch is tried for, again and again.
const EXPORT_PATIENCE: Duration = Duration::from_secs(10);
/// Between two log lines about a collector that does not take spans.
const TELL_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Takes finished spans. It never waits.
pub(super) struct Recorder {
    batches: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    /// What spans say made them.
    pub(super) scope: InstrumentationScope,
    /// When spans begin.
    pub(super) wall_clock: Arc<dyn Clock>,
}

impl Recorder {
    pub(super) fn start(exporter: Counting, wall_clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(MAX_WAITING)
            .with_max_export_batch_size(MAX_BATCH)
            .with_scheduled_delay(MAX_DELAY)
            .build();
        let waiting = Arc::clone(&exporter.waiting);
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        Self { batches: BatchSpanProcessor::new(exporter, config), waiting, metrics, scope, wall_clock }
    }

    /// Takes a span, or counts it as lost.
    pub(super) fn record(&self, span: SpanData) {
        // Counted here and not left to the queue, which would lose it without a word.
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.metrics.trace_spans_dropped.with_label_values(&["queue_full"]).inc();
            return;
        }
        self.batches.on_end(span);
    }

    /// Sends what waits; gives up after `patience`.
    pub(super) async fn end(self: &Arc<Self>, patience: Duration) {
        let recorder = Arc::clone(self);
        let ended = tokio::task::spawn_blocking(move || recorder.batches.shutdown_with_timeout(patience));
        let in_time = matches!(ended.await, Ok(Ok(())));
        let lost = self.waiting.load(Ordering::Relaxed);
        if !in_time && lost > 0 {
            tracing::warn!(lost, "spans could not be sent before the end");
        }
    }
}

/// The exporter for an OTLP endpoint, over HTTP.
pub(super) fn exporter(
    endpoint: &Url,
    headers: Arc<CollectorHeaders>,
    resource: &Resource,
    metrics: Arc<Metrics>,
) -> Result<Counting, BuildError> {
    let rejected = Arc::default();
    let mut inner = OtlpExporter::builder()
        .with_http()
        .with_http_client(CollectorClient::new(headers, Arc::clone(&rejected))?)
        .with_endpoint(traces_url(endpoint))
        .with_timeout(EXPORT_PATIENCE)
        .build()?;
    inner.set_resource(resource);
    Ok(Counting { inner, rejected, waiting: Arc::default(), metrics, trouble: Mutex::default() })
}

/// Where spans go, below the endpoint (OTLP/HTTP, "request").
fn traces_url(endpoint: &Url) -> String {
    format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/'))
}

/// The OTLP exporter, with a count of what became of the spans.
pub(super) struct Counting {
    inner: OtlpExporter,
    /// Of the request before, which the collector took.
    rejected: Arc<AtomicU64>,
    waiting: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    trouble: Mutex<Option<Trouble>>,
}

/// The collector does not take spans.
struct Trouble {
    told_at: Instant,
    /// Spans lost since the begin.
    lost: usize,
}

impl fmt::Debug for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counting(…)")
    }
}

impl SpanExporter for Counting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.inner.export(batch).await;
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        // A batch has hundreds of spans and not more than fit a count.
        let count = u64::try_from(spans).unwrap_or(u64::MAX);
        match &result {
            Ok(()) => {
                let rejected = self.rejected.swap(0, Ordering::Relaxed).min(count);
                self.metrics.trace_spans_exported.inc_by(count - rejected);
                self.lost("rejected", rejected);
            }
            Err(_) => self.lost("export_failed", count),
        }
        self.tell(result.as_ref().err(), spans);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }
}

impl Counting {
    fn lost(&self, reason: &'static str, spans: u64) {
        self.metrics.trace_spans_dropped.with_label_values(&[reason]).inc_by(spans);
    }

    /// A log line when trouble begins, now and then while it lasts, and when it is over.
    fn tell(&self, error: Option<&OTelSdkError>, spans: usize) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (error, trouble.as_mut()) {
            (None, None) => {}
            (None, Some(Trouble { lost, .. })) => {
                tracing::info!(lost, "the collector takes spans again");
                *trouble = None;
            }
            // The exporter's own words: a kind of error or a status, nothing of the collector's answer.
            (Some(error), None) => {
                tracing::warn!(lost = spans, %error, "the collector does not take spans");
                *trouble = Some(Trouble { told_at: Instant::now(), lost: spans });
            }
            (Some(error), Some(Trouble { told_at, lost })) => {
                *lost += spans;
                if told_at.elapsed() >= TELL_AGAIN_AFTER {
                    tracing::warn!(lost, %error, "the collector still does not take spans");
                    *told_at = Instant::now();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_go_below_the_endpoint() {
        for (endpoint, expected) in [
            ("http://collector:4318", "http://collector:4318/v1/traces"),
            ("https://otlp.example.uz/tenant/", "https://otlp.example.uz/tenant/v1/traces"),
        ] {
            assert_eq!(traces_url(&endpoint.parse().unwrap()), expected);
        }
    }
}
