//! The parts of a request before its body, and the headers of an answer. The input has one line for each part:
//! path, query, `Authorization`, `Prefer`, `If-None-Match`, `traceparent`, `Retry-After`, a duration, a size.

use actix_web::HttpRequest;
use actix_web::http::header::{HeaderValue, IF_NONE_MATCH};
use actix_web::http::{Uri, header::HeaderName};
use actix_web::test::TestRequest;
use alovoice_gateway::auth::bearer;
use alovoice_gateway::config::units::{HumanDuration, HumanSize};
use alovoice_gateway::domain::clock::Timestamp;
use alovoice_gateway::domain::ids::CallId;
use alovoice_gateway::domain::retries::parse_retry_after;
use alovoice_gateway::domain::trace::TraceContext;
use alovoice_gateway::http::conditional::{MAX_WAIT, is_unchanged, preferred_wait};
use alovoice_gateway::http::path::PathParameters;
use alovoice_gateway::http::problem::ApiError;
use alovoice_gateway::http::query::{NoQuery, QueryParameters};

use super::request_body::refused;

/// No input panics, and accepted values are within their bounds.
pub fn check(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let request = request(line(), line());
    taken(<CallId as PathParameters>::parse(&request));
    taken(<NoQuery as QueryParameters>::parse(&request));
    if let Ok(token) = bearer([line()]) {
        assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
    }
    if let Some(wait) = preferred_wait(&with_header(HeaderName::from_static("prefer"), line())) {
        assert!(wait <= MAX_WAIT);
    }
    is_unchanged(&with_header(IF_NONE_MATCH, line()), "\"a-1\"");
    let mut text = || std::str::from_utf8(line()).unwrap_or_default();
    TraceContext::parse(text());
    parse_retry_after(text(), Timestamp::from_millis(1_716_207_617_000));
    if let Ok(duration) = text().parse::<HumanDuration>() {
        assert_eq!(duration.to_string().parse::<HumanDuration>().map(|it| it.0).ok(), Some(duration.0));
    }
    if let Ok(size) = text().parse::<HumanSize>() {
        assert_eq!(size.to_string().parse::<HumanSize>().map(|it| it.0).ok(), Some(size.0));
    }
}

fn request(call_id: &[u8], query: &[u8]) -> HttpRequest {
    let call_id = String::from_utf8_lossy(call_id).into_owned();
    let uri = Uri::try_from([b"/v1/analyses/x?", query].concat()).unwrap_or_default();
    TestRequest::with_uri(&uri.to_string()).param("call_id", call_id).to_http_request()
}

fn with_header(name: HeaderName, value: &[u8]) -> HttpRequest {
    let value = HeaderValue::from_bytes(value).unwrap_or(HeaderValue::from_static(""));
    TestRequest::default().insert_header((name, value)).to_http_request()
}

fn taken<T>(parsed: Result<T, ApiError>) {
    if let Err(error) = parsed {
        refused(&error);
    }
}
