//! What happened to an analysis, as the feed and the callbacks tell it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::clock::{Entropy, Timestamp};
use super::ids::{CallId, EventId, TenantId, WebhookId};
use super::resource::AnalysisResource;

/// The type of an event: `analysis.completed` (the result is available), `analysis.failed` (there is no result) or
/// `analysis.updated` (the result changed later, or a repeated analysis failed).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub enum EventKind {
    /// The result is available.
    #[serde(rename = "analysis.completed")]
    AnalysisCompleted,
    /// There is no result.
    #[serde(rename = "analysis.failed")]
    AnalysisFailed,
    /// The result changed later, or a repeated analysis failed.
    #[serde(rename = "analysis.updated")]
    AnalysisUpdated,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::AnalysisCompleted, Self::AnalysisFailed, Self::AnalysisUpdated];

    /// Reads [`EventKind::as_str`] back.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// The `type` in the body, the store and the metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AnalysisCompleted => "analysis.completed",
            Self::AnalysisFailed => "analysis.failed",
            Self::AnalysisUpdated => "analysis.updated",
        }
    }
}

/// One event, ready to be written: its body is what every receiver gets, byte for byte.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its id, and the `webhook-id` of its deliveries.
    pub id: EventId,
    /// What happened.
    pub kind: EventKind,
    /// Whose it is.
    pub tenant: TenantId,
    /// To which call.
    pub call_id: CallId,
    /// When.
    pub at: Timestamp,
    /// `{"type", "timestamp", "data"}` as JSON.
    pub body: Bytes,
}

/// The body of an event: of a callback and of a row in the feed.
#[derive(Debug, Serialize, ToSchema)]
pub struct EventBody<'a> {
    /// What happened.
    pub r#type: EventKind,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
    /// The analysis as it stood then.
    pub data: &'a AnalysisResource,
}

impl Event {
    /// Writes down what happened to `analysis`.
    ///
    /// # Errors
    /// If the analysis cannot be written as JSON, which would be a fault of this program.
    pub fn new(
        kind: EventKind,
        tenant: TenantId,
        analysis: &AnalysisResource,
        at: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Self, serde_json::Error> {
        let body = serde_json::to_vec(&EventBody { r#type: kind, timestamp: at, data: analysis })?;
        let id = EventId::generate(at, entropy);
        Ok(Self { id, kind, tenant, call_id: analysis.call_id.clone(), at, body: body.into() })
    }
}

/// The `type` of an event that is made to try an endpoint out. It tells of no analysis and is in no feed.
pub const WEBHOOK_TEST: &str = "webhook.test";

/// The `data` of such an event.
#[derive(Debug, Serialize)]
struct TestData {
    /// So that a receiver need not know its type.
    is_test: bool,
    webhook: String,
}

/// The body of an event of the type [`WEBHOOK_TEST`].
///
/// # Errors
/// If it cannot be written as JSON, which would be a fault of this program.
pub fn test_body(webhook: WebhookId, at: Timestamp) -> Result<Bytes, serde_json::Error> {
    let data = TestData { is_test: true, webhook: webhook.to_string() };
    let body = serde_json::json!({ "type": WEBHOOK_TEST, "timestamp": at, "data": data });
    Ok(serde_json::to_vec(&body)?.into())
}
