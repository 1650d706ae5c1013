//! The export of traces: off by default, with the headers of the settings, and without effect on the work of the gateway.

use std::net::{Ipv4Addr, TcpListener};

use alovoice_gateway::sandbox::receiver::{Received, Receiver, ReceiverOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{CALLERS_SPAN, CALLERS_TRACE};
use crate::gateway::{Serving, within};
use crate::stage::Stage;

/// Waits until a metric is above 0 and returns its value.
async fn counted(stage: &Stage, gateway: &Serving, metric: &str) -> f64 {
    let value = async {
        loop {
            let page = stage.metrics(gateway).await;
            let line = page.lines().find_map(|line| line.strip_prefix(metric)).unwrap();
            let value = line.trim().parse::<f64>().unwrap();
            if value > 0.0 {
                return value;
            }
        }
    };
    within(metric, value).await
}

/// Checks that calls complete, lost spans are counted, and the gateway stops with exit code 0 within the grace period.
async fn assert_no_effect(mut stage: Stage, endpoint: &str) {
    stage.set("TRACES__OTLP_ENDPOINT", endpoint);
    let gateway = stage.serve().await;
    for call in ["one", "two", "three"] {
        assert_eq!(stage.submit(&gateway, call).await.unwrap().status(), 202);
        stage.callback_of(call).await;
    }
    let lost = "alovoice_gateway_trace_spans_dropped_total{reason=\"export_failed\"}";
    counted(&stage, &gateway, lost).await;
    assert_eq!(stage.submit(&gateway, "four").await.unwrap().status(), 202);
    stage.callback_of("four").await;
    gateway.process.terminate();
    assert_eq!(gateway.process.ended().await, Some(0));
    let logs = gateway.process.stderr.so_far();
    let count = |what: &str| logs.iter().filter(|line| line.contains(what)).count();
    assert_eq!(count("trace export failed"), 1, "{logs:#?}");
    assert_eq!(count("grace period over"), 0, "{logs:#?}");
}

#[tokio::test]
async fn an_unreachable_collector_has_no_effect() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    assert_no_effect(Stage::set_up().await, &endpoint).await;
}

/// The system accepts the connections, and no program reads from them.
#[tokio::test]
async fn a_hanging_collector_has_no_effect() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    assert_no_effect(Stage::set_up().await, &format!("http://{}", listener.local_addr().unwrap())).await;
}

#[tokio::test]
async fn a_collector_with_an_endless_answer_has_no_effect() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let talk = async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = connection.read(&mut [0; 1024]).await;
                let _ = connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                while connection.write_all(&[b'x'; 4096]).await.is_ok() {}
            });
        }
    };
    let talking = tokio::spawn(talk);
    assert_no_effect(Stage::set_up().await, &endpoint).await;
    talking.abort();
}

#[tokio::test]
async fn a_collector_that_refuses_spans_has_no_effect() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let refuse = tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let _ = connection.read(&mut [0; 64 << 10]).await;
            let answer = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            let _ = connection.write_all(answer).await;
        }
    });
    assert_no_effect(Stage::set_up().await, &endpoint).await;
    refuse.abort();
}

/// The settings decide, even if the environment names a collector.
#[tokio::test]
async fn traces_are_off_by_default() {
    let stage = Stage::set_up().await;
    let collector = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    collector.set_nonblocking(true).unwrap();
    let mut command = stage.command(&["serve"]);
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    let gateway = Serving::start(command, &stage.client).await;
    let caller = format!("00-{CALLERS_TRACE}-{CALLERS_SPAN}-01");
    stage.submit_in(&gateway, "untraced", &caller).await;
    // The trace of the caller continues behind the gateway without a span of the gateway.
    assert_eq!(stage.callback_of("untraced").await, caller);
    assert!(stage.vendor.calls().iter().all(|request| request.traceparent.as_ref() == Some(&caller)));
    gateway.stop().await;
    let no_connection = collector.accept().unwrap_err();
    assert_eq!(no_connection.kind(), std::io::ErrorKind::WouldBlock);
}

/// Submits calls until the collector has a request with this property: a busy machine loses exports. Returns all requests.
async fn spans_at(
    collector: &Receiver,
    stage: &Stage,
    gateway: &Serving,
    name: &str,
    fits: impl Fn(&Received) -> bool,
) -> Vec<Received> {
    let submit_for_ever = async {
        for call in 0.. {
            let call_id = format!("{name}-{call}");
            stage.submit(gateway, &call_id).await.unwrap();
            stage.callback_of(&call_id).await;
        }
    };
    let arrive = async {
        tokio::select! {
            () = submit_for_ever => unreachable!("the calls have no end"),
            received = collector.wait_for(|received| received.iter().any(&fits)) => received,
        }
    };
    within("spans at the collector", arrive).await
}

/// A hosted collector authenticates its users by a header. A new key is used without a restart.
#[tokio::test]
async fn requests_have_the_headers_of_the_file_and_the_resource_attributes_of_the_environment() {
    let mut stage = Stage::set_up().await;
    let collector = Receiver::start(ReceiverOptions::default()).await.unwrap();
    stage.set("TRACES__OTLP_ENDPOINT", collector.hook("ok").as_str());
    stage.set_file("TRACES__HEADERS_FILE", "api-key: first-key-0123456789\nx-scope: calls\n");
    let mut command = stage.command(&["serve"]);
    command.env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=blue,k8s.pod.name=pod-7");
    command.env("OTEL_SERVICE_NAME", "calls-api");
    let gateway = Serving::start(command, &stage.client).await;
    let received = spans_at(&collector, &stage, &gateway, "first", |_| true).await;
    let first = &received[0];
    assert_eq!((first.method.as_str(), first.path.as_str()), ("POST", "/hook/ok/v1/traces"));
    assert_eq!(first.header("content-type"), Some("application/x-protobuf"));
    assert_eq!(first.header("api-key"), Some("first-key-0123456789"));
    assert_eq!(first.header("x-scope"), Some("calls"));
    let body = String::from_utf8_lossy(&first.body);
    for text in ["calls-api", "deployment.environment.name", "blue", "k8s.pod.name", "pod-7"] {
        assert!(body.contains(text), "{text}");
    }

    stage.set_file("TRACES__HEADERS_FILE", "api-key: second-key-0123456789\n");
    gateway.process.stderr.line("the new key", |line| line.contains("secret changed")).await;
    let is_new = |request: &Received| request.header("api-key") == Some("second-key-0123456789");
    spans_at(&collector, &stage, &gateway, "second", is_new).await;
    gateway.process.terminate();
    let logs = gateway.process.stderr.whole().await;
    assert!(!logs.contains("-key-0123456789"), "{logs}");
}
