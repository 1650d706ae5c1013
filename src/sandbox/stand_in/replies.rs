//! Builds the vendor's HTTP messages, with the headers that the vendor documents.

use std::ops::Range;
use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use serde_json::json;

use super::behaviour::Behaviour;
use super::calls::VendorReply;
use super::faults::{InjectedFault, bomb_body, drip_body, gzipped, huge_body, truncated_body};
use super::stereo::Stereo;
use crate::domain::clock::Timestamp;
use crate::sandbox::http::{Body, Reply, Request, Response};

/// Time from now to the date in `Retry-After`. HTTP dates have no fractions of a second, so two seconds give a pause
/// of at least one second.
const RETRY_DATE_AHEAD: Duration = Duration::from_secs(2);

/// Length of the recording of [`Behaviour::AudioLong`] in seconds. Players buffer less than this.
const LONG_SECONDS: u32 = 1_200;

/// Builds the replies to one request.
pub(super) struct ReplyBuilder<'a> {
    pub(super) request: &'a Request,
    pub(super) behaviour: Behaviour,
    pub(super) now: Timestamp,
    /// The target of redirects.
    pub(super) redirect_to: String,
}

impl ReplyBuilder<'_> {
    /// Builds the HTTP message for a reply.
    pub(super) fn reply(&self, reply: VendorReply) -> Reply {
        match reply {
            VendorReply::Json(status, json) => self.json(status, &json).into(),
            VendorReply::Text(text) => self
                .plain(200)
                .with_header("Content-Type", "text/plain; charset=utf-8")
                .with_body(Body::Full(text.into()))
                .into(),
            VendorReply::Fault(fault, json) => self.fault(fault, &json),
        }
    }

    /// Returns the recording, or its requested part.
    pub(super) fn recording(&self, stereo: Stereo, name: &str) -> Response {
        let stereo =
            if self.behaviour == Behaviour::AudioLong { stereo.lasting(LONG_SECONDS) } else { stereo };
        let length = stereo.len();
        let etag = format!("\"{length:x}-{}\"", short_hash(name.as_bytes()));
        let response = |status| {
            let response = self.plain(status).with_header("Accept-Ranges", "bytes");
            response.with_header("Content-Type", "audio/wav").with_header("ETag", etag.as_str())
        };
        if self.request.header("if-match").is_some_and(|wanted| wanted != "*" && wanted != etag) {
            return response(412);
        }
        if self.request.header("if-none-match") == Some(etag.as_str()) {
            return response(304);
        }
        let is_same = self.request.header("if-range").is_none_or(|wanted| wanted == etag);
        let range = self
            .request
            .header("range")
            .filter(|_| is_same)
            .map_or(RequestedRange::Whole, |text| requested_range(text, length));
        match range {
            RequestedRange::Whole => response(200).with_body(self.audio(stereo, 0..length)),
            RequestedRange::Unsatisfiable => {
                response(416).with_header("Content-Range", format!("bytes */{length}"))
            }
            RequestedRange::Part(range) => {
                let content_range = format!("bytes {}-{}/{length}", range.start, range.end - 1);
                response(206).with_header("Content-Range", content_range).with_body(self.audio(stereo, range))
            }
        }
    }

    fn audio(&self, stereo: Stereo, range: Range<u64>) -> Body {
        let length = range.end - range.start;
        let sent = if self.behaviour == Behaviour::AudioTruncated { length / 2 } else { length };
        Body::Sized { length, chunks: Box::new(stereo.bytes(range.start..range.start + sent)) }
    }

    fn json(&self, status: u16, json: &serde_json::Value) -> Response {
        if status == 204 {
            return self.plain(204);
        }
        let body = Bytes::from(json.to_string());
        let etag = match self.behaviour {
            Behaviour::EtagStale => "W/\"stale\"".to_owned(),
            _ => format!("W/\"{:x}-{}\"", body.len(), short_hash(&body)),
        };
        let is_known = self.request.header("if-none-match").is_some_and(|known| known == etag);
        let mut response = self.plain(status).with_header("Content-Type", "application/json; charset=utf-8");
        if self.behaviour != Behaviour::NoEtag {
            response = response.with_header("ETag", etag);
        }
        if status == 200 && is_known && self.behaviour != Behaviour::EtagIgnored {
            return Response { status: 304, ..response };
        }
        if self.behaviour == Behaviour::Gzip {
            let response = response.with_header("Content-Encoding", "gzip");
            return response.with_body(Body::Full(gzipped(&body)));
        }
        response.with_body(Body::Full(body))
    }

    /// Returns an HTML page as Express sends it. The page repeats the path, which contains the token.
    pub(super) fn page(&self, status: u16) -> Response {
        let page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<body>\n<pre>Cannot GET {}</pre>\n</body>\n</html>\n",
            self.request.path()
        );
        self.plain(status)
            .with_header("Content-Type", "text/html; charset=utf-8")
            .with_body(Body::Full(page.into()))
    }

    fn fault(&self, fault: InjectedFault, json: &serde_json::Value) -> Reply {
        let whole = Bytes::from(json.to_string());
        let ok = || self.plain(200).with_header("Content-Type", "application/json; charset=utf-8");
        let zipped = || ok().with_header("Content-Encoding", "gzip");
        let error = |status: u16| self.json(status, &json!({ "error": format!("error {status}") }));
        let response = match fault {
            InjectedFault::Accepted(status) => self.json(status, json),
            InjectedFault::Status(status) => error(status),
            InjectedFault::RetryAfterSecond(status) => error(status).with_header("Retry-After", "1"),
            InjectedFault::RetryAfterDate(status) => {
                error(status).with_header("Retry-After", http_date(self.now + RETRY_DATE_AHEAD))
            }
            InjectedFault::Html => self.page(200),
            InjectedFault::Redirect => self.page(302).with_header("Location", self.redirect_to.as_str()),
            InjectedFault::Reset => return Reply::Reset,
            InjectedFault::Hang => return Reply::Hang,
            InjectedFault::Truncated => ok().with_body(truncated_body(&whole)),
            InjectedFault::TruncatedGzip => {
                let zipped_whole = gzipped(&whole);
                zipped().with_body(Body::Full(zipped_whole.slice(..zipped_whole.len() / 2)))
            }
            InjectedFault::GzipBomb => zipped().with_body(bomb_body()),
            InjectedFault::Huge => ok().with_body(huge_body()),
            InjectedFault::Drip => ok().with_body(drip_body()),
        };
        response.into()
    }

    /// Creates a response with the headers that every answer of the vendor has.
    fn plain(&self, status: u16) -> Response {
        Response::empty(status)
            .with_header("Server", "nginx")
            .with_header("Date", http_date(self.now))
            .with_header("X-Powered-By", "Express")
            .with_header("Access-Control-Allow-Origin", "*")
            .with_header("X-Frame-Options", "ALLOWALL")
    }
}

