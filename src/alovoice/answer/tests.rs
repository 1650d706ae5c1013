//! Tests of reading results.

use serde_json::Value;

use super::*;

fn read(body: &[u8], content_type: Option<&str>) -> Result<PollOutcome, String> {
    let base_url = Url::parse("https://cld.alovoice.uz").unwrap();
    let token = VendorToken::parse("s3cr3t").unwrap();
    let reader = AnswerReader { base_url: &base_url, token: &token, max_bytes: 16 << 20 };
    reader.read(&Bytes::copy_from_slice(body), content_type, None)
}

fn read_text(json: &str) -> Result<PollOutcome, String> {
    read(json.as_bytes(), None)
}

fn ready(json: &str) -> AnalysisResult {
    match read_text(json) {
        Ok(PollOutcome::Ready(obtained) | PollOutcome::Empty(obtained)) => obtained.result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_an_id_of_the_analysis_confirms_a_submit() {
    let is_acceptance = |body: &str| is_acceptance(body.as_bytes(), None);
    for body in [
        r#"{"answer": {"aicallid": "664b400c"}}"#,
        r#"{"x": 1, "answer": {"aicallid": 7, "y": null}}"#,
        "\u{feff}{\"answer\": {\"aicallid\": \"664b400c\", \"x\": NaN}}",
    ] {
        assert!(is_acceptance(body), "{body}");
    }
    for body in [
        "",
        "ok",
        "{}",
        r#"{"answer": null}"#,
        r#"{"answer": "accepted"}"#,
        r#"{"aicallid": "664b400c"}"#,
        r#"{"answer": {"aicallid": null}}"#,
        r#"{"answer": {"aicallid": " "}}"#,
        r#"{"answer": {"aicallid": {}}}"#,
        r#"{"error": "call not found"}"#,
    ] {
        assert!(!is_acceptance(body), "{body}");
    }
}

#[test]
fn an_answer_without_turns_and_tags_is_not_ready() {
    for json in [
        "",
        " \r\n",
        "\u{feff}\n",
        "{}",
        "null",
        "[]",
        r#"{"answer": null}"#,
        r#"{"answer": {}}"#,
        r#"{"answer": {"stalk": null}}"#,
        r#"{"answer": []}"#,
    ] {
        let not_ready = PollOutcome::NotReady { etag: None, retry_after: None, detail: None };
        assert_eq!(read_text(json), Ok(not_ready), "{json}");
    }
    for json in ["<html>", "{\"answer\": {\"stalk\": [", "{\"answer\": {\"stalk\": [1]}}"] {
        assert!(read_text(json).is_err(), "{json}");
    }
    assert!(matches!(read_text(r#"{"answer": {"stalk": [], "tags": []}}"#), Ok(PollOutcome::Empty(_))));
}

#[test]
fn numbers_may_be_strings_and_turns_are_sorted() {
    let result = ready(
        r#"{"answer": {"begin_time": "1716207617", "stalk": [
            {"begin": "4720", "end": "6280.4", "direction": "client", "text": "b", "fragment_id": 7},
            {"begin": 1120, "direction": "robot"}], "tags": [{"name": "x", "value": 5, "begin": "10"}]}}"#,
    );
    assert_eq!(result.begin_time, Some(Timestamp::from_millis(1_716_207_617_000)));
    let begins: Vec<_> = result.transcript.iter().map(|turn| (turn.begin_ms, turn.end_ms)).collect();
    assert_eq!(begins, [(1120, 1120), (4720, 6280)]);
    assert_eq!(result.transcript[0].speaker, Speaker::Other("robot".into()));
    assert_eq!(result.transcript[1].fragment_id.as_deref(), Some("7"));
    assert_eq!((result.tags[0].value.clone(), result.tags[0].begin_ms), (Value::from(5), Some(10)));
}

#[test]
fn a_malformed_field_does_not_affect_the_others() {
    let result = ready(
        r#"{"x": 1e400, "answer": {"aicallid": "\ud83d", "stalk": [{"begin": 1e400, "text": "cut \ud83d"}],
            "tags": [{"value": 1e400}, {"value": [[[]]], "visible": "\udc00"}], "stereoaudio": "\ud800"}}"#,
    );
    assert_eq!((result.transcript[0].begin_ms, result.transcript[0].text.as_str()), (0, "cut \u{fffd}"));
    assert_eq!(result.tags[0].value, "1e400");
    assert_eq!(
        (&result.tags[1].value, &result.tags[1].visible),
        (&serde_json::json!([[[]]]), &"\u{fffd}".into())
    );
}

