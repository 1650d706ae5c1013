//! amoCRM (Kommo): a note at a lead, contact or company, and a call.

use serde_json::{Map, json};

use super::call_view::CallView;
use super::summary::{plain, text};
use super::{DeliveryMethod, Preset, Rendering, answers, optional, required};
use crate::domain::delivery_rate::DeliveryRate;

/// At most 7 requests per second, as Kommo documents for the same API (<https://developers.kommo.com/docs/limitations>).
const LIMIT: DeliveryRate = DeliveryRate::of_preset(7.0, 7);

pub(super) static NOTE: Preset = Preset {
    name: "amocrm.note",
    description: "a note of the type common, for POST /api/v4/{leads,contacts,companies}/notes",
    url: "https://example.amocrm.ru/api/v4/leads/notes",
    method: DeliveryMethod::Post,
    content_type: "application/json",
    needs: &[required(
        "amocrm_entity_id",
        "the id of the lead, contact or company; the URL of the webhook names its type",
    )],
    limits: "The gateway shortens the text to 20,000 characters. A repeat adds the note again.",
    unverified: Some("The maximum size of a note."),
    documentation: "https://www.amocrm.ru/developers/content/crm_platform/events-and-notes",
    rate: Some(LIMIT),
    judge: answers::by_status,
    render: note,
};

pub(super) static CALL: Preset = Preset {
    name: "amocrm.call",
    description: "a call, for POST /api/v4/calls; amoCRM finds the contact by the last ten digits of the phone number",
    url: "https://example.amocrm.ru/api/v4/calls",
    method: DeliveryMethod::Post,
    content_type: "application/json",
    needs: &[
        required("direction", "inbound or outbound"),
        required("phone", "the phone number of the client"),
        optional("agent_name", "the name of the agent"),
        optional("amocrm_source", "the name of the telephony; alovoice by default"),
        optional("amocrm_responsible_user_id", "the id of the user who is responsible for the call"),
    ],
    limits: "The duration is in whole seconds. The result of the call is the text, shortened to 10,000 characters. If no contact has the \
             phone number, amoCRM adds nothing.",
    unverified: Some(
        "The maximum size of call_result, and whether amoCRM adds a second call with the same uniq.",
    ),
    documentation: "https://www.amocrm.ru/developers/content/crm_platform/calls-api",
    rate: Some(LIMIT),
    judge: answers::amocrm_call,
    render: call,
};

fn note(view: &mut CallView<'_>) -> Rendering {
    let entity = view.number("amocrm_entity_id");
    let text = text(view, &plain(20_000));
    Rendering::Json(json!([{"entity_id": entity, "note_type": "common", "params": {"text": text}}]))
}

fn call(view: &mut CallView<'_>) -> Rendering {
    let mut call = Map::new();
    call.insert("direction".to_owned(), json!(view.word("direction", &["inbound", "outbound"])));
    call.insert("uniq".to_owned(), json!(view.call_id()));
    call.insert("duration".to_owned(), json!(view.duration_s()));
    call.insert(
        "source".to_owned(),
        json!(view.value("amocrm_source").unwrap_or_else(|| "alovoice".to_owned())),
    );
    call.insert("phone".to_owned(), json!(view.text("phone")));
    call.insert("call_status".to_owned(), json!(4));
    call.insert("call_result".to_owned(), json!(text(view, &plain(10_000))));
    if let Some(name) = view.value("agent_name") {
        call.insert("call_responsible".to_owned(), json!(name));
    }
    if let Some(user) = view.number("amocrm_responsible_user_id") {
        call.insert("responsible_user_id".to_owned(), json!(user));
    }
    if let Some(begin_time) = view.begin_time() {
        call.insert("created_at".to_owned(), json!(begin_time.as_seconds()));
    }
    Rendering::Json(json!([call]))
}
