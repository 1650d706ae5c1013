//! Calls whose requests always fail do not delay the other calls of their tenant.

use futures_util::future::join_all;
use serde_json::json;

use crate::stage::Stage;

/// Maximum number of concurrent requests. The time-outs of calls that hang follow each other, so few calls fail.
const CONCURRENCY: (&str, &str) = ("VENDOR__MAX_CONCURRENCY", "8");
/// More failing calls than concurrent requests.
const FAILING: usize = 10;
const SOUND: usize = 10;

/// The pauses of the circuit breaker and of failing calls grow to an hour.
const GROWING_PAUSES: [(&str, &str); 2] =
    [("VENDOR__POLLING__MIN_INTERVAL", "100ms"), ("VENDOR__POLLING__MAX_INTERVAL", "1h")];

/// Submits calls that always fail in this way, waits until some have failed, and then completes other calls.
async fn check_behaviour(behaviour: &str) {
    let small = ("VENDOR__MAX_RESPONSE_BYTES", "64KiB");
    // Requests for the sound calls must not end by a time-out, even on a busy machine: their pauses grow to an hour too.
    let timeout = ("VENDOR__REQUEST_TIMEOUT", if behaviour.contains("hang") { "5s" } else { "2m" });
    let [min, max] = GROWING_PAUSES;
    let stage = Stage::with(&[min, max, timeout, small, CONCURRENCY]).await;
    let acme = stage.acme();
    let failing: Vec<String> = (0..FAILING).map(|number| format!("{behaviour}-forever~{number}")).collect();
    for call_id in &failing {
        acme.submitted(json!({"call_id": call_id})).await;
    }
    for call_id in failing.iter().take(5) {
        stage.record(call_id, |found| found.analysis.last_error.is_some()).await;
    }
    let sound: Vec<String> = (0..SOUND).map(|number| format!("sound-{number}")).collect();
    for call_id in &sound {
        acme.submitted(json!({"call_id": call_id})).await;
    }
    for call_id in &sound {
        assert_eq!(acme.outcome(call_id).await["status"], "completed", "{behaviour}");
    }
    for call_id in &failing {
        let status = acme.analysis(call_id).await.json()["status"].take();
        assert!(["queued", "processing"].contains(&status.as_str().unwrap()), "{call_id}: {status}");
    }
}

#[tokio::test]
async fn polls_that_always_fail_delay_no_other_call() {
    let behaviours = ["result-500", "result-503", "result-401", "reset", "hang", "truncated", "huge"];
    join_all(behaviours.map(check_behaviour)).await;
}

#[tokio::test]
async fn submits_that_always_fail_delay_no_other_call() {
    join_all(["submit-500-lost", "submit-reset-lost", "submit-hang-lost", "submit-401"].map(check_behaviour))
        .await;
}
