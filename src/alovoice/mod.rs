//! The vendor's client. The vendor's words (`stalk`, `aicallid`) stop here, and so does its token: it is put into
//! a URL in one line of this file, and no error, log or answer that leaves this module holds a URL.

mod answer;
mod breaker;
mod json;
mod recordings;
mod room;
mod slots;

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use reqwest::header::{ETAG, HeaderMap, IF_NONE_MATCH, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use tracing::Span;
use url::Url;

use crate::config::VendorSettings;
use crate::domain::analysis::FaultCode;
use crate::domain::ids::CallId;
use crate::domain::lifecycle::{PollOutcome, SubmitOutcome, VendorFault};
use crate::domain::retries::parse_retry_after;
use crate::domain::secrets::VendorToken;
use crate::domain::trace::TraceContext;
use crate::env::Env;
use crate::http_client;
use crate::telemetry::spans;

use self::recordings::Recordings;
use self::room::{Rooms, deadline};

pub use self::answer::read_answer;
pub use self::recordings::{ASKED, Recording};
pub use self::room::Room;
pub use self::slots::{Offer, Shut, VendorSlot, VendorSlots};

/// An `ETag` longer than this is not worth keeping.
const MAX_ETAG_BYTES: usize = 256;

/// One of the vendor's methods: its name, and how its URL may be shown, without what stands for the token.
#[derive(Clone, Copy)]
struct Method {
    name: &'static str,
    shown: &'static str,
}

const SUBMIT: Method = Method { name: "callsendai", shown: "/callsendai/{token}/{call_id}" };
const RESULT: Method = Method { name: "callgetairesult", shown: "/callgetairesult/{token}/{call_id}" };

/// Speaks the vendor's two methods.
pub struct VendorClient {
    http: Client,
    recordings: Recordings,
    base_url: Url,
    request_timeout: Duration,
    max_response_bytes: usize,
    rooms: Rooms,
    env: Env,
}

/// On whose behalf a request is made.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The tenant's token.
    pub token: &'a VendorToken,
    /// The call.
    pub call_id: &'a CallId,
    /// The trace it belongs to.
    pub trace: TraceContext,
}

