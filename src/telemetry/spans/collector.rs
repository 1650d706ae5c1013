//! The HTTP client of the collector, with a deadline and a bound on the answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use opentelemetry_http::{HttpClient, HttpError, ResponseBodyTooLarge};
use reqwest::{Client, Request, Response};
use tokio::runtime::Handle;

use super::CollectorHeaders;
use crate::domain::transport_error::TransportError;
use crate::http_client::Network;

/// Deadline for connection, request and answer together.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of an answer in bytes. The answers of collectors have a few lines.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Sends requests on the runtime that built the client, because the SDK calls the client on a thread without a runtime.
#[derive(Debug)]
pub(super) struct CollectorClient {
    http: Client,
    headers: Arc<CollectorHeaders>,
    network: Network,
    failure: LastTransportError,
    runtime: Handle,
}

/// The reason why the last request got no answer. The exporter of the SDK does not report this reason.
#[derive(Debug, Clone, Default)]
pub(super) struct LastTransportError(Arc<Mutex<Option<TransportError>>>);

impl LastTransportError {
    /// Returns the reason and removes it, so that the reason is reported only once.
    pub(super) fn take(&self) -> Option<TransportError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, reason: TransportError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }
}

impl CollectorClient {
    pub(super) fn new(network: &Network, headers: Arc<CollectorHeaders>) -> Result<Self, reqwest::Error> {
        let http = network
            .builder()
            // The exporter retries, so the client does not.
            .retry(reqwest::retry::never())
            .timeout(REQUEST_TIMEOUT)
            .build()?;
        let (network, failure) = (network.clone(), LastTransportError::default());
        Ok(Self { http, headers, network, failure, runtime: Handle::current() })
    }

    /// Returns the shared reason of the last failure, so that the exporter can report this reason.
    pub(super) fn failure(&self) -> LastTransportError {
        self.failure.clone()
    }
}

#[async_trait]
impl HttpClient for CollectorClient {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let mut request = Request::try_from(request)?;
        self.headers.add_to(request.headers_mut());
        let (http, network, failure) = (self.http.clone(), self.network.clone(), self.failure.clone());
        let explain = move |error: reqwest::Error| {
            let reason = network.explain(&error);
            failure.set(reason);
            HttpError::from(reason)
        };
        let send = async move {
            match http.execute(request).await {
                Ok(answer) => read(answer, explain).await,
                Err(error) => Err(explain(error)),
            }
        };
        self.runtime.spawn(send).await?
    }
}

async fn read(
    mut answer: Response,
    explain: impl Fn(reqwest::Error) -> HttpError,
) -> Result<http::Response<Bytes>, HttpError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(&explain)? {
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
