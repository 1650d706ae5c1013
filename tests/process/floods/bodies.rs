//! Request bodies that are too large, endless or too slow.

use super::raw_connection::{RawConnection, byte_by_byte};
use super::{Flooded, MIB};
use crate::stage::SCOPES;

const HUNDRED_MEGABYTES: u64 = 100 * MIB;

impl Flooded {
    /// The head of a submission, with these headers of the body.
    fn head(&self, headers: &str) -> Vec<u8> {
        let token = self.stage.token(SCOPES);
        format!(
            "POST /v1/analyses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\n{headers}\r\n\r\n"
        )
        .into_bytes()
    }
}

/// Endless white space, with which a JSON body may begin.
fn endless_chunks() -> impl Iterator<Item = Vec<u8>> {
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    std::iter::repeat(chunk)
}

fn hundred_megabytes() -> impl Iterator<Item = Vec<u8>> {
    std::iter::repeat_n(vec![b' '; MIB as usize], 100)
}

#[tokio::test]
async fn a_body_of_100_megabytes_is_refused_by_its_content_length() {
    let flooded = Flooded::start(&[]).await;
    for _ in 0..3 {
        let mut connection = RawConnection::open(&flooded.gateway.api).await;
        connection.send(&flooded.head(&format!("content-length: {HUNDRED_MEGABYTES}"))).await;
        let outcome = connection.flood(hundred_megabytes(), false).await;
        assert_eq!((outcome.status(), outcome.problem().as_str()), (413, "body_too_large"));
    }
    flooded.check_healthy().await;
}

#[tokio::test]
async fn an_endless_body_is_cut_off() {
    let flooded = Flooded::start(&[]).await;
    let mut connection = RawConnection::open(&flooded.gateway.api).await;
    connection.send(&flooded.head("transfer-encoding: chunked")).await;
    let outcome = connection.flood(endless_chunks(), false).await;
    assert_eq!((outcome.status(), outcome.problem().as_str()), (413, "body_too_large"));
    flooded.check_healthy().await;
}

#[tokio::test]
async fn an_endless_body_that_no_handler_reads_is_cut_off() {
    let flooded = Flooded::start(&[]).await;
    let unauthenticated = "POST /v1/analyses HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    let nowhere = unauthenticated.replace("/v1/analyses", "/nowhere");
    let read = unauthenticated.replace("POST /v1/analyses", "GET /openapi.json");
    for (head, status) in [(unauthenticated, 401), (&nowhere, 404), (&read, 200)] {
        let mut connection = RawConnection::open(&flooded.gateway.api).await;
        connection.send(head.as_bytes()).await;
        let outcome = connection.flood(endless_chunks(), false).await;
        assert_eq!(outcome.status(), status, "{head}");
    }
    flooded.check_healthy().await;
}

#[tokio::test]
async fn a_compressed_body_is_refused() {
    let flooded = Flooded::start(&[]).await;
    let mut connection = RawConnection::open(&flooded.gateway.api).await;
    connection.send(&flooded.head("content-encoding: gzip\r\ntransfer-encoding: chunked")).await;
    let outcome = connection.flood(endless_chunks(), false).await;
    assert_eq!((outcome.status(), outcome.problem().as_str()), (415, "unsupported_media_type"));
    flooded.check_healthy().await;
}

#[tokio::test]
async fn a_slow_body_times_out() {
    let flooded = Flooded::start(&[("SERVER__BODY_TIMEOUT", "300ms")]).await;
    for headers in ["content-length: 100000", "transfer-encoding: chunked"] {
        let mut connection = RawConnection::open(&flooded.gateway.api).await;
        connection.send(&flooded.head(headers)).await;
        let outcome = connection.flood(byte_by_byte(&"1\r\n \r\n".repeat(10_000)), true).await;
        assert_eq!((outcome.status(), outcome.problem().as_str()), (408, "body_too_slow"), "{headers}");
    }
    flooded.check_healthy().await;
}

#[tokio::test]
async fn a_request_for_another_protocol_is_answered_like_any_other() {
    let flooded = Flooded::start(&[]).await;
    let (body, other_body) = (r#"{"call_id":"upgrade-1"}"#, r#"{"call_id":"upgrade-2"}"#);
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13";
    let length = format!("{upgrade}\r\ncontent-length: {}", body.len());
    let chunked = format!("{upgrade}\r\ntransfer-encoding: chunked");
    let chunks = format!("{:x}\r\n{other_body}\r\n0\r\n\r\n", other_body.len());
    for (headers, body, status) in
        [(length.as_str(), body, 202), (&chunked, &chunks, 202), (upgrade, "", 400)]
    {
        let mut connection = RawConnection::open(&flooded.gateway.api).await;
        connection.send(&flooded.head(headers)).await;
        let outcome = connection.flood(std::iter::once(body.as_bytes().to_vec()), false).await;
        assert_eq!(outcome.status(), status, "{headers}");
    }
    let mut connection = RawConnection::open(&flooded.gateway.api).await;
    connection.send(format!("GET /openapi.json HTTP/1.1\r\nhost: x\r\n{upgrade}\r\n\r\n").as_bytes()).await;
    assert_eq!(connection.status().await, 200);
    flooded.check_healthy().await;
}
