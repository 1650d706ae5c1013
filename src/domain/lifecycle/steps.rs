//! Inputs and outputs of the transitions.

use std::time::Duration;

use crate::domain::analysis::{AnalysisResult, FaultCode, MissingContent, VendorResult};
use crate::domain::answer_shape::AnswerShape;
use crate::domain::clock::Timestamp;
use crate::domain::events::EventKind;
use crate::domain::learned_answers::LearnedAnswers;
use crate::domain::pace::Pace;
use crate::domain::polling::PollingPolicy;
use crate::domain::vendor_token::TokenFingerprint;

/// The failure of a request to the vendor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VendorFault {
    /// Reason of the failure.
    pub code: FaultCode,
    /// Description for people. The text never contains a secret.
    pub detail: String,
    /// The vendor's `Retry-After`.
    pub retry_after: Option<Duration>,
}

/// Outcome of a request that submits a call to the vendor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmitOutcome {
    /// The vendor accepted the call.
    Accepted,
    /// The vendor certainly did not accept the call: the request did not reach the vendor, or the vendor refused the call.
    NotTaken(VendorFault),
    /// The vendor may have accepted the call: there was no answer, or an unclear one.
    Unknown(VendorFault),
    /// The vendor refused the call permanently. The text explains the refusal for people.
    Rejected(String),
}

/// Outcome of a request for the result of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum PollOutcome {
    /// A result with at least one turn.
    Ready(Box<VendorResult>),
    /// A well-formed result without turns. Either the result is not ready, or the call is silent.
    Empty(Box<VendorResult>),
    /// The result is not ready.
    NotReady {
        /// `ETag` of the answer.
        etag: Option<String>,
        /// The vendor's `Retry-After`.
        retry_after: Option<Duration>,
        /// The vendor's own words in a text for people, if the answer has any words.
        detail: Option<String>,
    },
    /// Status 304: the answer has not changed.
    Unchanged,
    /// Status 404: the vendor does not know the call. The text has the vendor's own words, if the answer has any.
    NotFound(Option<String>),
    /// The vendor refused the request permanently. The text explains the refusal for people.
    Rejected(String),
    /// The poll failed.
    Fault(VendorFault),
}

/// Input of a transition: the outcome of the current work.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Outcome of a submit.
    Submitted(SubmitOutcome),
    /// Outcome of a poll without the shape of the answer. The outcome alone decides the meaning of the answer.
    Polled(PollOutcome),
    /// Outcome of a poll, and the shape of the answer if there is a shape. The learned answers decide the meaning of a shape.
    Answered(PollOutcome, ShapedAnswer),
}

/// Shape of an answer of the vendor, with the token of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShapedAnswer {
    /// The shape. `None` for a result with turns, for a 304, and for a fault that does not concern the call.
    pub shape: Option<AnswerShape>,
    /// Fingerprint of the token of the request. The fingerprint decides which learned answers apply.
    pub account: TokenFingerprint,
}

impl Step {
    /// Whether the vendor answered a poll with an error that may mean an unknown call, and sent no `Retry-After`.
    pub fn is_answered_with_error(&self) -> bool {
        let Self::Answered(PollOutcome::Fault(fault), answer) = self else { return false };
        fault.code == FaultCode::VendorError && fault.retry_after.is_none() && answer.shape.is_some()
    }

    /// Returns the size of the vendor's result in bytes; 0 without a result.
    pub fn size(&self) -> usize {
        match self {
            Self::Polled(PollOutcome::Ready(obtained) | PollOutcome::Empty(obtained))
            | Self::Answered(PollOutcome::Ready(obtained) | PollOutcome::Empty(obtained), _) => {
                obtained.vendor_answer.len()
            }
            Self::Submitted(_) | Self::Polled(_) | Self::Answered(..) => 0,
        }
    }

    /// Whether the vendor refused the tenant's token.
    pub fn is_token_refused(&self) -> bool {
        match self {
            Self::Submitted(SubmitOutcome::NotTaken(fault) | SubmitOutcome::Unknown(fault))
            | Self::Polled(PollOutcome::Fault(fault))
            | Self::Answered(PollOutcome::Fault(fault), _) => fault.code == FaultCode::TokenRefused,
            Self::Submitted(_) | Self::Polled(_) | Self::Answered(..) => false,
        }
    }
}

/// Data that a transition reads besides the analysis.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Time of the transition.
    pub now: Timestamp,
    /// Schedule of the polls.
    pub policy: &'a PollingPolicy,
    /// Random number from 0 to 1.
    pub jitter: f64,
    /// Stored result, if there is one.
    pub current: Option<&'a AnalysisResult>,
    /// Learned estimate of the tenant's processing times.
    pub pace: Option<Pace>,
    /// Learned answers of the tenant.
    pub learned: &'a LearnedAnswers,
}

/// Data that the store must write besides the analysis.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Effect {
    /// Event to publish.
    pub event: Option<EventKind>,
    /// Result that replaces the stored one.
    pub obtained: Option<Box<VendorResult>>,
    /// Estimate that replaces [`Context::pace`].
    pub pace: Option<Pace>,
    /// Shapes of the answers before the result. The vendor gives such answers while it analyzes a call.
    pub pending: Vec<AnswerShape>,
    /// Earliest start of a probe for unknown calls, if the step needs one.
    pub probe: Option<Timestamp>,
    /// New state of a submit of unknown outcome, if the state changed.
    pub confirmation: Option<Confirmation>,
    /// Content that a new result lacked. The new result therefore does not replace the stored result.
    pub discarded: Option<MissingContent>,
}

/// State of a submit of unknown outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmation {
    /// The answers do not show whether the vendor accepted the call. The gateway waits before it submits the call again.
    Unconfirmed,
    /// The call is submitted again now.
    Resubmitted,
}

impl Effect {
    pub(super) fn none() -> Self {
        Self::default()
    }
}
