//! HubSpot: transcripts of calls.
//!
//! Rules: `Transcriptions` 2026-09 in <https://github.com/HubSpot/HubSpot-public-api-spec-collection>.

use serde_json::json;

use super::{CrmAnswer, CrmEntry, CrmRequest, count, text};

pub(super) fn answer(request: &CrmRequest<'_>, entries: &mut Vec<CrmEntry>) -> Result<CrmAnswer, CrmAnswer> {
    request.authorized()?;
    let path = ["crm", "extensions", "calling", "2026-09", "transcripts"];
    if request.method != "POST" || request.path[..] != path {
        return Err((404, json!({"status": "error", "category": "OBJECT_NOT_FOUND"})));
    }
    let invalid =
        |message: &str| (400, json!({"status": "error", "category": "VALIDATION_ERROR", "message": message}));
    let engagement = count(&request.body["engagementId"]).ok_or_else(|| invalid("engagementId is wrong"))?;
    let utterances = request.body["transcriptCreateUtterances"].as_array();
    let mut lines = Vec::new();
    for utterance in utterances.ok_or_else(|| invalid("transcriptCreateUtterances is wrong"))? {
        let speaker = &utterance["speaker"];
        let times = (count(&utterance["startTimeMillis"]), count(&utterance["endTimeMillis"]));
        let has_times =
            matches!(times, (Some(start), Some(end)) if start <= end && i32::try_from(end).is_ok());
        let (Some(_), Some(name), Some(line), true) =
            (text(&speaker["id"]), text(&speaker["name"]), text(&utterance["text"]), has_times)
        else {
            return Err(invalid("an utterance is wrong"));
        };
        lines.push(format!("{name}: {line}"));
    }
    entries.push(CrmEntry { crm: "hubspot", card: engagement.to_string(), text: lines.join("\n") });
    Ok((201, json!({"id": entries.len().to_string()})))
}
