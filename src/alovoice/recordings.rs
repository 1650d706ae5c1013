//! Recordings, streamed from the vendor's host as they come: nothing is held in memory, no other host is asked.

use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use reqwest::{Client, Method, Response};
use url::Url;

use super::transport;
use crate::domain::lifecycle::VendorFault;
use crate::http_client;

/// What a caller may ask of a recording: a part of it, or only what is not known yet (RFC 9110, 13 and 14).
pub const ASKED: [&str; 6] =
    ["range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"];
/// What describes a recording. Everything else of the vendor's stays behind.
const TOLD: [&str; 6] =
    ["accept-ranges", "content-length", "content-range", "content-type", "etag", "last-modified"];

/// A recording on its way.
pub struct Recording {
    response: Response,
}

/// Fetches recordings.
pub(super) struct Recordings {
    http: Client,
    base_url: Url,
}

impl Recordings {
    pub(super) fn new(base_url: Url, patience: Duration) -> Result<Self, reqwest::Error> {
        let http = http_client::builder()
            // Bytes and their ranges are passed on as they are.
            .no_gzip()
            .connect_timeout(patience / 2)
            // Between two reads: a whole recording takes as long as its listener.
            .read_timeout(patience)
            .build()?;
        Ok(Self { http, base_url })
    }

    /// Asks for the recording at `path` with the caller's ranges and conditions, in the caller's trace.
    pub(super) async fn open(
        &self,
        path: &str,
        head: bool,
        asked: &[(&'static str, Vec<u8>)],
        traceparent: &str,
    ) -> Result<Recording, VendorFault> {
        let mut url = self.base_url.clone();
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        // Only what comes after the host is set: whatever the path holds, the host stays the vendor's.
        url.set_path(path);
        url.set_query(query);
        let mut request = self
            .http
            .request(if head { Method::HEAD } else { Method::GET }, url)
            .header("traceparent", traceparent);
        for (name, value) in asked {
            request = request.header(*name, &value[..]);
        }
        let response = request.send().await.map_err(|error| transport(&error.without_url()))?;
        Ok(Recording { response })
    }
}

impl Recording {
    /// The vendor's status.
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// What describes the recording.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        let headers = self.response.headers();
        TOLD.into_iter().filter_map(|name| headers.get(name).map(|value| (name, value.as_bytes())))
    }

    /// The bytes, as they come. A break on the way is an error, so that a part is never taken for the whole.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, VendorFault>> {
        unfold(Some(self.response), |response| async {
            let mut response = response?;
            match response.chunk().await {
                Ok(Some(chunk)) => Some((Ok(chunk), Some(response))),
                Ok(None) => None,
                Err(error) => Some((Err(transport(&error.without_url())), None)),
            }
        })
    }
}
