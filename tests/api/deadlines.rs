//! Analyses that fail, and analyses that end only when a deadline or a grace period is over.

use alovoice_gateway::domain::analysis::{FaultCode, LastError};
use serde_json::{Value, json};

use crate::stage::{LATER, Stage, call};

/// Submits all calls. Returns the `error` of each analysis and the number of its submits to the vendor.
async fn failures(stage: &Stage, calls: &[&str]) -> Vec<(Value, usize)> {
    submit(stage, calls).await;
    ended(stage, calls).await
}

async fn submit(stage: &Stage, calls: &[&str]) {
    for call_id in calls {
        stage.acme().submitted(json!({"call_id": call_id})).await;
    }
}

/// Waits until all calls have failed. Returns the same as [`failures`].
async fn ended(stage: &Stage, calls: &[&str]) -> Vec<(Value, usize)> {
    let mut failures = Vec::new();
    for call_id in calls {
        let mut analysis = stage.acme().outcome(call_id).await;
        assert_eq!(analysis["status"], "failed", "{analysis}");
        for absent in ["completed_at", "transcript", "tags", "talk_metrics", "audio_url"] {
            assert_eq!(analysis[absent], Value::Null, "{absent} of {analysis}");
        }
        failures.push((analysis["error"].take(), stage.vendor.submits(&call(call_id))));
    }
    failures
}

