//! Rules that receivers document: one test for each rule, with its source, for a short, a long and an empty call.

use serde_json::Value;

use super::{PRESETS, calls, event, preset, render};

/// Returns the URL of a file of amoCRM's SDK for PHP, at the commit from which the rules were read.
macro_rules! amocrm_sdk {
    ($file:literal) => {
        concat!(
            "https://github.com/amocrm/amocrm-api-php/blob/1354d8a75b4514a4c52a9c215d79daa3270e3726/src/AmoCRM/",
            $file
        )
    };
}

/// Declares a test for each rule: the name of the test, the preset, the source of the rule, and the check of a body.
macro_rules! rules {
    ($($name:ident: $preset:literal, $source:expr, $keeps:expr;)*) => {
        $(
            #[test]
            fn $name() {
                check($preset, $source, $keeps);
            }
        )*

        /// The preset of each rule.
        const RULES: &[&str] = &[$($preset),*];
    };
}

const BITRIX24_TRANSCRIPT: &str = "https://apidocs.bitrix24.com/api-reference/telephony/voximplant/telephony-call-attach-transcription.html";
const BITRIX24_COMMENT: &str =
    "https://apidocs.bitrix24.com/api-reference/crm/timeline/comments/crm-timeline-comment-add.html";
const AMOCRM_CALL: &str = "https://www.amocrm.ru/developers/content/crm_platform/calls-api";
const AMOCRM_CALL_MODEL: &str = amocrm_sdk!("Models/CallModel.php");
const AMOCRM_CALL_TRAIT: &str = amocrm_sdk!("Models/Traits/CallTrait.php");
const AMOCRM_CALL_VALUES: &str = amocrm_sdk!("Models/Interfaces/CallInterface.php");
const AMOCRM_COLLECTION: &str = amocrm_sdk!("Collections/BaseApiCollection.php");
const AMOCRM_NOTE_MODEL: &str = amocrm_sdk!("Models/NoteModel.php");
const AMOCRM_COMMON_NOTE: &str = amocrm_sdk!("Models/NoteType/CommonNote.php");
const AMOCRM_NOTE_TYPES: &str = amocrm_sdk!("Models/Factories/NoteFactory.php");
const ZENDESK_COMMENT: &str =
    "https://developer.zendesk.com/api-reference/ticketing/tickets/ticket_comments/";
const ZENDESK_SIZE: &str = "https://support.zendesk.com/hc/en-us/community/posts/4719863289498-Commets-size";
const JIRA_SIZE: &str = "https://jira.atlassian.com/browse/JRACLOUD-78553";
const JSM_COMMENT: &str = "https://developer.atlassian.com/cloud/jira/service-desk/rest/api-group-request/";
const SALESFORCE_TASK: &str = "https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_task.htm";
const SALESFORCE_FIELDS: &str = "https://developer.salesforce.com/docs/atlas.en-us.196.0.sfFieldRef.meta/sfFieldRef/salesforce_field_reference_Task.htm";
const ZAMMAD_ARTICLE: &str = "https://docs.zammad.org/en/latest/api/ticket/articles.html";
const ZAMMAD_BODY: &str = "https://github.com/zammad/zammad/blob/04055f70959bbef52d48583db99843bcc991332a/app/models/ticket/article.rb";
const ZAMMAD_TABLE: &str = "https://github.com/zammad/zammad/blob/02380592634f773e74a150efd0b78c874db077b0/db/migrate/20120101000010_create_ticket.rb";
const CHATWOOT_MESSAGE: &str = "https://developers.chatwoot.com/api-reference/messages/create-new-message";
const SLACK_SIZE: &str = "https://api.slack.com/changelog/2018-04-truncating-really-long-messages";
const SLACK_MARKUP: &str = "https://docs.slack.dev/messaging/formatting-message-text";
const SLACK_WEBHOOK: &str = "https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks";
const TELEGRAM_MESSAGE: &str = "https://core.telegram.org/bots/api#sendmessage";
const COMMONMARK: &str = "https://spec.commonmark.org/0.31.2/#backslash-escapes";
const HTML_TEXT: &str = "https://html.spec.whatwg.org/multipage/syntax.html#elements-2";

