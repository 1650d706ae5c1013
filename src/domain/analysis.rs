//! Our record of one call: what is known of it, and what is to be done next.
//!
//! How it moves from state to state is told in [`super::lifecycle`].

mod work;

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::callback_url::CallbackUrl;
use super::clock::Timestamp;
use super::ids::{CallId, TenantId};
use super::tags::Tag;
use super::trace::TraceContext;
use super::transcript::Turn;

pub use self::work::{Stage, Work};

/// The status of an analysis: `queued` (accepted, not yet sent to AloVoice), `processing` (AloVoice analyzes the call),
/// `completed` (the result is available) or `failed` (there is no result).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Accepted, not yet sent to the vendor.
    Queued,
    /// The vendor analyzes the call.
    Processing,
    /// The result is available.
    Completed,
    /// There is no result.
    Failed,
}

impl Status {
    /// Every status, in the order of life.
    pub const ALL: [Self; 4] = [Self::Queued, Self::Processing, Self::Completed, Self::Failed];

    /// Those of analyses under way.
    pub const UNFINISHED: [Self; 2] = [Self::Queued, Self::Processing];

    /// The word in the API, the store and the metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// Reads [`Status::as_str`] back.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Whether nothing more is expected, bar a revision.
    pub const fn is_finished(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// Why an analysis failed: `call_not_found` (AloVoice does not know the call), `vendor_rejected` (AloVoice refused the
/// call), `deadline_exceeded` (no result before the deadline) or `result_unreadable` (the answers of AloVoice were invalid).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureCode {
    /// The vendor did not know the call within the grace period.
    CallNotFound,
    /// The vendor refused the call permanently.
    VendorRejected,
    /// There was no result before the deadline.
    DeadlineExceeded,
    /// The answers of the vendor were invalid until the deadline.
    ResultUnreadable,
}

/// The error of a failed analysis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// The reason, for programs.
    pub code: FailureCode,
    /// The reason, for people.
    #[schema(example = "the vendor did not know the call for 10 minutes")]
    pub detail: String,
    /// Whether submitting the call again with `reanalyze` may succeed.
    pub retryable: bool,
}

/// The error of a request to AloVoice: `vendor_unreachable`, `vendor_timeout`, `vendor_error` (AloVoice answered with an
/// error), `vendor_throttled` (AloVoice limits the rate), `token_refused` (the operator must fix the token),
/// `call_not_found` (perhaps not yet known) or `answer_unreadable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FaultCode {
    /// No connection to the vendor.
    VendorUnreachable,
    /// The vendor did not answer in time.
    VendorTimeout,
    /// The vendor answered with an error.
    VendorError,
    /// The vendor limits the rate of requests.
    VendorThrottled,
    /// The vendor refused the token of the tenant. The operator must fix it.
    TokenRefused,
    /// The vendor does not know the call, perhaps not yet.
    CallNotFound,
    /// The answer of the vendor was invalid.
    AnswerUnreadable,
}

impl FaultCode {
    /// The word in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VendorUnreachable => "unreachable",
            Self::VendorTimeout => "timeout",
            Self::VendorError => "error",
            Self::VendorThrottled => "throttled",
            Self::TokenRefused => "token_refused",
            Self::CallNotFound => "not_found",
            Self::AnswerUnreadable => "unreadable",
        }
    }
}

/// The error of the last request to AloVoice. The gateway retries until the deadline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastError {
    /// The kind of error, for programs.
    pub code: FaultCode,
    /// The error, for people. It never contains a secret.
    #[schema(example = "the vendor answered 401")]
    pub detail: String,
    /// Time of the error.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// What the caller wants to find again in the resource and in callbacks: a JSON object of up to 4 KiB.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Metadata(serde_json::Map<String, serde_json::Value>);

/// The object was larger than [`Metadata::MAX_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must have at most {max} bytes as compact JSON, has {0}", max = Metadata::MAX_BYTES)]
pub struct MetadataTooLarge(usize);

