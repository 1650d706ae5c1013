//! CORS (Fetch, 3.2): pages of other origins can call the API if the settings allow their origin.
//!
//! A page sends its token explicitly. Credentials that a browser would add, such as cookies, are never allowed.

use actix_cors::{Cors, CorsError};
use actix_web::http::header::{self, HeaderMap, HeaderName};
use actix_web::middleware::Condition;

use super::json::shortened;
use super::problem::{ApiError, CORS_REFUSED};
use crate::config::CorsSettings;

/// Time for which a browser may cache the answer to a preflight request, in seconds.
const MAX_AGE: usize = 3600;

const METHODS: [&str; 5] = ["GET", "HEAD", "POST", "PATCH", "DELETE"];

/// Request headers that this API reads.
const API_HEADERS: &[&str] = &[
    "accept",
    "authorization",
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
    "x-request-id",
];

/// Request headers that HTTP libraries, frameworks and monitoring scripts add to every request of a page. The API
/// allows and ignores them, so pages need not remove them.
const IGNORED_HEADERS: &[&str] = &[
    // Safelisted headers. A browser asks for permission to send them if their values are unusual.
    "accept-language",
    "content-language",
    "device-memory",
    "downlink",
    "dpr",
    "ect",
    "rtt",
    "save-data",
    "viewport-width",
    "width",
    // Headers for caching.
    "cache-control",
    "expires",
    "pragma",
    // Headers of frameworks and browsers: Laravel, Livewire, jQuery, Angular, Django, Rails, htmx, Inertia, Bitrix24 and
    // others.
    "access-control-allow-origin",
    "bx-ajax",
    "csrf-token",
    "dnt",
    "hx-boosted",
    "hx-current-url",
    "hx-prompt",
    "hx-request",
    "hx-target",
    "hx-trigger",
    "hx-trigger-name",
    "ngsw-bypass",
    "priority",
    "turbo-frame",
    "upgrade-insecure-requests",
    "user-agent",
    "x-app-version",
    "x-bitrix-csrf-token",
    "x-bitrix-site-id",
    "x-client-name",
    "x-client-version",
    "x-csrf-token",
    "x-csrftoken",
    "x-inertia",
    "x-inertia-version",
    "x-livewire",
    "x-pjax",
    "x-requested-by",
    "x-requested-with",
    "x-socket-id",
    "x-timezone",
    "x-timezone-offset",
    "x-turbo-request-id",
    "x-xsrf-token",
    // Headers for tunnels in development.
    "bypass-tunnel-reminder",
    "ngrok-skip-browser-warning",
    // Headers for tracing: W3C, Sentry, Zipkin, Jaeger, Datadog, New Relic, Elastic, Application Insights, AWS, Google,
    // Instana, Dynatrace.
    "b3",
    "baggage",
    "correlation-context",
    "correlation-id",
    "elastic-apm-traceparent",
    "newrelic",
    "request-context",
    "request-id",
    "sentry-trace",
    "tracestate",
    "uber-trace-id",
    "x-amzn-trace-id",
    "x-b3-flags",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-spanid",
    "x-b3-traceid",
    "x-cloud-trace-context",
    "x-correlation-id",
    "x-datadog-origin",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "x-datadog-tags",
    "x-datadog-trace-id",
    "x-dtpc",
    "x-instana-l",
    "x-instana-s",
    "x-instana-t",
    "x-ms-client-request-id",
    "x-newrelic-id",
    "x-newrelic-transaction",
    "x-session-id",
    "x-trace-id",
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

/// Returns the CORS middleware. It does nothing if no origin is allowed.
pub fn cors(settings: &CorsSettings) -> Condition<Cors> {
    let closed = Cors::default()
        .allowed_methods(METHODS)
        .allowed_headers(API_HEADERS.iter().chain(IGNORED_HEADERS).copied())
        .expose_headers(RESPONSE_HEADERS)
        // A page of a public origin may call a gateway in an internal network (Private Network Access).
        .allow_private_network_access()
        .max_age(MAX_AGE);
    let origins = &settings.allowed_origins;
    Condition::new(
        !origins.is_empty(),
        origins.iter().fold(closed, |cors, origin| cors.allowed_origin(origin)),
    )
}

/// Returns the problem of a refused request. The problem names the origin, the method or the headers that are not allowed.
pub(super) fn refusal(error: &CorsError, request: &HeaderMap) -> ApiError {
    let asked = |name: HeaderName| {
        request.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let detail = match error {
        CorsError::OriginNotAllowed => format!(
            "the origin {} is not allowed: the operator must add it to cors.allowed_origins",
            asked(header::ORIGIN)
        ),
        CorsError::MethodNotAllowed => format!(
            "the method {} is not allowed for pages of other origins",
            asked(header::ACCESS_CONTROL_REQUEST_METHOD)
        ),
        CorsError::HeadersNotAllowed => {
            let names = asked(header::ACCESS_CONTROL_REQUEST_HEADERS).to_ascii_lowercase();
            let is_allowed = |name: &&str| API_HEADERS.contains(name) || IGNORED_HEADERS.contains(name);
            let refused: Vec<_> = names.split(',').map(str::trim).filter(|name| !is_allowed(name)).collect();
            format!(
                "these request headers are not allowed for pages of other origins: {}",
                refused.join(", ")
            )
        }
        other => other.to_string(),
    };
    ApiError::new(CORS_REFUSED, shortened(&detail))
}

/// Copies the CORS headers and `Vary` to another answer.
pub(super) fn copy_headers(from: &HeaderMap, to: &mut HeaderMap) {
    for name in [header::ACCESS_CONTROL_ALLOW_ORIGIN, header::ACCESS_CONTROL_EXPOSE_HEADERS, header::VARY] {
        if let Some(value) = from.get(&name) {
            to.insert(name, value.clone());
        }
    }
}
