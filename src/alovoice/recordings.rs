//! Streams recordings from the vendor's host. They are not buffered, and no other host is contacted.

use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, Method, Response};
use url::Url;

use super::faults::transport;
use crate::domain::lifecycle::VendorFault;
use crate::domain::vendor_token::VendorToken;
use crate::http_client::Network;

/// Request headers that are passed on to the vendor: ranges and conditions (RFC 9110, 13 and 14).
pub const REQUEST_HEADERS: [&str; 6] =
    ["range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"];
/// Headers of the vendor's answer that are passed on to the caller.
const RESPONSE_HEADERS: [&str; 6] =
    ["accept-ranges", "content-length", "content-range", "content-type", "etag", "last-modified"];

/// Number of bytes of one recording that the vendor may send over HTTP/2 before the caller has read them.
const STREAM_WINDOW: u32 = 256 << 10;
/// Number of bytes that the vendor may send over one HTTP/2 connection before the callers have read them. The window is larger
/// than the sum of the windows of the recordings, so one recording cannot block the others.
const CONNECTION_WINDOW: u32 = 256 << 20;

/// A request for a recording or a part of it.
#[derive(Debug, Clone, Copy)]
pub struct RecordingRequest<'a> {
    /// The path on the vendor's host, with its query.
    pub path: &'a str,
    /// Whether only the headers are requested.
    pub head: bool,
    /// The token of the tenant. Headers of the answer that contain it are not passed on.
    pub token: &'a VendorToken,
    /// The caller's headers that are in [`REQUEST_HEADERS`].
    pub headers: &'a [(&'static str, Vec<u8>)],
}

/// A recording whose body has not been read yet.
pub struct Recording {
    response: Response,
    headers: Vec<(&'static str, HeaderValue)>,
    network: Network,
}

/// Client that fetches recordings.
pub(super) struct Recordings {
    http: Client,
    base_url: Url,
    network: Network,
}

impl Recordings {
    pub(super) fn new(base_url: Url, timeout: Duration, network: &Network) -> Result<Self, reqwest::Error> {
        let http = network
            .builder()
            // The bytes and their ranges are passed on unchanged.
            .no_gzip()
            .connect_timeout(timeout / 2)
            // The limit applies to the time between two reads. There is no limit on the whole transfer, because a
            // client may listen while it reads.
            .read_timeout(timeout)
            // A recording whose client does not read must not fill the memory or delay the other recordings of the connection.
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .build()?;
        Ok(Self { http, base_url, network: network.clone() })
    }

    /// Sends the request and waits for the headers of the answer.
    pub(super) async fn open(
        &self,
        request: RecordingRequest<'_>,
        traceparent: &str,
    ) -> Result<Recording, VendorFault> {
        let mut url = self.base_url.clone();
        let path = request.path;
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        // Only path and query are set, so no path can change the host.
        url.set_path(path);
        url.set_query(query);
        let method = if request.head { Method::HEAD } else { Method::GET };
        let mut http = self.http.request(method, url).header("traceparent", traceparent);
        for (name, value) in request.headers {
            http = http.header(*name, &value[..]);
        }
        let response = http.send().await.map_err(|error| transport(&self.network, &error))?;
        let headers = headers_without(request.token, response.headers());
        Ok(Recording { response, headers, network: self.network.clone() })
    }
}

impl Recording {
    /// Returns the status of the vendor's answer.
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// Returns the headers that describe the recording.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.headers.iter().map(|(name, value)| (*name, value.as_bytes()))
    }

    /// Returns the bytes as they arrive. A lost connection is an error, so a caller never mistakes a part for the
    /// whole recording.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, VendorFault>> {
        unfold(Some(self), |recording| async {
            let mut recording = recording?;
            match recording.response.chunk().await {
                Ok(Some(chunk)) => Some((Ok(chunk), Some(recording))),
                Ok(None) => None,
                Err(error) => Some((Err(transport(&recording.network, &error)), None)),
            }
        })
    }
}

/// Returns the headers of an answer that are passed on to the caller.
fn headers_without(token: &VendorToken, headers: &HeaderMap) -> Vec<(&'static str, HeaderValue)> {
    let found = RESPONSE_HEADERS.into_iter().filter_map(|name| Some((name, headers.get(name)?)));
    // A number in a range can equal a token of digits by chance.
    let is_safe = |(name, value): &(&str, &HeaderValue)| match *name {
        "accept-ranges" | "content-range" | "content-length" => is_range(value.as_bytes()),
        _ => !token.is_in(value.as_bytes()),
    };
    found.filter(is_safe).map(|(name, value)| (name, value.clone())).collect()
}

/// Whether the value has only the characters of a length or a range, after an optional unit `bytes` or `none` (RFC 9110, 14.3
/// and 14.4).
fn is_range(value: &[u8]) -> bool {
    let range = value.strip_prefix(b"bytes").or_else(|| value.strip_prefix(b"none")).unwrap_or(value);
    range.iter().all(|byte| byte.is_ascii_digit() || b" -/*".contains(byte))
}
