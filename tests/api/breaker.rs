//! A vendor that fails a tenant over and over is left alone for a while: for that tenant, and nobody else.

use serde_json::{Value, json};

use crate::stage::{LATER, Stage, VENDOR_TOKENS, call};

/// Pauses are an hour long.
const LONG_PAUSES: [(&str, &str); 2] =
    [("VENDOR__POLLING__MIN_INTERVAL", LATER), ("VENDOR__POLLING__MAX_INTERVAL", LATER)];

/// Waits until the vendor is left alone for acme (1), or not (0).
async fn breakers_open(stage: &Stage, open: usize) {
    let line = format!("alovoice_gateway_vendor_breakers_open{{tenant=\"acme\"}} {open}\n");
    while !stage.admin("metrics").await.1.contains(&line) {}
}

/// The vendor refuses the token of acme until it is left alone.
async fn shut(stage: &Stage) {
    let [_, globex, initech] = VENDOR_TOKENS.map(str::to_owned);
    stage.vendor.set_tokens(vec!["another".to_owned(), globex, initech]);
    for call_id in 0..5 {
        stage.acme().submitted(json!({"call_id": format!("refused-{call_id}")})).await;
    }
    breakers_open(stage, 1).await;
}

#[tokio::test]
async fn while_the_vendor_is_left_alone_for_one_tenant_the_others_go_on() {
    let stage = Stage::with(&LONG_PAUSES).await;
    shut(&stage).await;
    stage.acme().submitted(json!({"call_id": "held-up"})).await;
    let answer = stage.acme().analysis("known-1").await;
    answer.problem(503, "unavailable");
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!((3500..=3600).contains(&seconds), "{seconds}");

    stage.globex().submitted(json!({"call_id": "not-held-up"})).await;
    assert_eq!(stage.globex().analysis("known-1").await.status, 200);
    let handed_over = call("not-held-up");
    stage.vendor.wait_for(|_| stage.vendor.submits(&handed_over) == 1).await;
    let refused = stage.vendor.calls().iter().filter(|request| !request.token_ok).count();
    assert_eq!(refused, 5, "nothing more of acme's was asked for");
    let waiting = stage.acme().analysis("held-up").await.json();
    assert_eq!((&waiting["status"], &waiting["last_error"]), (&json!("queued"), &Value::Null));
}

#[tokio::test]
async fn when_the_vendor_answers_again_everything_completes() {
    let stage = Stage::start().await;
    stage.vendor.set_down(true);
    let calls: Vec<String> = (0..100).map(|number| format!("call-{number}")).collect();
    for call_id in &calls {
        stage.acme().submitted(json!({"call_id": call_id})).await;
    }
    breakers_open(&stage, 1).await;
    stage.vendor.set_down(false);
    for call_id in &calls {
        let analysis = stage.acme().outcome(call_id).await;
        assert_eq!((&analysis["status"], &analysis["last_error"]), (&json!("completed"), &Value::Null));
        assert_eq!(stage.vendor.accepted_submits(&call(call_id)), 1);
    }
    breakers_open(&stage, 0).await;
}

#[tokio::test]
async fn what_is_past_its_deadline_fails_while_the_vendor_is_left_alone() {
    let deadline = ("VENDOR__POLLING__DEADLINE", "500ms");
    let stage = Stage::with(&[LONG_PAUSES[0], LONG_PAUSES[1], deadline]).await;
    shut(&stage).await;
    let calls: Vec<String> = (0..50).map(|number| format!("call-{number}")).collect();
    for call_id in &calls {
        stage.acme().submitted(json!({"call_id": call_id})).await;
    }
    for call_id in &calls {
        let analysis = stage.acme().outcome(call_id).await;
        assert_eq!(analysis["error"]["code"], "deadline_exceeded");
        assert_eq!(stage.vendor.submits(&call(call_id)), 0);
    }
}
