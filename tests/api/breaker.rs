//! The circuit breaker: after repeated vendor failures for a tenant, the gateway pauses its requests for that tenant only.

use std::time::Instant;

use serde_json::{Value, json};

use crate::stage::{LATER, Stage, VENDOR_TOKENS, call};

/// Settings with polling intervals of one hour.
const LONG_PAUSES: [(&str, &str); 2] =
    [("VENDOR__POLLING__MIN_INTERVAL", LATER), ("VENDOR__POLLING__MAX_INTERVAL", LATER)];

/// Whether the number of open circuit breakers of `acme` is `open`.
async fn are_open(stage: &Stage, open: usize) -> bool {
    let line = format!("alovoice_gateway_vendor_breakers_open{{tenant=\"acme\"}} {open}\n");
    stage.admin("metrics").await.1.contains(&line)
}

/// Makes the vendor refuse the token of `acme` until the circuit breaker opens. Returns the number of refused requests.
async fn open_breaker(stage: &Stage) -> usize {
    let [_, globex, initech] = VENDOR_TOKENS.map(str::to_owned);
    stage.vendor.set_tokens(vec!["another".to_owned(), globex, initech]);
    for number in 0.. {
        let call_id = format!("refused-{number}");
        stage.acme().submitted(json!({"call_id": call_id})).await;
        // A call whose deadline has passed may fail without a request.
        stage
            .record(&call_id, |found| found.analysis.last_error.is_some() || found.analysis.work.is_none())
            .await;
        if are_open(stage, 1).await {
            break;
        }
    }
    refused(stage)
}

/// The number of requests with a token that the vendor refused.
fn refused(stage: &Stage) -> usize {
    stage.vendor.calls().iter().filter(|request| !request.token_ok).count()
}

#[tokio::test]
async fn an_open_circuit_breaker_affects_only_its_tenant() {
    let stage = Stage::with(&LONG_PAUSES).await;
    let began = Instant::now();
    assert_eq!(open_breaker(&stage).await, 5);
    stage.acme().submitted(json!({"call_id": "held-up"})).await;
    let answer = stage.acme().without_retries().analysis("known-1").await;
    answer.problem(503, "unavailable");
    // The pause lasts an hour and began after this test.
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    assert!(seconds <= 3600 && seconds + began.elapsed().as_secs() >= 3599, "{seconds}");

    stage.globex().submitted(json!({"call_id": "not-held-up"})).await;
    assert_eq!(stage.globex().analysis("known-1").await.status, 200);
    let handed_over = call("not-held-up");
    stage.vendor.wait_for(|_| stage.vendor.submits(&handed_over) > 0).await;
    assert_eq!(refused(&stage), 5, "no further request for acme reaches the vendor");
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
    while !are_open(&stage, 1).await {}
    stage.vendor.set_down(false);
    for call_id in &calls {
        let analysis = stage.acme().outcome(call_id).await;
        assert_eq!((&analysis["status"], &analysis["last_error"]), (&json!("completed"), &Value::Null));
        assert_eq!(stage.vendor.accepted_submits(&call(call_id)), 1);
    }
    while !are_open(&stage, 0).await {}
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
