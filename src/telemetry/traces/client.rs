//! What carries spans to the collector: an HTTP client that waits for so long and reads so much, and no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use opentelemetry_http::{HttpClient, HttpError, ResponseBodyTooLarge};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use reqwest::{Client, Request, Response};
use tokio::runtime::Handle;

use super::CollectorHeaders;
use crate::http_client;

/// One deadline over connection, request and answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// A collector's answer says which spans it refused, and why: a few lines.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Sends on the runtime that it was made in, whatever thread asks: the SDK's has none.
#[derive(Debug)]
pub(super) struct CollectorClient {
    http: Client,
    headers: Arc<CollectorHeaders>,
    rejected: Arc<AtomicU64>,
    runtime: Handle,
}

impl CollectorClient {
    /// `rejected` is told how many spans of a request the collector refused although it took the request.
    pub(super) fn new(
        headers: Arc<CollectorHeaders>,
        rejected: Arc<AtomicU64>,
    ) -> Result<Self, reqwest::Error> {
        let http = http_client::builder()
            // The exporter tries again.
            .retry(reqwest::retry::never())
            .timeout(REQUEST_TIMEOUT)
            .build()?;
        Ok(Self { http, headers, rejected, runtime: Handle::current() })
    }
}

#[async_trait]
impl HttpClient for CollectorClient {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let mut request = Request::try_from(request)?;
        self.headers.add_to(request.headers_mut());
        let http = self.http.clone();
        let sent = self.runtime.spawn(async move { read(http.execute(request).await?).await });
        let answer = sent.await??;
        if answer.status().is_success() {
            self.rejected.store(rejected_in(answer.body()), Ordering::Relaxed);
        }
        Ok(answer)
    }
}

/// The spans that an answer says were refused (OTLP, "partial success"); 0 if it says nothing that can be read.
fn rejected_in(body: &Bytes) -> u64 {
    let answer = ExportTraceServiceResponse::decode(body.clone()).unwrap_or_default();
    let rejected = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
    u64::try_from(rejected).unwrap_or(0)
}

async fn read(mut answer: Response) -> Result<http::Response<Bytes>, HttpError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(Box::new(ResponseBodyTooLarge::new()));
        }
        body.extend_from_slice(&chunk);
    }
    let mut read = http::Response::new(body.freeze());
    *read.status_mut() = answer.status();
    *read.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(read)
}
