//! Tests of callbacks over real sockets, with faulty receivers and controlled name resolution.

#![expect(clippy::unwrap_used, reason = "a test may fail at any line")]

mod faults;
#[path = "../support/forward_proxy.rs"]
mod forward_proxy;
mod proxies;
mod receiver;
mod socks;
mod ssrf;
mod tls;
#[path = "../support/tls_server.rs"]
mod tls_server;

use std::time::Duration;

use alovoice_gateway::callbacks::{Outgoing, Sender, Sent, SignedHeaders, verify};
use alovoice_gateway::config::{CallbackSettings, NetworkSettings};
use alovoice_gateway::domain::callback_url::CallbackUrl;
use alovoice_gateway::domain::clock::Timestamp;
use alovoice_gateway::domain::retries::AttemptOutcome;
use alovoice_gateway::domain::secrets::CallbackSecret;
use alovoice_gateway::domain::transforms::DeliveryMethod;
use alovoice_gateway::domain::transforms::presets::Preset;
use alovoice_gateway::domain::transport_error::TransportError;
use alovoice_gateway::domain::webhooks::{CustomHeaders, HeaderName};
use alovoice_gateway::http_client::Network;

use alovoice_gateway::secrets::Reload;
use receiver::{Receiver, Then};
use tokio::net::TcpSocket;

const NOW: Timestamp = Timestamp::from_millis(1_716_207_617_042); // 2024-05-20T12:20:17.042Z
const BODY: &str = r#"{"type":"analysis.completed","data":{"call_id":"1"}}"#;
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Settings that allow the receivers of these tests, and no other address that is not public.
fn settings() -> CallbackSettings {
    CallbackSettings {
        // The machine may be busy.
        timeout: Duration::from_mins(5),
        allow_http: true,
        allow_networks: vec!["127.0.0.1/32".parse().unwrap()],
        allow_templates: false,
        retry_schedule: Vec::new(),
    }
}

/// Direct connections, with the certificate authorities of the system.
fn network() -> Network {
    Network::new(&NetworkSettings::default()).unwrap()
}

/// Settings with a short time-out, for receivers that never finish.
fn impatient() -> CallbackSettings {
    CallbackSettings { timeout: Duration::from_millis(100), ..settings() }
}

fn secrets() -> Vec<CallbackSecret> {
    ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"]
        .map(|text| CallbackSecret::parse(text).unwrap())
        .to_vec()
}

async fn send(sender: &Sender, url: &str) -> Sent {
    send_judged(sender, url, None).await
}

/// Makes one attempt, whose answer the preset with this name judges.
async fn send_judged(sender: &Sender, url: &str, preset: Option<&str>) -> Sent {
    let (url, secrets) = (CallbackUrl::parse(url).unwrap(), secrets());
    let outgoing = Outgoing {
        url: &url,
        id: "evt_1",
        timestamp: NOW,
        secrets: &secrets,
        method: DeliveryMethod::Post,
        content_type: "application/json",
        preset: preset.map(|name| Preset::named(name).unwrap()),
        headers: &CustomHeaders::default(),
        body: BODY.into(),
        traceparent: TRACEPARENT,
    };
    sender.send(&outgoing).await
}

/// Reserves a port at which no server listens. Another server could listen at a port that is not reserved.
fn closed_port() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket
}

/// Makes one attempt to a receiver with this answer.
async fn answered(answer: &str) -> Sent {
    let receiver = Receiver::start(Then::Answer(answer.into())).await;
    send(&Sender::new(&settings(), &network()).unwrap(), &receiver.url("/hook")).await
}

#[tokio::test]
async fn a_callback_carries_its_signed_headers_and_its_body() {
    let mut receiver =
        Receiver::start(Then::Answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".into())).await;
    let sent = send(&Sender::new(&settings(), &network()).unwrap(), &receiver.url("/hook?key=s3cr3t")).await;
    assert_eq!(sent.outcome, AttemptOutcome::Delivered { status: 200 });
    assert_eq!((sent.status, sent.response.as_slice()), (Some(200), b"ok".as_slice()));

    let request = receiver.request().await;
    assert_eq!(request.line, "POST /hook?key=s3cr3t HTTP/1.1");
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("user-agent"), concat!("alovoice-gateway/", env!("CARGO_PKG_VERSION")));
    assert_eq!(request.header("webhook-id"), "evt_1");
    assert_eq!(request.header("webhook-timestamp"), "1716207617");
    assert_eq!(request.header("traceparent"), TRACEPARENT);
    assert!(!request.has_header("accept-encoding"));
    assert_eq!(request.body, BODY.as_bytes());
    let headers = SignedHeaders {
        id: request.header("webhook-id"),
        timestamp: request.header("webhook-timestamp"),
        signature: request.header("webhook-signature"),
    };
    for secret in secrets() {
        assert_eq!(verify(&[secret], headers, &request.body, NOW), Ok(()));
    }
}

