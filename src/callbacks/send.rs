//! Makes one attempt to deliver a callback.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Body, Client, Method, Response, StatusCode};
use secrecy::ExposeSecret;
use tokio::time::{Instant, timeout};
use url::Host;

use super::guard::{Forbidden, Guard};
use super::resolve::GuardedResolver;
use super::sign::sign;
use super::tracked_body::TrackedBody;
use crate::config::CallbackSettings;
use crate::domain::callback_url::CallbackUrl;
use crate::domain::clock::Timestamp;
use crate::domain::retries::{AttemptOutcome, parse_retry_after};
use crate::domain::secrets::CallbackSecret;
use crate::domain::transforms::DeliveryMethod;
use crate::domain::transforms::presets::{Preset, ReceiverAnswer};
use crate::domain::transport_error::TransportError;
use crate::domain::webhooks::CustomHeaders;
use crate::http_client::{Lookup, Network, SystemLookup, causes};

/// Maximum number of bytes of a receiver's answer that are stored.
const KEPT_RESPONSE_BYTES: usize = 4096;

/// Maximum time for the body after the headers of the answer, if the status alone decides the outcome. A slow body must not delay
/// other attempts.
const BODY_TIMEOUT: Duration = Duration::from_secs(1);

/// Time for which an unused connection stays open. Common servers close idle connections after 60 s, so a callback
/// rarely uses a connection that its receiver is closing.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);

/// Maximum number of lookups of host names in progress.
const MAX_LOOKUPS: usize = 256;

/// One callback request.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// The URL of the receiver.
    pub url: &'a CallbackUrl,
    /// The `webhook-id`, the same in every attempt.
    pub id: &'a str,
    /// The current time. The `webhook-timestamp` has this time, and a date in `Retry-After` is compared with it.
    pub timestamp: Timestamp,
    /// The secrets that sign the request: the current one and, during a rotation, the previous one.
    pub secrets: &'a [CallbackSecret],
    /// The HTTP method of the request.
    pub method: DeliveryMethod,
    /// Value of the header `Content-Type`.
    pub content_type: &'a str,
    /// The preset that judges the answer. With `None`, the status decides.
    pub preset: Option<&'static Preset>,
    /// Custom headers of the webhook. They cannot contain the headers set by the gateway.
    pub headers: &'a CustomHeaders,
    /// Body of the request: the event itself, or the text that a transform rendered from the event.
    pub body: Bytes,
    /// The `traceparent` of this attempt.
    pub traceparent: &'a str,
}

/// The result of an attempt to deliver a callback.
#[derive(Debug)]
pub struct Sent {
    /// Outcome of the attempt, with the reason of a failure.
    pub outcome: AttemptOutcome,
    /// Duration of the attempt.
    pub latency: Duration,
    /// Whether the request was written to a connection, wholly or in part. If so, the request may have arrived, even without an
    /// answer.
    pub is_written: bool,
    /// Status of the receiver's answer, if there was one.
    pub status: Option<u16>,
    /// The first 4 KiB of the answer as received, without decompression or decoding.
    pub response: Vec<u8>,
}

