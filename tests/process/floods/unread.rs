//! Clients that do not read their answers, send bodies that never end, or occupy connections.

use std::collections::BTreeSet;

use reqwest::Response;
use serde_json::{Value, json};

use super::flood_server::{FloodResponse, FloodServer, json as answer};
use super::raw_connection::RawConnection;
use super::{Flooded, MIB};
use crate::gateway::within;
use crate::stage::{SCOPES, Stage};

/// Size of the text in each result in bytes.
const RESULT_BYTES: usize = 1 << 20;
/// Number of calls with a result. One page of events does not have room for all of them.
const CALLS: usize = 8;
/// No client is disconnected during the test.
const PATIENT: (&str, &str) = ("SERVER__BODY_TIMEOUT", "1h");
const EVENTS: &str = "/v1/events?after=earliest&limit=500";
const PATHS: [&str; 7] = [
    EVENTS,
    "/v1/analyses/call-0",
    "/v1/analyses/call-0/transcript?format=vtt",
    "/v1/analyses/call-0/vendor-answer",
    "/v1/analyses/known-0/audio",
    "/swagger-ui/swagger-ui-bundle.js",
    "/swagger-ui/swagger-ui-standalone-preset.js",
];

/// Call that the vendor never finishes.
const UNFINISHED: &str = "unfinished";

