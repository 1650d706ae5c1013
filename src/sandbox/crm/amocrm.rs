//! amoCRM (Kommo): calls and notes.
//!
//! Rules: <https://www.amocrm.ru/developers/content/crm_platform/calls-api> and
//! <https://www.amocrm.ru/developers/content/crm_platform/events-and-notes>.

use serde_json::{Value, json};

use super::{CrmAnswer, CrmEntry, CrmRequest, count, text};

/// No contact has a phone number that ends with these digits.
const UNKNOWN_END: &str = "0000";

pub(super) fn answer(request: &CrmRequest<'_>, entries: &mut Vec<CrmEntry>) -> Result<CrmAnswer, CrmAnswer> {
    request.authorized()?;
    let items = request.body.as_array().filter(|items| !items.is_empty() && items.len() <= 250);
    let items = items.ok_or_else(|| invalid("the body is no array of 1 to 250 items"))?;
    match (request.method, &request.path[..]) {
        ("POST", ["api", "v4", "calls"]) => calls(items, entries),
        ("POST", ["api", "v4", kind @ ("leads" | "contacts" | "companies"), "notes"]) => {
            notes(kind, items, entries)
        }
        _ => Err((404, json!({"title": "Not Found", "status": 404}))),
    }
}

/// Adds each call to the contact that has the phone number of the call. A call without a contact is not added.
fn calls(items: &[Value], entries: &mut Vec<CrmEntry>) -> Result<CrmAnswer, CrmAnswer> {
    let (mut added, mut errors) = (Vec::new(), Vec::new());
    for item in items {
        let direction = text(&item["direction"]).filter(|word| ["inbound", "outbound"].contains(word));
        let status = item.get("call_status").is_none_or(|status| matches!(count(status), Some(1..=7)));
        let created = item.get("created_at").is_none_or(|time| count(time).is_some());
        let phone = text(&item["phone"]).map(last_digits).filter(|digits| !digits.is_empty());
        let has_all =
            direction.is_some() && count(&item["duration"]).is_some() && text(&item["source"]).is_some();
        let Some(phone) = phone.filter(|_| has_all && status && created) else {
            return Err(invalid("direction, duration, source, phone, call_status or created_at is wrong"));
        };
        if phone.ends_with(UNKNOWN_END) {
            errors.push(json!({"status": 263, "title": "Entity not found", "detail": "Entity not found"}));
            continue;
        }
        let result = item["call_result"].as_str().unwrap_or_default();
        entries.push(CrmEntry { crm: "amocrm", card: phone, text: result.to_owned() });
        added.push(json!({"id": entries.len(), "entity_id": 1, "entity_type": "contact"}));
    }
    Ok((200, json!({"_total_items": added.len(), "errors": errors, "_embedded": {"calls": added}})))
}

/// Adds notes. A repeated request adds them again.
fn notes(kind: &str, items: &[Value], entries: &mut Vec<CrmEntry>) -> Result<CrmAnswer, CrmAnswer> {
    let mut added = Vec::new();
    for item in items {
        let is_common = item["note_type"] == "common";
        let (Some(entity), Some(note), true) =
            (count(&item["entity_id"]), text(&item["params"]["text"]), is_common)
        else {
            return Err(invalid("entity_id, note_type or params.text is wrong"));
        };
        entries.push(CrmEntry { crm: "amocrm", card: format!("{kind} {entity}"), text: note.to_owned() });
        added.push(json!({"id": entries.len(), "entity_id": entity}));
    }
    Ok((200, json!({"_embedded": {"notes": added}})))
}

/// Returns the last ten digits of a phone number.
fn last_digits(phone: &str) -> String {
    let digits: String = phone.chars().filter(char::is_ascii_digit).collect();
    digits.get(digits.len().saturating_sub(10)..).unwrap_or_default().to_owned()
}

fn invalid(detail: &str) -> CrmAnswer {
    (400, json!({"title": "Bad Request", "status": 400, "detail": detail}))
}
