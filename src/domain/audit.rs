//! Who did what, for later questions. Nothing of a call's content is in it.

use super::clock::Timestamp;
use super::ids::CallId;

/// What leaves a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuditedAction {
    /// A call and all that was known of it was deleted.
    AnalysisDeleted,
}

impl AuditedAction {
    /// The word in the store and in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AnalysisDeleted => "analysis.deleted",
        }
    }
}

/// On whose behalf something is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The token's `sub`.
    pub subject: Option<String>,
    /// The request, as it is named in logs.
    pub request_id: String,
}

/// Something that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub actor: Actor,
    /// What.
    pub action: String,
    /// To which call.
    pub call_id: CallId,
}
