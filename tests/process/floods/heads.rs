//! Heads without measure. The framework answers them before anything here sees them: with a status and no body.

use super::Flooded;
use super::wire::{Met, Wire, drips};

async fn flood(flooded: &Flooded, pieces: impl Iterator<Item = Vec<u8>>) -> Met {
    let mut wire = Wire::open(&flooded.gateway.api).await;
    wire.send(b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n").await;
    wire.flood(pieces, false).await
}

fn end() -> impl Iterator<Item = Vec<u8>> {
    std::iter::once(b"\r\n".to_vec())
}

#[tokio::test]
async fn headers_have_a_number_and_a_size() {
    let flooded = Flooded::start(&[]).await;
    let header = |number: usize| format!("x-{number}: {number}\r\n").into_bytes();
    let of_ten_kibibytes = |number: usize| format!("x-{number}: {}\r\n", "x".repeat(10 << 10)).into_bytes();
    let megabyte = format!("x: {}\r\n", "x".repeat(1 << 20)).into_bytes();
    let target = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20)).into_bytes();
    for (name, met) in [
        ("10,000 headers", flood(&flooded, (0..10_000).map(header).chain(end())).await),
        ("headers of 1 MB", flood(&flooded, (0..100).map(of_ten_kibibytes).chain(end())).await),
        ("a header of 1 MB", flood(&flooded, std::iter::once(megabyte).chain(end())).await),
        ("headers without end", flood(&flooded, (0..).map(header)).await),
        (
            "a target of 1 MB",
            Wire::open(&flooded.gateway.api).await.flood(std::iter::once(target), false).await,
        ),
    ] {
        assert!([400, 414, 431].contains(&met.status()), "{name}: {met:?}");
    }
    flooded.is_well().await;
}

#[tokio::test]
async fn what_is_not_http_is_answered_and_closed() {
    let flooded = Flooded::start(&[]).await;
    for nonsense in
        ["\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03", "HELO x\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\0\0\0\0"]
    {
        let wire = Wire::open(&flooded.gateway.api).await;
        let met = wire.flood(std::iter::once(nonsense.as_bytes().to_vec()), false).await;
        assert_eq!(met.status(), 400, "{nonsense:?}");
    }
    flooded.is_well().await;
}

#[tokio::test]
async fn a_head_that_drips_is_given_up() {
    let flooded = Flooded::start(&[("SERVER__HEAD_TIMEOUT", "300ms")]).await;
    let endless = format!("GET /openapi.json HTTP/1.1\r\nhost: x\r\nx: {}", "x".repeat(100_000));
    let met = Wire::open(&flooded.gateway.api).await.flood(drips(&endless), true).await;
    assert_eq!(met.status(), 408);
    flooded.is_well().await;
}

#[tokio::test]
async fn requests_may_come_in_one_go() {
    let flooded = Flooded::start(&[]).await;
    let request = b"GET /v1/analyses/1 HTTP/1.1\r\nhost: x\r\n\r\n";
    let last = b"GET /v1/analyses/1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let pieces = (0..20).map(|_| request.repeat(100)).chain(std::iter::once(last.to_vec()));
    let met = Wire::open(&flooded.gateway.api).await.flood(pieces, false).await;
    assert_eq!(met.answer.matches("HTTP/1.1 401 ").count(), 2_001, "each has its answer");
    flooded.is_well().await;
}
