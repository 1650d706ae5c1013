//! Content negotiation: selects the media type that a caller prefers, by `Accept`, and whether the caller prefers a compressed body, by
//! `Accept-Encoding` (RFC 9110, 12.5.1 and 12.5.3).

use actix_web::HttpRequest;
use actix_web::http::header::{ACCEPT_ENCODING, Accept, AcceptEncoding, Encoding, Header, Quality};

use super::problem::{ApiError, NOT_ACCEPTABLE};

/// Returns the index in `offered` of the preferred type. The type with the highest quality wins. Among types of equal quality,
/// the type with the most specific media range wins. If several types remain:
///
/// - If ranges name these types exactly, the type that comes first in `offered` wins.
/// - If only wildcards match these types, the default wins if it is one of them. Otherwise the type that comes first wins.
///
/// Without a valid `Accept`, the default wins.
///
/// Parameters of a range, such as `charset`, are ignored, because each type has one variant.
///
/// # Errors
/// `not_acceptable`, if `Accept` excludes all types.
pub(super) fn negotiate(request: &HttpRequest, offered: &[&str], default: usize) -> Result<usize, ApiError> {
    let ranges = Accept::parse(request).map(|accept| accept.0).unwrap_or_default();
    if ranges.is_empty() {
        return Ok(default);
    }
    // The most specific range that matches a type determines its quality.
    let rank = |offer: &str| {
        let matching = ranges
            .iter()
            .filter_map(|range| Some((precision(range.item.essence_str(), offer)?, range.quality)));
        matching.max().map_or((Quality::ZERO, 0), |(precision, quality)| (quality, precision))
    };
    let ranks: Vec<_> = offered.iter().map(|offer| rank(offer)).collect();
    let best = ranks.iter().copied().max().unwrap_or((Quality::ZERO, 0));
    if best.0 == Quality::ZERO {
        let detail = format!("Accept excludes all available types: {}", offered.join(", "));
        return Err(ApiError::new(NOT_ACCEPTABLE, detail));
    }
    let is_exact = best.1 == EXACT;
    let first = ranks.iter().position(|rank| *rank == best).unwrap_or(default);
    Ok(if !is_exact && ranks.get(default) == Some(&best) { default } else { first })
}

/// Whether the caller prefers a body in gzip to a body without a content coding.
pub(super) fn accepts_gzip(request: &HttpRequest) -> bool {
    // The parser builds a list even without the header.
    if !request.headers().contains_key(ACCEPT_ENCODING) {
        return false;
    }
    let offered = [Encoding::gzip(), Encoding::identity()];
    let preferred = AcceptEncoding::parse(request).ok().and_then(|accept| accept.negotiate(offered.iter()));
    preferred == Some(Encoding::gzip())
}

/// The precision of a range that names a type without wildcards.
const EXACT: u8 = 2;

/// Returns the precision of a range that matches a type; `None` if the range does not match. The range is in lower
/// case.
fn precision(range: &str, offer: &str) -> Option<u8> {
    let is_of_kind = |kind: &str| offer.strip_prefix(kind).is_some_and(|rest| rest.starts_with('/'));
    match range.strip_suffix("/*") {
        None => (range == offer).then_some(EXACT),
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
        negotiate(&request, &OFFERED, 0).ok().map(|place| OFFERED[place])
    }

    #[test]
    fn the_preferred_type_is_chosen() {
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
            ("text/vtt, */*", "text/vtt"),
            // Invalid ranges are ignored.
            ("", "application/json"),
            ("nonsense", "application/json"),
            ("nonsense, text/vtt", "text/vtt"),
        ] {
            assert_eq!(chosen(accept), Some(wanted), "{accept}");
        }
        assert_eq!(negotiate(&TestRequest::get().to_http_request(), &OFFERED, 0).ok(), Some(0));
    }

    #[test]
    fn gzip_is_accepted_if_it_is_preferred() {
        let accepts = |value: &str| {
            accepts_gzip(&TestRequest::get().insert_header((ACCEPT_ENCODING, value)).to_http_request())
        };
        for yes in [
            "gzip",
            "GZIP",
            "br, gzip",
            "gzip;q=0.5, deflate",
            "gzip, identity;q=0.5",
            "x-gzip, gzip;q=0.1, *;q=0",
        ] {
            assert!(accepts(yes), "{yes}");
        }
        for no in ["", "identity", "br", "gzip;q=0", "identity, gzip;q=0.5", "*;q=0", "nonsense;;q=x"] {
            assert!(!accepts(no), "{no}");
        }
        assert!(!accepts_gzip(&TestRequest::get().to_http_request()));
    }

    #[test]
    fn several_accept_headers_count_as_one() {
        let request = TestRequest::get()
            .append_header((ACCEPT, "application/json;q=0.5"))
            .append_header((ACCEPT, "text/plain"));
        assert_eq!(negotiate(&request.to_http_request(), &OFFERED, 0).ok(), Some(1));
    }

    #[test]
    fn an_accept_that_excludes_all_types_is_refused() {
        for accept in ["text/html", "audio/*", "application/json;q=0", "*/*;q=0", "text/*;q=0, image/png"] {
            assert_eq!(chosen(accept), None, "{accept}");
        }
    }

    #[test]
    fn a_type_may_come_before_the_default() {
        let stream = |accept: &str| {
            let request = TestRequest::get().insert_header((ACCEPT, accept)).to_http_request();
            negotiate(&request, &["text/event-stream", "application/json"], 1).ok().map(|index| index == 0)
        };
        for accept in [
            "text/event-stream",
            "Text/Event-Stream; charset=utf-8",
            "text/event-stream, */*",
            "application/json;q=0.5, text/event-stream",
            "application/json, text/event-stream",
            "text/*",
        ] {
            assert_eq!(stream(accept), Some(true), "{accept}");
        }
        for accept in ["", "*/*", "application/json", "application/json, text/event-stream;q=0.9"] {
            assert_eq!(stream(accept), Some(false), "{accept}");
        }
        assert_eq!(stream("text/event-stream;q=0"), None);
    }
}