rules! {
    bitrix24_transcripts_have_a_call_and_messages: "bitrix24.transcript", BITRIX24_TRANSCRIPT, |body|
        has_only(body, &["CALL_ID", "MESSAGES"]) && has_text(&body["CALL_ID"]) && is_list(&body["MESSAGES"], |_| true);
    bitrix24_messages_have_four_fields: "bitrix24.transcript", BITRIX24_TRANSCRIPT, |body|
        is_list(&body["MESSAGES"], |it| has_only(it, &["SIDE", "START_TIME", "STOP_TIME", "MESSAGE"]) && has_text(&it["MESSAGE"]));
    bitrix24_sides_are_user_and_client: "bitrix24.transcript", BITRIX24_TRANSCRIPT, |body|
        is_list(&body["MESSAGES"], |it| is_one(&it["SIDE"], &["User", "Client"]));
    bitrix24_times_are_whole_seconds: "bitrix24.transcript", BITRIX24_TRANSCRIPT, |body|
        is_list(&body["MESSAGES"], |it| it["START_TIME"].as_u64().zip(it["STOP_TIME"].as_u64()).is_some_and(|(start, stop)| start <= stop));
    bitrix24_comments_have_an_entity_and_a_text: "bitrix24.comment", BITRIX24_COMMENT, |body|
        has_only(body, &["fields"]) && has_only(&body["fields"], &["ENTITY_ID", "ENTITY_TYPE", "COMMENT"])
            && body["fields"]["ENTITY_ID"].is_u64() && has_text(&body["fields"]["ENTITY_TYPE"]) && has_text(&body["fields"]["COMMENT"]);

    amocrm_calls_are_a_list: "amocrm.call", AMOCRM_COLLECTION, |body| is_list(body, Value::is_object);
    amocrm_calls_have_fields_of_the_model: "amocrm.call", AMOCRM_CALL_MODEL, |body| is_list(body, |call| has_only(call, &[
        "uniq", "duration", "source", "link", "phone", "call_result", "call_status", "direction", "request_id", "responsible_user_id",
        "call_responsible", "created_by", "updated_by", "created_at", "updated_at",
    ]));
    amocrm_calls_have_what_is_required: "amocrm.call", AMOCRM_CALL, |body|
        is_list(body, |call| ["direction", "duration", "source", "phone"].iter().all(|name| !call[name].is_null()));
    amocrm_calls_have_texts_of_the_model: "amocrm.call", AMOCRM_CALL_TRAIT, |body|
        is_list(body, |call| ["uniq", "source", "phone", "call_result"].iter().all(|name| has_text(&call[name])));
    amocrm_durations_are_whole_seconds: "amocrm.call", AMOCRM_CALL_TRAIT, |body| is_list(body, |call| call["duration"].is_u64());
    amocrm_names_who_took_the_call: "amocrm.call", AMOCRM_CALL_TRAIT, |body|
        is_list(body, |call| has_text(&call["call_responsible"]) || call["call_responsible"].is_u64());
    amocrm_users_and_times_are_numbers: "amocrm.call", AMOCRM_CALL_MODEL, |body|
        is_list(body, |call| call["responsible_user_id"].is_u64() && call["created_at"].is_u64());
    amocrm_directions_are_known: "amocrm.call", AMOCRM_CALL_VALUES, |body|
        is_list(body, |call| is_one(&call["direction"], &["inbound", "outbound"]));
    amocrm_statuses_are_known: "amocrm.call", AMOCRM_CALL_VALUES, |body|
        is_list(body, |call| call["call_status"].as_u64().is_some_and(|status| (1..=8).contains(&status)));
    amocrm_notes_are_a_list: "amocrm.note", AMOCRM_COLLECTION, |body| is_list(body, Value::is_object);
    amocrm_notes_have_fields_of_the_model: "amocrm.note", AMOCRM_NOTE_MODEL, |body| is_list(body, |note| has_only(note, &[
        "entity_id", "id", "responsible_user_id", "created_by", "updated_by", "created_at", "updated_at", "request_id", "note_type",
        "is_need_to_trigger_digital_pipeline", "params",
    ]));
    amocrm_notes_belong_to_a_number: "amocrm.note", AMOCRM_NOTE_MODEL, |body| is_list(body, |note| note["entity_id"].is_u64());
    amocrm_notes_are_common: "amocrm.note", AMOCRM_NOTE_TYPES, |body| is_list(body, |note| is_one(&note["note_type"], &["common"]));
    amocrm_notes_have_a_text_only: "amocrm.note", AMOCRM_COMMON_NOTE, |body|
        is_list(body, |note| has_only(&note["params"], &["text"]) && has_text(&note["params"]["text"]));

    zendesk_comments_are_internal: "zendesk.comment", ZENDESK_COMMENT, |body|
        has_only(&body["ticket"]["comment"], &["body", "public"]) && body["ticket"]["comment"]["public"] == false;
    zendesk_comments_have_up_to_65000_bytes: "zendesk.comment", ZENDESK_SIZE, |body|
        body["ticket"]["comment"]["body"].as_str().is_some_and(|text| (1..=65_000).contains(&text.len()));
    jira_comments_have_up_to_32767_characters: "jira.comment", JIRA_SIZE, |body|
        body["body"].is_object() && characters(&body.to_string()) <= 32_767;
    jsm_comments_have_a_text_and_a_visibility: "jsm.comment", JSM_COMMENT, |body|
        has_only(body, &["body", "public"]) && has_text(&body["body"]) && body["public"] == false;
    jsm_comments_have_up_to_32767_characters: "jsm.comment", JIRA_SIZE, |body| is_short(&body["body"], 32_767);

    salesforce_tasks_have_fields_that_can_be_created: "salesforce.task", SALESFORCE_TASK, |body| has_only(body, &[
        "Subject", "Status", "TaskSubtype", "CallDurationInSeconds", "Description", "CallType", "WhoId", "WhatId", "OwnerId", "ActivityDate",
    ]);
    salesforce_tasks_are_completed_calls: "salesforce.task", SALESFORCE_TASK, |body|
        is_one(&body["Status"], &["Completed"]) && is_one(&body["TaskSubtype"], &["Call"]);
    salesforce_call_types_are_known: "salesforce.task", SALESFORCE_TASK, |body| is_one(&body["CallType"], &["Inbound", "Internal", "Outbound"]);
    salesforce_dates_have_no_time: "salesforce.task", SALESFORCE_TASK, |body|
        body["ActivityDate"].as_str().is_some_and(|date| date.len() == 10 && date.split('-').all(|part| part.parse::<u16>().is_ok()));
    salesforce_durations_have_up_to_8_digits: "salesforce.task", SALESFORCE_FIELDS, |body|
        body["CallDurationInSeconds"].as_u64().is_some_and(|seconds| seconds < 100_000_000);
    salesforce_descriptions_have_up_to_32000_characters: "salesforce.task", SALESFORCE_FIELDS, |body| is_short(&body["Description"], 32_000);
    salesforce_subjects_have_up_to_255_characters: "salesforce.task", SALESFORCE_FIELDS, |body| is_short(&body["Subject"], 255);

    zammad_articles_are_internal_texts_of_a_ticket: "zammad.article", ZAMMAD_ARTICLE, |body|
        has_only(body, &["ticket_id", "subject", "body", "content_type", "type", "internal"]) && body["ticket_id"].is_u64()
            && is_one(&body["content_type"], &["text/plain"]) && is_one(&body["type"], &["note", "phone"]) && body["internal"] == true;
    zammad_articles_have_up_to_1500000_characters: "zammad.article", ZAMMAD_BODY, |body| is_short(&body["body"], 1_500_000);
    zammad_subjects_have_up_to_3000_characters: "zammad.article", ZAMMAD_TABLE, |body| is_short(&body["subject"], 3_000);
    chatwoot_notes_are_private: "chatwoot.note", CHATWOOT_MESSAGE, |body|
        has_only(body, &["content", "private"]) && has_text(&body["content"]) && body["private"] == true;

    slack_messages_have_a_text: "slack.message", SLACK_WEBHOOK, |body| has_only(body, &["text"]) && has_text(&body["text"]);
    slack_messages_have_up_to_40000_characters: "slack.message", SLACK_SIZE, |body| is_short(&body["text"], 40_000);
    slack_messages_have_no_control_characters: "slack.message", SLACK_MARKUP, |body| is_escaped(&body["text"], &[]);
    telegram_messages_have_a_chat_and_a_plain_text: "telegram.message", TELEGRAM_MESSAGE, |body|
        has_only(body, &["chat_id", "text"]) && (has_text(&body["chat_id"]) || body["chat_id"].is_i64());
    telegram_messages_have_up_to_4096_characters: "telegram.message", TELEGRAM_MESSAGE, |body| is_short(&body["text"], 4_096);

    markdown_has_no_html: "markdown", COMMONMARK, |page|
        page.as_str().is_some_and(|page| page.match_indices('<').all(|(at, _)| page[..at].ends_with('\\')));
    html_has_no_other_elements: "html", HTML_TEXT, |page| is_escaped(page, &["<p>", "</p>", "<b>", "</b>", "<br>"]);
}

