//! Tests of finding the vendor's words.

use super::*;

fn token() -> VendorToken {
    VendorToken::parse("tok-acme").unwrap()
}

fn words(body: &str) -> String {
    of_body(body, &token()).unwrap_or_default()
}

#[test]
fn an_explanation_is_found_in_any_structure() {
    for (body, expected) in [
        (r#"{"error": "call not found"}"#, "call not found"),
        (r#"{"success": false, "message": "recording is broken"}"#, "recording is broken"),
        (r#"{"error": {"code": 17, "message": "no such call"}}"#, "no such call; code: 17"),
        (r#"{"status": "error", "errors": ["a", {"detail": "b"}]}"#, "a; b; status: error"),
        (r#"{"data": null, "errors": [{"message": {"ru": "нет", "uz": "yoʻq"}}]}"#, "нет; yoʻq"),
        (r#"{"error": "E_CALL", "error_description": "unknown call"}"#, "E_CALL; unknown call"),
        (r#"{"fault": {"description": "x", "errorCode": "E1"}}"#, "x; errorCode: E1"),
        (r#"{"code": 1005}"#, "code: 1005"),
        (r#"{"error": 5, "errors": []}"#, "error: 5"),
        (r#"{"success": false}"#, "success: false"),
        (r#"{"error": false, "status": "wait"}"#, "error: false; status: wait"),
        (r#"{'error': 'single', }"#, "single"),
        (r#"{"message": "the rest is miss"#, r#"{"message": "the rest is miss"#),
        (r#"{"message": "cut", "trace": "#, "cut"),
        (r#""call not found""#, "call not found"),
        (r#"["a", "a", "b"]"#, "a; b"),
        ("[error] no such call", "[error] no such call"),
        ("call\r\n not  found", "call not found"),
        ("{}", ""),
        ("[]", ""),
        (r#"{"answer": null}"#, ""),
        ("", ""),
        (" \n", ""),
    ] {
        assert_eq!(words(body), expected, "{body}");
    }
}

#[test]
fn an_error_beside_an_answer_is_found() {
    let words = |json: &str| of_error(json, &token()).unwrap_or_default();
    let answer = r#""answer": {"stalk": [], "tags": [{"name": "error", "value": "x"}]}"#;
    for (more, expected) in [
        (r#""error": "broken""#, "broken"),
        (r#""success": false"#, "success: false"),
        (r#""ok": false, "message": "no""#, "no"),
        (r#""errors": [{"text": "no"}]"#, "no"),
        (r#""success": 0, "reason": "no""#, "no"),
        (r#""error": true, "message": "no call""#, "error: true; no call"),
        (r#""status": "error", "message": "no call""#, "no call; status: error"),
        (r#""status": 404"#, "status: 404"),
        (r#""code": "404", "message": "no call""#, "no call; code: 404"),
        (r#""success": true, "message": "ok""#, ""),
        (r#""status": "ok", "code": 200, "error": false"#, ""),
        (r#""error": {"code": 0, "message": "OK"}"#, ""),
        (r#""error": null, "errors": []"#, ""),
        (r#""error": "", "code": 0"#, ""),
    ] {
        assert_eq!(words(&format!("{{{answer}, {more}}}")), expected, "{more}");
    }
}

#[test]
fn markup_is_reduced_to_its_title_or_its_text() {
    for (body, expected) in [
        (
            "<html><head><TITLE lang=\"en\"> 502 Bad\nGateway </TITLE></head><body>x</body></html>",
            "502 Bad Gateway",
        ),
        ("<!DOCTYPE html><style>a{}</style><h1>A &lt; B &amp; C</h1><script>x<y</script><p>D", "A < B & C D"),
        ("<title></title><pre>Cannot GET</pre>", "Cannot GET"),
        ("<br />\n<b>Fatal error</b>: no <i>x</i> in y", "Fatal error : no x in y"),
        ("<?xml version=\"1.0\"?><error><code>5</code><text>no</text></error>", "5 no"),
        ("<", ""),
        ("<title", ""),
    ] {
        assert_eq!(words(body), expected, "{body}");
    }
}

#[test]
fn words_are_bounded_and_have_neither_control_characters_nor_the_token() {
    let long = words(&format!(r#"{{"error": "{}"}}"#, "xЖ".repeat(10_000)));
    assert_eq!((long.chars().count(), long.ends_with('…')), (200, true));
    let hidden = "a\u{1b}[31m tok\u{200b}-ac\u{0}me \u{202e}b tok%2Dacme \\u0074ok-acme";
    assert_eq!(words(hidden), "a[31m [token] b [token] [token]");
    let escaped = r#"{"error": "no GET /callsendai/tok\u002dac\u200bme/1"}"#;
    assert_eq!(words(escaped), "no GET /callsendai/[token]/1");
    // The token at the end of the words is not cut in the middle.
    let at_the_end = format!("{}tok-acme and more", "x".repeat(195));
    assert!(!words(&at_the_end).contains("tok-"), "{at_the_end}");
}

#[test]
fn a_documented_answer_that_is_not_ready_has_no_words() {
    let words = |json| of_answer(json, &token()).unwrap_or_default();
    assert_eq!(
        words(
            r#"{"answer": {"begin_time": 1, "aicallid": "a", "stereoaudio": "/x", "tags": [{"name": "error"}]}}"#
        ),
        ""
    );
    assert_eq!(words(r#"{"answer": {"aicallid": "a", "state": 1}, "code": 0}"#), "");
    assert_eq!(
        words(r#"{"answer": {"aicallid": "a", "error": {"text": "broken"}}, "code": 7}"#),
        "broken; code: 7"
    );
    assert_eq!(words(r#"{"answer": "in progress"}"#), "in progress");
    assert_eq!(words(r#"{"answer": {"status": "wait"}}"#), "status: wait");
    assert_eq!(words(r#"{"answer": {}}"#), "");
}
