//! The audit log: actions and actors, without the content of calls.

/// An action that writes an audit record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuditedAction {
    /// A call was deleted with all its data.
    AnalysisDeleted,
}

impl AuditedAction {
    /// Returns the action's name in the store and in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AnalysisDeleted => "analysis.deleted",
        }
    }
}

/// The caller for whom an action is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The `sub` claim of the token.
    pub subject: Option<String>,
    /// The request id, as in logs.
    pub request_id: String,
}
