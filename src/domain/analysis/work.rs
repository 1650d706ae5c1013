//! The next work of an analysis, and the history of the current analysis round.

use super::VendorResult;
use crate::domain::answer_shape::AnswerShape;
use crate::domain::clock::Timestamp;
use crate::domain::polling::PollingPolicy;

/// Every poll whose number is a multiple of this constant is unconditional. The numbers start at 1 in each analysis round.
const UNCONDITIONAL_POLLS: u32 = 4;

/// Kind of the next work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Submit the call to the vendor.
    Submit,
    /// Poll for the result because the outcome of a submit is unknown. Another submit follows only if the vendor's answers do not
    /// show that the vendor accepted the call.
    Confirm,
    /// Poll for the result.
    Poll,
    /// Poll once more after completion, for late tags.
    Settle,
    /// Poll once more because a caller requested a refresh.
    Refresh,
}

impl Stage {
    /// All kinds of work.
    pub const ALL: [Self; 5] = [Self::Submit, Self::Confirm, Self::Poll, Self::Settle, Self::Refresh];

    /// Returns the name in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Confirm => "confirm",
            Self::Poll => "poll",
            Self::Settle => "settle",
            Self::Refresh => "refresh",
        }
    }

    /// Whether the work belongs to an analysis round. All work after a round only polls for changes of the outcome.
    pub const fn is_of_round(self) -> bool {
        matches!(self, Self::Submit | Self::Confirm | Self::Poll)
    }

    /// Parses the output of [`Stage::as_str`].
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == word)
    }
}

/// The next work of an analysis. An analysis round lasts from a submission to its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Kind of the work.
    pub stage: Stage,
    /// Earliest time of the work. While the work is leased, this is the end of the lease.
    pub due_at: Timestamp,
    /// Whether a worker holds a lease.
    pub leased: bool,
    /// Start of the analysis round: the time of the submission, or of the request to analyze the call again.
    pub started_at: Timestamp,
    /// Time of the last submit in this analysis round. A claim of a submit sets this time.
    pub sent_at: Option<Timestamp>,
    /// Number of submits in this analysis round that the vendor may have accepted. A claim of a submit increments this number.
    pub submits: u32,
    /// Time at which the vendor accepted the call in this analysis round.
    pub accepted_at: Option<Timestamp>,
    /// Number of polls in this analysis round.
    pub polls: u32,
    /// Number of consecutive errors.
    pub errors: u32,
    /// `ETag` of the vendor's last answer.
    pub etag: Option<String>,
    /// Time since which the answers have had no turns.
    pub empty_since: Option<Timestamp>,
    /// Time since which the vendor has not known the call.
    pub missing_since: Option<Timestamp>,
    /// Time since which the vendor's answers have not shown that the vendor accepted a submit of unknown outcome. A claim of a
    /// submit resets this time.
    pub denied_since: Option<Timestamp>,
    /// Shapes of the answers without a result since the last submit, in order of time. A claim of a submit clears them.
    pub shapes: Vec<AnswerShape>,
}

impl Work {
    /// Creates the first work of an analysis round: a submit that is due now.
    pub const fn begin(now: Timestamp) -> Self {
        Self {
            stage: Stage::Submit,
            due_at: now,
            leased: false,
            started_at: now,
            sent_at: None,
            submits: 0,
            accepted_at: None,
            polls: 0,
            errors: 0,
            etag: None,
            empty_since: None,
            missing_since: None,
            denied_since: None,
            shapes: Vec::new(),
        }
    }

    /// Returns the `ETag` for a conditional poll at `now`, or `None` if the poll must be unconditional. The vendor's
    /// `ETag` may stay the same when the answer changes. So the following polls are unconditional: every fourth poll of an
    /// analysis round, the last poll before the deadline, polls that a caller requested, and the poll for late tags if
    /// the first poll of the round found the result.
    pub fn condition(&self, policy: &PollingPolicy, now: Timestamp) -> Option<&str> {
        let is_last = now >= self.started_at + policy.deadline;
        let is_unconditional = match self.stage {
            Stage::Refresh => true,
            Stage::Settle => self.polls < 2,
            Stage::Submit | Stage::Confirm | Stage::Poll => {
                is_last || self.polls % UNCONDITIONAL_POLLS == UNCONDITIONAL_POLLS - 1
            }
        };
        self.etag.as_deref().filter(|_| !is_unconditional)
    }

    /// Keeps the `ETag` of a result for the next polls. Drops this `ETag` if the answer before the result had the same `ETag`
    /// or no `ETag`. The vendor's `ETag` may then stay the same when the answer changes.
    pub(in crate::domain) fn keep_etag_of(&mut self, obtained: &VendorResult) {
        let is_stale = self.etag == obtained.etag;
        let is_unproven = self.etag.is_none() && self.polls > 1;
        self.etag = obtained.etag.clone().filter(|_| !is_stale && !is_unproven);
    }

    /// Returns the time since which the vendor may have the call.
    pub fn sent_since(&self) -> Timestamp {
        // A row that was set to `Confirm` by hand, after a restored backup, has no time of its submit.
        self.sent_at.unwrap_or(self.started_at)
    }

    /// Remembers the shape of an answer without a result. Only the latest shape and the three oldest shapes are kept.
    pub(in crate::domain) fn remember(&mut self, shape: AnswerShape) {
        const MAX_SHAPES: usize = 4;
        self.shapes.retain(|known| *known != shape);
        self.shapes.truncate(MAX_SHAPES - 1);
        self.shapes.push(shape);
    }
}