/// The part of a recording that a `Range` header requests.
#[derive(Debug, PartialEq, Eq)]
enum RequestedRange {
    Whole,
    Part(Range<u64>),
    Unsatisfiable,
}

/// Parses a single range. For any other header the whole recording is sent, as RFC 9110, 14.2, allows.
fn requested_range(header: &str, length: u64) -> RequestedRange {
    let Some((first, last)) = header.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return RequestedRange::Whole;
    };
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(length),
        (Ok(first), Err(_)) if last.is_empty() => first..length,
        (Err(_), Ok(suffix)) if first.is_empty() => length.saturating_sub(suffix)..length,
        _ => return RequestedRange::Whole,
    };
    if range.is_empty() { RequestedRange::Unsatisfiable } else { RequestedRange::Part(range) }
}

/// Returns a hash of 27 characters, as in the ETags of Express.
fn short_hash(bytes: &[u8]) -> String {
    STANDARD_NO_PAD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes))
}

fn http_date(at: Timestamp) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + at.since(Timestamp::from_millis(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_parsed_as_in_rfc_9110() {
        for (header, expected) in [
            ("bytes=0-0", RequestedRange::Part(0..1)),
            ("bytes=5-", RequestedRange::Part(5..10)),
            ("bytes=-3", RequestedRange::Part(7..10)),
            ("bytes=-30", RequestedRange::Part(0..10)),
            ("bytes=8-99", RequestedRange::Part(8..10)),
            ("bytes=10-", RequestedRange::Unsatisfiable),
            ("bytes=-0", RequestedRange::Unsatisfiable),
            ("bytes=3-2", RequestedRange::Whole),
            ("bytes=0-1,4-5", RequestedRange::Whole),
            ("frames=0-1", RequestedRange::Whole),
        ] {
            assert_eq!(requested_range(header, 10), expected, "{header}");
        }
    }
}
