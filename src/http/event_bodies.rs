//! The bodies of requests to webhooks and callbacks, for the OpenAPI document. The store keeps these bodies as JSON, and the
//! gateway sends this JSON.

use serde::Serialize;
use utoipa::ToSchema;

use super::merged_schema::MergedSchema;
use crate::domain::analysis::Status;
use crate::domain::clock::Timestamp;
use crate::domain::resource::AnalysisResource;
use crate::domain::webhooks::DisabledWebhook;

/// The type of an event of an analysis.
#[derive(Debug, Serialize, ToSchema)]
pub enum AnalysisEventType {
    /// The result is available.
    #[serde(rename = "analysis.completed")]
    Completed,
    /// There is no result.
    #[serde(rename = "analysis.failed")]
    Failed,
    /// The result changed later, or the reanalysis of a completed analysis ended.
    #[serde(rename = "analysis.updated")]
    Updated,
}

/// The type of an event of a webhook.
#[derive(Debug, Serialize, ToSchema)]
pub enum WebhookEventType {
    /// The gateway disabled the webhook.
    #[serde(rename = "webhook.disabled")]
    Disabled,
}

/// Body of an event of an analysis.
#[derive(Debug, Serialize, ToSchema)]
pub struct AnalysisEventBody {
    /// The type of the event.
    r#type: AnalysisEventType,
    /// Time of the event.
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    /// The analysis at the time of the event.
    data: AnalysisResource,
}

/// Body of an event of an analysis for a receiver with the payload `thin`.
#[derive(Debug, Serialize, ToSchema)]
pub struct ThinEventBody {
    /// The type of the event.
    r#type: AnalysisEventType,
    /// Time of the event.
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    /// The ids, the status, the revision and the URL of the analysis.
    data: ThinAnalysis,
}

/// The part of an analysis in an event with the payload `thin`.
#[derive(Debug, Serialize, ToSchema)]
pub struct ThinAnalysis {
    /// The CALL_ID of AloVoice.
    #[schema(max_length = 128, example = "1716207617.42")]
    call_id: String,
    /// The id of the analysis at AloVoice.
    #[schema(required = true, max_length = 256, example = "664b400ccccc3235a7cd17f")]
    ai_call_id: Option<String>,
    /// The status of the analysis.
    status: Status,
    /// Version number of the result.
    revision: u32,
    /// Link to the analysis.
    #[schema(max_length = 2048, example = "/v1/analyses/1716207617.42")]
    url: String,
}

/// Body of the event of a webhook that the gateway disabled.
#[derive(Debug, Serialize, ToSchema)]
pub struct WebhookDisabledBody {
    /// The type of the event.
    r#type: WebhookEventType,
    /// Time of the event.
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    /// The disabled webhook.
    data: DisabledWebhook,
}

/// The type of a test event.
#[derive(Debug, Serialize, ToSchema)]
pub enum TestEventType {
    /// A caller asked for a test.
    #[serde(rename = "webhook.test")]
    Test,
}

/// Body of a test event.
#[derive(Debug, Serialize, ToSchema)]
pub struct TestEventBody {
    /// The type of the event.
    r#type: TestEventType,
    /// Time of the event.
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    /// The analysis of a call that does not exist.
    #[schema(value_type = TestAnalysis)]
    data: TestEventData,
}

/// Body of a test event for a webhook with the payload `thin`.
#[derive(Debug, Serialize, ToSchema)]
pub struct ThinTestEventBody {
    /// The type of the event.
    r#type: TestEventType,
    /// Time of the event.
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    /// The ids, the status, the revision and the URL of the analysis of a call that does not exist.
    #[schema(value_type = ThinTestAnalysis)]
    data: ThinTestEventData,
}

type TestAnalysis = MergedSchema<AnalysisResource, TestEventData>;
type ThinTestAnalysis = MergedSchema<ThinAnalysis, ThinTestEventData>;

/// Data of a test event: the analysis of a call that does not exist, and the fields `is_test` and `webhook`.
#[derive(Debug, Serialize, ToSchema)]
pub struct TestEventData {
    /// Always `true`: the event is a test.
    is_test: bool,
    /// The id of the webhook.
    #[schema(max_length = 36, example = "whk_018f95f4cd287c5b9a6f3b1f8f0a1d2e")]
    webhook: String,
}

/// Data of a test event with the payload `thin`: a part of the analysis of a call that does not exist, and the fields
/// `is_test` and `webhook`.
#[derive(Debug, Serialize, ToSchema)]
pub struct ThinTestEventData {
    /// Always `true`: the event is a test.
    is_test: bool,
    /// The id of the webhook.
    #[schema(max_length = 36, example = "whk_018f95f4cd287c5b9a6f3b1f8f0a1d2e")]
    webhook: String,
}
