//! What is to be done next for an analysis, and how it went so far.

use crate::domain::clock::Timestamp;

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Send the call to the vendor.
    Submit,
    /// A submit was begun and its outcome is not known: ask for the result before sending another.
    Confirm,
    /// Ask for the result.
    Poll,
    /// Look once more, for late tags.
    Settle,
}

impl Stage {
    /// Every stage.
    pub const ALL: [Self; 4] = [Self::Submit, Self::Confirm, Self::Poll, Self::Settle];

    /// The word in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Confirm => "confirm",
            Self::Poll => "poll",
            Self::Settle => "settle",
        }
    }

    /// Reads [`Stage::as_str`] back.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == word)
    }
}

/// Work that waits to be done, and how it went so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// What is next.
    pub stage: Stage,
    /// Not before this moment. While the work is leased, the lease's end.
    pub due_at: Timestamp,
    /// Whether a worker has it now.
    pub leased: bool,
    /// When this round began: the submission, or the request to analyse again.
    pub started_at: Timestamp,
    /// When the vendor took the call in this round.
    pub accepted_at: Option<Timestamp>,
    /// Looks at the result so far in this round.
    pub polls: u32,
    /// Faults in a row.
    pub errors: u32,
    /// The `ETag` of the vendor's last answer.
    pub etag: Option<String>,
    /// Since when the answers have had neither turns nor tags.
    pub empty_since: Option<Timestamp>,
    /// Since when the vendor has not known the call.
    pub missing_since: Option<Timestamp>,
    /// Since when the vendor has denied a call whose submit got no answer; a claim of a submit forgets it.
    pub denied_since: Option<Timestamp>,
}

impl Work {
    /// A round's beginning: to be submitted at once.
    pub const fn begin(now: Timestamp) -> Self {
        Self {
            stage: Stage::Submit,
            due_at: now,
            leased: false,
            started_at: now,
            accepted_at: None,
            polls: 0,
            errors: 0,
            etag: None,
            empty_since: None,
            missing_since: None,
            denied_since: None,
        }
    }
}
