//! The middleware of every request: request id, trace, log line, metrics, common headers, and the form of errors.

use std::borrow::Cow;
use std::time::Instant;

use actix_cors::CorsError;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, web};
use percent_encoding::percent_decode_str;
use tracing::field::{Empty, display};
use tracing::{Instrument, Span};

use super::answer_body;
use super::audit;
use super::cors;
use super::operations::PathOperations;
use super::problem::{self, ApiError, ProblemKind};
use super::rate_limits::Remaining;
use super::request_context::RequestContext;
use super::security_headers;
use super::state::ApiState;
use super::unread::HeldRequest;
use crate::domain::clock::{Clock, Entropy};
use crate::domain::ids::RequestId;
use crate::domain::trace::TraceContext;
use crate::telemetry::spans;

/// The header with the request id, in requests and in answers.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Maximum number of characters of a caller's request id. A longer or invalid id is replaced.
const MAX_REQUEST_ID: usize = 128;

/// Handles each request as described in the [module](self).
///
/// # Errors
/// The errors of the inner service; the middleware adds no errors.
pub async fn observe(
    state: web::Data<ApiState>,
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let began = Instant::now();
    let _in_flight = InFlight::begin(&state);
    let request_id = request_id(&request, &*state.env.clock, &*state.env.entropy);
    let method = request.method().clone();
    let (span, trace) = span(&request, &request_id, &*state.env.entropy);
    let request_name = (!method.is_safe()).then(|| request_id.clone());
    let context = RequestContext { trace, request_id: request_name, tenant: None, remaining: None };
    request.extensions_mut().insert(context);
    let held = HeldRequest::begin(&mut request);

    // An error of a handler or extractor is already a response, with the error inside.
    let response = next.call(request).instrument(span.clone()).await?.map_into_boxed_body();
    let _entered = span.enter();
    let response = answer_body::count(response, &state);
    let mut response = as_problem(response, &request_id, &state);
    let remaining = RequestContext::of(response.request(), |context| context.remaining.take()).flatten();
    complete_headers(response.headers_mut(), &request_id, remaining, &state);

    let status = response.status();
    let route = route(response.request());
    let method = method_label(method.as_str());
    let labels = [route.as_ref(), method, status.as_str()];
    let took = began.elapsed();
    state.env.metrics.http_requests.with_label_values(&labels).observe(took.as_secs_f64());
    audit::record(response.request(), response.response(), &request_id);
    let (status, took_ms) = (status.as_u16(), took.as_secs_f64() * 1000.0);
    match status {
        // A component is unavailable, a read took too long, or the memory budget is used up. For an unavailable component, the code
        // that detected the failure logs the reason.
        503 => {
            tracing::warn!(request_id, trace_id = %trace, status, took_ms, "request failed: service unavailable");
        }
        500.. => tracing::error!(request_id, trace_id = %trace, status, took_ms, "request failed"),
        _ => tracing::debug!(status, took_ms, "request answered"),
    }
    spans::record_answer(&span, method, &route, status);
    Ok(held.hold(response))
}

/// Adds the headers of every answer. Caches may store an answer only if the answer allows it.
fn complete_headers(
    headers: &mut HeaderMap,
    request_id: &str,
    remaining: Option<Remaining>,
    state: &ApiState,
) {
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
    if let Some(remaining) = remaining {
        remaining.write(headers);
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    security_headers::complete(headers, &state.env.public_url);
}

/// Returns the path template that a request matched. The method of the framework for this purpose would match the path a second
/// time.
fn route(request: &HttpRequest) -> Cow<'static, str> {
    match request.app_data::<PathOperations>() {
        Some(path) => Cow::Borrowed(path.path),
        None => request.match_pattern().map_or(Cow::Borrowed("unmatched"), Cow::Owned),
    }
}

