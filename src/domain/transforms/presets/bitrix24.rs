//! Bitrix24: the transcript of a call, and a comment in the timeline.

use serde_json::{Value, json};

use super::call_view::{CallView, seconds_up};
use super::summary::{plain, text};
use super::{DeliveryMethod, Preset, Rendering, answers, optional, required};
use crate::domain::delivery_rate::DeliveryRate;
use crate::domain::renderings::spoken;
use crate::domain::transcript::{Speaker, Turn};

/// Maximum size of a line of a transcript in bytes: the size of a MySQL column of the type `text`.
const MAX_MESSAGE: usize = 65_535;
/// The bucket of an account: 2 requests per second and 50 at once (<https://apidocs.bitrix24.com/limits.html>). An Enterprise
/// account has 5 requests per second and 250 at once.
const LIMIT: DeliveryRate = DeliveryRate::of_preset(2.0, 50);

pub(super) static TRANSCRIPT: Preset = Preset {
    name: "bitrix24.transcript",
    description: "the transcript of a finished call, for telephony.call.attachTranscription",
    url: "https://example.bitrix24.ru/rest/1/SECRET/telephony.call.attachTranscription",
    method: DeliveryMethod::Post,
    content_type: "application/json",
    needs: &[required(
        "bitrix24_call_id",
        "the CALL_ID that telephony.externalCall.register returned, not that of the PBX",
    )],
    limits: "Times are whole seconds: the start of a turn is rounded down, and its end is rounded up and is at least 1. SIDE is User or \
             Client. A message of more than 65,535 bytes is split. A call without words gets one message that says so. A repeat \
             replaces the transcript.",
    unverified: Some("Whether the number of messages is limited."),
    documentation: "https://apidocs.bitrix24.com/api-reference/telephony/voximplant/telephony-call-attach-transcription.html",
    rate: Some(LIMIT),
    judge: answers::bitrix24,
    render: transcript,
};

pub(super) static COMMENT: Preset = Preset {
    name: "bitrix24.comment",
    description: "a comment in the timeline of a CRM entity, for crm.timeline.comment.add",
    url: "https://example.bitrix24.ru/rest/1/SECRET/crm.timeline.comment.add",
    method: DeliveryMethod::Post,
    content_type: "application/json",
    needs: &[
        required("bitrix24_entity_id", "the id of the CRM entity"),
        optional("bitrix24_entity_type", "the type of the entity: deal (default), lead, contact or another"),
    ],
    limits: "The gateway shortens the text to 60,000 characters. A repeat adds the comment again.",
    unverified: Some("Whether the size of a comment is limited."),
    documentation: "https://apidocs.bitrix24.com/api-reference/crm/timeline/comments/crm-timeline-comment-add.html",
    rate: Some(LIMIT),
    judge: answers::bitrix24,
    render: comment,
};

fn transcript(view: &mut CallView<'_>) -> Rendering {
    view.require_transcript();
    let mut messages: Vec<Value> =
        spoken(&view.turns).flat_map(|(turn, text)| messages(turn, &text)).collect();
    if messages.is_empty() {
        messages.push(json!({"SIDE": "Client", "START_TIME": 0, "STOP_TIME": 1, "MESSAGE": "No speech was recognized."}));
    }
    Rendering::Json(json!({"CALL_ID": view.text("bitrix24_call_id"), "MESSAGES": messages}))
}

/// Returns a turn as one message, or as several messages if its text is too long for one.
fn messages(turn: &Turn, text: &str) -> Vec<Value> {
    let (side, text) = match &turn.speaker {
        Speaker::Operator => ("User", text.to_owned()),
        Speaker::Client => ("Client", text.to_owned()),
        Speaker::Other(word) if word.trim().is_empty() => ("Client", text.to_owned()),
        Speaker::Other(word) => ("Client", format!("{}: {text}", word.trim())),
    };
    let start = turn.begin_ms.max(0) / 1000;
    let stop = seconds_up(turn.end_ms).max(start).max(1);
    let message = |text| json!({"SIDE": side, "START_TIME": start, "STOP_TIME": stop, "MESSAGE": text});
    pieces(&text, MAX_MESSAGE).into_iter().map(message).collect()
}

/// Splits a text into pieces of at most `limit` bytes.
fn pieces(mut text: &str, limit: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    while text.len() > limit {
        let (piece, rest) = text.split_at(text.floor_char_boundary(limit));
        pieces.push(piece);
        text = rest;
    }
    pieces.push(text);
    pieces
}

fn comment(view: &mut CallView<'_>) -> Rendering {
    let entity = view.number("bitrix24_entity_id");
    let kind = view.value("bitrix24_entity_type").unwrap_or_else(|| "deal".to_owned());
    let comment = text(view, &plain(60_000));
    Rendering::Json(json!({"fields": {"ENTITY_ID": entity, "ENTITY_TYPE": kind, "COMMENT": comment}}))
}
