//! Bitrix24: transcripts of calls and comments in the timeline.
//!
//! Rules: <https://apidocs.bitrix24.com/api-reference/telephony/voximplant/telephony-call-attach-transcription.html>,
//! <https://apidocs.bitrix24.com/api-reference/crm/timeline/comments/crm-timeline-comment-add.html> and
//! <https://apidocs.bitrix24.com/limits.html>.

use std::time::Duration;

use serde_json::{Value, json};

use super::{CrmAnswer, CrmEntry, CrmRequest, State, count, text};
use crate::domain::clock::Timestamp;

/// Capacity of the bucket: the number of requests that may arrive at the same time.
const CAPACITY: u32 = 50;
/// Time after which the bucket has room for one more request. This time allows two requests per second on average.
const LEAK: Duration = Duration::from_millis(500);
/// Maximum size of one line of a transcript (`MESSAGE`) in bytes.
const MAX_MESSAGE: usize = 65_535;
/// For a call whose id begins with this text, the answer to the first request is that the call is unfinished.
const UNFINISHED: &str = "unfinished";

/// The rate limit of requests: a leaky bucket.
#[derive(Debug, Default)]
pub(super) struct LeakyBucket {
    /// Time at which the bucket will be empty.
    empty_at: Option<Timestamp>,
}

impl LeakyBucket {
    /// Adds a request. Returns whether the bucket had room for it.
    fn add(&mut self, now: Timestamp) -> bool {
        let empty_at = self.empty_at.map_or(now, |at| at.max(now));
        if empty_at.since(now) > LEAK * (CAPACITY - 1) {
            return false;
        }
        self.empty_at = Some(empty_at + LEAK);
        true
    }
}

pub(super) fn answer(request: &CrmRequest<'_>, state: &mut State) -> Result<CrmAnswer, CrmAnswer> {
    let ["rest", user, secret, method] = request.path[..] else {
        return Err((404, error("ERROR_METHOD_NOT_FOUND", "Method not found!")));
    };
    if request.method != "POST" || user.parse::<u32>().is_err() || secret.is_empty() {
        return Err((401, error("INVALID_CREDENTIALS", "Invalid request credentials")));
    }
    if !state.bitrix24.add(request.received.at) {
        return Err((503, error("QUERY_LIMIT_EXCEEDED", "Too many requests")));
    }
    match method.trim_end_matches(".json") {
        "telephony.call.attachTranscription" => transcript(&request.body, state),
        "crm.timeline.comment.add" => comment(&request.body, state),
        _ => Err((404, error("ERROR_METHOD_NOT_FOUND", "Method not found!"))),
    }
}

/// Attaches a transcript. A repeated request replaces the transcript of the call.
fn transcript(body: &Value, state: &mut State) -> Result<CrmAnswer, CrmAnswer> {
    let invalid = |rule: &str| (400, error("ERROR_ARGUMENT", rule));
    let call = text(&body["CALL_ID"]).ok_or_else(|| invalid("CALL_ID is empty"))?;
    let messages = body["MESSAGES"].as_array().filter(|messages| !messages.is_empty());
    let mut lines = Vec::new();
    for message in messages.ok_or_else(|| invalid("MESSAGES is empty"))? {
        let side = text(&message["SIDE"]).filter(|side| ["User", "Client"].contains(side));
        let line = text(&message["MESSAGE"]).filter(|line| line.len() <= MAX_MESSAGE);
        let (Some(side), Some(line)) = (side, line) else { return Err(invalid("SIDE or MESSAGE is wrong")) };
        let times = (count(&message["START_TIME"]), count(&message["STOP_TIME"]));
        if !matches!(times, (Some(start), Some(stop)) if stop >= 1 && stop >= start) {
            return Err(invalid("START_TIME or STOP_TIME is wrong"));
        }
        lines.push(format!("{side}: {line}"));
    }
    if call.starts_with(UNFINISHED) && !state.unfinished.iter().any(|known| known == call) {
        state.unfinished.push(call.to_owned());
        return Err((400, error("", "Call is not found. Is it finished?")));
    }
    state.entries.retain(|entry| entry.crm != "bitrix24" || entry.card != call);
    state.entries.push(CrmEntry { crm: "bitrix24", card: call.to_owned(), text: lines.join("\n") });
    Ok((200, json!({"result": {"TRANSCRIPT_ID": state.entries.len()}})))
}

/// Adds a comment to the timeline of an entity.
fn comment(body: &Value, state: &mut State) -> Result<CrmAnswer, CrmAnswer> {
    let fields = &body["fields"];
    let card = (text(&fields["ENTITY_TYPE"]), count(&fields["ENTITY_ID"]));
    let (Some(kind), Some(id), Some(comment)) = (card.0, card.1, text(&fields["COMMENT"])) else {
        return Err((400, error("ERROR_ARGUMENT", "ENTITY_TYPE, ENTITY_ID or COMMENT is wrong")));
    };
    state.entries.push(CrmEntry { crm: "bitrix24", card: format!("{kind} {id}"), text: comment.to_owned() });
    Ok((200, json!({"result": state.entries.len()})))
}

fn error(code: &str, description: &str) -> Value {
    json!({"error": code, "error_description": description})
}
