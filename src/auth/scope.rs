//! The scopes of the API.

/// A permission that a token grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Read analyses, events and usage.
    AnalysesRead,
    /// Submit, refresh and delete analyses.
    AnalysesWrite,
    /// Read recordings and create links to them.
    AudioRead,
    /// Manage webhooks and deliveries.
    WebhooksManage,
}

impl Scope {
    /// All scopes of the API.
    pub const ALL: [Self; 4] =
        [Self::AnalysesRead, Self::AnalysesWrite, Self::AudioRead, Self::WebhooksManage];

    /// Returns the name of the scope in tokens.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AnalysesRead => "analyses:read",
            Self::AnalysesWrite => "analyses:write",
            Self::AudioRead => "audio:read",
            Self::WebhooksManage => "webhooks:manage",
        }
    }
}
