//! The vendor's own words in `last_error` and `error`.

use alovoice_gateway::sandbox::stand_in::{FixedAnswer, Operation};
use serde_json::{Value, json};

use crate::stage::{Stage, VENDOR_TOKENS, call};

fn answer(status: u16, content_type: &'static str, body: impl Into<String>) -> FixedAnswer {
    FixedAnswer { status, content_type, headers: Vec::new(), body: body.into().into() }
}

fn json_answer(status: u16, body: &Value) -> FixedAnswer {
    answer(status, "application/json", body.to_string())
}

/// Submits a call that gets this answer to each poll, and waits for its `last_error`.
async fn last_error(stage: &Stage, call_id: &str, answer: FixedAnswer) -> (String, String) {
    stage.vendor.set_answer(Operation::Result, call(call_id), answer);
    stage.acme().submitted(json!({"call_id": call_id})).await;
    stage.record(call_id, |found| found.analysis.last_error.is_some()).await;
    let analysis = stage.acme().analysis(call_id).await.json();
    let text = |field: &str| analysis["last_error"][field].as_str().unwrap().to_owned();
    (text("code"), text("detail"))
}

#[tokio::test]
async fn last_error_has_the_words_of_an_answer_without_a_result() {
    let stage = Stage::start().await;
    let no_result = "the vendor answered without a result";
    let no_json = "the vendor's answer is not JSON";
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let page = "<html><head><title>Bad\nGateway</title></head><body><p>x</p></body></html>";
    for (call_id, answer, code, detail) in [
        (
            "a",
            json_answer(200, &json!({"error": "no call"})),
            "no_result",
            format!("{no_result}: \"no call\""),
        ),
        (
            "b",
            json_answer(200, &json!({"success": false, "message": "broken"})),
            "no_result",
            format!("{no_result}: \"broken\""),
        ),
        (
            "c",
            json_answer(
                200,
                &json!({"answer": null, "errors": [{"code": 7, "message": {"ru": "нет", "uz": "yoʻq"}}]}),
            ),
            "no_result",
            format!("{no_result}: \"нет; yoʻq; code: 7\""),
        ),
        (
            "d",
            answer(200, "text/plain", "call not found\r\n"),
            "answer_unreadable",
            format!("{no_json}: \"call not found\""),
        ),
        ("e", answer(200, "text/html", page), "answer_unreadable", format!("{no_json}: \"Bad Gateway\"")),
        (
            "f",
            FixedAnswer {
                body: utf16("{\"error\": \"нет\"}").into(), ..answer(200, "application/json", "")
            },
            "no_result",
            format!("{no_result}: \"нет\""),
        ),
        (
            "g",
            json_answer(500, &json!({"detail": "overload"})),
            "vendor_error",
            "the vendor answered 500: \"overload\"".to_owned(),
        ),
        (
            "h",
            json_answer(401, &json!({"reason": "expired"})),
            "token_refused",
            "the vendor answered 401: \"expired\"".to_owned(),
        ),
        (
            "i",
            json_answer(404, &json!({"error": "who?"})),
            "call_not_found",
            "the vendor does not know the call (404): \"who?\"".to_owned(),
        ),
    ] {
        assert_eq!(last_error(&stage, call_id, answer).await, (code.to_owned(), detail), "{call_id}");
    }
}

#[tokio::test]
async fn a_failed_analysis_has_the_vendors_words() {
    let stage = Stage::start().await;
    let short = json_answer(400, &json!({"message": "recording is too short"}));
    stage.vendor.set_answer(Operation::Submit, call("submit"), short.clone());
    stage.vendor.set_answer(Operation::Result, call("result"), short);
    let no_result = json_answer(200, &json!({"success": false, "message": "recording is broken"}));
    stage.vendor.set_answer(Operation::Result, call("never"), no_result);
    for call_id in ["submit", "result", "never"] {
        stage.acme().submitted(json!({"call_id": call_id})).await;
    }
    for call_id in ["submit", "result"] {
        assert_eq!(
            stage.acme().outcome(call_id).await["error"],
            json!({"code": "vendor_rejected", "detail": "the vendor answered 400: \"recording is too short\"", "retryable": false})
        );
    }
    stage.record("never", |found| found.analysis.last_error.is_some()).await;
    let stage = stage.past_deadline().await;
    let never = stage.acme().outcome("never").await;
    assert_eq!(never["error"]["code"], "deadline_exceeded");
    let detail = "no result before the deadline; last error: the vendor answered without a result: \"recording is broken\"";
    assert_eq!(never["error"]["detail"], detail);
    assert_eq!(never["last_error"]["code"], "no_result");
}

#[tokio::test]
async fn a_submit_that_is_not_answered_with_json_has_the_vendors_words() {
    // The look-up of the call, which replaces the error, comes later.
    let intervals =
        ["FIRST_AFTER", "MIN_INTERVAL", "MAX_INTERVAL"].map(|name| format!("VENDOR__POLLING__{name}"));
    let stage = Stage::with(&intervals.each_ref().map(|name| (name.as_str(), crate::stage::LATER))).await;
    let page = answer(200, "text/html", "<title>Maintenance</title>");
    stage.vendor.set_answer(Operation::Submit, call("1"), page);
    stage.acme().submitted(json!({"call_id": "1"})).await;
    let has_words = |detail: &str| detail.ends_with(": \"Maintenance\"");
    stage
        .record("1", |found| found.analysis.last_error.as_ref().is_some_and(|error| has_words(&error.detail)))
        .await;
}

#[tokio::test]
async fn words_are_one_bounded_line_without_the_token() {
    let stage = Stage::start().await;
    let token = VENDOR_TOKENS[0];
    let escaped: String = token.chars().map(|c| format!("\\u{:04X}", u32::from(c))).collect();
    let percent: String = token.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let hidden = token.replace('-', "-\u{200b}");
    let body = format!(
        "{{\"error\": \"GET /{token}/ /{escaped}/ /{percent}/ /{hidden}/\\u0000\\u001b\\n {}\"}}",
        "x".repeat(10_000)
    );
    for (call_id, status) in [("1", 200), ("2", 403), ("3", 503)] {
        let (_, detail) = last_error(&stage, call_id, answer(status, "application/json", body.clone())).await;
        let (_, words) = detail.split_once(": \"").unwrap();
        assert!(words.starts_with("GET /[token]/ /[token]/ /[token]/ /[token]/ xxx"), "{detail}");
        assert_eq!(words.strip_suffix('"').unwrap().chars().count(), 200);
    }
}
