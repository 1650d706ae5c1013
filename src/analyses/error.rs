//! The errors of the use cases about analyses.

use std::time::Duration;

use super::cursor::InvalidCursor;
use super::memory_budget::MemoryUsedUp;
use crate::callbacks::Forbidden;
use crate::domain::analysis::Status;
use crate::domain::field_problem::FieldProblem;
use crate::store::StoreError;

/// The reason why a use case about analyses failed.
#[derive(Debug, thiserror::Error)]
pub enum AnalysesError {
    /// Neither the tenant nor its vendor account has this call.
    #[error("there is no analysis of this call")]
    NotFound,
    /// The analysis has no result, or none yet.
    #[error("the analysis has no result")]
    NoResult {
        /// Status of the analysis.
        status: Status,
        /// Time until the caller should ask again; `None` if the analysis has failed.
        retry_after: Option<Duration>,
    },
    /// A preset cannot render the call, for these reasons.
    #[error("the preset cannot render the call: {}", .0.join("; "))]
    NotRendered(Vec<String>),
    /// The tenant has the maximum number of refreshes in progress.
    #[error("the tenant has too many refreshes in progress")]
    TooManyRefreshes,
    /// The cursor belongs to another list.
    #[error("the cursor belongs to another list")]
    InvalidCursor(#[from] InvalidCursor),
    /// The vendor has no recording of the call.
    #[error("there is no recording of this call")]
    NoRecording,
    /// The callback's URL points to a forbidden address.
    #[error("the callback's address is forbidden")]
    CallbackForbidden(#[from] Forbidden),
    /// The template is not allowed, or does not compile.
    #[error("the template {}", .0.detail)]
    Template(FieldProblem),
    /// The tenant has no secret that could sign the callback.
    #[error("the tenant has no callback secret")]
    NoCallbackSecret,
    /// Only the vendor could answer the request, but the request to the vendor failed or could not be sent.
    #[error("the request to the vendor failed")]
    VendorUnavailable {
        /// Time until the caller should ask again, for example the vendor's `Retry-After`; `None` if it is unknown.
        retry_after: Option<Duration>,
    },
    /// The memory budget for large results or for events is used up.
    #[error(transparent)]
    MemoryUsedUp(#[from] MemoryUsedUp),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AnalysesError {
    /// Returns the name of the error in traces.
    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::Store(error) => error.label(),
            Self::MemoryUsedUp(_) => "memory_used_up",
            _ => "failed",
        }
    }
}
