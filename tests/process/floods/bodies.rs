//! Bodies without measure.

use super::wire::{Wire, drips};
use super::{Flooded, MIB};
use crate::stage::SCOPES;

const HUNDRED_MEGABYTES: u64 = 100 * MIB;

impl Flooded {
    /// The head of a submission, up to the headers that tell of its body.
    fn head(&self, headers: &str) -> Vec<u8> {
        let token = self.stage.token(SCOPES);
        format!(
            "POST /v1/analyses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\n{headers}\r\n\r\n"
        )
        .into_bytes()
    }
}

/// White space, which a body of JSON may begin with, without end.
fn endless_chunks() -> impl Iterator<Item = Vec<u8>> {
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    std::iter::repeat(chunk)
}

fn hundred_megabytes() -> impl Iterator<Item = Vec<u8>> {
    std::iter::repeat_n(vec![b' '; MIB as usize], 100)
}

#[tokio::test]
async fn a_body_of_100_megabytes_is_refused_for_its_length() {
    let flooded = Flooded::start(&[]).await;
    for _ in 0..3 {
        let mut wire = Wire::open(&flooded.gateway.api).await;
        wire.send(&flooded.head(&format!("content-length: {HUNDRED_MEGABYTES}"))).await;
        let met = wire.flood(hundred_megabytes(), false).await;
        assert_eq!((met.status(), met.problem().as_str()), (413, "body_too_large"));
    }
    flooded.is_well().await;
}

#[tokio::test]
async fn a_body_without_an_end_is_cut_off() {
    let flooded = Flooded::start(&[]).await;
    let mut wire = Wire::open(&flooded.gateway.api).await;
    wire.send(&flooded.head("transfer-encoding: chunked")).await;
    let met = wire.flood(endless_chunks(), false).await;
    assert_eq!((met.status(), met.problem().as_str()), (413, "body_too_large"));
    flooded.is_well().await;
}

#[tokio::test]
async fn a_body_that_nobody_reads_is_cut_off() {
    let flooded = Flooded::start(&[]).await;
    let strangers = "POST /v1/analyses HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    let nowhere = strangers.replace("/v1/analyses", "/nowhere");
    let read = strangers.replace("POST /v1/analyses", "GET /openapi.json");
    for (head, status) in [(strangers, 401), (&nowhere, 404), (&read, 200)] {
        let mut wire = Wire::open(&flooded.gateway.api).await;
        wire.send(head.as_bytes()).await;
        let met = wire.flood(endless_chunks(), false).await;
        assert_eq!(met.status(), status, "{head}");
    }
    flooded.is_well().await;
}

#[tokio::test]
async fn a_compressed_body_is_not_unpacked() {
    let flooded = Flooded::start(&[]).await;
    let mut wire = Wire::open(&flooded.gateway.api).await;
    wire.send(&flooded.head("content-encoding: gzip\r\ntransfer-encoding: chunked")).await;
    let met = wire.flood(endless_chunks(), false).await;
    assert_eq!((met.status(), met.problem().as_str()), (415, "unsupported_media_type"));
    flooded.is_well().await;
}

#[tokio::test]
async fn a_body_that_drips_is_given_up() {
    let flooded = Flooded::start(&[("SERVER__BODY_TIMEOUT", "300ms")]).await;
    for headers in ["content-length: 100000", "transfer-encoding: chunked"] {
        let mut wire = Wire::open(&flooded.gateway.api).await;
        wire.send(&flooded.head(headers)).await;
        let met = wire.flood(drips(&"1\r\n \r\n".repeat(10_000)), true).await;
        assert_eq!((met.status(), met.problem().as_str()), (408, "body_too_slow"), "{headers}");
    }
    flooded.is_well().await;
}
