mod documented;
mod published;
mod templates;

use serde_json::{Value, json};

use super::presets::PRESETS;
use super::{MAX_BODY_BYTES, RenderedBody, Transform, TransformError, TransformInput};

const LINK: &str = "https://calls.example.uz/v1/analyses/1716207617.42";

fn turn(speaker: &str, begin_ms: i64, end_ms: i64, text: &str) -> Value {
    json!({"fragment_id": null, "speaker": speaker, "begin_ms": begin_ms, "end_ms": end_ms, "text": text})
}

fn three_turns() -> Vec<Value> {
    vec![
        turn("operator", 0, 900, "assalomu alaykum"),
        turn("client", 1_100, 2_960, "va alaykum \"assalom\" <b>"),
        turn("robot", 3_000, 2_000, "so'zlashuv\nyozilmoqda"),
    ]
}

/// Returns a call of three turns, one of 500 turns that exceeds every limit, and one without turns.
fn calls() -> [Vec<Value>; 3] {
    let text = "soʻz \"матн\" <b> & *🙂* ".repeat(15);
    let long = (0..500).map(|n| {
        let speaker = if n % 2 == 0 { "operator" } else { "client" };
        turn(speaker, n * 2000, n * 2000 + 1900, &text)
    });
    [three_turns(), long.collect(), Vec::new()]
}

/// Returns the event of a call with these turns. The call has every value that a preset needs.
fn event(turns: &[Value]) -> Vec<u8> {
    let crm = json!({
        "bitrix24_call_id": "externalCall.1", "bitrix24_entity_id": "17", "amocrm_entity_id": "18", "hubspot_engagement_id": "19",
        "zammad_ticket_id": "20", "telegram_chat_id": "-1001", "desk.ticket": "T-1", "amocrm_responsible_user_id": "21",
        "salesforce_who_id": "003000000000001", "salesforce_what_id": "001000000000001",
    });
    let call = json!({
        "direction": "inbound", "agent": {"id": "17", "name": "Dilnoza"}, "phone": "+998901234567", "queue": "support",
        "started_at": null, "crm": crm,
    });
    let data = json!({
        "call_id": "1716207617.42", "status": "completed", "revision": 1, "begin_time": "2024-05-20T12:20:17Z", "error": null,
        "metadata": {}, "call": call, "transcript": turns, "talk_metrics": {"duration_ms": 2_960},
        "tags": [{"name": "Жалоба", "value": "да"}, {"name": "Жалоба", "value": "да"}, {"name": "Чек", "value": ""}],
    });
    json!({"type": "analysis.completed", "timestamp": "2024-05-20T12:25:00Z", "data": data})
        .to_string()
        .into()
}

fn preset(name: &str) -> Transform {
    Transform { preset: Some(name.to_owned()), ..Transform::default() }
}

fn render(transform: &Transform, event: &[u8]) -> Result<RenderedBody, TransformError> {
    transform.render(TransformInput { event: serde_json::from_slice(event).unwrap(), link: LINK })
}

fn body(transform: &Transform, event: &[u8]) -> Value {
    serde_json::from_slice(&render(transform, event).unwrap().body).unwrap()
}

fn problems(transform: &Transform, event: &[u8]) -> Vec<String> {
    render(transform, event).unwrap_err().0
}

#[test]
fn every_preset_renders_short_long_and_empty_calls() {
    for preset_of in PRESETS {
        assert!(!preset_of.documentation.is_empty() && !preset_of.limits.is_empty());
        for turns in calls() {
            let rendered = render(&preset(preset_of.name), &event(&turns)).unwrap();
            assert!(!rendered.body.is_empty(), "{}", preset_of.name);
            assert_eq!(rendered.content_type, preset_of.content_type);
            if rendered.content_type == "application/json" {
                serde_json::from_slice::<Value>(&rendered.body).unwrap();
            }
        }
    }
}

