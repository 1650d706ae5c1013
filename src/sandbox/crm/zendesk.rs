//! Zendesk: comments of tickets.
//!
//! Rules: <https://developer.zendesk.com/api-reference/ticketing/tickets/tickets/#update-ticket>. According to the staff of
//! Zendesk, the size of a comment is limited to about 65,000 characters, depending on the encoding, so the stand-in counts bytes:
//! <https://support.zendesk.com/hc/en-us/community/posts/4719863289498-Commets-size>. A ticket can have 5,000 comments.

use serde_json::json;

use super::{CrmAnswer, CrmEntry, CrmRequest, text};

/// Maximum size of a comment in bytes.
const MAX_COMMENT: usize = 65_000;
const MAX_COMMENTS: usize = 5_000;

pub(super) fn answer(request: &CrmRequest<'_>, entries: &mut Vec<CrmEntry>) -> Result<CrmAnswer, CrmAnswer> {
    request.authorized()?;
    let not_found = || (404, json!({"error": "RecordNotFound", "description": "Not found"}));
    let ("PUT", ["api", "v2", "tickets", ticket]) = (request.method, &request.path[..]) else {
        return Err(not_found());
    };
    let ticket = ticket.trim_end_matches(".json");
    if ticket.parse::<u64>().is_err() {
        return Err(not_found());
    }
    let invalid =
        |detail: &str| (422, json!({"error": "RecordInvalid", "description": detail, "details": {}}));
    let comment = &request.body["ticket"]["comment"];
    let body = text(&comment["body"]).filter(|body| body.len() <= MAX_COMMENT);
    let is_flag = comment.get("public").is_none_or(serde_json::Value::is_boolean);
    let body = body.filter(|_| is_flag).ok_or_else(|| invalid("Comment: is invalid"))?;
    if entries.iter().filter(|entry| entry.crm == "zendesk" && entry.card == ticket).count() >= MAX_COMMENTS {
        return Err(invalid("Ticket: has too many comments"));
    }
    entries.push(CrmEntry { crm: "zendesk", card: ticket.to_owned(), text: body.to_owned() });
    Ok((200, json!({"ticket": {"id": ticket.parse::<u64>().ok()}})))
}