/// A vendor whose recordings never end. The results of calls with the prefix `call-` have a megabyte.
async fn vendor() -> FloodServer {
    let text = "salom ".repeat(RESULT_BYTES / 6);
    let result = move |path: &str| {
        let ai_call_id = path.rsplit('/').next().unwrap();
        let text = if ai_call_id.starts_with("call-") { &text } else { "salom" };
        let turn = format!(r#"{{"begin":0,"end":9,"direction":"client","text":"{text}"}}"#);
        format!(
            r#"{{"answer":{{"aicallid":"{ai_call_id}","stereoaudio":"/stereo/1","stalk":[{turn}],"tags":[]}}}}"#
        )
    };
    let head = "HTTP/1.1 200 OK\r\ncontent-type: audio/wav\r\ncontent-length: 1000000000\r\n\r\n";
    let recording = FloodResponse::Endless(head.as_bytes().into(), vec![0; 1 << 16].into());
    FloodServer::start(move |path, _| match path {
        path if path.starts_with("/callsendai/") => {
            answer(r#"{"answer":{"aicallid":"664b400ccccc3235a7cd17f"}}"#)
        }
        path if path.starts_with("/stereo/") => recording.clone(),
        path if path.ends_with(UNFINISHED) => answer(r#"{"answer":null}"#),
        path => answer(&result(path)),
    })
    .await
}

impl Flooded {
    /// A gateway with two tenants and these settings. `acme` has large results.
    async fn with_results(settings: &[(&str, &str)]) -> (Self, FloodServer) {
        let vendor = vendor().await;
        let mut stage = Stage::set_up().await;
        stage.set("VENDOR__BASE_URL", vendor.url.as_str());
        stage.set("VENDOR__REQUEST_TIMEOUT", "1m");
        stage.set_file("TENANTS__GLOBEX__VENDOR_TOKEN_FILE", "token-of-globex-0123456789");
        for (key, value) in settings {
            stage.set(key, value);
        }
        let flooded = Self::on(stage).await;
        for number in 0..CALLS {
            let call = format!("call-{number}");
            assert_eq!(flooded.stage.submit(&flooded.gateway, &call).await.unwrap().status(), 202);
            within(&call, flooded.until_read(&call)).await;
        }
        let flooded = Self { before: super::resident(&flooded.gateway), ..flooded };
        (flooded, vendor)
    }

    /// Reads the result of a call. The gateway may disconnect the client if the client reads too slowly on a busy machine.
    async fn until_read(&self, call: &str) {
        loop {
            let answer = self.stage.get(&self.gateway, call, "wait=60").await;
            if answer.text().await.is_ok_and(|analysis| analysis.contains(r#""status":"completed""#)) {
                return;
            }
        }
    }

    /// Sends a request without reading its answer.
    pub(super) async fn ask(&self, tenant: &str, request: &str, headers: &str) -> RawConnection {
        let mut connection = RawConnection::open_narrow(&self.gateway.api).await;
        connection.send(&self.request(tenant, request, headers)).await;
        connection
    }

    pub(super) async fn get_as(&self, tenant: &str, path: &str) -> Response {
        let token = self.stage.token_of(tenant, SCOPES);
        self.stage.client.get(self.gateway.api.join(path).unwrap()).bearer_auth(token).send().await.unwrap()
    }

    /// A stream of all events of a tenant.
    async fn stream_of(&self, tenant: &str) -> Response {
        let url = self.gateway.api.join("v1/events?after=earliest").unwrap();
        let request = self.stage.client.get(url).header("accept", "text/event-stream");
        request.bearer_auth(self.stage.token_of(tenant, SCOPES)).send().await.unwrap()
    }

    pub(super) async fn submit_as(&self, tenant: &str, body: Vec<u8>) -> u16 {
        let request = self.stage.client.post(self.gateway.api.join("v1/analyses").unwrap());
        let request = request.header("content-type", "application/json").body(body);
        request.bearer_auth(self.stage.token_of(tenant, SCOPES)).send().await.unwrap().status().as_u16()
    }
}

/// A submission of this size.
pub(super) fn submission(call_id: &str, bytes: usize) -> Vec<u8> {
    let body = json!({"call_id": call_id}).to_string();
    [body.as_bytes(), " ".repeat(bytes - body.len()).as_bytes()].concat()
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_disconnected_whatever_the_answer_is() {
    let (flooded, _vendor) = Flooded::with_results(&[("SERVER__BODY_TIMEOUT", "1s")]).await;
    let mut unread = Vec::new();
    for path in PATHS {
        unread.push((path, flooded.ask("acme", &format!("GET {path}"), "").await));
    }
    let stream = flooded.ask("acme", "GET /v1/events?after=earliest", "accept: text/event-stream\r\n").await;
    unread.push(("a stream", stream));
    flooded.until_metric("http_write_timeouts_total", unread.len() as f64).await;
    for (path, connection) in unread {
        assert!(within(path, connection.ends_with_reset()).await, "{path} was read to its end");
    }
}

#[tokio::test]
async fn unread_answers_of_a_tenant_use_its_share_of_the_memory_only() {
    for path in [EVENTS, "/v1/analyses/call-0/transcript?format=vtt", "/v1/analyses/call-0/vendor-answer"] {
        let (flooded, _vendor) = Flooded::with_results(&[("CACHE__MAX_BYTES", "0"), PATIENT]).await;
        let mut unread = Vec::new();
        for _ in 0..100 {
            unread.push(flooded.ask("acme", &format!("GET {path}"), "").await);
        }
        // The share of a tenant is 16 MiB.
        flooded.until_metric(r#"overload_refusals_total{resource="answers",tenant="acme"}"#, 80.0).await;
        let refused = flooded.get_as("acme", EVENTS).await;
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()["retry-after"]),
            (503, &"1".parse().unwrap())
        );
        let problem: Value = serde_json::from_slice(&refused.bytes().await.unwrap()).unwrap();
        assert_eq!(problem["code"], "unavailable");
        assert_eq!(flooded.get_as("globex", EVENTS).await.status(), 200, "{path}");
        flooded.check_healthy().await;
        drop(unread);
        // The memory is free again.
        within("free memory", async { while flooded.get_as("acme", EVENTS).await.status() != 200 {} }).await;
    }
}

#[tokio::test]
async fn an_event_stream_continues_while_the_tenant_has_no_memory_for_a_page() {
    let (flooded, _vendor) = Flooded::with_results(&[PATIENT]).await;
    let mut unread = Vec::new();
    for _ in 0..CALLS {
        unread.push(flooded.ask("acme", &format!("GET {EVENTS}"), "").await);
    }
    flooded.until_metric(r#"overload_refusals_total{resource="answers",tenant="acme"}"#, 1.0).await;
    let mut stream = flooded.stream_of("acme").await;
    assert_eq!(flooded.submit_as("acme", submission("small", 100)).await, 202);
    let mut text = String::new();
    while !text.contains(r#""call_id":"small""#) {
        let chunk = within("an event of the stream", stream.chunk()).await.unwrap().unwrap();
        text += &String::from_utf8_lossy(&chunk);
    }
    // Each of these events is larger than a read of a stream.
    for number in 0..CALLS {
        assert!(text.contains(&format!(r#""call_id":"call-{number}""#)), "call-{number}");
    }
    assert_eq!(flooded.get_as("acme", EVENTS).await.status(), 503, "there is still no memory for a page");
}

#[tokio::test]
async fn unread_recordings_are_limited_in_number_and_memory() {
    let (flooded, _vendor) = Flooded::with_results(&[PATIENT]).await;
    let mut unread = Vec::new();
    for _ in 0..100 {
        unread.push(flooded.ask("acme", "GET /v1/analyses/known-0/audio", "").await);
    }
    flooded.until_metric(r#"overload_refusals_total{resource="recordings",tenant="acme"}"#, 68.0).await;
    assert_eq!(flooded.get_as("acme", EVENTS).await.status(), 200, "other answers use a separate budget");
    flooded.check_healthy().await;
}

#[tokio::test]
async fn unfinished_bodies_of_a_tenant_use_its_share_of_the_memory_only() {
    let (flooded, _vendor) = Flooded::with_results(&[PATIENT]).await;
    let body = submission("large", 4 * MIB as usize);
    let (last, rest) = body.split_last().unwrap();
    let length = format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    let chunked = "content-type: application/json\r\ntransfer-encoding: chunked\r\n";
    let chunk = [format!("{:x}\r\n", body.len()).as_bytes(), rest].concat();
    let mut unfinished = Vec::new();
    for number in 0..60 {
        let (headers, bytes) = if number % 2 == 0 { (length.as_str(), rest) } else { (chunked, &chunk[..]) };
        let mut connection = flooded.ask("acme", "POST /v1/analyses", headers).await;
        // The first body gets memory, so the gateway reads all of it.
        if number == 0 {
            connection.send(bytes).await;
        } else {
            connection.offer(bytes).await;
        }
        unfinished.push(connection);
    }
    flooded.until_metric(r#"overload_refusals_total{resource="large_bodies",tenant="acme"}"#, 58.0).await;
    assert_eq!(flooded.submit_as("acme", submission("large", 4 * MIB as usize)).await, 503);
    assert_eq!(flooded.submit_as("acme", submission("small", 1000)).await, 202, "small bodies do not wait");
    assert_eq!(flooded.submit_as("globex", submission("large", 4 * MIB as usize)).await, 202);
    flooded.check_healthy().await;
    unfinished[0].send(&[*last]).await;
    assert_eq!(within("the answer to the first body", unfinished[0].status()).await, 202);
}

#[tokio::test]
async fn a_tenant_leaves_connections_to_the_others() {
    let (flooded, _vendor) = Flooded::with_results(&[("SERVER__MAX_CONNECTIONS", "16"), PATIENT]).await;
    let mut unread = Vec::new();
    for _ in 0..24 {
        unread.push(flooded.ask("acme", "GET /v1/analyses/known-0/audio", "").await);
    }
    flooded.until_metric(r#"overload_refusals_total{resource="connections",tenant="acme"}"#, 8.0).await;
    let mut other = RawConnection::open(&flooded.gateway.api).await;
    other.send(&flooded.request("globex", "GET /v1/analyses", "")).await;
    assert_eq!(within("the answer to another tenant", other.status()).await, 200);
    // The gateway closes a connection beyond the limit of the tenant.
    let mut statuses = BTreeSet::new();
    for connection in &mut unread {
        statuses.insert(within("a status", connection.status()).await);
    }
    assert_eq!(statuses, [200, 429].into());
}

#[tokio::test]
async fn pipelined_requests_wait_outside_the_memory() {
    let (flooded, _vendor) = Flooded::with_results(&[]).await;
    assert_eq!(flooded.submit_as("acme", submission(UNFINISHED, 100)).await, 202);
    let path = format!("GET /v1/analyses/{UNFINISHED}");
    // On a busy machine, the first wait of a connection can end before the last connection waits.
    let waits = flooded.request("acme", &path, "prefer: wait=60\r\n").repeat(3);
    let pipelined = [waits, b"GET / HTTP/1.0\r\n\r\n".repeat(7_000)].concat();
    let mut connections = Vec::new();
    for _ in 0..40 {
        let mut connection = flooded.ask("acme", &path, "prefer: wait=60\r\n").await;
        connection.offer(&pipelined).await;
        connections.push(connection);
    }
    flooded.until_metric("http_requests_in_flight", 40.0).await;
    flooded.check_healthy().await;
}

#[tokio::test]
async fn unfinished_heads_are_limited_in_memory() {
    let flooded = Flooded::start(&[("SERVER__HEAD_TIMEOUT", "5m")]).await;
    let head = [b"GET / HTTP/1.1\r\nhost: x\r\nx: ".as_slice(), &[b'x'; 120 << 10]].concat();
    let mut connections = Vec::new();
    for _ in 0..1000 {
        let mut connection = RawConnection::open(&flooded.gateway.api).await;
        connection.offer(&head).await;
        connections.push(connection);
    }
    flooded.check_healthy().await;
}
