//! Security headers of every answer.

use crate::domain::public_url::PublicUrl;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// The header that says which origins may embed an answer (Fetch, 3.7). Only linked recordings allow other origins.
pub(super) const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// The Content-Security-Policy of pages. It allows scripts and images of this origin, styles that these scripts set, and
/// requests to this service.
pub(super) const CSP_OF_PAGES: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

const DEFAULTS: [(HeaderName, HeaderValue); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    // The address of a linked recording is a secret, so pages send no referrer.
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (RESOURCE_POLICY, HeaderValue::from_static("same-origin")),
];

/// Adds the security headers that the answer does not have yet. A service with an https URL sends HSTS for a year (RFC 6797).
pub(super) fn complete(headers: &mut HeaderMap, public_url: &PublicUrl) {
    for (name, value) in DEFAULTS {
        if !headers.contains_key(&name) {
            headers.insert(name, value);
        }
    }
    if public_url.is_https() {
        let year = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
}