impl Metadata {
    /// The most bytes it may have as compact JSON.
    pub const MAX_BYTES: usize = 4096;

    /// Checks the size and takes the object.
    ///
    /// # Errors
    /// If it is too large.
    pub fn parse(object: serde_json::Map<String, serde_json::Value>) -> Result<Self, MetadataTooLarge> {
        let metadata = Self(object);
        let size = metadata.to_json().len();
        if size > Self::MAX_BYTES { Err(MetadataTooLarge(size)) } else { Ok(metadata) }
    }

    /// As compact JSON.
    pub fn to_json(&self) -> String {
        // A map with texts for keys can always be written.
        serde_json::to_string(&self.0).unwrap_or_default()
    }
}

/// What the vendor found out, in our words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnalysisResult {
    /// The vendor's own id of the analysis. It differs between the vendor's methods: never compare it.
    pub ai_call_id: Option<String>,
    /// When the call began.
    pub begin_time: Option<Timestamp>,
    /// Who said what, in the order of time.
    pub transcript: Vec<Turn>,
    /// Which rules matched.
    pub tags: Vec<Tag>,
    /// Where the recording is, relative to the vendor's host; `None` if the vendor named another host.
    pub audio_path: Option<String>,
}

/// A result together with the answer it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct VendorResult {
    /// In our words.
    pub result: AnalysisResult,
    /// In the vendor's, byte for byte.
    pub vendor_answer: Bytes,
    /// The answer's `ETag`.
    pub etag: Option<String>,
}

/// One call of one tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// Whose it is.
    pub tenant: TenantId,
    /// The call.
    pub call_id: CallId,
    /// How far it has come.
    pub status: Status,
    /// 0 until there is a result, then counted up with every change of it.
    pub revision: u32,
    /// The first submission.
    pub submitted_at: Timestamp,
    /// When it completed or failed.
    pub finished_at: Option<Timestamp>,
    /// What the caller gave along.
    pub metadata: Metadata,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// The error of a request to AloVoice: `vendor_unreachable`, `vendor_timeout`, `vendor_error` (AloVoice answered with an
    /// error), `vendor_throttled` (AloVoice limits the rate), `token_refused` (the operator must fix the token),
    /// `call_not_found` (perhaps not yet known) or `answer_unreadable`.
    pub last_error: Option<LastError>,
    /// The trace of the submission.
    pub trace: TraceContext,
    /// What is next; `None` when nothing is.
    pub work: Option<Work>,
}

/// What a caller asks for.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The call.
    pub call_id: CallId,
    /// Where to announce the outcome.
    pub callback: Option<CallbackUrl>,
    /// To be found again.
    pub metadata: Option<Metadata>,
    /// Whether to analyse a finished call anew.
    pub reanalyze: bool,
    /// The trace of the request.
    pub trace: TraceContext,
}

impl Analysis {
    /// A call that was never submitted before.
    pub fn begin(tenant: TenantId, submission: Submission, now: Timestamp) -> Self {
        Self {
            tenant,
            call_id: submission.call_id,
            status: Status::Queued,
            revision: 0,
            submitted_at: now,
            finished_at: None,
            metadata: submission.metadata.unwrap_or_default(),
            failure: None,
            last_error: None,
            trace: submission.trace,
            work: Some(Work::begin(now)),
        }
    }

    /// When it is worth asking again; `None` when nothing more is expected.
    pub fn retry_at(&self) -> Option<Timestamp> {
        let work = self.work.as_ref().filter(|_| !self.status.is_finished())?;
        // What is under way at the vendor is over in a moment, and not at the lease's end.
        Some(if work.leased { work.started_at } else { work.due_at })
    }

    /// How long until then.
    pub fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        self.retry_at().map(|at| at.since(now).max(Duration::from_secs(1)))
    }
}
