//! Deletion of analyses.

use serde_json::json;

use crate::caller::{Answer, Caller};
use crate::stage::{LATER, Stage, acme, call};

async fn delete(caller: &Caller, call_id: &str) -> Answer {
    let headers = [("x-request-id", "req_of_the_test")];
    caller.send(reqwest::Method::DELETE, &format!("/v1/analyses/{call_id}"), &headers, "").await
}

#[tokio::test]
async fn a_deleted_call_is_gone_everywhere_and_leaves_an_audit_record() {
    let stage = Stage::with(&[("CALLBACKS__RETRY_SCHEDULE", LATER)]).await;
    let caller = stage.acme();
    caller.submitted(json!({"call_id": "1", "callback": {"url": stage.hook("500")}})).await;
    caller.outcome("1").await;
    // This request puts the analysis into the cache.
    caller.analysis("1").await;
    stage.receiver.next().await;

    let answer = delete(&caller, "1").await;
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    for path in ["", "/transcript", "/vendor-answer", "/audio"] {
        caller.get(&format!("/v1/analyses/1{path}")).await.problem(404, "not_found");
    }
    assert_eq!(caller.get("/v1/analyses?q=assalomu").await.json()["analyses"], json!([]));
    assert_eq!(stage.deliveries("1").await, []);
    delete(&caller, "1").await.problem(404, "not_found");

    let records = stage.rows().audit_of_call(&acme(), &call("1")).await;
    assert_eq!(records.len(), 1);
    assert_eq!(
        (records[0].action.as_str(), records[0].request_id.as_str()),
        ("analysis.deleted", "req_of_the_test")
    );
}

#[tokio::test]
async fn a_deleted_call_is_not_requested_from_the_vendor_until_it_is_submitted_again() {
    let stage = Stage::start().await;
    let caller = stage.acme();
    assert_eq!(caller.analysis("known-1").await.status, 200);
    assert_eq!(delete(&caller, "known-1").await.status, 204);
    let asked = stage.vendor.calls().len();
    caller.analysis("known-1").await.problem(404, "not_found");
    assert_eq!(stage.vendor.calls().len(), asked);
    caller.submitted(json!({"call_id": "known-1"})).await;
    assert_eq!(caller.outcome("known-1").await["status"], "completed");
}

#[tokio::test]
async fn a_call_deleted_while_in_progress_ends_pending_waits() {
    let stage = Stage::start().await;
    let caller = stage.acme();
    stage.vendor.set_held(true);
    caller.submitted(json!({"call_id": "1", "callback": {"url": stage.hook("ok")}})).await;
    stage.vendor.wait_for(|requests| !requests.is_empty()).await;
    let waiting = tokio::spawn({
        let caller = caller.clone();
        async move { caller.get_with("/v1/analyses/1", &[("prefer", "wait=60")]).await }
    });
    stage.in_flight(1).await;
    assert_eq!(delete(&caller, "1").await.status, 204);
    waiting.await.unwrap().problem(404, "not_found");
    stage.vendor.set_held(false);
    let remains = stage.close().await;
    assert_eq!(remains.store.find_analysis(&acme(), &call("1")).await.unwrap(), None);
}

#[tokio::test]
async fn a_call_id_may_equal_a_path_segment_of_the_api() {
    let stage = Stage::start().await;
    let caller = stage.acme();
    caller.submitted(json!({"call_id": "batch"})).await;
    assert_eq!(caller.outcome("batch").await["status"], "completed");
    assert_eq!(delete(&caller, "batch").await.status, 204);
}
