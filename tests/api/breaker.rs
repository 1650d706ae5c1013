//! The circuit breaker: after repeated vendor failures for a tenant, the gateway pauses its requests for that tenant only.

use serde_json::{Value, json};

use crate::stage::{LATER, Stage, VENDOR_TOKENS, call};

/// Settings with polling intervals of one hour.
const LONG_PAUSES: [(&str, &str); 2] =
    [("VENDOR__POLLING__MIN_INTERVAL", LATER), ("VENDOR__POLLING__MAX_INTERVAL", LATER)];

/// Waits until the number of open circuit breakers of `acme` is `open`.
async fn breakers_open(stage: &Stage, open: usize) {
    let line = format!("alovoice_gateway_vendor_breakers_open{{tenant=\"acme\"}} {open}\n");
    while !stage.admin("metrics").await.1.contains(&line) {}
}

/// Makes the vendor refuse the token of `acme` until the circuit breaker opens.
async fn open_breaker(stage: &Stage) {
    let [_, globex, initech] = VENDOR_TOKENS.map(str::to_owned);
    stage.vendor.set_tokens(vec!["another".to_owned(), globex, initech]);
    for call_id in 0..5 {
        stage.acme().submitted(json!({"call_id": format!("refused-{call_id}")})).await;
    }
    breakers_open(stage, 1).await;
}

#[tokio::test]
async fn an_open_circuit_breaker_affects_only_its_tenant() {
    let stage = Stage::with(&LONG_PAUSES).await;
    open_breaker(&stage).await;
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
    assert_eq!(refused, 5, "no further request for acme reaches the vendor");
    let waiting = stage.acme().analysis("held-up").await.json();
    assert_eq!((&waiting["status"], &waiting["last_error"]), (&json!("queued"), &Value::Null));
}

#[tokio::test]
async fn every_call_completes_after_the_vendor_recovers() {
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
async fn an_analysis_fails_at_its_deadline_while_the_circuit_breaker_is_open() {
    let deadline = ("VENDOR__POLLING__DEADLINE", "500ms");
    let stage = Stage::with(&[LONG_PAUSES[0], LONG_PAUSES[1], deadline]).await;
    open_breaker(&stage).await;
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