/// Creates the span of a request, in the trace of the caller or in a new one. Returns the span and the trace context for
/// work inside it. The span of a request that may change data exists at every level of the log filter, so each log line of
/// the request shows its fields. Successful reads log nothing, so the span of a read exists only if the log filter has
/// the level `debug` or if spans are exported.
fn span(request: &ServiceRequest, request_id: &str, entropy: &dyn Entropy) -> (Span, TraceContext) {
    let header = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
    let caller = header.and_then(TraceContext::parse);
    let trace = caller.unwrap_or_else(|| TraceContext::start(entropy));
    // The exporter generates the id of a new trace.
    let trace_id = (caller.is_some() || !spans::are_exported()).then(|| display(trace));
    let method = method_label(request.method().as_str());
    // A span that is not enabled does not evaluate its fields.
    let span = if request.method().is_safe() {
        tracing::debug_span!(
            "request",
            request_id,
            trace_id,
            span_id = Empty,
            method,
            path = shown(request.path())
        )
    } else {
        tracing::error_span!(
            "request",
            request_id,
            trace_id,
            span_id = Empty,
            method,
            path = shown(request.path())
        )
    };
    let trace = if caller.is_some() { spans::resume(&span, trace) } else { spans::start(&span, trace) };
    (span, trace)
}

/// Returns the path for logs. A link grants access to a recording, so any path that resembles the path of a link is
/// hidden.
fn shown(path: &str) -> &str {
    // The router decodes paths too.
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let is_like_a_link = decoded.as_bytes().windows(6).any(|part| part.eq_ignore_ascii_case(b"audio/"));
    if is_like_a_link { "/v1/audio/…" } else { path }
}

struct InFlight<'a>(&'a ApiState);

impl<'a> InFlight<'a> {
    fn begin(state: &'a ApiState) -> Self {
        state.env.metrics.http_in_flight.inc();
        Self(state)
    }
}

impl Drop for InFlight<'_> {
    /// Decrements the number of requests in progress, even if the caller has disconnected.
    fn drop(&mut self) {
        self.0.env.metrics.http_in_flight.dec();
    }
}

/// Returns the request id of the caller if it is valid in a log line and in a header, else a new one.
fn request_id(request: &ServiceRequest, clock: &dyn Clock, entropy: &dyn Entropy) -> String {
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let is_valid = |id: &&str| {
        (1..=MAX_REQUEST_ID).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:+/=@".contains(&b))
    };
    match given.filter(is_valid) {
        Some(id) => id.to_owned(),
        None => RequestId::generate(clock.now(), entropy).to_string(),
    }
}

/// Returns the method as a label of a metric. Callers can send any text as a method, but the number of labels must be
/// bounded.
fn method_label(method: &str) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method).unwrap_or("other")
}

/// Turns each error into a problem with the request id and a link to its page, and logs a refused request.
fn as_problem(
    response: ServiceResponse<BoxBody>,
    request_id: &str,
    state: &ApiState,
) -> ServiceResponse<BoxBody> {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let error = response.response().error();
    // Errors of the framework only have a status.
    let other = match error.and_then(|error| error.as_error::<CorsError>()) {
        Some(error) => cors::refusal(error, response.request().headers()),
        None => ApiError::new(kind_of(status), status.canonical_reason().unwrap_or_default()),
    };
    let error = error.and_then(|error| error.as_error::<ApiError>()).unwrap_or(&other);
    if let Some((refusal, detail)) = error.refusal() {
        state.refusals.write(&refusal, detail, request_id);
    }
    let mut problem = error.respond(request_id, &state.env.public_url);
    cors::copy_headers(response.headers(), problem.headers_mut());
    response.into_response(problem)
}

/// Returns the kind of problem with this HTTP status, or a general kind of the same class.
fn kind_of(status: actix_web::http::StatusCode) -> &'static ProblemKind {
    let of_class = if status.is_client_error() { problem::MALFORMED_REQUEST } else { problem::INTERNAL };
    problem::ALL.iter().copied().find(|kind| kind.status == status).unwrap_or(of_class)
}
