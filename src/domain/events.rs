//! Events. An event reports that an analysis changed or that the gateway disabled a webhook. The feed and the callbacks
//! contain events.

use bytes::Bytes;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::analysis::{Status, SubmittedData};
use super::clock::{Entropy, Timestamp};
use super::ids::{CallId, EventId, TenantId};
use super::public_url::PublicUrl;
use super::resource::AnalysisResource;

/// The type of an event: `analysis.completed` (the result is available), `analysis.failed` (there is no result),
/// `analysis.updated` (the result changed later, or the reanalysis of a completed analysis ended; `last_reanalysis` has the
/// outcome) or `webhook.disabled` (the gateway disabled a webhook of the tenant).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
pub enum EventKind {
    /// The result is available.
    #[serde(rename = "analysis.completed")]
    AnalysisCompleted,
    /// There is no result.
    #[serde(rename = "analysis.failed")]
    AnalysisFailed,
    /// The result changed later, or the reanalysis of a completed analysis ended.
    #[serde(rename = "analysis.updated")]
    AnalysisUpdated,
    /// The gateway disabled a webhook of the tenant.
    #[serde(rename = "webhook.disabled")]
    WebhookDisabled,
}

impl EventKind {
    /// All event types.
    pub const ALL: [Self; 4] =
        [Self::AnalysisCompleted, Self::AnalysisFailed, Self::AnalysisUpdated, Self::WebhookDisabled];

    /// Whether `data` of the event is an analysis.
    pub const fn has_analysis(self) -> bool {
        !matches!(self, Self::WebhookDisabled)
    }

    /// Parses the output of [`EventKind::as_str`].
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Returns the name in the event's body, the store and the metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AnalysisCompleted => "analysis.completed",
            Self::AnalysisFailed => "analysis.failed",
            Self::AnalysisUpdated => "analysis.updated",
            Self::WebhookDisabled => "webhook.disabled",
        }
    }
}

impl<'de> Deserialize<'de> for EventKind {
    /// Reads a string first, because the derived code would report a value of another type as malformed JSON.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        let known = &["analysis.completed", "analysis.failed", "analysis.updated", "webhook.disabled"];
        Self::from_word(&word).ok_or_else(|| D::Error::unknown_variant(&word, known))
    }
}

/// Event with the bodies that receivers get, byte for byte.
#[derive(Debug, Clone)]
pub struct Event {
    /// Id of the event, and the `webhook-id` of its deliveries.
    pub id: EventId,
    /// Type of the event.
    pub kind: EventKind,
    /// Tenant that owns the analysis or the webhook.
    pub tenant: TenantId,
    /// Id of the call; `None` for an event of a webhook.
    pub call_id: Option<CallId>,
    /// Time of the event.
    pub at: Timestamp,
    /// JSON object with `type`, `timestamp` and `data`.
    pub body: Bytes,
    /// The same object with less `data`, for receivers of [`EventPayload::Thin`](super::event_payload::EventPayload).
    pub thin_body: Bytes,
}

/// Body of an event in callbacks and in the feed.
#[derive(Debug, Serialize)]
struct EventBody<'a, K, T> {
    r#type: K,
    timestamp: Timestamp,
    /// The analysis or the webhook at the time of the event.
    data: &'a T,
}

/// The `data` of an event in [`EventPayload::Thin`](super::event_payload::EventPayload).
#[derive(Debug, Serialize)]
pub(super) struct ThinData<'a> {
    call_id: &'a CallId,
    ai_call_id: Option<&'a str>,
    status: Status,
    revision: u32,
    url: String,
}

impl<'a> ThinData<'a> {
    /// Creates the data of an event of an analysis. `url` is the link to the analysis.
    pub(super) fn of(analysis: &'a AnalysisResource, url: String) -> Self {
        Self {
            call_id: &analysis.call_id,
            ai_call_id: analysis.ai_call_id.as_deref(),
            status: analysis.status,
            revision: analysis.revision,
            url,
        }
    }
}

impl Event {
    /// Creates an event of an analysis.
    ///
    /// # Errors
    /// Returns an error if the analysis does not serialize, which would be a bug.
    pub fn new(
        kind: EventKind,
        tenant: TenantId,
        analysis: &AnalysisResource,
        url: String,
        at: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Self, serde_json::Error> {
        let thin = ThinData::of(analysis, url);
        Ok(Self {
            id: EventId::generate(at, entropy),
            kind,
            tenant,
            call_id: Some(analysis.call_id.clone()),
            at,
            body: body_of(kind, at, analysis)?,
            thin_body: body_of(kind, at, &thin)?,
        })
    }

    /// Creates the event of a webhook that the gateway disabled.
    ///
    /// # Errors
    /// Returns an error if `data` does not serialize, which would be a bug.
    pub(super) fn webhook_disabled(
        tenant: TenantId,
        data: &impl Serialize,
        at: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Self, serde_json::Error> {
        let (kind, id) = (EventKind::WebhookDisabled, EventId::generate(at, entropy));
        let body = body_of(kind, at, data)?;
        Ok(Self { id, kind, tenant, call_id: None, at, thin_body: body.clone(), body })
    }
}

/// Returns the body of an event.
///
/// # Errors
/// Returns an error if `data` does not serialize, which would be a bug.
pub(super) fn body_of(
    kind: impl Serialize,
    timestamp: Timestamp,
    data: &impl Serialize,
) -> Result<Bytes, serde_json::Error> {
    Ok(serde_json::to_vec(&EventBody { r#type: kind, timestamp, data })?.into())
}

/// Parses the body of an event for a transform. Returns `null` if the body cannot be parsed. `submitted` replaces the metadata and
/// the call facts that the analysis had at the time of the event.
pub fn parse_event(body: &[u8], submitted: Option<&SubmittedData>) -> Value {
    let mut event: Value = serde_json::from_slice(body).unwrap_or_default();
    let data = event.get_mut("data").and_then(Value::as_object_mut);
    if let (Some(data), Some(submitted)) = (data, submitted) {
        data.insert("metadata".to_owned(), json!(submitted.metadata));
        data.insert("call".to_owned(), json!(submitted.call));
    }
    event
}

/// Returns the link to the analysis of a parsed event; empty if the event has no call.
pub fn link_of(event: &Value, public_url: &PublicUrl) -> String {
    let call_id = event["data"]["call_id"].as_str().and_then(|text| CallId::parse(text).ok());
    call_id.map(|call_id| public_url.analysis(&call_id)).unwrap_or_default()
}

/// Returns the `data` of an event's body; `null` if the body cannot be parsed.
pub fn event_data(body: &[u8]) -> Value {
    parse_event(body, None).get_mut("data").map(Value::take).unwrap_or_default()
}
