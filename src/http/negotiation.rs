//! Which of several media types a caller likes best, by its `Accept` (RFC 9110, 12.5.1).

use actix_web::HttpRequest;
use actix_web::http::header::{Accept, Header, Quality};

use super::problem::{ApiError, NOT_ACCEPTABLE};

/// The place in `offered` of the type that is liked best; of several, the first. Without an `Accept` that can be read, the
/// first of all.
///
/// Parameters of a range, such as `charset`, do not matter: there is no other variant to give.
///
/// # Errors
/// If `Accept` refuses all of them.
pub(super) fn negotiate(request: &HttpRequest, offered: &[&str]) -> Result<usize, ApiError> {
    let ranges = Accept::parse(request).map(|accept| accept.0).unwrap_or_default();
    if ranges.is_empty() {
        return Ok(0);
    }
    let quality = |offer: &str| {
        let fitting = ranges
            .iter()
            .filter_map(|range| Some((precision(range.item.essence_str(), offer)?, range.quality)));
        // The range that says it most exactly counts, and not the kindest.
        fitting.max().map_or(Quality::ZERO, |(_, quality)| quality)
    };
    let mut best = (Quality::ZERO, None);
    for (place, offer) in offered.iter().enumerate() {
        let quality = quality(offer);
        if quality > best.0 {
            best = (quality, Some(place));
        }
    }
    best.1.ok_or_else(|| {
        let detail = format!("Accept refuses all that there is: {}", offered.join(", "));
        ApiError::new(NOT_ACCEPTABLE, detail)
    })
}

/// How exactly a range, in lower case, names a type; `None` if it does not.
fn precision(range: &str, offer: &str) -> Option<u8> {
    let is_of_kind = |kind: &str| offer.strip_prefix(kind).is_some_and(|rest| rest.starts_with('/'));
    match range.strip_suffix("/*") {
        None => (range == offer).then_some(2),
        Some("*") => Some(0),
        Some(kind) => is_of_kind(kind).then_some(1),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::ACCEPT;
    use actix_web::test::TestRequest;

    use super::*;

    const OFFERED: [&str; 3] = ["application/json", "text/plain", "text/vtt"];

    fn chosen(accept: &str) -> Option<&'static str> {
        let request = TestRequest::get().insert_header((ACCEPT, accept)).to_http_request();
        negotiate(&request, &OFFERED).ok().map(|place| OFFERED[place])
    }

    #[test]
    fn the_best_liked_type_is_chosen() {
        for (accept, wanted) in [
            ("text/vtt", "text/vtt"),
            ("Text/VTT; charset=utf-8", "text/vtt"),
            ("text/html, text/vtt;q=0.1", "text/vtt"),
            ("text/plain;q=0.4, text/vtt;q=0.5", "text/vtt"),
            ("text/*", "text/plain"),
            ("text/*, text/plain;q=0.5", "text/vtt"),
            ("text/plain;q=0, text/*;q=0.1", "text/vtt"),
            ("*/*;q=0.1, text/vtt", "text/vtt"),
            ("*/*, application/json;q=0.5, text/plain;q=0", "text/vtt"),
            ("text/vtt, application/json", "application/json"),
            ("*/*", "application/json"),
            // What cannot be read says nothing.
            ("", "application/json"),
            ("nonsense", "application/json"),
            ("nonsense, text/vtt", "text/vtt"),
        ] {
            assert_eq!(chosen(accept), Some(wanted), "{accept}");
        }
        assert_eq!(negotiate(&TestRequest::get().to_http_request(), &OFFERED).ok(), Some(0));
    }

    #[test]
    fn several_headers_are_one() {
        let request = TestRequest::get()
            .append_header((ACCEPT, "application/json;q=0.5"))
            .append_header((ACCEPT, "text/plain"));
        assert_eq!(negotiate(&request.to_http_request(), &OFFERED).ok(), Some(1));
    }

    #[test]
    fn what_nobody_likes_is_refused() {
        for accept in ["text/html", "audio/*", "application/json;q=0", "*/*;q=0", "text/*;q=0, image/png"] {
            assert_eq!(chosen(accept), None, "{accept}");
        }
    }
}
