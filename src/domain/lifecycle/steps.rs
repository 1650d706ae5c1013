//! What is found out about an analysis, and what a transition wants of it.

use std::time::Duration;

use crate::domain::analysis::{AnalysisResult, FaultCode, VendorResult};
use crate::domain::clock::Timestamp;
use crate::domain::events::EventKind;
use crate::domain::pace::Pace;
use crate::domain::polling::PollingPolicy;

/// A try that did not get an answer to work with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VendorFault {
    /// What it was.
    pub code: FaultCode,
    /// The same for people. Never holds a secret.
    pub detail: String,
    /// The vendor's `Retry-After`.
    pub retry_after: Option<Duration>,
}

/// How a submit went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmitOutcome {
    /// The vendor has the call.
    Accepted,
    /// The vendor certainly does not have it: it was not reached, or said so.
    NotTaken(VendorFault),
    /// The vendor may have it: no answer, or one that does not tell.
    Unknown(VendorFault),
    /// The vendor refused the call for good, with this status.
    Rejected(u16),
}

/// What a look at the result found.
#[derive(Debug, Clone, PartialEq)]
pub enum PollOutcome {
    /// A result with talk in it.
    Ready(Box<VendorResult>),
    /// A well-formed result without talk: not ready, or nobody spoke.
    Empty(Box<VendorResult>),
    /// Not ready, in whatever form.
    NotReady {
        /// The answer's `ETag`.
        etag: Option<String>,
        /// The vendor's `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// 304: as before.
    Unchanged,
    /// 404.
    NotFound,
    /// Another final refusal, with this status.
    Rejected(u16),
    /// No answer to work with.
    Fault(VendorFault),
}

/// Something that was found out about an analysis.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A submit ended.
    Submitted(SubmitOutcome),
    /// A look ended.
    Polled(PollOutcome),
}

/// What a transition looks at besides the analysis itself.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The present moment.
    pub now: Timestamp,
    /// The rules of waiting.
    pub policy: &'a PollingPolicy,
    /// 0 to 1.
    pub jitter: f64,
    /// The result held so far.
    pub current: Option<&'a AnalysisResult>,
    /// What has been learned of the tenant's processing times.
    pub pace: Option<Pace>,
}

/// What a transition wants written besides the analysis itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Effect {
    /// To be announced.
    pub event: Option<EventKind>,
    /// To be kept in the place of what was held.
    pub obtained: Option<Box<VendorResult>>,
    /// To be kept for the tenant, in the place of [`Context::pace`].
    pub pace: Option<Pace>,
}

impl Effect {
    pub(super) fn none() -> Self {
        Self::default()
    }
}
