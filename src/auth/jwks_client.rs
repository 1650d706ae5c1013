//! Fetches a published JWK Set.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use url::Url;

use super::key_set::KeySetError;
use crate::domain::transport_error::TransportError;
use crate::http_client::Network;

/// Maximum size of the answer in bytes, counted after decompression.
const MAX_BYTES: usize = 1024 * 1024;

/// Reason why a published JWK Set cannot be used. Its text never repeats the URL, which may contain a password.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No HTTP client can be built, for example because the system has no root certificates.
    #[error("cannot build an HTTP client")]
    Client(#[source] reqwest::Error),
    /// The request failed.
    #[error("cannot fetch the JWK Set: {0}")]
    Request(TransportError),
    /// The URL answered with a status other than 200. Redirects are not followed.
    #[error("the JWKS URL answered with status {0}")]
    Status(u16),
    /// The answer is larger than 1 MiB.
    #[error("the answer of the JWKS URL is larger than 1 MiB")]
    TooLarge,
    /// The answer has no usable keys.
    #[error("the answer of the JWKS URL {0}")]
    Keys(#[from] KeySetError),
}

/// Fetches the JWK Set of one URL.
pub(super) struct JwksClient {
    http: Client,
    url: Url,
    network: Network,
}

impl JwksClient {
    /// Creates a client. `timeout` is the deadline for connection, headers and body together.
    pub(super) fn new(url: Url, timeout: Duration, network: &Network) -> Result<Self, FetchError> {
        let http = network.builder().timeout(timeout).build().map_err(FetchError::Client)?;
        Ok(Self { http, url, network: network.clone() })
    }

    /// Fetches the content at the URL.
    pub(super) async fn fetch(&self) -> Result<Vec<u8>, FetchError> {
        let failed = |error: reqwest::Error| FetchError::Request(self.network.explain(&error));
        let mut response = self.http.get(self.url.clone()).send().await.map_err(failed)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let mut content = Vec::new();
        // Chunks arrive decompressed, so the limit also holds for a small gzip body that expands.
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if content.len() + chunk.len() > MAX_BYTES {
                return Err(FetchError::TooLarge);
            }
            content.extend_from_slice(&chunk);
        }
        Ok(content)
    }
}
