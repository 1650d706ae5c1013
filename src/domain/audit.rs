//! Audit records. They contain nothing of a call's content.

use super::clock::Timestamp;
use super::ids::CallId;

/// Action that leaves an audit record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuditedAction {
    /// A caller deleted an analysis.
    AnalysisDeleted,
}

impl AuditedAction {
    /// Name in the store and in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AnalysisDeleted => "analysis.deleted",
        }
    }
}

/// Caller on whose behalf an action happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Claim `sub` of the token.
    pub subject: Option<String>,
    /// Id of the request in logs.
    pub request_id: String,
}

/// Record of one action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Time of the action.
    pub at: Timestamp,
    /// Caller who asked for the action.
    pub actor: Actor,
    /// Name of the action.
    pub action: String,
    /// Call that the action changed.
    pub call_id: CallId,
}
