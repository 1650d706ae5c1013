//! The test event of a webhook. The event has the fields of `analysis.completed`. Its call does not exist.
//!
//! Every preset can render the event, because the call has every value that a preset needs. The texts of the event say that it is
//! a test, because presets write texts to entries of a CRM. No entry of a CRM has the ids of the event, so a test changes no
//! entry of a customer.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::analysis::{Metadata, Status};
use super::call_facts::{CallFacts, CrmIds, FactText};
use super::callback_url::CallbackUrl;
use super::clock::Timestamp;
use super::events::{ThinData, body_of, event_data};
use super::ids::WebhookId;
use super::public_url::PublicUrl;
use super::resource::AnalysisResource;
use super::tags::Tag;
use super::talk_metrics::TalkMetrics;
use super::transcript::Turn;

/// Type of a test event. A test event is not in the feed.
pub const WEBHOOK_TEST: &str = "webhook.test";

/// Id that no entry of a CRM has. It is a number, because many CRMs number their entries.
const CRM_ID: &str = "999999999999";

/// Bodies of a test event.
#[derive(Debug, Clone)]
pub struct TestBodies {
    /// Body with the whole analysis.
    pub full: Bytes,
    /// Body for a webhook with the payload `thin`.
    pub thin: Bytes,
}

/// Field `data` of a test event: the data of an event of an analysis, and the fields `is_test` and `webhook`.
#[derive(Debug, Serialize)]
struct TestData<'a, T> {
    /// Always `true`. A receiver can recognize a test by this field without looking at the type.
    is_test: bool,
    webhook: String,
    #[serde(flatten)]
    data: &'a T,
}

impl<'a, T> TestData<'a, T> {
    fn of(webhook: WebhookId, data: &'a T) -> Self {
        Self { is_test: true, webhook: webhook.to_string(), data }
    }
}

impl TestBodies {
    /// Creates the bodies of a test event.
    ///
    /// # Errors
    /// Returns an error if a body does not serialize, which would be a bug.
    pub fn new(webhook: WebhookId, at: Timestamp, public_url: &PublicUrl) -> Result<Self, serde_json::Error> {
        let analysis = analysis(at)?;
        let thin = ThinData::of(&analysis, public_url.analysis(&analysis.call_id));
        Ok(Self {
            full: body_of(WEBHOOK_TEST, at, &TestData::of(webhook, &analysis))?,
            thin: body_of(WEBHOOK_TEST, at, &TestData::of(webhook, &thin))?,
        })
    }
}

/// Returns the analysis of a test event.
fn analysis(at: Timestamp) -> Result<AnalysisResource, serde_json::Error> {
    let text = |words: &str| format!("This is a test of a webhook, not a call. {words}");
    let transcript: Vec<Turn> = serde_json::from_value(json!([
        {"fragment_id": "webhook.test-1", "speaker": "operator", "begin_ms": 0, "end_ms": 3_000, "text": text("The operator speaks.")},
        {"fragment_id": "webhook.test-2", "speaker": "client", "begin_ms": 3_500, "end_ms": 6_000, "text": text("The client answers.")},
    ]))?;
    let tags: Vec<Tag> = serde_json::from_value(json!([{
        "name": "Test", "value": "This is a test of a webhook", "visible": null, "type": "rule", "begin_ms": 0, "end_ms": 3_000,
        "match_text": "This is a test", "fragment_id": "webhook.test-1",
    }]))?;
    Ok(AnalysisResource {
        call_id: serde_json::from_value(json!(WEBHOOK_TEST))?,
        status: Status::Completed,
        revision: 1,
        ai_call_id: Some(WEBHOOK_TEST.to_owned()),
        begin_time: Some(at),
        submitted_at: at,
        completed_at: Some(at),
        metadata: Metadata::parse(Map::from_iter([("is_test".to_owned(), Value::Bool(true))]))
            .unwrap_or_default(),
        call: facts(at)?,
        error: None,
        last_error: None,
        reanalysis: None,
        last_reanalysis: None,
        warnings: Vec::new(),
        talk_metrics: Some(TalkMetrics::of(&transcript)),
        transcript: Some(transcript),
        tags: Some(tags),
        audio_url: None,
    })
}

