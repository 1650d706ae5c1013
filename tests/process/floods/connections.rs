//! Too many connections.

use std::fs;

use super::raw_connection::RawConnection;
use super::{Flooded, MIB};
use crate::gateway::within;

const WANTED: usize = 10_000;
/// Maximum memory of an idle connection.
const MEMORY_PER_CONNECTION: u64 = 40 << 10;

/// Number of connections: `WANTED`, or fewer if the file limit of this process is lower.
fn connections() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let most = line.split_whitespace().nth(3).unwrap().parse().unwrap_or(usize::MAX);
    WANTED.min(most - most / 5)
}

#[tokio::test]
async fn ten_thousand_idle_connections_leave_the_api_usable() {
    let flooded =
        Flooded::start(&[("SERVER__HEAD_TIMEOUT", "5m"), ("SERVER__MAX_CONNECTIONS", "25000")]).await;
    let number = connections();
    let mut idle = Vec::new();
    for number in 0..number {
        let mut connection = RawConnection::open(&flooded.gateway.api).await;
        // Every second connection has sent a request before.
        if number % 2 == 0 {
            connection.send(b"HEAD /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n").await;
            assert_eq!(connection.status().await, 200);
        }
        idle.push(connection);
    }
    eprintln!("{number} connections");
    flooded.check_healthy_within(number as u64 * MEMORY_PER_CONNECTION + 16 * MIB).await;
    drop(idle);
    flooded.gateway.stop().await;
}

/// A limit of connections, and time limits that end no connection during a test.
const FEW: [(&str, &str); 3] =
    [("SERVER__MAX_CONNECTIONS", "64"), ("SERVER__HEAD_TIMEOUT", "5m"), ("SERVER__BODY_TIMEOUT", "1h")];
const LIMIT: usize = 64;

impl Flooded {
    /// Begins a submission, whose body lacks its last byte.
    async fn submit_in_part(&self, call: usize) -> RawConnection {
        let body = format!(r#"{{"call_id":"slow-{call}""#);
        let headers = format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len() + 1);
        let mut connection = RawConnection::open(&self.gateway.api).await;
        connection.send(&self.request("acme", "POST /v1/analyses", &headers)).await;
        connection.send(body.as_bytes()).await;
        connection
    }
}

/// Ends each submission. Returns their statuses.
async fn finish(submissions: Vec<RawConnection>) -> Vec<u16> {
    let mut statuses = Vec::new();
    for mut connection in submissions {
        connection.send(b"}").await;
        statuses.push(within("the answer to a submission", connection.status()).await);
    }
    statuses
}

#[tokio::test]
async fn connections_above_the_limit_wait_until_a_request_ends() {
    let flooded = Flooded::start(&FEW).await;
    let mut submissions = Vec::new();
    for call in 0..LIMIT + 36 {
        submissions.push(flooded.submit_in_part(call).await);
    }
    flooded.until_metric("http_requests_in_flight", LIMIT as f64).await;
    assert_eq!(flooded.metric("http_connections_open").await, Some(LIMIT as f64));
    assert_eq!(finish(submissions).await, [202; LIMIT + 36]);
    flooded.check_healthy().await;
}

#[tokio::test]
async fn idle_connections_leave_their_places_to_requests() {
    let flooded = Flooded::start(&FEW).await;
    let mut submissions = Vec::new();
    for call in 0..LIMIT / 4 {
        submissions.push(flooded.submit_in_part(call).await);
    }
    flooded.until_metric("http_requests_in_flight", submissions.len() as f64).await;
    let asked = b"HEAD /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".as_slice();
    for (kind, bytes) in [
        ("silent", b"".as_slice()),
        ("half of a head", &asked[..asked.len() / 2]),
        ("answered", asked),
        ("an unread answer", b"GET /swagger-ui/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n"),
    ] {
        let mut idle = Vec::new();
        for _ in 0..2 * LIMIT {
            let mut connection = RawConnection::open_narrow(&flooded.gateway.api).await;
            connection.send(bytes).await;
            if kind == "answered" {
                assert_eq!(within(kind, connection.status()).await, 200);
            }
            idle.push(connection);
        }
        let mut other = RawConnection::open(&flooded.gateway.api).await;
        other.send(&flooded.request("acme", "GET /v1/analyses", "")).await;
        assert_eq!(within(kind, other.status()).await, 200, "{kind}");
        let open = flooded.metric("http_connections_open").await.unwrap();
        assert!(open <= LIMIT as f64, "{kind}: {open} connections");
        // The connection that has been idle longest is closed.
        within(kind, idle.swap_remove(0).until_closed()).await;
    }
    flooded.until_metric("http_connections_evicted_total", 4.0 * LIMIT as f64).await;
    assert_eq!(finish(submissions).await, [202; LIMIT / 4], "requests in progress continue");
    flooded.check_healthy().await;
}
