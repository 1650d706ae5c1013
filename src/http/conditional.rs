//! The headers `Prefer` and `If-None-Match`.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::IF_NONE_MATCH;
use utoipa::IntoParams;

/// Maximum time for which a request waits for an outcome. Common ingresses close connections that are idle for a longer time.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

/// Returns the value of `Prefer: wait=N` (RFC 7240, 4.3), at most [`MAX_WAIT`]. `N` may have any number of digits. The first
/// valid value counts. The RFC requires that malformed preferences are ignored.
pub fn preferred_wait(request: &HttpRequest) -> Option<Duration> {
    let preferences = request.headers().get_all("prefer").filter_map(|value| value.to_str().ok());
    let seconds = preferences.flat_map(|value| value.split(',')).find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let seconds = value.trim().trim_matches('"');
        let is_number = !seconds.is_empty() && seconds.bytes().all(|byte| byte.is_ascii_digit());
        let is_wait = name.trim().eq_ignore_ascii_case("wait") && is_number;
        is_wait.then(|| seconds.parse().unwrap_or(u64::MAX))
    })?;
    Some(Duration::from_secs(seconds).min(MAX_WAIT))
}

/// Describes the header `If-None-Match` for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "documents a header that `is_unchanged` reads")]
pub struct IfNoneMatch {
    /// The `ETag` that you have. If it is still current, the answer is 304 without a body.
    #[param(rename = "If-None-Match")]
    if_none_match: Option<String>,
}

/// Whether `If-None-Match` is `*` or names this entity tag, by weak comparison (RFC 9110, 13.1.2).
pub fn is_unchanged(request: &HttpRequest, etag: &str) -> bool {
    request.headers().get_all(IF_NONE_MATCH).filter_map(|value| value.to_str().ok()).any(|value| {
        value.trim() == "*"
            || value.split(',').any(|known| {
                let known = known.trim();
                known.strip_prefix("W/").unwrap_or(known) == etag
            })
    })
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn the_first_wait_counts_and_is_capped() {
        let wait =
            |value| preferred_wait(&TestRequest::get().insert_header(("prefer", value)).to_http_request());
        assert_eq!(wait("wait=5"), Some(Duration::from_secs(5)));
        assert_eq!(wait("return=minimal, Wait = \"7\"; x=y"), Some(Duration::from_secs(7)));
        for long in ["wait=100000", "wait=99999999999999999999999", "respond-async, wait=100"] {
            assert_eq!(wait(long), Some(MAX_WAIT), "{long}");
        }
        for none in ["wait", "wait=", "wait=-1", "wait=soon", "wait=+5", "respond-async"] {
            assert_eq!(wait(none), None, "{none}");
        }
    }

    #[test]
    fn entity_tags_compare_weakly() {
        let unchanged = |value| {
            is_unchanged(
                &TestRequest::get().insert_header(("if-none-match", value)).to_http_request(),
                "\"a\"",
            )
        };
        for yes in ["\"a\"", "W/\"a\"", "\"b\", \"a\"", "*"] {
            assert!(unchanged(yes), "{yes}");
        }
        for no in ["\"b\"", "a", ""] {
            assert!(!unchanged(no), "{no}");
        }
    }
}