/// Asserts that the bodies of all calls keep a rule. The value `null` must break the rule, because a rule that holds without any
/// field would test nothing.
fn check(name: &str, source: &str, keeps: fn(&Value) -> bool) {
    assert!(!keeps(&Value::Null) && source.starts_with("https://"), "{source}");
    for turns in calls() {
        let rendered = render(&preset(name), &event(&turns)).unwrap();
        let body = match &*rendered.content_type {
            "application/json" => serde_json::from_slice(&rendered.body).unwrap(),
            _ => Value::String(std::str::from_utf8(&rendered.body).unwrap().to_owned()),
        };
        assert!(keeps(&body), "{name} with {} turns breaks a rule of {source}: {body}", turns.len());
    }
}

/// The rules of HubSpot come from its specification, which `published.rs` checks.
#[test]
fn every_preset_has_a_rule() {
    let without: Vec<_> = PRESETS.iter().map(|it| it.name).filter(|name| !RULES.contains(name)).collect();
    assert_eq!(without, ["hubspot.transcript"]);
}

/// `Calls.php` and `EntityNotes.php` of the SDK have the paths.
#[test]
fn amocrm_paths_are_those_of_the_sdk() {
    let path =
        |name: &str| PRESETS.iter().find(|it| it.name == name).unwrap().url.split_once(".ru/").unwrap().1;
    assert_eq!((path("amocrm.call"), path("amocrm.note")), ("api/v4/calls", "api/v4/leads/notes"));
}

