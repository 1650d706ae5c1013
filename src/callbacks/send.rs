//! One attempt to deliver a callback.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout};

use super::guard::{Forbidden, Guard};
use super::resolve::{GuardedResolver, Lookup, SystemLookup};
use super::sign::sign;
use crate::config::CallbackSettings;
use crate::domain::callback_url::CallbackUrl;
use crate::domain::clock::Timestamp;
use crate::domain::retries::{AttemptError, AttemptOutcome, parse_retry_after};
use crate::domain::secrets::CallbackSecret;
use crate::domain::webhooks::CustomHeaders;
use crate::http_client;

/// How much of a receiver's answer is kept.
pub const KEPT_RESPONSE_BYTES: usize = 4096;

/// How long an unused connection is kept: shorter than the 60 s after which common servers close it, so that a
/// callback seldom meets a connection that is just being closed.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);

/// A callback on its way.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// Where to.
    pub url: &'a CallbackUrl,
    /// The `webhook-id`, the same in every attempt.
    pub id: &'a str,
    /// The present moment: the `webhook-timestamp`, and what a date in `Retry-After` is relative to.
    pub timestamp: Timestamp,
    /// What it is signed with: the secret in force and, for a while, the one before it.
    pub secrets: &'a [CallbackSecret],
    /// What the endpoint wants besides; none of them is of the names below.
    pub headers: &'a CustomHeaders,
    /// The JSON, byte for byte as stored.
    pub body: Bytes,
    /// The `traceparent` of this attempt.
    pub traceparent: &'a str,
}

/// What came of an attempt.
#[derive(Debug)]
pub struct Sent {
    /// Whether it was delivered, or why not.
    pub outcome: AttemptOutcome,
    /// From the begin to the end of the attempt.
    pub latency: Duration,
    /// The receiver's status, if it gave one.
    pub status: Option<u16>,
    /// The first 4 KiB of its answer, as they came: neither decompressed nor decoded.
    pub response: Vec<u8>,
}

