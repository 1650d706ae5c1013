//! What every answer tells browsers, so that none of them makes more of it than was meant.

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use url::Url;

/// Which sites may embed an answer (Fetch, 3.7): an answer that is made for others says so itself.
pub(super) const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// For Swagger UI: its own scripts, the styles that these set, and requests to this service.
pub(super) const CSP_OF_PAGES: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

const DEFAULTS: [(HeaderName, HeaderValue); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    // A link to a recording is a secret, and stands in the address.
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (RESOURCE_POLICY, HeaderValue::from_static("same-origin")),
];

/// Adds what the answer does not say itself. A service that callers reach by https says that it will stay so for a year
/// (RFC 6797).
pub(super) fn complete(headers: &mut HeaderMap, public_url: Option<&Url>) {
    for (name, value) in DEFAULTS {
        if !headers.contains_key(&name) {
            headers.insert(name, value);
        }
    }
    if public_url.is_some_and(|url| url.scheme() == "https") {
        let year = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
}
