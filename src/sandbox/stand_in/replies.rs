//! Puts what the vendor says into HTTP, with the headers of its page.

use std::ops::Range;
use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use serde_json::json;

use super::behaviour::Behaviour;
use super::calls::Verdict;
use super::faults::{Fault, bomb_body, drip_body, gzipped, huge_body, truncated_body};
use super::stereo::Stereo;
use crate::domain::clock::Timestamp;
use crate::sandbox::http::{Body, Reply, Request, Response};

/// A date two seconds ahead says "one second" at least, whatever the fraction that HTTP dates lose.
const RETRY_DATE_AHEAD: Duration = Duration::from_secs(2);

/// How long a long recording is, in seconds: more than players read ahead.
const LONG: u32 = 1_200;

/// Makes the replies to one request.
pub(super) struct Replies<'a> {
    pub(super) request: &'a Request,
    pub(super) behaviour: Behaviour,
    pub(super) now: Timestamp,
    /// Where redirects go.
    pub(super) redirect_to: String,
}

impl Replies<'_> {
    /// What the vendor says.
    pub(super) fn say(&self, verdict: Verdict) -> Reply {
        match verdict {
            Verdict::Json(status, json) => self.json(status, &json).into(),
            Verdict::Fault(fault, json) => self.fault(fault, &json),
        }
    }

    /// The recording, or the part of it that is asked for.
    pub(super) fn recording(&self, stereo: Stereo, name: &str) -> Response {
        let stereo = if self.behaviour == Behaviour::AudioLong { stereo.lasting(LONG) } else { stereo };
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
        let range =
            self.request.header("range").filter(|_| is_same).map_or(Asked::Whole, |text| asked(text, length));
        match range {
            Asked::Whole => response(200).with_body(self.sound(stereo, 0..length)),
            Asked::Nothing => response(416).with_header("Content-Range", format!("bytes */{length}")),
            Asked::Part(range) => {
                let content_range = format!("bytes {}-{}/{length}", range.start, range.end - 1);
                response(206).with_header("Content-Range", content_range).with_body(self.sound(stereo, range))
            }
        }
    }

    fn sound(&self, stereo: Stereo, range: Range<u64>) -> Body {
        let length = range.end - range.start;
        let sent = if self.behaviour == Behaviour::AudioTruncated { length / 2 } else { length };
        Body::Sized { length, chunks: Box::new(stereo.bytes(range.start..range.start + sent)) }
    }

    fn json(&self, status: u16, json: &serde_json::Value) -> Response {
        if status == 204 {
            return self.plain(204);
        }
        let body = Bytes::from(json.to_string());
        let etag = format!("W/\"{:x}-{}\"", body.len(), short_hash(&body));
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

    /// A page as Express writes them: it repeats the path, and the token in it.
    pub(super) fn page(&self, status: u16) -> Response {
        let page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<body>\n<pre>Cannot GET {}</pre>\n</body>\n</html>\n",
            self.request.path()
        );
        self.plain(status)
            .with_header("Content-Type", "text/html; charset=utf-8")
            .with_body(Body::Full(page.into()))
    }

    fn fault(&self, fault: Fault, json: &serde_json::Value) -> Reply {
        let whole = Bytes::from(json.to_string());
        let ok = || self.plain(200).with_header("Content-Type", "application/json; charset=utf-8");
        let zipped = || ok().with_header("Content-Encoding", "gzip");
        let error = |status: u16| self.json(status, &json!({ "error": format!("error {status}") }));
        let response = match fault {
            Fault::Accepted(status) => self.json(status, json),
            Fault::Status(status) => error(status),
            Fault::RetryAfterSecond(status) => error(status).with_header("Retry-After", "1"),
            Fault::RetryAfterDate(status) => {
                error(status).with_header("Retry-After", http_date(self.now + RETRY_DATE_AHEAD))
            }
            Fault::Html => self.page(200),
            Fault::Redirect => self.page(302).with_header("Location", self.redirect_to.as_str()),
            Fault::Reset => return Reply::Reset,
            Fault::Hang => return Reply::Hang,
            Fault::Truncated => ok().with_body(truncated_body(&whole)),
            Fault::TruncatedGzip => {
                let zipped_whole = gzipped(&whole);
                zipped().with_body(Body::Full(zipped_whole.slice(..zipped_whole.len() / 2)))
            }
            Fault::GzipBomb => zipped().with_body(bomb_body()),
            Fault::Huge => ok().with_body(huge_body()),
            Fault::Drip => ok().with_body(drip_body()),
        };
        response.into()
    }

    /// The headers that every answer has.
    fn plain(&self, status: u16) -> Response {
        Response::empty(status)
            .with_header("Server", "nginx")
            .with_header("Date", http_date(self.now))
            .with_header("X-Powered-By", "Express")
            .with_header("Access-Control-Allow-Origin", "*")
            .with_header("X-Frame-Options", "ALLOWALL")
    }
}

/// What a `Range` header comes down to.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Whole,
    Part(Range<u64>),
    Nothing,
}

/// Reads a single range; of anything else the whole is sent, as RFC 9110, 14.2 allows.
fn asked(header: &str, length: u64) -> Asked {
    let Some((first, last)) = header.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Asked::Whole;
    };
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(length),
        (Ok(first), Err(_)) if last.is_empty() => first..length,
        (Err(_), Ok(suffix)) if first.is_empty() => length.saturating_sub(suffix)..length,
        _ => return Asked::Whole,
    };
    if range.is_empty() { Asked::Nothing } else { Asked::Part(range) }
}

/// 27 characters, as Express's `etag` makes them.
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
    fn ranges_are_read_as_http_says() {
        for (header, expected) in [
            ("bytes=0-0", Asked::Part(0..1)),
            ("bytes=5-", Asked::Part(5..10)),
            ("bytes=-3", Asked::Part(7..10)),
            ("bytes=-30", Asked::Part(0..10)),
            ("bytes=8-99", Asked::Part(8..10)),
            ("bytes=10-", Asked::Nothing),
            ("bytes=-0", Asked::Nothing),
            ("bytes=3-2", Asked::Whole),
            ("bytes=0-1,4-5", Asked::Whole),
            ("frames=0-1", Asked::Whole),
        ] {
            assert_eq!(asked(header, 10), expected, "{header}");
        }
    }
}
