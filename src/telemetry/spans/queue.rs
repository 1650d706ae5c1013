//! The bounded queue of finished spans in front of the exporter.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanProcessor};

use super::exporter::CountingExporter;
use crate::telemetry::metrics::Metrics;

/// Maximum number of spans in memory, including spans that are being sent. This many spans take a few MB. At full load, this many
/// spans end within about a second.
const MAX_WAITING: usize = 4096;
/// Maximum number of spans in one request to the collector.
const MAX_BATCH: usize = 512;
/// Maximum time that a span waits for its batch to fill. A span waits longer only if the collector is slow.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// A queue that takes finished spans without waiting. A span that does not fit is dropped and counted.
#[derive(Debug)]
pub(super) struct BoundedQueue {
    batches: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

impl BoundedQueue {
    pub(super) fn new(exporter: CountingExporter, metrics: Arc<Metrics>) -> Self {
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(MAX_WAITING)
            .with_max_export_batch_size(MAX_BATCH)
            .with_scheduled_delay(MAX_DELAY)
            .build();
        let waiting = exporter.waiting.clone();
        Self { batches: BatchSpanProcessor::new(exporter, config), waiting, metrics }
    }
}

impl SpanProcessor for BoundedQueue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        // The spans are counted here, because the queue of the SDK drops spans without a metric.
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.metrics.trace_spans_dropped.with_label_values(&["queue_full"]).inc();
            return;
        }
        self.batches.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}
