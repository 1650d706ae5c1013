use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

use opentelemetry::trace::SpanKind;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tracing::{error_span, info_span};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{fmt, registry};

use super::*;
use crate::config::{NetworkSettings, TracesSettings};
use crate::domain::clock::SystemEntropy;
use crate::telemetry::tests::exclusive;

const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn sampled() -> TraceContext {
    TraceContext::parse(SAMPLED).unwrap()
}

fn traces(sample_ratio: f64, caller_samples_per_second: u32) -> TracesSettings {
    TracesSettings { otlp_endpoint: None, headers_file: None, sample_ratio, caller_samples_per_second }
}

/// Stores the spans that it gets, and reduces them as the real exporter does.
#[derive(Debug, Clone, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Kept {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        batch.iter_mut().for_each(|span| attributes::reduce(span, attributes::Database::Sqlite));
        self.0.lock().unwrap().append(&mut batch);
        Ok(())
    }
}

/// Runs `work` with spans exported and logs at `info`. Returns the result of `work` and the exported spans.
fn exported<T>(settings: &TracesSettings, work: impl FnOnce() -> T) -> (T, Vec<SpanData>) {
    let _exclusive = exclusive();
    let kept = Kept::default();
    let provider = SdkTracerProvider::builder()
        .with_sampler(sampler(settings))
        .with_simple_exporter(kept.clone())
        .build();
    let logs = fmt::layer().with_writer(std::io::sink).with_filter(LevelFilter::INFO);
    let subscriber = registry().with(Export(Some(provider)).layer()).with(logs);
    let result = tracing::subscriber::with_default(subscriber, work);
    let spans = std::mem::take(&mut *kept.0.lock().unwrap());
    (result, spans)
}

/// Returns the number of sampled traces among `count` requests with this `traceparent`.
fn count_sampled(settings: &TracesSettings, traceparent: Option<&str>, count: usize) -> usize {
    let parent = traceparent.map(|header| TraceContext::parse(header).unwrap());
    let request = |_: &usize| {
        let span = info_span!("request");
        let trace = match parent {
            Some(parent) => resume(&span, parent),
            None => start(&span, TraceContext::start(&SystemEntropy)),
        };
        trace.is_sampled()
    };
    exported(settings, || (0..count).filter(request).count()).0
}

#[test]
fn new_traces_are_sampled_by_the_ratio() {
    assert_eq!(count_sampled(&traces(1.0, 0), None, 1000), 1000);
    assert_eq!(count_sampled(&traces(0.0, 0), None, 1000), 0);
    // The tolerance is ten standard deviations on either side.
    assert!((1600..=2400).contains(&count_sampled(&traces(0.2, 0), None, 10_000)));
}

#[test]
fn a_trace_that_the_caller_does_not_sample_is_not_sampled() {
    let unsampled = SAMPLED.replace("-01", "-00");
    assert_eq!(count_sampled(&traces(1.0, 1000), Some(&unsampled), 1000), 0);
}

#[test]
fn sampled_traces_of_callers_are_sampled_up_to_the_allowance_and_then_by_the_ratio() {
    assert_eq!(count_sampled(&traces(1.0, 0), Some(SAMPLED), 1000), 1000);
    assert_eq!(count_sampled(&traces(0.0, 0), Some(SAMPLED), 1000), 0);
    // The sampler keeps as many traces as the allowance admits in one second, or in a few more seconds if the machine is slow.
    assert!((7..500).contains(&count_sampled(&traces(0.0, 7), Some(SAMPLED), 1000)));
}

#[test]
fn later_work_follows_the_stored_trace_whatever_the_ratio_is() {
    let ((), spans) = exported(&traces(0.0, 0), || {
        let span = info_span!("poll result");
        let trace = resume(&span, sampled());
        assert_eq!((trace.trace_id(), trace.is_sampled()), (sampled().trace_id(), true));
        let unsampled = sampled().sampled(false);
        assert_eq!(resume(&info_span!("poll result"), unsampled), unsampled);
        assert!(!resume(&info_span!("poll result"), TraceContext::start(&SystemEntropy)).is_sampled());
    });
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].parent_span_id, SpanId::from(sampled().span_id().get()));
    assert_eq!(spans[0].span_kind, SpanKind::Consumer);
}

#[test]
fn a_dropped_trace_keeps_the_ids_of_its_caller() {
    let (trace, spans) = exported(&traces(0.0, 0), || resume(&info_span!("request"), sampled()));
    assert_eq!(trace, sampled().sampled(false));
    assert!(spans.is_empty());
}