impl VendorClient {
    /// Prepares the client; no connection is made yet.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new(settings: &VendorSettings, env: Env) -> Result<Self, reqwest::Error> {
        let http = http_client::builder()
            // One submit is one request.
            .retry(reqwest::retry::never())
            .timeout(settings.request_timeout)
            // Shorter than the whole, so that "never reached" can be told from "no answer".
            .connect_timeout(settings.request_timeout / 2)
            .build()?;
        Ok(Self {
            http,
            recordings: Recordings::new(settings.base_url.clone(), settings.request_timeout)?,
            base_url: settings.base_url.clone(),
            request_timeout: settings.request_timeout,
            max_response_bytes: settings.max_response_bytes,
            rooms: Rooms::new(settings.max_response_bytes),
            env,
        })
    }

    /// `callsendai`: hands the call over for analysis. The slot is told how it went.
    pub async fn submit(&self, slot: &VendorSlot, request: Request<'_>) -> SubmitOutcome {
        let began = Instant::now();
        let span = spans::client("GET", &self.base_url, Some(SUBMIT.shown));
        let outcome = self.try_submit(request, began, &span).await;
        slot.hear((&outcome).into());
        self.env.metrics.vendor_request("submit", submit_label(&outcome), began.elapsed());
        span.record("outcome", submit_label(&outcome));
        if let SubmitOutcome::NotTaken(fault) | SubmitOutcome::Unknown(fault) = &outcome {
            spans::fail(&span, fault.code.as_str());
        }
        outcome
    }

    /// `callgetairesult`: asks for the result; `etag` makes an unchanged one free. The slot is told how it went. With the
    /// outcome comes the room that it takes up, to be held until it is stored.
    pub async fn result(
        &self,
        slot: &VendorSlot,
        request: Request<'_>,
        etag: Option<&str>,
    ) -> (PollOutcome, Room) {
        let began = Instant::now();
        let span = spans::client("GET", &self.base_url, Some(RESULT.shown));
        let result = self.try_result(request, etag, began, &span).await;
        let (outcome, room) = result.unwrap_or_else(|fault| (PollOutcome::Fault(fault), Room::default()));
        slot.hear((&outcome).into());
        self.env.metrics.vendor_request("result", poll_label(&outcome), began.elapsed());
        span.record("outcome", poll_label(&outcome));
        if let PollOutcome::Fault(fault) = &outcome {
            spans::fail(&span, fault.code.as_str());
        }
        (outcome, room)
    }

    /// Opens the recording at a path of the vendor's host; `asked` holds headers of [`ASKED`].
    ///
    /// # Errors
    /// If the vendor does not answer, or not with a recording: 200, 206, 304, 404, 412 and 416 are the caller's.
    pub async fn recording(
        &self,
        path: &str,
        head: bool,
        asked: &[(&'static str, Vec<u8>)],
        trace: TraceContext,
    ) -> Result<Recording, VendorFault> {
        let began = Instant::now();
        // No part of the path is exported: everyone who knows it may read the recording.
        let span = spans::client(if head { "HEAD" } else { "GET" }, &self.base_url, None);
        let traceparent = spans::start(&span, trace).traceparent();
        let answer = self.recordings.open(path, head, asked, &traceparent).await;
        let opened = answer.and_then(|recording| {
            spans::record_status(&span, recording.status());
            match recording.status() {
                200 | 206 | 304 | 404 | 412 | 416 => Ok(recording),
                status => Err(VendorFault {
                    code: FaultCode::VendorError,
                    detail: format!("the vendor answered {status}"),
                    retry_after: None,
                }),
            }
        });
        let outcome = opened.as_ref().map_or_else(|fault| fault.code.as_str(), |_| "opened");
        self.env.metrics.vendor_request("recording", outcome, began.elapsed());
        span.record("outcome", outcome);
        if let Err(fault) = &opened {
            spans::fail(&span, fault.code.as_str());
        }
        opened
    }

    async fn try_submit(&self, request: Request<'_>, began: Instant, span: &Span) -> SubmitOutcome {
        let response = match self.send(SUBMIT, request, None, span).await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return SubmitOutcome::NotTaken(transport(&error)),
            Err(error) => return SubmitOutcome::Unknown(transport(&error)),
        };
        let status = response.status();
        if let Some(fault) = self.fault_of_status(status, response.headers()) {
            return match fault.code {
                FaultCode::TokenRefused | FaultCode::VendorThrottled => SubmitOutcome::NotTaken(fault),
                _ => SubmitOutcome::Unknown(fault),
            };
        }
        match status {
            StatusCode::NOT_FOUND => SubmitOutcome::NotTaken(VendorFault {
                code: FaultCode::CallNotFound,
                detail: "the vendor does not know the call (404)".to_owned(),
                retry_after: None,
            }),
            _ if status.is_client_error() => SubmitOutcome::Rejected(status.as_u16()),
            _ => match self.read(response, request.token, began).await {
                Ok((body, _room)) if body.is_empty() || answer::is_json(&body) => SubmitOutcome::Accepted,
                // A page of HTML, say: whether the call was taken is for the result to tell.
                Ok(_) => SubmitOutcome::Unknown(unreadable("the vendor's answer is not JSON")),
                Err(fault) => SubmitOutcome::Unknown(fault),
            },
        }
    }

    async fn try_result(
        &self,
        request: Request<'_>,
        etag: Option<&str>,
        began: Instant,
        span: &Span,
    ) -> Result<(PollOutcome, Room), VendorFault> {
        let response = self.send(RESULT, request, etag, span).await.map_err(|error| transport(&error))?;
        let status = response.status();
        if let Some(fault) = self.fault_of_status(status, response.headers()) {
            return Err(fault);
        }
        let etag = response
            .headers()
            .get(ETAG)
            .and_then(|value| value.to_str().ok())
            .filter(|etag| etag.len() <= MAX_ETAG_BYTES)
            .map(str::to_owned);
        let outcome = match status {
            StatusCode::NOT_MODIFIED => PollOutcome::Unchanged,
            StatusCode::NOT_FOUND => PollOutcome::NotFound,
            StatusCode::ACCEPTED | StatusCode::NO_CONTENT => {
                let retry_after = self.retry_after(response.headers());
                PollOutcome::NotReady { etag: None, retry_after }
            }
            _ if status.is_client_error() => PollOutcome::Rejected(status.as_u16()),
            _ => {
                let (body, room) = self.read(response, request.token, began).await?;
                return Ok((read_answer(body, etag, &self.base_url).map_err(unreadable)?, room));
            }
        };
        Ok((outcome, Room::default()))
    }

    async fn send(
        &self,
        method: Method,
        request: Request<'_>,
        etag: Option<&str>,
        span: &Span,
    ) -> Result<Response, reqwest::Error> {
        let mut url = self.base_url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            // The one line that shows a vendor token.
            path.pop_if_empty().extend([method.name, request.token.expose(), request.call_id.as_str()]);
        }
        let mut http =
            self.http.get(url).header("traceparent", spans::start(span, request.trace).traceparent());
        if let Some(etag) = etag {
            http = http.header(IF_NONE_MATCH, etag);
        }
        let sent = http.send().await.map_err(reqwest::Error::without_url);
        sent.inspect(|response| spans::record_status(span, response.status().as_u16()))
    }

    /// The statuses that mean the same for both methods: try again later.
    fn fault_of_status(&self, status: StatusCode, headers: &HeaderMap) -> Option<VendorFault> {
        let code = match status.as_u16() {
            401 | 403 => FaultCode::TokenRefused,
            429 => FaultCode::VendorThrottled,
            304 => return None,
            300..=399 | 408 | 425 | 500.. => FaultCode::VendorError,
            _ => return None,
        };
        let retry_after = self.retry_after(headers);
        Some(VendorFault { code, detail: format!("the vendor answered {}", status.as_u16()), retry_after })
    }

    fn retry_after(&self, headers: &HeaderMap) -> Option<Duration> {
        let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
        parse_retry_after(text, self.env.wall_clock.now())
    }

    /// Reads a body up to the limit, counted after decompression, as far as there is room for it.
    async fn read(
        &self,
        mut response: Response,
        token: &VendorToken,
        began: Instant,
    ) -> Result<(Bytes, Room), VendorFault> {
        let (mut body, mut room) = (BytesMut::new(), Room::default());
        let deadline = deadline(began, self.request_timeout);
        while let Some(chunk) = response.chunk().await.map_err(|error| broken_body(&error.without_url()))? {
            let bytes = body.len() + chunk.len();
            if bytes > self.max_response_bytes {
                return Err(unreadable("the vendor's answer is larger than vendor.max_response_bytes"));
            }
            room = self.rooms.enough(room, bytes, deadline).await.ok_or_else(no_room)?;
            body.extend_from_slice(&chunk);
        }
        Ok((answer::without_token(body.freeze(), token), room))
    }
}