/// The HTTP client could not be made: no trusted certificates can be read, say.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client of callbacks cannot be built")]
pub struct BuildError(#[source] reqwest::Error);

/// Sends callbacks. One for the process: it keeps connections open.
#[derive(Debug, Clone)]
pub struct Sender {
    client: Client,
    guard: Guard,
    timeout: Duration,
}

impl Sender {
    /// A sender that resolves names as the operating system does.
    ///
    /// # Errors
    /// If the HTTP client cannot be built.
    pub fn new(settings: &CallbackSettings) -> Result<Self, BuildError> {
        Self::with_lookup(settings, Arc::new(SystemLookup))
    }

    /// A sender with its own source of addresses.
    ///
    /// # Errors
    /// If the HTTP client cannot be built.
    pub fn with_lookup(settings: &CallbackSettings, lookup: Arc<dyn Lookup>) -> Result<Self, BuildError> {
        let guard = Guard::new(settings);
        let client = http_client::builder()
            .dns_resolver(GuardedResolver::new(guard.clone(), lookup))
            // One attempt is one request. The retry schedule decides about the next attempt.
            .retry(reqwest::retry::never())
            // The answer is stored as received. An answer that is never decompressed cannot exceed its bound.
            .no_gzip()
            .pool_idle_timeout(IDLE_CONNECTION)
            .build()
            .map_err(BuildError)?;
        Ok(Self { client, guard, timeout: settings.timeout })
    }

    /// Makes one attempt, within one deadline over DNS, connection, TLS, headers and body.
    ///
    /// Once the status has come it decides, even if the body breaks off or never ends.
    pub async fn send(&self, outgoing: &Outgoing<'_>) -> Sent {
        let begun = Instant::now();
        let (outcome, status, response) = match timeout(self.timeout, self.post(outgoing)).await {
            Err(_elapsed) => (AttemptOutcome::Failed { error: AttemptError::Timeout }, None, Vec::new()),
            Ok(Err(outcome)) => (outcome, None, Vec::new()),
            Ok(Ok(answer)) => {
                let status = answer.status();
                let outcome = judge(&answer, outgoing.timestamp);
                let left = self.timeout.saturating_sub(begun.elapsed());
                (outcome, Some(status.as_u16()), first_bytes(answer, left).await)
            }
        };
        Sent { outcome, latency: begun.elapsed(), status, response }
    }

    /// Sends the request and waits for the answer's head.
    async fn post(&self, outgoing: &Outgoing<'_>) -> Result<Response, AttemptOutcome> {
        // The settings may have changed since the submission; and an address in the URL never meets the resolver.
        self.guard.admit(outgoing.url).map_err(|rule| forbidden(&rule))?;
        let signature = sign(outgoing.secrets, outgoing.id, outgoing.timestamp, &outgoing.body);
        self.client
            .post(outgoing.url.as_url().clone())
            .headers(custom(outgoing.headers))
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", outgoing.id)
            .header("webhook-timestamp", outgoing.timestamp.as_seconds())
            .header("webhook-signature", signature)
            .header("traceparent", outgoing.traceparent)
            .body(outgoing.body.clone())
            .send()
            .await
            .map_err(|error| failure(&error))
    }
}

/// Names and values were checked when they were taken.
fn custom(headers: &CustomHeaders) -> HeaderMap {
    let pairs = headers.iter().filter_map(|(name, value)| {
        let mut value = HeaderValue::from_str(value.expose_secret()).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
    });
    pairs.collect()
}

/// What an answer's head means (Standard Webhooks, "Delivery success and failure").
fn judge(answer: &Response, now: Timestamp) -> AttemptOutcome {
    let status = answer.status();
    if status.is_success() {
        return AttemptOutcome::Delivered { status: status.as_u16() };
    }
    if status == StatusCode::GONE {
        return AttemptOutcome::Gone;
    }
    let asks_for_rest = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let retry_after = || parse_retry_after(answer.headers().get(RETRY_AFTER)?.to_str().ok()?, now);
    AttemptOutcome::Refused {
        status: status.as_u16(),
        retry_after: asks_for_rest.then(retry_after).flatten(),
    }
}

/// The begin of the body: what has come when it is long enough, at its end, breaks off, or no time is left.
async fn first_bytes(mut answer: Response, left: Duration) -> Vec<u8> {
    let mut kept = Vec::new();
    let read = async {
        while kept.len() < KEPT_RESPONSE_BYTES
            && let Ok(Some(chunk)) = answer.chunk().await
        {
            let room = KEPT_RESPONSE_BYTES - kept.len();
            kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
    };
    // Out of time or not, what has been read is what there is.
    let _ = timeout(left, read).await;
    kept
}

fn forbidden(rule: &Forbidden) -> AttemptOutcome {
    AttemptOutcome::Forbidden { detail: rule.to_string() }
}

/// What a request without an answer died of. Only kinds leave here, for the client's own texts quote the URL.
fn failure(error: &reqwest::Error) -> AttemptOutcome {
    if let Some(rule) = causes(error).find_map(|cause| cause.downcast_ref::<Forbidden>()) {
        return forbidden(rule);
    }
    let mut io_kinds = causes(error).filter_map(|cause| Some(cause.downcast_ref::<io::Error>()?.kind()));
    let mut http = causes(error).filter_map(|cause| cause.downcast_ref::<hyper::Error>());
    let error = if error.is_builder() {
        AttemptError::Request
    } else if error.is_dns() {
        AttemptError::Dns
    } else if error.is_timeout() {
        AttemptError::Timeout
    } else if error.is_connect() {
        // A TCP connection is never made of data: these two come of the handshake that follows it.
        let tls = |kind| matches!(kind, io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof);
        if io_kinds.any(tls) { AttemptError::Tls } else { AttemptError::Connect }
    } else if http.any(hyper::Error::is_parse) {
        AttemptError::Protocol
    } else {
        AttemptError::Closed
    };
    AttemptOutcome::Failed { error }
}

/// An error and all that caused it.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| match error.downcast_ref::<io::Error>() {
        // `source` of an I/O error skips the error that it wraps.
        Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    })
}
