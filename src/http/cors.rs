//! CORS (Fetch, 3.2): pages of other origins can call the API if the settings allow their origin.
//!
//! A page sends its token explicitly. Credentials that a browser would add, such as cookies, are never allowed.

use actix_cors::Cors;
use actix_web::http::header::{self, HeaderMap};
use actix_web::middleware::Condition;

use crate::config::CorsSettings;

/// Time for which a browser may cache the answer to a preflight request, in seconds.
const MAX_AGE: usize = 3600;

const METHODS: [&str; 5] = ["GET", "HEAD", "POST", "PATCH", "DELETE"];

/// Request headers that pages may send, besides the safelisted ones.
const REQUEST_HEADERS: [&str; 16] = [
    "accept",
    "authorization",
    "baggage",
    "content-type",
    "idempotency-key",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-event-id",
    "prefer",
    "range",
    "traceparent",
    "tracestate",
    "x-request-id",
];

/// Response headers that pages may read, besides the safelisted ones.
const RESPONSE_HEADERS: [&str; 14] = [
    "accept-ranges",
    "allow",
    "content-disposition",
    "content-range",
    "date",
    "etag",
    "idempotency-replayed",
    "location",
    "preference-applied",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "www-authenticate",
    "x-request-id",
];

/// Returns the middleware. It does nothing if no origin is allowed.
pub fn cors(settings: &CorsSettings) -> Condition<Cors> {
    let closed = Cors::default()
        .allowed_methods(METHODS)
        .allowed_headers(REQUEST_HEADERS)
        .expose_headers(RESPONSE_HEADERS)
        .max_age(MAX_AGE);
    let origins = &settings.allowed_origins;
    Condition::new(
        !origins.is_empty(),
        origins.iter().fold(closed, |cors, origin| cors.allowed_origin(origin)),
    )
}

/// Copies the CORS headers and `Vary` to another answer.
pub(super) fn copy_headers(from: &HeaderMap, to: &mut HeaderMap) {
    for name in [header::ACCESS_CONTROL_ALLOW_ORIGIN, header::ACCESS_CONTROL_EXPOSE_HEADERS, header::VARY] {
        if let Some(value) = from.get(&name) {
            to.insert(name, value.clone());
        }
    }
}