/// Returns the facts of the call of a test event. The phone number is reserved for fiction (North American Numbering Plan).
fn facts(at: Timestamp) -> Result<CallFacts, serde_json::Error> {
    serde_json::from_value(json!({
        "direction": "inbound", "agent": {"id": "0", "name": "Test"}, "phone": "+12025550100", "queue": "test", "started_at": at,
        "crm": {
            "amocrm_entity_id": CRM_ID,
            "bitrix24_call_id": WEBHOOK_TEST,
            "bitrix24_entity_id": CRM_ID,
            "chatwoot_conversation_id": CRM_ID,
            "hubspot_engagement_id": CRM_ID,
            "jira_issue_key": format!("TEST-{CRM_ID}"),
            "telegram_chat_id": CRM_ID,
            "zammad_ticket_id": CRM_ID,
            "zendesk_ticket_id": CRM_ID,
        },
    }))
}

/// Returns the ids that replace the placeholders in the URL of a receiver, for an event without a stored call. For a test event,
/// every placeholder gets an id. For other events, there are no ids.
pub fn ids_without_call(body: &[u8], url: &CallbackUrl) -> CrmIds {
    if !url.has_placeholders() {
        return CrmIds::default();
    }
    let data = event_data(body);
    if data["is_test"] != true {
        return CrmIds::default();
    }
    let facts: CallFacts = serde_json::from_value(data["call"].clone()).unwrap_or_default();
    let mut ids = facts.crm.unwrap_or_default();
    if let Ok(id) = FactText::parse(CRM_ID.to_owned()) {
        for name in url.placeholders() {
            ids.entry(name.clone()).or_insert_with(|| id.clone());
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::events::parse_event;
    use crate::domain::transforms::presets::PRESETS;
    use crate::domain::transforms::{Transform, TransformInput};

    const AT: Timestamp = Timestamp::from_millis(1_716_207_617_000);

    fn bodies() -> TestBodies {
        let webhook = WebhookId::parse("whk_018f95f4cd287c5b9a6f3b1f8f0a1d2e").unwrap();
        TestBodies::new(webhook, AT, &PublicUrl::default()).unwrap()
    }

    #[test]
    fn every_preset_renders_a_test_event_and_says_that_it_is_a_test() {
        let body = bodies().full;
        for preset in PRESETS {
            let transform = Transform { preset: Some(preset.name.to_owned()), ..Transform::default() };
            let event = parse_event(&body, None);
            let rendered = transform.render(TransformInput { event, link: "/" });
            let rendered = rendered.unwrap_or_else(|error| panic!("{}: {error}", preset.name));
            let text = String::from_utf8(rendered.body.to_vec()).unwrap();
            assert!(text.contains("This is a test of a webhook"), "{}: {text}", preset.name);
            let url = CallbackUrl::parse(preset.url).unwrap();
            assert!(url.fill(&ids_without_call(&body, &url)).is_ok(), "{}", preset.name);
        }
    }

    #[test]
    fn a_test_event_has_an_id_for_every_placeholder() {
        let url = CallbackUrl::parse("https://a.uz/{crm.deal}/{crm.jira_issue_key}").unwrap();
        let TestBodies { full, thin } = bodies();
        let filled = |body: &[u8]| url.fill(&ids_without_call(body, &url)).map(|url| url.as_str().to_owned());
        assert_eq!(filled(&full), Ok("https://a.uz/999999999999/TEST-999999999999".to_owned()));
        assert_eq!(filled(&thin), Ok("https://a.uz/999999999999/999999999999".to_owned()));
        let disabled = br#"{"type": "webhook.disabled", "data": {"webhook": "whk_1"}}"#;
        assert!(ids_without_call(disabled, &url).is_empty());
    }
}
