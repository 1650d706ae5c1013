//! Checks bodies of presets against the schemas that receivers publish.

use jsonschema::Validator;
use serde_json::{Value, json};

use super::{body, calls, event, preset};

fn assert_valid(validator: &Validator, body: &Value) {
    let errors: Vec<_> = validator.iter_errors(body).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn jira_comments_follow_the_published_schema_of_adf() {
    let schema: Value =
        serde_json::from_str(include_str!("../../../../tests/fixtures/adf/full.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for turns in calls() {
        assert_valid(&validator, &body(&preset("jira.comment"), &event(&turns))["body"]);
    }
    let empty_text = json!({"version": 1, "type": "doc", "content": [{"type": "paragraph", "content": [{"type": "text", "text": ""}]}]});
    assert!(!validator.is_valid(&empty_text), "the schema forbids empty texts");
}

/// The schema is that of the request in `transcriptions.json`, version 2026-09, from the public API specifications of HubSpot:
/// <https://github.com/HubSpot/HubSpot-public-api-spec-collection>.
#[test]
fn hubspot_transcripts_follow_the_published_specification() {
    let int32 = json!({"type": "integer", "minimum": i32::MIN, "maximum": i32::MAX});
    let schema = json!({
        "required": ["engagementId", "transcriptCreateUtterances"], "type": "object", "additionalProperties": false,
        "properties": {
            "engagementId": {"type": "integer"},
            "transcriptCreateUtterances": {"type": "array", "items": {
                "required": ["endTimeMillis", "speaker", "startTimeMillis", "text"], "type": "object",
                "additionalProperties": false,
                "properties": {
                    "endTimeMillis": int32, "startTimeMillis": int32, "languageCode": {"type": "string"},
                    "text": {"type": "string"},
                    "speaker": {
                        "required": ["id", "name"], "type": "object", "additionalProperties": false,
                        "properties": {"email": {"type": "string"}, "id": {"type": "string"}, "name": {"type": "string"}},
                    },
                },
            }},
        },
    });
    let validator = jsonschema::validator_for(&schema).unwrap();
    for turns in calls() {
        assert_valid(&validator, &body(&preset("hubspot.transcript"), &event(&turns)));
    }
}
