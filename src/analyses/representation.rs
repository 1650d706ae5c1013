//! An analysis as the bytes that are answered.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use crate::domain::analysis::Status;
use crate::domain::clock::Timestamp;
use crate::domain::resource::AnalysisResource;
use crate::store::{StoreError, StoredAnalysis};

/// An analysis as it is answered.
#[derive(Debug, Clone)]
pub struct Representation {
    /// The resource as JSON.
    pub body: Bytes,
    /// Its strong entity tag, in quotes.
    pub etag: String,
    /// How far the analysis is.
    pub status: Status,
    /// When to ask again, while it is unfinished.
    pub retry_at: Option<Timestamp>,
}

impl Representation {
    pub(super) fn new(found: StoredAnalysis) -> Result<Self, StoreError> {
        let status = found.analysis.status;
        let retry_at = found.analysis.retry_at();
        let resource = AnalysisResource::new(&found.analysis, found.result);
        let body = serde_json::to_vec(&resource).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        Ok(Self { etag: entity_tag(&body), body: body.into(), status, retry_at })
    }

    #[cfg(test)]
    pub(super) fn for_test(body: &'static [u8]) -> Self {
        Self {
            body: Bytes::from_static(body),
            etag: entity_tag(body),
            status: Status::Completed,
            retry_at: None,
        }
    }
}

/// A strong entity tag of these bytes (RFC 9110, 8.8.3).
pub fn entity_tag(body: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body);
    format!("\"{}\"", URL_SAFE_NO_PAD.encode(&digest.as_ref()[..16]))
}
