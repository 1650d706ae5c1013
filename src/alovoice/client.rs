//! Sends requests to the vendor.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use reqwest::header::{HeaderMap, IF_NONE_MATCH, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use url::Url;

use super::answer::{is_acceptance, without_token};
use super::body_budget::{BodyBudget, BodyPermit, deadline};
use super::connection::harmless_url;
use super::error_body::{content_type_of, is_refusal, words_of_body, words_of_error};
use super::exchange::Exchange;
use super::faults::{
    UNCONFIRMED, answered, broken_body, call_not_found, fault_of_status, over_budget, quoted, transport,
    unexpected_status, unreadable,
};
use super::permits::VendorPermit;
use super::recordings::{Recording, RecordingRequest, Recordings};
use super::vendor_time::VendorTime;
use crate::config::VendorSettings;
use crate::domain::analysis::FaultCode;
use crate::domain::clock::Timestamp;
use crate::domain::ids::{CallId, TenantId};
use crate::domain::lifecycle::{SubmitOutcome, VendorFault};
use crate::domain::retries::parse_retry_after;
use crate::domain::trace::TraceContext;
use crate::domain::vendor_token::VendorToken;
use crate::env::Env;
use crate::http_client::Network;

/// A method of the vendor's API.
#[derive(Clone, Copy)]
pub(super) struct Method {
    /// The label `operation` in metrics and log lines.
    pub(super) operation: &'static str,
    /// The first segment of the path.
    name: &'static str,
    /// The path for spans, without the token.
    template: &'static str,
}

const SUBMIT: Method =
    Method { operation: "submit", name: "callsendai", template: "/callsendai/{token}/{call_id}" };
pub(super) const RESULT: Method =
    Method { operation: "result", name: "callgetairesult", template: "/callgetairesult/{token}/{call_id}" };
/// The request for the result of a call that does not exist.
pub(super) const PROBE: Method = Method { operation: "probe", ..RESULT };

/// Client of the vendor's two methods and its recordings.
pub struct VendorClient {
    pub(super) http: Client,
    recordings: Recordings,
    pub(super) base_url: Url,
    request_timeout: Duration,
    pub(super) max_response_bytes: usize,
    body_budget: BodyBudget,
    network: Network,
    pub(super) time: VendorTime,
    pub(super) env: Env,
}

/// A request that got no answer.
pub(super) struct Unanswered {
    pub(super) fault: VendorFault,
    /// Whether the request was never sent.
    is_unsent: bool,
}

/// The token, the call and the trace of a request.
#[derive(Debug, Clone, Copy)]
pub struct VendorCall<'a> {
    /// The token of the call's tenant.
    pub token: &'a VendorToken,
    /// The call that the request is about.
    pub call_id: &'a CallId,
    /// The trace that the request belongs to.
    pub trace: TraceContext,
}

impl VendorClient {
    /// Builds the client without connecting.
    ///
    /// # Errors
    /// Returns an error if TLS cannot be set up.
    pub fn new(settings: &VendorSettings, network: &Network, env: Env) -> Result<Self, reqwest::Error> {
        let http = network
            .builder()
            // One submit must be one request, so the client does not retry.
            .retry(reqwest::retry::never())
            .timeout(settings.request_timeout)
            // The connection has a shorter time-out than the whole request, to distinguish an unreachable vendor from a slow
            // one.
            .connect_timeout(settings.request_timeout / 2)
            .build()?;
        Ok(Self {
            http,
            recordings: Recordings::new(settings.base_url.clone(), settings.request_timeout, network)?,
            base_url: settings.base_url.clone(),
            request_timeout: settings.request_timeout,
            max_response_bytes: settings.max_response_bytes,
            body_budget: BodyBudget::new(settings.max_response_bytes),
            network: network.clone(),
            time: VendorTime::default(),
            env,
        })
    }

