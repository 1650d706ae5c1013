//! Submissions: the requests of callers to analyze a call.

use serde::{Deserialize, Serialize};

use crate::domain::call_facts::CallFacts;
use crate::domain::callback_url::CallbackUrl;
use crate::domain::event_payload::EventPayload;
use crate::domain::ids::CallId;
use crate::domain::trace::TraceContext;
use crate::domain::transforms::Transform;

/// Callback of a submission: the receiver of its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmissionCallback {
    /// URL of the receiver.
    pub url: CallbackUrl,
    /// Payload of the events for the receiver.
    pub payload: EventPayload,
    /// Transform that creates the body from the event. If it is `None`, the body is the event itself.
    pub transform: Option<Transform>,
}

/// A caller's request to analyze a call.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Id of the call.
    pub call_id: CallId,
    /// Receiver of the outcome.
    pub callback: Option<SubmissionCallback>,
    /// Metadata that the resource and the callbacks return.
    pub metadata: Option<Metadata>,
    /// Facts of the call that the caller knows. They replace the same facts of earlier submissions.
    pub call: CallFacts,
    /// Whether to analyze the call again if its analysis is finished.
    pub reanalyze: bool,
    /// Trace of the request.
    pub trace: TraceContext,
}

/// Data of a call, taken from the submissions of the call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubmittedData {
    /// Metadata of the latest submission that had metadata.
    pub metadata: Metadata,
    /// Facts of the call.
    pub call: CallFacts,
}

/// JSON object of up to 4 KiB from the caller. The resource and the callbacks contain it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Metadata(serde_json::Map<String, serde_json::Value>);

/// The object is larger than [`Metadata::MAX_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must have at most {max} bytes as compact JSON, has {0}", max = Metadata::MAX_BYTES)]
pub struct MetadataTooLarge(usize);

impl Metadata {
    /// Maximum size in bytes as compact JSON.
    pub const MAX_BYTES: usize = 4096;

    /// Checks the size of the object.
    ///
    /// # Errors
    /// [`MetadataTooLarge`] if the object is too large.
    pub fn parse(object: serde_json::Map<String, serde_json::Value>) -> Result<Self, MetadataTooLarge> {
        let metadata = Self(object);
        let size = metadata.to_json().len();
        if size > Self::MAX_BYTES { Err(MetadataTooLarge(size)) } else { Ok(metadata) }
    }

    /// Returns the members of the object, in their order.
    pub fn members(&self) -> impl Iterator<Item = (&str, &serde_json::Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Returns the object as compact JSON.
    pub fn to_json(&self) -> String {
        // A map with string keys always serializes.
        serde_json::to_string(&self.0).unwrap_or_default()
    }
}