#[test]
fn bitrix24_gets_whole_seconds_and_two_sides() {
    assert_eq!(
        body(&preset("bitrix24.transcript"), &event(&three_turns())),
        json!({"CALL_ID": "externalCall.1", "MESSAGES": [
            {"SIDE": "User", "START_TIME": 0, "STOP_TIME": 1, "MESSAGE": "assalomu alaykum"},
            {"SIDE": "Client", "START_TIME": 1, "STOP_TIME": 3, "MESSAGE": "va alaykum \"assalom\" <b>"},
            {"SIDE": "Client", "START_TIME": 3, "STOP_TIME": 3, "MESSAGE": "robot: so'zlashuv yozilmoqda"},
        ]})
    );
    let empty = body(&preset("bitrix24.transcript"), &event(&[]));
    assert_eq!(empty["MESSAGES"].as_array().unwrap().len(), 1);
    let long = body(&preset("bitrix24.transcript"), &event(&[turn("client", 0, 0, &"ў".repeat(40_000))]));
    let messages = long["MESSAGES"].as_array().unwrap();
    assert_eq!(messages.len(), 2);
    for message in messages {
        assert!(message["MESSAGE"].as_str().unwrap().len() <= 65_535 && message["STOP_TIME"] == 1);
    }
    let comment = body(&preset("bitrix24.comment"), &event(&three_turns()));
    let fields = &comment["fields"];
    assert_eq!((&fields["ENTITY_ID"], &fields["ENTITY_TYPE"]), (&json!(17), &json!("deal")));
    insta::assert_snapshot!(fields["COMMENT"].as_str().unwrap(), @r#"
    Call: 1716207617.42
    Begin: 2024-05-20T12:20:17Z
    Direction: inbound
    Phone: +998901234567
    Agent: Dilnoza (17)
    Queue: support
    Duration: 0:00:02
    Tags: Жалоба: да, Чек

    0:00:00 Operator: assalomu alaykum
    0:00:01 Client: va alaykum "assalom" <b>
    0:00:03 robot: so'zlashuv yozilmoqda
    "#);
}

#[test]
fn amocrm_gets_numbers_and_a_phone() {
    let call = body(&preset("amocrm.call"), &event(&three_turns()));
    let call = &call[0];
    assert_eq!(
        (&call["direction"], &call["duration"], &call["call_status"]),
        (&json!("inbound"), &json!(3), &json!(4))
    );
    assert_eq!((&call["phone"], &call["created_at"]), (&json!("+998901234567"), &json!(1_716_207_617)));
    let note = body(&preset("amocrm.note"), &event(&three_turns()));
    assert_eq!((&note[0]["entity_id"], &note[0]["note_type"]), (&json!(18), &json!("common")));
}

#[test]
fn hubspot_gets_milliseconds() {
    let transcript = body(&preset("hubspot.transcript"), &event(&three_turns()));
    assert_eq!(transcript["engagementId"], 19);
    assert_eq!(
        transcript["transcriptCreateUtterances"][2],
        json!({"speaker": {"id": "robot", "name": "robot"}, "text": "so'zlashuv yozilmoqda",
            "startTimeMillis": 3000, "endTimeMillis": 3000})
    );
}

#[test]
fn a_text_is_shortened_at_a_turn_with_a_link_to_the_rest() {
    let turns: Vec<_> =
        (0..500).map(|n| turn("client", n * 1000, n * 1000 + 900, &"🙂 ё ".repeat(20))).collect();
    for (name, pointer, limit) in [
        ("telegram.message", "/text", 4_096),
        ("jsm.comment", "/body", 32_767),
        ("amocrm.note", "/0/params/text", 20_000),
        ("slack.message", "/text", 40_000),
    ] {
        let body = body(&preset(name), &event(&turns));
        let text = body.pointer(pointer).unwrap().as_str().unwrap();
        let units = text.encode_utf16().count();
        assert!(units <= limit && units > limit / 2, "{name}: {units}");
        let (sent, rest) = text.rsplit_once('\n').unwrap();
        let sent = sent.lines().filter(|line| line.contains("🙂")).count();
        assert_eq!(rest, format!("… {} more turns: {LINK}", 500 - sent), "{name}");
    }
    let many_tags: Value = serde_json::from_slice(&event(&turns)).unwrap();
    let mut many_tags = many_tags;
    many_tags["data"]["tags"] = json!([{"name": "ж".repeat(9000), "value": null}]);
    let body = body(&preset("telegram.message"), many_tags.to_string().as_bytes());
    let text = body["text"].as_str().unwrap();
    assert!(text.encode_utf16().count() <= 4_096 && text.contains("🙂"), "{text}");
}

#[test]
fn a_text_at_the_maximum_is_complete_or_refused() {
    let markdown = preset("markdown");
    let ending = |size: usize| turn("client", 0, 900, &"a".repeat(size));
    let others = render(&markdown, &event(&[ending(1)])).unwrap().body.len() - 1;
    let longest = MAX_BODY_BYTES - others;
    assert_eq!(render(&markdown, &event(&[ending(longest)])).unwrap().body.len(), MAX_BODY_BYTES);
    // The last line break of a text is removed, so these texts could fit without the following turn.
    for size in longest - 3..=longest + 1 {
        let problems = problems(&markdown, &event(&[ending(size), turn("operator", 1000, 1900, "b")]));
        assert_eq!(problems, [format!("the body has more than {MAX_BODY_BYTES} bytes")], "{size}");
    }
}

#[test]
fn jira_gets_a_document_within_its_limit() {
    let turns: Vec<_> =
        (0..2000).map(|n| turn("client", n * 1000, n * 1000 + 900, "\"quoted\" text")).collect();
    let rendered = render(&preset("jira.comment"), &event(&turns)).unwrap();
    let units = std::str::from_utf8(&rendered.body).unwrap().encode_utf16().count();
    assert!(units <= 32_767 && units > 30_000, "{units}");
    let document: Value = serde_json::from_slice(&rendered.body).unwrap();
    let content = document["body"]["content"].as_array().unwrap();
    let last = content.last().unwrap()["content"][0]["text"].as_str().unwrap();
    assert_eq!(last, format!("… {} more turns: {LINK}", 2000 - (content.len() - 9)));
}

#[test]
fn markup_in_a_turn_is_escaped() {
    let html = render(&preset("html"), &event(&three_turns())).unwrap();
    let html = std::str::from_utf8(&html.body).unwrap();
    assert!(html.contains("&lt;b&gt;") && html.contains("<b>0:00:01 Client:</b>"), "{html}");
    let markdown = render(&preset("markdown"), &event(&three_turns())).unwrap();
    let markdown = std::str::from_utf8(&markdown.body).unwrap();
    assert!(markdown.contains(r"\<b\>"), "{markdown}");
}

#[test]
fn what_a_preset_needs_and_does_not_find_is_named() {
    let mut bare: Value = serde_json::from_slice(&event(&three_turns())).unwrap();
    bare["data"]["call"] = Value::Null;
    let bare = bare.to_string();
    let missing = problems(&preset("amocrm.call"), bare.as_bytes());
    assert!(missing.len() == 2 && missing[0].starts_with("direction is missing"), "{missing:?}");
    let mut given = preset("amocrm.call");
    given.values = json!({"direction": "up", "phone": "1"}).as_object().unwrap().clone();
    assert_eq!(problems(&given, bare.as_bytes()), ["direction must be inbound or outbound"]);
    given.values = json!({"direction": "outbound", "phone": "1"}).as_object().unwrap().clone();
    assert_eq!(body(&given, bare.as_bytes())[0]["direction"], "outbound");
    // The facts of the call come before the metadata.
    let mut facts: Value = serde_json::from_slice(&event(&three_turns())).unwrap();
    facts["data"]["call"] =
        json!({"direction": "outbound", "phone": "+74951234567", "crm": {"bitrix24_call_id": "fact"}});
    facts["data"]["metadata"] =
        json!({"direction": "inbound", "phone": "1", "bitrix24_call_id": "metadata", "telegram_chat_id": 7});
    let amocrm = body(&preset("amocrm.call"), facts.to_string().as_bytes());
    assert_eq!((&amocrm[0]["phone"], &amocrm[0]["direction"]), (&json!("+74951234567"), &json!("outbound")));
    assert_eq!(body(&preset("telegram.message"), facts.to_string().as_bytes())["chat_id"], "7");
    assert_eq!(body(&preset("bitrix24.transcript"), facts.to_string().as_bytes())["CALL_ID"], "fact");
    let failed = json!({"data": {"call_id": "1", "status": "failed", "transcript": null, "error": {"code": "call_not_found"},
        "metadata": {"bitrix24_call_id": "1"}}})
    .to_string();
    assert_eq!(
        problems(&preset("bitrix24.transcript"), failed.as_bytes()),
        ["the analysis has no transcript (status failed)"]
    );
    assert_eq!(
        body(&preset("slack.message"), failed.as_bytes())["text"],
        "*Call:* 1\n*Analysis failed:* call_not_found"
    );
}

#[test]
fn invalid_transforms_are_refused_with_their_fields() {
    let parsed = |source: Value| serde_json::from_value::<Transform>(source).unwrap();
    for (source, pointers) in [
        (json!({}), vec![""]),
        (json!({"preset": "markdown", "template": "a"}), vec![""]),
        (json!({"preset": "bitrix"}), vec!["/preset"]),
        (json!({"preset": "markdown", "content_type": "text/plain"}), vec!["/content_type"]),
        (
            json!({"preset": "telegram.message", "values": {"telegram_chat_id": [], "chat": "1"}}),
            vec!["/values/chat", "/values/telegram_chat_id"],
        ),
        (
            json!({"preset": "telegram.message", "values": {"telegram_chat_id": "x".repeat(3000)}}),
            vec!["/values"],
        ),
        (json!({"template": "a", "values": {"a": 1}}), vec!["/values"]),
        (json!({"template": "{{ a", "content_type": "text/plain"}), vec!["/template"]),
        (json!({"template": "x".repeat(20_000)}), vec!["/template"]),
        (json!({"template": "a", "content_type": "image/png"}), vec!["/content_type"]),
        (json!({"template": "a", "content_type": "text/plain\r\nX: y"}), vec!["/content_type"]),
        (json!({"template": "a", "content_type": "text/plain; charset=latin1"}), vec!["/content_type"]),
    ] {
        let transform = parsed(source.clone());
        let checked = transform.check().and_then(|()| transform.compile().map_err(|problem| vec![problem]));
        let problems = checked.unwrap_err();
        let found: Vec<_> = problems.into_iter().map(|problem| problem.pointer).collect();
        assert_eq!(found, pointers, "{source}");
    }
    assert!(serde_json::from_value::<Transform>(json!({"preset": "markdown", "url": "https://a"})).is_err());
    let stored = parsed(json!({"preset": "telegram.message", "values": {"telegram_chat_id": -1}}));
    assert_eq!(Transform::from_json(&stored.to_json()), Some(stored));
}