#[test]
fn spans_inside_a_span_are_its_children_and_name_the_operation() {
    let ((request, call), spans) = exported(&traces(1.0, 0), || {
        let span = debug_span!("request", method = "GET", request_id = "secret");
        let request = resume(&span, sampled());
        let _entered = span.enter();
        export("tenant", "acme");
        fail(&store("find", "analyses"), "unavailable");
        let url = "https://user:secret@vendor.example.uz/secret?token=secret".parse().unwrap();
        let call = client("GET", &url, Some("/callsendai/{token}/{call_id}"));
        let context = start(&call, request);
        record_status(&call, 404);
        fail(&call, "second");
        record_answer(&span, "GET", "/v1/analyses/{call_id}", 200);
        (request, context)
    });
    let span_of = |trace: TraceContext| SpanId::from(trace.span_id().get());
    let shown: Vec<_> = spans
        .iter()
        .map(|span| {
            let mut attributes: Vec<_> =
                span.attributes.iter().map(|pair| format!("{}={}", pair.key, pair.value)).collect();
            attributes.sort();
            format!("{} {:?} {:?} {}", span.name, span.span_kind, span.status, attributes.join(" "))
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    find analyses Internal Error { description: "" } db.collection.name=analyses db.operation.name=find db.system.name=sqlite error.type=unavailable
    GET /callsendai/{token}/{call_id} Client Error { description: "" } error.type=404 http.request.method=GET http.response.status_code=404 server.address=vendor.example.uz server.port=443 url.template=/callsendai/{token}/{call_id}
    GET /v1/analyses/{call_id} Server Unset http.request.method=GET http.response.status_code=200 http.route=/v1/analyses/{call_id} tenant=acme url.scheme=http
    "#);
    assert_eq!(spans[0].parent_span_id, span_of(request));
    assert_eq!((spans[1].parent_span_id, spans[1].span_context.span_id()), (span_of(request), span_of(call)));
    assert_eq!(spans[2].parent_span_id, span_of(sampled()));
}

#[test]
fn long_texts_are_cut_and_unknown_fields_stay_in_the_process() {
    let ((), spans) = exported(&traces(1.0, 0), || {
        drop(info_span!("request", path = "ö".repeat(1000), transcript = "assalomu alaykum"));
    });
    let attributes = &spans[0].attributes;
    assert_eq!(attributes.len(), 1, "{attributes:?}");
    assert_eq!(attributes[0].value.as_str(), "ö".repeat(128));
}

#[test]
fn without_a_collector_reads_have_no_span_and_the_context_of_the_caller_stays() {
    let _exclusive = exclusive();
    let logs = fmt::layer().with_writer(std::io::sink).with_filter(LevelFilter::INFO);
    let subscriber = registry().with(Export(None).layer()).with(logs);
    tracing::subscriber::with_default(subscriber, || {
        assert!(!are_exported());
        let span = debug_span!("request");
        assert!(span.is_disabled());
        assert_eq!(resume(&span, sampled()), sampled());
        assert_eq!(resume(&info_span!("request"), sampled()), sampled());
        assert!(store("find", "analyses").is_disabled());
    });
}

#[test]
fn asking_whether_an_event_is_enabled_loses_no_span() {
    let ((), spans) = exported(&traces(1.0, 0), || {
        for _ in 0..3 {
            assert!(tracing::enabled!(target: "audit", Level::INFO));
            assert!(are_exported());
            drop(error_span!("request"));
        }
    });
    assert_eq!(spans.len(), 3);
}

/// The test creates far more spans than fit, with a collector that never answers.
#[tokio::test(flavor = "multi_thread")]
async fn spans_that_do_not_fit_are_dropped_and_counted() {
    const SPANS: u64 = 10_000;
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap()).parse().unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    let network = Network::new(&NetworkSettings::default()).unwrap();
    let client = CollectorClient::new(&network, Arc::default()).unwrap();
    let exporter =
        exporter::exporter(&endpoint, client, attributes::Database::Sqlite, metrics.clone()).unwrap();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(BoundedQueue::new(exporter, metrics.clone()))
        .build();
    let export = Export(Some(provider));
    let exclusive = exclusive();
    tracing::subscriber::with_default(registry().with(export.layer()), || {
        for _ in 0..SPANS {
            drop(info_span!("poll result"));
        }
    });
    drop(exclusive);
    let lost = metrics.trace_spans_dropped.with_label_values(&["queue_full"]).get();
    let failed = metrics.trace_spans_dropped.with_label_values(&["export_failed"]).get();
    // The other spans still wait, or the exporter has already dropped them.
    assert!(lost >= SPANS - 4096 - failed && lost < SPANS, "{lost} {failed}");
    export.flush(Duration::from_millis(1)).await;
}
