//! The gateway's record of one call: its state, its result and the next work.
//!
//! [`super::lifecycle`] has the transitions between the states.

mod content;
mod reanalysis;
mod submission;
mod work;

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer_warnings::AnswerWarning;
use super::call_facts::CallFacts;
use super::clock::Timestamp;
use super::ids::{CallId, TenantId};
use super::tags::Tag;
use super::trace::TraceContext;
use super::transcript::Turn;

pub use self::content::MissingContent;
pub use self::reanalysis::{LastReanalysis, Reanalysis, ReanalysisOutcome, ReanalysisStatus};
pub use self::submission::{Metadata, MetadataTooLarge, Submission, SubmissionCallback, SubmittedData};
pub use self::work::{Stage, Work};

/// The status of an analysis: `queued` (stored, and not yet accepted by AloVoice), `processing` (AloVoice analyzes the
/// call), `completed` (the result is available) or `failed` (there is no result).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The gateway has stored the call, and the vendor has not accepted the call yet.
    Queued,
    /// The vendor analyzes the call.
    Processing,
    /// The result is available.
    Completed,
    /// There is no result.
    Failed,
}

impl Status {
    /// All statuses, in the order in which an analysis reaches them.
    pub const ALL: [Self; 4] = [Self::Queued, Self::Processing, Self::Completed, Self::Failed];

    /// The statuses of analyses that have no outcome yet.
    pub const UNFINISHED: [Self; 2] = [Self::Queued, Self::Processing];

    /// Returns the name in the API, the store and the metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// Parses the output of [`Status::as_str`].
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Whether the analysis has an outcome: a result or a failure.
    pub const fn is_finished(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

/// The reason why an analysis failed: `call_not_found` (AloVoice does not know the call), `vendor_rejected` (AloVoice refused the
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
    /// The reason as a code for programs.
    pub code: FailureCode,
    /// The reason as text for people. Text of AloVoice is in double quotes and is cut to 200 characters.
    #[schema(example = "the vendor did not know the call for 10 minutes")]
    pub detail: String,
    /// Whether submitting the call again with `reanalyze` may succeed.
    pub retryable: bool,
}

/// The error of a request to AloVoice: `vendor_unreachable`, `vendor_timeout`, `vendor_error` (AloVoice answered with an
/// error), `vendor_throttled` (AloVoice limits the rate), `token_refused` (the operator must fix the token),
/// `call_not_found` (AloVoice does not know the call, or does not know it yet), `no_result` (AloVoice answered without a
/// result; `detail` has its text), `submission_unconfirmed` (AloVoice may or may not have accepted the call) or
/// `answer_unreadable` (the answer was invalid, or had less content than the stored result).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FaultCode {
    /// The gateway could not connect to the vendor.
    VendorUnreachable,
    /// The vendor did not answer in time.
    VendorTimeout,
    /// The vendor answered with an error.
    VendorError,
    /// The vendor limits the rate of requests.
    VendorThrottled,
    /// The vendor refused the token of the tenant. The operator must fix the token.
    TokenRefused,
    /// The vendor does not know the call at this time. The vendor may know the call later.
    CallNotFound,
    /// The vendor answered with a text instead of a result. The text reports an error, or says that the result is not ready.
    NoResult,
    /// The vendor may or may not have accepted the call. The vendor's answers do not show which of the two happened.
    SubmissionUnconfirmed,
    /// The answer of the vendor was invalid, or had less content than the stored result.
    AnswerUnreadable,
}

impl FaultCode {
    /// Returns the name in the metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VendorUnreachable => "unreachable",
            Self::VendorTimeout => "timeout",
            Self::VendorError => "error",
            Self::VendorThrottled => "throttled",
            Self::TokenRefused => "token_refused",
            Self::CallNotFound => "not_found",
            Self::NoResult => "no_result",
            Self::SubmissionUnconfirmed => "unconfirmed",
            Self::AnswerUnreadable => "unreadable",
        }
    }
}