#[tokio::test]
async fn a_call_unknown_to_the_vendor_fails_after_the_grace_period() {
    let stage = Stage::with(&[("VENDOR__POLLING__NOT_FOUND_GRACE", "50ms")]).await;
    let [denied, forgotten] = &failures(&stage, &["submit-404-forever~1", "result-404-forever~1"]).await[..]
    else {
        panic!("expected one outcome per call")
    };
    insta::assert_json_snapshot!(denied.0, @r#"
    {
      "code": "call_not_found",
      "detail": "the vendor did not know the call for 0 seconds; last error: the vendor does not know the call (404): \"error 404\"",
      "retryable": true
    }
    "#);
    assert_eq!(forgotten.0, denied.0);
    assert_eq!(forgotten.1, 1);
}

#[tokio::test]
async fn a_permanent_refusal_fails_at_once_and_is_not_retryable() {
    let stage = Stage::start().await;
    for (error, submits) in failures(&stage, &["submit-400-forever~1", "result-400-forever~1"]).await {
        assert_eq!(
            error,
            json!({"code": "vendor_rejected", "detail": "the vendor answered 400: \"error 400\"", "retryable": false})
        );
        assert_eq!(submits, 1);
    }
}

#[tokio::test]
async fn an_analysis_without_a_result_fails_at_the_deadline() {
    let stage = Stage::with(&[("VENDOR__POLLING__DEADLINE", "200ms")]).await;
    let calls = [
        "never-ready~1",
        "silent~1",
        "reset-forever~1",
        "redirect-forever~1",
        "result-401-forever~1",
        "result-403-forever~1",
        "result-404-forever~1",
        "result-429-forever~1",
        "result-500-forever~1",
        "result-503-forever~1",
        "result-503-date-forever~1",
    ];
    for (call_id, (error, submits)) in calls.iter().zip(failures(&stage, &calls).await) {
        assert_eq!(
            (&error["code"], &error["retryable"]),
            (&json!("deadline_exceeded"), &json!(true)),
            "{call_id}"
        );
        // There is no submit if the other calls have opened the circuit breaker before.
        assert!(submits <= 1 || *call_id == "redirect-forever~1", "{call_id} was submitted {submits} times");
    }
}

#[tokio::test]
async fn a_call_that_the_vendor_never_accepts_fails_at_the_deadline() {
    let stage = Stage::with(&[("VENDOR__POLLING__DEADLINE", "200ms")]).await;
    let calls = [
        "submit-401-forever~1",
        "submit-403-forever~1",
        "submit-404-forever~1",
        "submit-429-forever~1",
        "submit-500-lost-forever~1",
        "submit-reset-lost-forever~1",
        "submit-html-lost-forever~1",
    ];
    let codes: Vec<_> =
        failures(&stage, &calls).await.into_iter().map(|(error, _)| error["code"].clone()).collect();
    // The last vendor response was either the HTML page or the "not found" that follows it.
    let (html, others) = codes.split_last().unwrap();
    assert!(others.iter().all(|code| code == "deadline_exceeded"), "{codes:?}");
    assert!(html == "result_unreadable" || html == "deadline_exceeded", "{html}");
    assert!(calls.iter().all(|call_id| stage.vendor.accepted_submits(&call(call_id)) == 0));
}

#[tokio::test]
async fn a_call_fails_at_the_deadline_if_the_vendor_never_answers() {
    let short = [("VENDOR__POLLING__DEADLINE", "300ms"), ("VENDOR__REQUEST_TIMEOUT", "50ms")];
    let stage = Stage::with(&short).await;
    for (error, _) in
        failures(&stage, &["hang-forever~1", "drip-forever~1", "submit-hang-lost-forever~1"]).await
    {
        assert_eq!(error["code"], "deadline_exceeded");
    }
}

#[tokio::test]
async fn a_call_with_only_unreadable_answers_fails_as_unreadable_at_the_deadline() {
    let stage = Stage::with(&[("VENDOR__MAX_RESPONSE_BYTES", "256KiB")]).await;
    let calls = [
        "result-html-forever~1",
        "truncated-forever~1",
        "truncated-gzip-forever~1",
        "gzip-bomb-forever~1",
        "huge-forever~1",
    ];
    submit(&stage, &calls).await;
    for call_id in calls {
        let is_unreadable = |last: &LastError| last.code == FaultCode::AnswerUnreadable;
        stage.record(call_id, |found| found.analysis.last_error.as_ref().is_some_and(is_unreadable)).await;
    }
    let stage = stage.past_deadline().await;
    for (call_id, (error, submits)) in calls.iter().zip(ended(&stage, &calls).await) {
        assert_eq!((&error["code"], submits), (&json!("result_unreadable"), 1), "{call_id}");
    }
}

#[tokio::test]
async fn a_silent_call_completes_after_the_grace_period() {
    let stage = Stage::with(&[("VENDOR__POLLING__EMPTY_GRACE", "30ms")]).await;
    stage.acme().submitted(json!({"call_id": "silent~1"})).await;
    let analysis = stage.acme().outcome("silent~1").await;
    assert_eq!(
        (&analysis["status"], &analysis["transcript"], &analysis["tags"]),
        (&json!("completed"), &json!([]), &json!([]))
    );
    assert_eq!(analysis["talk_metrics"]["duration_ms"], 0);
}

#[tokio::test]
async fn a_call_stays_queued_while_the_vendor_refuses_the_token() {
    // The long backoff keeps the call queued until the test reads it.
    let stage = Stage::with(&[("VENDOR__POLLING__MAX_INTERVAL", LATER)]).await;
    stage.vendor.set_tokens(vec!["another".to_owned()]);
    stage.acme().submitted(json!({"call_id": "1"})).await;
    stage.record("1", |found| found.analysis.last_error.is_some()).await;
    let waiting = stage.acme().analysis("1").await.json();
    assert_eq!(waiting["status"], "queued");
    insta::assert_json_snapshot!(waiting["last_error"], {".at" => "[time]"}, @r#"
    {
      "at": "[time]",
      "code": "token_refused",
      "detail": "the vendor answered 401: \"invalid token\""
    }
    "#);
    assert_eq!(stage.vendor.accepted_submits(&call("1")), 0);
}

#[tokio::test]
async fn a_replaced_vendor_token_is_used_without_a_restart() {
    let stage = Stage::start().await;
    stage.vendor.set_tokens(vec!["rotated".to_owned()]);
    stage.acme().submitted(json!({"call_id": "1"})).await;
    stage.record("1", |found| found.analysis.last_error.is_some()).await;
    stage.write("acme-token", "rotated\n");
    let analysis = stage.acme().outcome("1").await;
    assert_eq!((&analysis["status"], &analysis["last_error"]), (&json!("completed"), &Value::Null));
    assert_eq!(stage.vendor.accepted_submits(&call("1")), 1);
}

#[tokio::test]
async fn a_refused_vendor_token_delays_no_other_tenant() {
    let stage = Stage::start().await;
    let [_, globex, initech] = crate::stage::VENDOR_TOKENS.map(str::to_owned);
    stage.vendor.set_tokens(vec!["another".to_owned(), globex, initech]);
    for call_id in 0..40 {
        stage.acme().submitted(json!({"call_id": format!("dead-{call_id}")})).await;
    }
    stage.globex().submitted(json!({"call_id": "alive"})).await;
    assert_eq!(stage.globex().outcome("alive").await["status"], "completed");
}