fn has_only(value: &Value, fields: &[&str]) -> bool {
    value.as_object().is_some_and(|object| object.keys().all(|name| fields.contains(&name.as_str())))
}

fn has_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.trim().is_empty())
}

fn is_one(value: &Value, words: &[&str]) -> bool {
    value.as_str().is_some_and(|word| words.contains(&word))
}

fn is_list(value: &Value, is_item: impl Fn(&Value) -> bool) -> bool {
    value.as_array().is_some_and(|items| !items.is_empty() && items.iter().all(is_item))
}

/// Returns the number of characters as receivers in Java or JavaScript count them. Other receivers count fewer characters.
fn characters(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Whether a text has between 1 and `limit` characters.
fn is_short(value: &Value, limit: usize) -> bool {
    value.as_str().is_some_and(|text| (1..=limit).contains(&characters(text)))
}

/// Whether `<`, `>` and `&` occur only in these tags and in entities.
fn is_escaped(value: &Value, tags: &[&str]) -> bool {
    let Some(text) = value.as_str() else { return false };
    let plain = tags.iter().copied().chain(["&lt;", "&gt;", "&amp;"]);
    let rest = plain.fold(text.to_owned(), |rest, mark| rest.replace(mark, ""));
    !rest.contains(['<', '>', '&'])
}