/// The error of the last request to AloVoice. The gateway repeats the request until the deadline. A refresh makes at most three
/// requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastError {
    /// The kind of error as a code for programs.
    pub code: FaultCode,
    /// The error as text for people. Text of AloVoice is in double quotes and is cut to 200 characters. The text never
    /// contains a secret.
    #[schema(example = "the vendor answered 401: \"unknown token\"")]
    pub detail: String,
    /// Time of the error.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// Result of the vendor's analysis in the gateway's format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnalysisResult {
    /// The vendor's id of the analysis. The vendor's methods return different ids, so never compare them.
    pub ai_call_id: Option<String>,
    /// Start of the call.
    pub begin_time: Option<Timestamp>,
    /// Turns of the conversation, sorted by time.
    pub transcript: Vec<Turn>,
    /// Tags of the quality rules that matched.
    pub tags: Vec<Tag>,
    /// Path of the recording on the vendor's host. `None` if there is no recording, or if the vendor named another host.
    pub audio_path: Option<String>,
    /// Deviations of the answer from its documentation. The gateway tolerated them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<AnswerWarning>,
}

impl AnalysisResult {
    /// Whether both results have the same content. Warnings concern the answer and are not content.
    pub fn has_same_content(&self, other: &Self) -> bool {
        let Self { ai_call_id, begin_time, transcript, tags, audio_path, warnings: _ } = self;
        (ai_call_id, begin_time, audio_path) == (&other.ai_call_id, &other.begin_time, &other.audio_path)
            && (transcript, tags) == (&other.transcript, &other.tags)
    }
}

/// A result together with the vendor's answer from which it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct VendorResult {
    /// Result in the gateway's format.
    pub result: AnalysisResult,
    /// Body of the vendor's answer, unchanged.
    pub vendor_answer: Bytes,
    /// `ETag` of the vendor's answer.
    pub etag: Option<String>,
}

/// Analysis of one call of one tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// Tenant that owns the analysis.
    pub tenant: TenantId,
    /// Id of the call.
    pub call_id: CallId,
    /// Current status of the analysis.
    pub status: Status,
    /// Revision of the result: 0 without a result. Every change of the result and every result of a reanalysis increments the
    /// revision.
    pub revision: u32,
    /// Time of the first submission.
    pub submitted_at: Timestamp,
    /// Time at which the analysis or its latest reanalysis completed, or at which the analysis failed.
    pub finished_at: Option<Timestamp>,
    /// Metadata of the latest submission that had metadata.
    pub metadata: Metadata,
    /// Facts of the call from its submissions.
    pub call: CallFacts,
    /// Failure, if the status is `Failed`.
    pub failure: Option<Failure>,
    /// The error of the last request to the vendor, if the request failed or gave no result.
    pub last_error: Option<LastError>,
    /// The latest reanalysis that has ended.
    pub last_reanalysis: Option<LastReanalysis>,
    /// Time for which the first poll of the latest refresh was planned.
    pub refreshed_at: Option<Timestamp>,
    /// Trace of the submission.
    pub trace: TraceContext,
    /// Next work; `None` if no work is left.
    pub work: Option<Work>,
}

impl Analysis {
    /// Creates the analysis of a call that was not submitted before.
    pub fn begin(tenant: TenantId, submission: Submission, now: Timestamp) -> Self {
        let mut call = CallFacts::default();
        call.replace_by(&submission.call);
        Self {
            tenant,
            call_id: submission.call_id,
            status: Status::Queued,
            revision: 0,
            submitted_at: now,
            finished_at: None,
            metadata: submission.metadata.unwrap_or_default(),
            call,
            failure: None,
            last_error: None,
            last_reanalysis: None,
            refreshed_at: None,
            trace: submission.trace,
            work: Some(Work::begin(now)),
        }
    }

    /// Returns the time at which a caller should poll again; `None` if neither an analysis nor a refresh is in
    /// progress.
    pub fn retry_at(&self) -> Option<Timestamp> {
        let work = self.work.as_ref().filter(|_| self.is_under_way() || self.is_refreshing())?;
        // A leased request usually ends long before its lease, so the caller may ask again at once.
        Some(if work.leased { work.started_at } else { work.due_at })
    }

    /// Returns the time from now until [`Analysis::retry_at`], at least one second. Returns `None` if [`Analysis::retry_at`]
    /// returns `None`.
    pub fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        self.retry_at().map(|at| at.since(now).max(Duration::from_secs(1)))
    }
}
