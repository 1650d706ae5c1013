use std::net::{Ipv4Addr, TcpListener};

use super::*;
use crate::domain::clock::{SystemClock, SystemEntropy};

const RECORDED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn traces(endpoint: Option<String>) -> (Traces, Arc<Metrics>) {
    let settings = TracesSettings {
        otlp_endpoint: endpoint.map(|endpoint| endpoint.parse().unwrap()),
        headers_file: None,
        sample_ratio: 1.0,
        caller_samples_per_second: 0,
    };
    let headers = Arc::new(CollectorHeaders::load(&settings).unwrap());
    let metrics = Arc::new(Metrics::new().unwrap());
    let around = Around {
        wall_clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        metrics: metrics.clone(),
        database: Database::Sqlite,
    };
    (Traces::new(&settings, headers, &|_| None, around).unwrap(), metrics)
}

/// Far more spans than there is room for, before a collector that never answers.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_counted_and_lost() {
    const SPANS: u64 = 10_000;
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (traces, metrics) = traces(Some(format!("http://{}", silent.local_addr().unwrap())));
    let parent = TraceContext::parse(RECORDED).unwrap();
    for _ in 0..SPANS {
        drop(traces.work(parent, "poll result"));
    }
    let lost = metrics.trace_spans_dropped.with_label_values(&["queue_full"]).get();
    let failed = metrics.trace_spans_dropped.with_label_values(&["export_failed"]).get();
    // Those that wait, and those that the exporter may have given up meanwhile.
    assert!(lost >= SPANS - 4096 - failed && lost < SPANS, "{lost} {failed}");
    traces.flush(Duration::from_millis(1)).await;
}

#[tokio::test]
async fn a_child_is_of_its_parents_trace_and_knows_its_own_id() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (traces, _) = traces(Some(format!("http://{}", silent.local_addr().unwrap())));
    let parent = TraceContext::parse(RECORDED).unwrap();
    let span = traces.store(parent, "submit", "analyses");
    let context = span.context();
    assert_eq!((context.trace_id(), context.is_sampled()), (parent.trace_id(), true));
    assert_ne!(context.span_id(), parent.span_id());
    let shown = span.shown_id().unwrap().to_string();
    assert_eq!(shown, format!("{:016x}", context.span_id().unwrap()));
    let unrecorded = traces.store(parent.sampled(false), "submit", "analyses");
    assert_eq!((unrecorded.context(), unrecorded.is_recorded()), (parent.sampled(false), false));
}

#[tokio::test]
async fn off_is_as_if_it_were_not_there() {
    let (traces, _) = traces(None);
    let parent = TraceContext::parse(RECORDED).unwrap();
    assert_eq!(traces.admit(Some(parent)), parent);
    assert!(!traces.admit(None).is_sampled());
    let span = traces.request(parent, "GET", "/v1/analyses/1");
    assert_eq!((span.context(), span.is_recorded()), (parent, false));
    assert!(span.shown_id().is_none());
}