fn no_room() -> VendorFault {
    let detail = "large answers of the vendor were in the way of this one".to_owned();
    VendorFault { code: FaultCode::VendorTimeout, detail, retry_after: None }
}

fn transport(error: &reqwest::Error) -> VendorFault {
    let (code, detail) = if error.is_timeout() {
        (FaultCode::VendorTimeout, "the vendor did not answer in time")
    } else if error.is_connect() {
        (FaultCode::VendorUnreachable, "no connection to the vendor")
    } else {
        (FaultCode::VendorUnreachable, "the connection to the vendor broke")
    };
    VendorFault { code, detail: detail.to_owned(), retry_after: None }
}

fn broken_body(error: &reqwest::Error) -> VendorFault {
    if error.is_timeout() {
        transport(error)
    } else {
        unreadable("the vendor's answer ended early or is damaged")
    }
}

fn unreadable(detail: impl Into<String>) -> VendorFault {
    VendorFault { code: FaultCode::AnswerUnreadable, detail: detail.into(), retry_after: None }
}

const fn submit_label(outcome: &SubmitOutcome) -> &'static str {
    match outcome {
        SubmitOutcome::Accepted => "accepted",
        SubmitOutcome::NotTaken(fault) | SubmitOutcome::Unknown(fault) => fault.code.as_str(),
        SubmitOutcome::Rejected(_) => "rejected",
    }
}

const fn poll_label(outcome: &PollOutcome) -> &'static str {
    match outcome {
        PollOutcome::Ready(_) => "ready",
        PollOutcome::Empty(_) => "empty",
        PollOutcome::NotReady { .. } => "not_ready",
        PollOutcome::Unchanged => "unchanged",
        PollOutcome::NotFound => "not_found",
        PollOutcome::Rejected(_) => "rejected",
        PollOutcome::Fault(fault) => fault.code.as_str(),
    }
}
