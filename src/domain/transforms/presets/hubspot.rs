//! HubSpot: the transcript of a call.

use serde_json::{Value, json};

use super::call_view::CallView;
use super::{DeliveryMethod, Preset, Rendering, answers, optional, required};
use crate::domain::renderings::spoken;
use crate::domain::transcript::Speaker;

pub(super) static TRANSCRIPT: Preset = Preset {
    name: "hubspot.transcript",
    description: "the transcript of a call engagement, for POST /crm/extensions/calling/2026-09/transcripts",
    url: "https://api.hubapi.com/crm/extensions/calling/2026-09/transcripts",
    method: DeliveryMethod::Post,
    content_type: "application/json",
    needs: &[
        required("hubspot_engagement_id", "the id of the call engagement"),
        optional("agent_name", "the name of the agent; Operator by default"),
    ],
    limits: "Milliseconds from the start of the call; no turn ends before it begins. Every turn with words is sent.",
    unverified: Some(
        "Whether the number of utterances is limited, and what a repeat does. Needs the OAuth token of a public app.",
    ),
    documentation: "https://developers.hubspot.com/docs/api-reference/crm-transcriptions-v3/guide",
    rate: None,
    judge: answers::by_status,
    render: transcript,
};

fn transcript(view: &mut CallView<'_>) -> Rendering {
    view.require_transcript();
    let engagement = view.number("hubspot_engagement_id");
    let agent = view.value("agent_name").unwrap_or_else(|| "Operator".to_owned());
    let utterances: Vec<Value> = spoken(&view.turns)
        .map(|(turn, text)| {
            let (id, name) = match &turn.speaker {
                Speaker::Operator => ("operator", agent.as_str()),
                Speaker::Client => ("client", "Client"),
                Speaker::Other(word) if word.trim().is_empty() => ("unknown", "Unknown"),
                Speaker::Other(word) => (word.as_str(), word.as_str()),
            };
            let begin = turn.begin_ms.max(0);
            json!({
                "speaker": {"id": id, "name": name}, "text": text,
                "startTimeMillis": begin, "endTimeMillis": turn.end_ms.max(begin),
            })
        })
        .collect();
    Rendering::Json(json!({"engagementId": engagement, "transcriptCreateUtterances": utterances}))
}