#[tokio::test]
async fn custom_headers_are_sent_and_cannot_replace_the_gateways_headers() {
    let mut receiver = Receiver::start(Then::Answer("HTTP/1.1 204 Taken\r\n\r\n".into())).await;
    let mut headers = CustomHeaders::default();
    for (name, value) in [("Authorization", "Bearer a=b"), ("X-Key", "one, two")] {
        headers.set(HeaderName::parse(name).unwrap(), value).unwrap();
    }
    let (url, secrets) = (CallbackUrl::parse(&receiver.url("/hook")).unwrap(), secrets());
    let outgoing = Outgoing {
        url: &url,
        id: "evt_1",
        timestamp: NOW,
        secrets: &secrets,
        method: DeliveryMethod::Post,
        content_type: "application/json",
        preset: None,
        headers: &headers,
        body: BODY.into(),
        traceparent: TRACEPARENT,
    };
    assert!(!format!("{outgoing:?}").contains("a=b"));
    Sender::new(&settings(), &network()).unwrap().send(&outgoing).await;
    let request = receiver.request().await;
    assert_eq!(request.header("authorization"), "Bearer a=b");
    assert_eq!(request.header("x-key"), "one, two");
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("webhook-id"), "evt_1");
}

#[tokio::test]
async fn the_status_decides_the_outcome() {
    let refused = |status| AttemptOutcome::Refused { status, retry_after: None };
    for (status, outcome) in [
        (200, AttemptOutcome::Delivered { status: 200 }),
        (204, AttemptOutcome::Delivered { status: 204 }),
        (299, AttemptOutcome::Delivered { status: 299 }),
        (304, refused(304)),
        (400, refused(400)),
        (404, refused(404)),
        (410, AttemptOutcome::Gone),
        (429, refused(429)),
        (500, refused(500)),
        (503, refused(503)),
    ] {
        let length = if matches!(status, 204 | 304) { "" } else { "content-length: 0\r\n" };
        let sent = answered(&format!("HTTP/1.1 {status} Any\r\n{length}\r\n")).await;
        assert_eq!((sent.outcome, sent.status), (outcome, Some(status)));
    }
}

#[tokio::test]
async fn retry_after_is_read_only_from_429_and_503() {
    for (status, value, seconds) in [
        (429, "120", Some(120)),
        (503, "120", Some(120)),
        (429, "Mon, 20 May 2024 12:21:17 GMT", Some(59)),
        (503, "Mon, 20 May 2024 12:00:00 GMT", Some(0)),
        (503, "soon", None),
        (500, "120", None),
        (301, "120", None),
    ] {
        let sent =
            answered(&format!("HTTP/1.1 {status} Any\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n"))
                .await;
        let AttemptOutcome::Refused { retry_after, .. } = sent.outcome else { panic!("{:?}", sent.outcome) };
        assert_eq!(retry_after.map(|wait| wait.as_secs()), seconds, "{status} {value}");
    }
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let mut target =
        Receiver::start(Then::Answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into())).await;
    for status in [301, 302, 303, 307, 308] {
        let location = target.url("/elsewhere");
        let sent =
            answered(&format!("HTTP/1.1 {status} Go\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"))
                .await;
        assert_eq!(sent.outcome, AttemptOutcome::Refused { status, retry_after: None });
    }
    assert!(target.is_untouched());
}

#[tokio::test]
async fn connections_are_reused() {
    let receiver = Receiver::start(Then::Answer("HTTP/1.1 204 Taken\r\n\r\n".into())).await;
    let sender = Sender::new(&settings(), &network()).unwrap();
    for _ in 0..3 {
        send(&sender, &receiver.url("/hook")).await;
    }
    assert_eq!(receiver.connections(), 1);
}
