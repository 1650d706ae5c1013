//! Pages of other hosts that call the API: none, unless the settings name them (Fetch, 3.2).
//!
//! A page sends its token itself. So credentials, which are what a browser would add by itself, are never allowed.

use actix_cors::Cors;
use actix_web::http::header::{self, HeaderMap};
use actix_web::middleware::Condition;

use crate::config::CorsSettings;

/// How long a browser may remember that it may, in seconds; some remember it for two hours at most.
const MAX_AGE: usize = 3600;

const METHODS: [&str; 5] = ["GET", "HEAD", "POST", "PATCH", "DELETE"];

/// What a page may send beyond what every page may.
const SENT: [&str; 16] = [
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

/// What a page may read of an answer beyond what every page may.
const READ: [&str; 14] = [
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

/// The middleware; it does nothing if no origin is allowed.
pub fn cors(settings: &CorsSettings) -> Condition<Cors> {
    let nobody =
        Cors::default().allowed_methods(METHODS).allowed_headers(SENT).expose_headers(READ).max_age(MAX_AGE);
    let origins = &settings.allowed_origins;
    Condition::new(
        !origins.is_empty(),
        origins.iter().fold(nobody, |cors, origin| cors.allowed_origin(origin)),
    )
}

/// Carries over to another answer what lets a page read it, and what keeps caches from mixing up pages.
pub(super) fn carry_over(from: &HeaderMap, to: &mut HeaderMap) {
    for name in [header::ACCESS_CONTROL_ALLOW_ORIGIN, header::ACCESS_CONTROL_EXPOSE_HEADERS, header::VARY] {
        if let Some(value) = from.get(&name) {
            to.insert(name, value.clone());
        }
    }
}
