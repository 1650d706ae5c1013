//! Exports batches of spans, counts their results and logs an outage of the collector.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use url::Url;

use super::ExporterError;
use super::attributes::{self, Database};
use super::collector::{CollectorClient, LastTransportError};
use crate::telemetry::metrics::Metrics;

/// Deadline of one batch, including all its retries.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two log lines about one outage.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Builds the exporter for an OTLP endpoint over HTTP.
pub(super) fn exporter(
    endpoint: &Url,
    client: CollectorClient,
    database: Database,
    metrics: Arc<Metrics>,
) -> Result<CountingExporter, ExporterError> {
    let failure = client.failure();
    let otlp = OtlpExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(traces_url(endpoint))
        .with_timeout(EXPORT_TIMEOUT)
        .build()?;
    Ok(CountingExporter {
        otlp,
        failure,
        database,
        waiting: Arc::default(),
        metrics,
        outage: Mutex::default(),
    })
}

/// Returns the URL that receives traces. The URL is the endpoint with the path of traces (OTLP specification, section "OTLP/HTTP
/// Request").
fn traces_url(endpoint: &Url) -> String {
    format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/'))
}

/// The OTLP exporter with metrics and logs. From each span, the exporter removes everything that is not in the allow-list.
pub(super) struct CountingExporter {
    otlp: OtlpExporter,
    failure: LastTransportError,
    database: Database,
    /// Number of spans in the queue and on their way to the collector.
    pub(super) waiting: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    outage: Mutex<Option<Outage>>,
}

/// State of an outage of the collector.
struct Outage {
    logged_at: Instant,
    /// Number of spans lost since the outage began.
    lost: usize,
}

impl fmt::Debug for CountingExporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountingExporter").finish_non_exhaustive()
    }
}

impl SpanExporter for CountingExporter {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        batch.iter_mut().for_each(|span| attributes::reduce(span, self.database));
        let spans = batch.len();
        let result = self.otlp.export(batch).await;
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        // A batch has at most a few hundred spans.
        let count = u64::try_from(spans).unwrap_or(u64::MAX);
        match &result {
            Ok(()) => self.metrics.trace_spans_exported.inc_by(count),
            Err(_) => self.metrics.trace_spans_dropped.with_label_values(&["export_failed"]).inc_by(count),
        }
        self.log(result.as_ref().err(), spans);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.otlp.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.otlp.set_resource(resource);
    }
}

impl CountingExporter {
    /// Logs the start and the end of an outage, and repeats the log line during a long outage.
    fn log(&self, error: Option<&OTelSdkError>, spans: usize) {
        // The exporter's own error says "network error" only.
        let reason = self.failure.take().map(tracing::field::display);
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        match (error, outage.as_mut()) {
            (None, None) => {}
            (None, Some(Outage { lost, .. })) => {
                tracing::info!(lost, "trace export recovered");
                *outage = None;
            }
            // The error is the exporter's own text, with a kind or a status. It contains nothing of the collector's
            // answer.
            (Some(error), None) => {
                tracing::warn!(lost = spans, reason, %error, "trace export failed");
                *outage = Some(Outage { logged_at: Instant::now(), lost: spans });
            }
            (Some(error), Some(Outage { logged_at, lost })) => {
                *lost += spans;
                if logged_at.elapsed() >= LOG_INTERVAL {
                    tracing::warn!(lost, reason, %error, "trace export still fails");
                    *logged_at = Instant::now();
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