/// The HTTP client could not be built, for example because the system has no root certificates.
#[derive(Debug, thiserror::Error)]
#[error("cannot build the HTTP client for callbacks")]
pub struct BuildError(#[source] reqwest::Error);

/// Sends callbacks. The process has one sender, which keeps connections open.
#[derive(Clone)]
pub struct Sender {
    /// Connects to receivers directly, at the addresses that the guard checked.
    direct: Client,
    /// Connects to receivers through the proxy.
    proxied: Client,
    network: Network,
    guard: Guard,
    lookup: Arc<dyn Lookup>,
    timeout: Duration,
}

impl Sender {
    /// Creates a sender that uses the resolver of the operating system.
    ///
    /// # Errors
    /// Returns an error if the HTTP client cannot be built.
    pub fn new(settings: &CallbackSettings, network: &Network) -> Result<Self, BuildError> {
        Self::with_lookup(settings, network, Arc::new(SystemLookup::new(MAX_LOOKUPS)))
    }

    /// Creates a sender with another source of addresses.
    ///
    /// # Errors
    /// Returns an error if the HTTP client cannot be built.
    pub fn with_lookup(
        settings: &CallbackSettings,
        network: &Network,
        lookup: Arc<dyn Lookup>,
    ) -> Result<Self, BuildError> {
        let (guard, network) = (Guard::new(settings), network.of_callbacks());
        let resolver = GuardedResolver::new(guard.clone(), Arc::clone(&lookup));
        let direct = network.direct_builder().dns_resolver(resolver);
        // This client does not use the guard's resolver, because the address of the proxy is usually internal.
        let proxied = network.builder();
        let [direct, proxied] = [direct, proxied].map(|builder| {
            builder
                // One attempt must be one request. The retry schedule determines the next attempt.
                .retry(reqwest::retry::never())
                // The answer is stored without decompression, so that it cannot exceed its limit.
                .no_gzip()
                .pool_idle_timeout(IDLE_CONNECTION)
                .build()
                .map_err(BuildError)
        });
        let timeout = settings.timeout;
        Ok(Self { direct: direct?, proxied: proxied?, network, guard, lookup, timeout })
    }

    /// Makes one attempt. One deadline covers DNS, connection, TLS, headers and body.
    ///
    /// Usually the status decides the outcome, even if the body is incomplete or never ends. The function then waits for the body
    /// for at most `BODY_TIMEOUT`. If the preset judges by the body, the function waits for the body until the deadline. In this
    /// case, a 2xx with an incomplete body is a failed attempt, although the receiver may have accepted the event.
    pub async fn send(&self, outgoing: &Outgoing<'_>) -> Sent {
        let began = Instant::now();
        let is_written = Arc::new(AtomicBool::new(false));
        let attempt = self.request(outgoing, Arc::clone(&is_written));
        let (outcome, status, response) = match timeout(self.timeout, attempt).await {
            Err(_elapsed) => (AttemptOutcome::Failed { error: TransportError::Timeout }, None, Vec::new()),
            Ok(Err(outcome)) => (outcome, None, Vec::new()),
            Ok(Ok(answer)) => {
                let status = answer.status();
                let by_status = judge(&answer, outgoing.timestamp);
                let judge = |body: Option<&[u8]>| match outgoing.preset {
                    Some(preset) => {
                        let answer =
                            ReceiverAnswer { status: status.as_u16(), body, now: outgoing.timestamp };
                        preset.judge(answer, by_status.clone())
                    }
                    None => Some(by_status.clone()),
                };
                let left = self.timeout.saturating_sub(began.elapsed());
                let left = if judge(None).is_some() { left.min(BODY_TIMEOUT) } else { left };
                let (body, end) = self.first_bytes(answer, left).await;
                let outcome = judge(end.is_ok().then_some(&body)).unwrap_or_else(|| match end {
                    Err(error) if status.is_success() => AttemptOutcome::Failed { error },
                    _ => by_status.clone(),
                });
                (outcome, Some(status.as_u16()), body)
            }
        };
        let is_written = is_written.load(Ordering::Relaxed);
        Sent { outcome, latency: began.elapsed(), is_written, status, response }
    }

    /// Sends the request and waits for the headers of the answer.
    async fn request(
        &self,
        outgoing: &Outgoing<'_>,
        is_written: Arc<AtomicBool>,
    ) -> Result<Response, AttemptOutcome> {
        // The check is repeated, because the settings may have changed since the submission. The resolver does not
        // check an address in the URL.
        self.guard.admit(outgoing.url).map_err(|rule| forbidden(&rule))?;
        let client = if self.network.is_proxied(outgoing.url.as_url()) {
            self.check_name(outgoing.url).await?;
            &self.proxied
        } else {
            &self.direct
        };
        let signature = sign(outgoing.secrets, outgoing.id, outgoing.timestamp, &outgoing.body);
        client
            .request(method(outgoing.method), outgoing.url.as_url().clone())
            .headers(custom(outgoing.headers))
            .header(CONTENT_TYPE, outgoing.content_type)
            .header("webhook-id", outgoing.id)
            .header("webhook-timestamp", outgoing.timestamp.as_seconds())
            .header("webhook-signature", signature)
            .header("traceparent", outgoing.traceparent)
            .body(Body::wrap(TrackedBody::new(outgoing.body.clone(), is_written)))
            .send()
            .await
            .map_err(|error| failure(&self.network, &error))
    }

    /// Reads the first bytes of the body, up to the size limit. If the body is incomplete, also returns the reason: an error or
    /// the end of the time `left`.
    async fn first_bytes(
        &self,
        mut answer: Response,
        left: Duration,
    ) -> (Vec<u8>, Result<(), TransportError>) {
        let mut kept = Vec::new();
        let read = async {
            while kept.len() < KEPT_RESPONSE_BYTES
                && let Some(chunk) = answer.chunk().await?
            {
                let room = KEPT_RESPONSE_BYTES - kept.len();
                kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
            }
            Ok(())
        };
        // After a time-out, the bytes read so far are kept.
        let end = match timeout(left, read).await {
            Ok(end) => end.map_err(|error: reqwest::Error| self.network.explain(&error)),
            Err(_elapsed) => Err(TransportError::Timeout),
        };
        (kept, end)
    }

    /// Refuses a receiver behind the proxy if the gateway resolves its name to a forbidden address. A name that the gateway
    /// cannot resolve passes, because some networks resolve external names only at the proxy. Only the proxy can then check the
    /// address.
    async fn check_name(&self, url: &CallbackUrl) -> Result<(), AttemptOutcome> {
        let Some(Host::Domain(name)) = url.as_url().host() else { return Ok(()) };
        let addresses = self.lookup.lookup(name).await.unwrap_or_default();
        let checked = addresses.into_iter().try_for_each(|address| self.guard.check_address(address));
        checked.map_err(|rule| forbidden_name(&rule))
    }
}

const fn method(method: DeliveryMethod) -> Method {
    match method {
        DeliveryMethod::Post => Method::POST,
        DeliveryMethod::Put => Method::PUT,
        DeliveryMethod::Patch => Method::PATCH,
    }
}

/// Returns the custom headers. Their names and values were validated when the webhook was saved.
fn custom(headers: &CustomHeaders) -> HeaderMap {
    let pairs = headers.iter().filter_map(|(name, value)| {
        let mut value = HeaderValue::from_str(value.expose_secret()).ok()?;
        value.set_sensitive(true);
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
    });
    pairs.collect()
}

/// Returns the outcome of an answer (Standard Webhooks, "Delivery success and failure").
fn judge(answer: &Response, now: Timestamp) -> AttemptOutcome {
    let status = answer.status();
    if status.is_success() {
        return AttemptOutcome::Delivered { status: status.as_u16() };
    }
    if status == StatusCode::GONE {
        return AttemptOutcome::Gone;
    }
    let may_set_pause = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let retry_after = || parse_retry_after(answer.headers().get(RETRY_AFTER)?.to_str().ok()?, now);
    AttemptOutcome::Refused {
        status: status.as_u16(),
        retry_after: may_set_pause.then(retry_after).flatten(),
    }
}

fn forbidden(rule: &Forbidden) -> AttemptOutcome {
    AttemptOutcome::Forbidden { detail: rule.to_string() }
}

/// Returns the outcome of a request that got no answer.
fn failure(network: &Network, error: &reqwest::Error) -> AttemptOutcome {
    match causes(error).find_map(|cause| cause.downcast_ref::<Forbidden>()) {
        Some(rule) => forbidden_name(rule),
        None => AttemptOutcome::Failed { error: network.explain(error) },
    }
}

/// Returns the outcome for a name that resolves to a forbidden address. The detail of the outcome does not contain the kind of
/// address. Otherwise callers could find out the names and addresses of the internal network.
fn forbidden_name(rule: &Forbidden) -> AttemptOutcome {
    if let Forbidden::Address { address, kind } = rule {
        tracing::warn!(%address, kind, "callback not sent: the address of the receiver is forbidden");
    }
    AttemptOutcome::Forbidden { detail: "the host's address must be public, but it is not".to_owned() }
}
