//! The HTTP client of the collector, with a deadline and a bound on the answer.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use opentelemetry_http::{HttpClient, HttpError, ResponseBodyTooLarge};
use reqwest::{Client, Request, Response};
use tokio::runtime::Handle;

use super::CollectorHeaders;
use crate::http_client;

/// Deadline for connection, request and answer together.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of an answer in bytes. The answers of collectors have a few lines.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Sends requests on the runtime that built the client, because the thread of the SDK that calls it has no runtime.
#[derive(Debug)]
pub(super) struct CollectorClient {
    http: Client,
    headers: Arc<CollectorHeaders>,
    runtime: Handle,
}

impl CollectorClient {
    pub(super) fn new(headers: Arc<CollectorHeaders>) -> Result<Self, reqwest::Error> {
        let http = http_client::builder()
            // The exporter retries, so the client does not.
            .retry(reqwest::retry::never())
            .timeout(REQUEST_TIMEOUT)
            .build()?;
        Ok(Self { http, headers, runtime: Handle::current() })
    }
}

#[async_trait]
impl HttpClient for CollectorClient {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let mut request = Request::try_from(request)?;
        self.headers.add_to(request.headers_mut());
        let http = self.http.clone();
        self.runtime.spawn(async move { read(http.execute(request).await?).await }).await?
    }
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