    /// Submits a call for analysis (`callsendai`), and records the outcome in the circuit breaker.
    pub async fn submit(&self, permit: &VendorPermit, request: VendorCall<'_>) -> SubmitOutcome {
        let mut exchange = self.exchange(SUBMIT, permit, request);
        let outcome = self.try_submit(request, &mut exchange).await;
        permit.record((&outcome).into());
        let fault = match &outcome {
            SubmitOutcome::NotTaken(fault) | SubmitOutcome::Unknown(fault) => Some(fault),
            SubmitOutcome::Accepted | SubmitOutcome::Rejected(_) => None,
        };
        exchange.finish(&self.env.metrics, submit_label(&outcome), fault);
        outcome
    }

    /// Opens a recording on the vendor's host.
    ///
    /// # Errors
    /// Returns an error if the vendor does not answer, or answers with a status other than 200, 206, 304, 404, 412 and 416.
    pub async fn recording(
        &self,
        (tenant, call_id): (&TenantId, &CallId),
        request: RecordingRequest<'_>,
        trace: TraceContext,
    ) -> Result<Recording, VendorFault> {
        // The span has no path, because anyone who knows the path can get the recording.
        let method = if request.head { "HEAD" } else { "GET" };
        let mut exchange = Exchange::begin("recording", (tenant, call_id), (method, &self.base_url, None));
        let answer = self.recordings.open(request, &exchange.traceparent(trace)).await;
        let opened = answer.and_then(|recording| {
            exchange.answered(recording.status());
            match recording.status() {
                200 | 206 | 304 | 404 | 412 | 416 => Ok(recording),
                status => Err(unexpected_status(status)),
            }
        });
        let fault = opened.as_ref().err();
        exchange.finish(&self.env.metrics, fault.map_or("opened", |fault| fault.code.as_str()), fault);
        opened
    }

