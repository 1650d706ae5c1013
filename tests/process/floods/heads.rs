//! Request heads that are too large, endless, slow or invalid. The web framework answers them with a status and no body.

use super::Flooded;
use super::raw_connection::{FloodOutcome, RawConnection, byte_by_byte};

async fn flood(flooded: &Flooded, pieces: impl Iterator<Item = Vec<u8>>) -> FloodOutcome {
    let mut connection = RawConnection::open(&flooded.gateway.api).await;
    connection.send(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n").await;
    connection.flood(pieces, false).await
}

fn end() -> impl Iterator<Item = Vec<u8>> {
    std::iter::once(b"\r\n".to_vec())
}

#[tokio::test]
async fn headers_are_limited_in_number_and_size() {
    let flooded = Flooded::start(&[]).await;
    let header = |number: usize| format!("x-{number}: {number}\r\n").into_bytes();
    let of_ten_kibibytes = |number: usize| format!("x-{number}: {}\r\n", "x".repeat(10 << 10)).into_bytes();
    let megabyte = format!("x: {}\r\n", "x".repeat(1 << 20)).into_bytes();
    let target = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20)).into_bytes();
    for (name, outcome) in [
        ("10,000 headers", flood(&flooded, (0..10_000).map(header).chain(end())).await),
        ("headers of 1 MB", flood(&flooded, (0..100).map(of_ten_kibibytes).chain(end())).await),
        ("a header of 1 MB", flood(&flooded, std::iter::once(megabyte).chain(end())).await),
        ("headers without end", flood(&flooded, (0..).map(header)).await),
        (
            "a target of 1 MB",
            RawConnection::open(&flooded.gateway.api).await.flood(std::iter::once(target), false).await,
        ),
    ] {
        assert!([400, 414, 431].contains(&outcome.status()), "{name}: {outcome:?}");
    }
    flooded.check_healthy().await;
}

#[tokio::test]
async fn invalid_http_gets_400_and_the_connection_closes() {
    let flooded = Flooded::start(&[]).await;
    for nonsense in
        ["\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03", "HELO x\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\0\0\0\0"]
    {
        let connection = RawConnection::open(&flooded.gateway.api).await;
        let outcome = connection.flood(std::iter::once(nonsense.as_bytes().to_vec()), false).await;
        assert_eq!(outcome.status(), 400, "{nonsense:?}");
    }
    flooded.check_healthy().await;
}

#[tokio::test]
async fn a_slow_head_times_out() {
    let flooded = Flooded::start(&[("SERVER__HEAD_TIMEOUT", "300ms")]).await;
    let endless = format!("GET /openapi.json HTTP/1.1\r\nhost: x\r\nx: {}", "x".repeat(100_000));
    let outcome = RawConnection::open(&flooded.gateway.api).await.flood(byte_by_byte(&endless), true).await;
    assert_eq!(outcome.status(), 408);
    flooded.check_healthy().await;
}

#[tokio::test]
async fn pipelined_requests_are_all_answered() {
    let flooded = Flooded::start(&[]).await;
    let request = b"GET /v1/analyses/1 HTTP/1.1\r\nhost: x\r\n\r\n";
    let last = b"GET /v1/analyses/1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let pieces = (0..20).map(|_| request.repeat(100)).chain(std::iter::once(last.to_vec()));
    let outcome = RawConnection::open(&flooded.gateway.api).await.flood(pieces, false).await;
    assert_eq!(outcome.answer.matches("HTTP/1.1 401 ").count(), 2_001, "every request gets a response");
    flooded.check_healthy().await;
}