#[test]
fn too_many_turns_or_tags_are_refused() {
    let of = |stalk: usize, tags: usize| {
        let list = |length| vec!["{}"; length].join(",");
        read_text(&format!(r#"{{"answer": {{"stalk": [{}], "tags": [{}]}}}}"#, list(stalk), list(tags)))
    };
    assert!(matches!(of(MAX_TURNS, MAX_TAGS), Ok(PollOutcome::Ready(_))));
    assert_eq!(of(MAX_TURNS + 1, 0), Err("the vendor's answer has too many turns".to_owned()));
    assert_eq!(of(1, MAX_TAGS + 1), Err("the vendor's answer has too many tags".to_owned()));
}

#[test]
fn an_answer_without_a_result_has_the_vendors_words() {
    let detail = |json: &str| match read_text(json) {
        Ok(PollOutcome::NotReady { detail, .. }) => detail.unwrap_or_default(),
        other => panic!("{other:?}"),
    };
    let words = "the vendor answered without a result: \"call not found\"";
    for json in [
        r#"{"error": "call not found"}"#,
        r#"{"answer": null, "message": "call not found"}"#,
        r#"{"answer": "call not found"}"#,
        r#"{"answer": {"aicallid": "1", "error": "call not found"}}"#,
        r#""call not found""#,
        r#"{"answer": {"stalk": [], "tags": []}, "error": "call not found"}"#,
    ] {
        assert_eq!(detail(json), words, "{json}");
    }
    assert_eq!(
        read_text("<html><title>Maintenance</title>"),
        Err("the vendor's answer is not JSON: \"Maintenance\"".to_owned())
    );
}

/// Returns the turns as `begin-end text`, and the warnings as `code count`.
fn turns_and_warnings(body: &[u8], content_type: Option<&str>) -> (Vec<String>, Vec<String>) {
    let result = match read(body, content_type) {
        Ok(PollOutcome::Ready(obtained)) => obtained.result,
        other => panic!("{other:?}"),
    };
    let turns = result.transcript.iter();
    let turns = turns.map(|turn| format!("{}-{} {}", turn.begin_ms, turn.end_ms, turn.text)).collect();
    let warnings = result.warnings.iter();
    let warnings = warnings.map(|it| format!("{} {}", it.code.as_str(), it.count)).collect();
    (turns, warnings)
}

#[test]
fn a_result_with_errors_is_read_with_warnings() {
    let one = r#"{"answer": {"stalk": [{"begin": 1, "end": 2, "text": "salom"}]}}"#;
    let twice = serde_json::to_string(one).unwrap();
    let inner = r#"{"answer": {"stalk": "[{\"begin\": 1, \"end\": 2, \"text\": \"salom\"}]"}}"#;
    for (body, warning) in [
        (one.to_owned(), ""),
        (format!("\u{feff}{one}"), "byte_order_mark 1"),
        (one.replace("\"}]", "\",}]"), "syntax 1"),
        (one.replace("[{", "{\"7\": {").replace("}]", "}}"), "lists_as_objects 1"),
        (one.replace("}]", "}, null, 5]"), "omitted_turns 2"),
        (one.replace("\"end\": 2", "\"end\": 9, \"end\": 2"), "duplicate_names 1"),
        (one.replace("]}}", "], \"tags\": [1, {}]}}"), "omitted_tags 1"),
        (one.replace("]}}", "], \"begin_time\": NaN}}"), "invalid_numbers 1"),
        (format!("Notice: x\n{one}"), "surrounding_text 1"),
        (twice, "nested_json 1"),
        (inner.to_owned(), "nested_json 1"),
    ] {
        let warnings = if warning.is_empty() { vec![] } else { vec![warning.to_owned()] };
        assert_eq!(
            turns_and_warnings(body.as_bytes(), None),
            (vec!["1-2 salom".to_owned()], warnings),
            "{body}"
        );
    }
    let cyrillic = b"{\"answer\": {\"stalk\": [{\"begin\": 1, \"end\": 2, \"text\": \"\xe0\xf1\"}]}}";
    let declared = turns_and_warnings(cyrillic, Some("application/json; charset=windows-1251"));
    assert_eq!(declared, (vec!["1-2 ас".to_owned()], vec!["encoding 1".to_owned()]));
    let undeclared = turns_and_warnings(cyrillic, None);
    assert_eq!(
        undeclared,
        (vec!["1-2 \u{fffd}\u{fffd}".to_owned()], vec!["invalid_characters 2".to_owned()])
    );
}

#[test]
fn a_turn_without_times_has_no_length_and_keeps_its_place() {
    let body = br#"{"answer": {"stalk": [{"begin": 500, "end": 900.4, "text": "a"}, {"text": "b"},
        {"begin": NaN, "end": -Infinity, "text": "c"}, {"end": "1200", "text": "d"}, {"begin": -40, "end": 10}]}}"#;
    let (turns, warnings) = turns_and_warnings(body, None);
    assert_eq!(turns, ["-40-10 ", "500-900 a", "500-500 b", "500-500 c", "1200-1200 d"]);
    assert_eq!(warnings, ["invalid_numbers 2", "unknown_times 3"]);
}

#[test]
fn a_recording_on_another_host_is_ignored() {
    let path = |audio: &str| {
        let json = format!(r#"{{"answer": {{"stalk": [{{}}], "stereoaudio": "{audio}"}}}}"#);
        ready(&json).audio_path
    };
    assert_eq!(path("/stereo/1").as_deref(), Some("/stereo/1"));
    assert_eq!(path("https://cld.alovoice.uz/stereo/1").as_deref(), Some("/stereo/1"));
    for elsewhere in [
        "https://evil.example/1",
        "//evil.example/1",
        "http://cld.alovoice.uz/1",
        "https://u@cld.alovoice.uz/1",
    ] {
        assert_eq!(path(elsewhere), None, "{elsewhere}");
    }
}

#[test]
fn a_token_in_an_answer_is_removed() {
    let token = VendorToken::parse("s3cr3t").unwrap();
    let body = Bytes::from_static(br#"{"url": "/x/s3cr3t/y"}"#);
    assert_eq!(without_token(body, &token), &br#"{"url": "/x/[token]/y"}"#[..]);
}