    pub(super) fn exchange<'a>(
        &self,
        method: Method,
        permit: &'a VendorPermit,
        request: VendorCall<'a>,
    ) -> Exchange<'a> {
        let call = (permit.tenant(), request.call_id);
        Exchange::begin(method.operation, call, ("GET", &self.base_url, Some(method.template)))
    }

    async fn try_submit(&self, request: VendorCall<'_>, exchange: &mut Exchange<'_>) -> SubmitOutcome {
        let response = match self.send(SUBMIT, request, None, exchange).await {
            Ok(response) => response,
            Err(Unanswered { fault, is_unsent: true }) => return SubmitOutcome::NotTaken(fault),
            Err(Unanswered { fault, is_unsent: false }) => return SubmitOutcome::Unknown(fault),
        };
        let (status, retry_after) = (response.status(), self.retry_after(response.headers()));
        if is_refusal(status) {
            let words = words_of_error(response, request.token).await;
            if let Some(fault) = fault_of_status(status, retry_after, words.clone()) {
                return match fault.code {
                    FaultCode::TokenRefused | FaultCode::VendorThrottled | FaultCode::VendorUnreachable => {
                        SubmitOutcome::NotTaken(fault)
                    }
                    _ => SubmitOutcome::Unknown(fault),
                };
            }
            return match status {
                StatusCode::NOT_FOUND => SubmitOutcome::NotTaken(call_not_found(words)),
                _ => SubmitOutcome::Rejected(answered(status, words)),
            };
        }
        let content_type = content_type_of(response.headers());
        let content_type = content_type.as_deref();
        match self.read(response, request.token, exchange).await {
            Ok((body, _permit)) if is_acceptance(&body, content_type) => SubmitOutcome::Accepted,
            // A later poll shows whether the vendor accepted the call.
            Ok((body, _permit)) => {
                let words = words_of_body(&body, content_type, request.token);
                SubmitOutcome::Unknown(unreadable(quoted(UNCONFIRMED, words)))
            }
            Err(fault) => SubmitOutcome::Unknown(fault),
        }
    }

    pub(super) async fn send(
        &self,
        method: Method,
        request: VendorCall<'_>,
        etag: Option<&str>,
        exchange: &mut Exchange<'_>,
    ) -> Result<Response, Unanswered> {
        let mut url = self.base_url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            // This is the only line that exposes a vendor token.
            path.pop_if_empty().extend([method.name, request.token.expose()]);
        }
        // The library does not encode brackets, which some servers refuse.
        url.set_path(&format!("{}/{}", url.path(), request.call_id.path_segment()));
        let mut http = self.http.get(url).header("traceparent", exchange.traceparent(request.trace));
        if let Some(etag) = etag {
            http = http.header(IF_NONE_MATCH, etag);
        }
        let began = Instant::now();
        let response = http.send().await.map_err(|error| Unanswered {
            fault: transport(&self.network, &error),
            is_unsent: error.is_connect(),
        })?;
        self.time.read(response.headers(), began);
        exchange.answered(response.status().as_u16());
        Ok(response)
    }

    pub(super) fn retry_after(&self, headers: &HeaderMap) -> Option<Duration> {
        let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
        parse_retry_after(text, self.env.wall_clock.now())
    }

    /// Reads a body and removes the token. The decompressed body may have at most `vendor.max_response_bytes`, and the body
    /// budget must have room for it.
    pub(super) async fn read(
        &self,
        response: Response,
        token: &VendorToken,
        exchange: &Exchange<'_>,
    ) -> Result<(Bytes, BodyPermit), VendorFault> {
        let (body, permit) = self.read_up_to(self.max_response_bytes + 1, response, token, exchange).await?;
        if body.len() > self.max_response_bytes {
            return Err(unreadable("the vendor's answer is larger than vendor.max_response_bytes"));
        }
        Ok((body, permit))
    }

    /// Reads at most `max_bytes` of a body and removes the token. Takes the memory from the body budget.
    pub(super) async fn read_up_to(
        &self,
        max_bytes: usize,
        mut response: Response,
        token: &VendorToken,
        exchange: &Exchange<'_>,
    ) -> Result<(Bytes, BodyPermit), VendorFault> {
        let (mut body, mut permit) = (BytesMut::new(), BodyPermit::default());
        let deadline = deadline(exchange.began, self.request_timeout);
        while body.len() < max_bytes
            && let Some(chunk) = response.chunk().await.map_err(|error| broken_body(&self.network, &error))?
        {
            let chunk = &chunk[..chunk.len().min(max_bytes - body.len())];
            let bytes = body.len() + chunk.len();
            permit = self.body_budget.grow(permit, bytes, deadline).await.ok_or_else(over_budget)?;
            if bytes > body.capacity() {
                // A buffer that doubles would leave unused copies of the body in the memory of the process.
                body.reserve(permit.bytes().min(max_bytes).max(bytes) - body.len());
            }
            body.extend_from_slice(chunk);
        }
        Ok((without_token(body.freeze(), token), permit))
    }

    /// Returns the vendor's current time, computed from the last answer with a time. Returns `None` if no such answer has arrived
    /// since `since`.
    pub fn vendor_time(&self, since: Instant) -> Option<Timestamp> {
        self.time.now(since)
    }

    /// Sends the vendor a request without a token, to read the time in the answer.
    pub async fn ask_time(&self) {
        let began = Instant::now();
        match self.http.head(harmless_url(&self.base_url)).send().await {
            Ok(response) => self.time.read(response.headers(), began),
            Err(error) => tracing::warn!(error = %error.without_url(), "failed to read the vendor's time"),
        }
    }
}

const fn submit_label(outcome: &SubmitOutcome) -> &'static str {
    match outcome {
        SubmitOutcome::Accepted => "accepted",
        SubmitOutcome::NotTaken(fault) | SubmitOutcome::Unknown(fault) => fault.code.as_str(),
        SubmitOutcome::Rejected(_) => "rejected",
    }
}
