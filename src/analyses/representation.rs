//! The JSON representation of an analysis with its entity tag.

use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use crate::domain::analysis::Status;
use crate::domain::clock::Timestamp;
use crate::domain::public_url::PublicUrl;
use crate::domain::resource::AnalysisResource;
use crate::store::{StoreError, StoredAnalysis};

/// The answer to a request for an analysis.
#[derive(Debug, Clone)]
pub struct Representation {
    /// The resource as JSON.
    pub body: Bytes,
    /// The strong entity tag of the body, in quotes.
    pub etag: String,
    /// The body as gzip, if it was [compressed](super::Analyses::compress).
    pub gzip: OnceLock<Bytes>,
    /// Status of the analysis.
    pub status: Status,
    /// Whether the analysis, or a reanalysis of the call, is in progress.
    pub under_way: bool,
    /// Whether a refresh is in progress.
    pub refreshing: bool,
    /// Time at which a caller should poll again; `None` if nothing is in progress.
    pub retry_at: Option<Timestamp>,
}

impl Representation {
    pub(super) fn new(found: StoredAnalysis, public_url: &PublicUrl) -> Result<Self, StoreError> {
        let analysis = &found.analysis;
        let resource = AnalysisResource::new(analysis, found.result, public_url);
        let body = serde_json::to_vec(&resource).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        Ok(Self {
            etag: entity_tag(&body),
            body: body.into(),
            gzip: OnceLock::new(),
            status: analysis.status,
            under_way: analysis.is_under_way(),
            refreshing: analysis.is_refreshing(),
            retry_at: analysis.retry_at(),
        })
    }

    /// Returns the strong entity tag of the compressed body: bytes that differ need a different tag (RFC 9110, 8.8.3.3).
    pub fn gzip_etag(&self) -> String {
        format!("{}-gzip\"", self.etag.trim_end_matches('"'))
    }

    #[cfg(test)]
    pub(super) fn for_test(body: &'static [u8]) -> Self {
        Self {
            body: Bytes::from_static(body),
            etag: entity_tag(body),
            gzip: OnceLock::new(),
            status: Status::Completed,
            under_way: false,
            refreshing: false,
            retry_at: None,
        }
    }
}

/// Returns the strong entity tag of a body (RFC 9110, 8.8.3).
pub fn entity_tag(body: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body);
    format!("\"{}\"", URL_SAFE_NO_PAD.encode(&digest.as_ref()[..16]))
}
