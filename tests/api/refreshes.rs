//! Refreshes: the gateway polls the vendor once more for the result of a finished call.

use std::time::Duration;

use alovoice_gateway::domain::analysis::Stage as WorkStage;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::caller::{Answer, Caller};
use crate::stage::{LATER, Stage, call};

const WAIT: (&str, &str) = ("prefer", "wait=60");

async fn refresh_with(caller: &Caller, call_id: &str, headers: &[(&str, &str)]) -> Answer {
    caller.send(Method::POST, &format!("/v1/analyses/{call_id}/refresh"), headers, "").await
}

async fn refresh(stage: &Stage, call_id: &str) -> Answer {
    refresh_with(&stage.acme(), call_id, &[WAIT]).await
}

async fn events(stage: &Stage) -> Vec<Value> {
    stage.acme().get("/v1/events").await.json()["events"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_changed_result_is_a_new_revision_with_an_event_and_no_submit() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let callback = json!({"url": stage.hook("ok")});
    acme.submitted(json!({"call_id": "changed~1", "callback": callback})).await;
    let first = acme.outcome("changed~1").await;
    let planned = refresh_with(&acme, "changed~1", &[]).await;
    assert_eq!((planned.status, planned.header("location")), (202, "/v1/analyses/changed~1"));
    assert!(planned.has("retry-after"));
    assert_eq!((planned.json(), planned.has("preference-applied")), (first.clone(), false));
    stage.record("changed~1", |found| found.analysis.revision == 2).await;
    let second = acme.analysis("changed~1").await.json();
    let [_, updated] = <[Value; 2]>::try_from(events(&stage).await).unwrap();
    assert_eq!((&updated["type"], &updated["data"]), (&json!("analysis.updated"), &second));
    assert_ne!(first["transcript"], second["transcript"]);
    assert_eq!((&second["completed_at"], &second["reanalysis"]), (&first["completed_at"], &Value::Null));
    assert_eq!(stage.vendor.submits(&call("changed~1")), 1);
    stage.receiver.next().await;
    stage.receiver.next().await;
}

#[tokio::test]
async fn an_unchanged_result_changes_nothing() {
    let stage = Stage::with(&[("VENDOR__POLLING__SETTLE_AFTER", "2ms")]).await;
    let acme = stage.acme();
    acme.submitted(json!({"call_id": "1"})).await;
    acme.outcome("1").await;
    stage.at_rest("1").await;
    let (before, polls) = (acme.analysis("1").await, stage.vendor.polls(&call("1")));
    let answer = refresh(&stage, "1").await;
    assert_eq!((answer.status, answer.header("preference-applied")), (200, "wait=60"));
    assert_eq!((answer.json(), answer.header("etag")), (before.json(), before.header("etag")));
    assert_eq!((stage.vendor.polls(&call("1")), stage.vendor.submits(&call("1"))), (polls + 1, 1));
    assert_eq!(events(&stage).await.len(), 1);
    assert!(stage.at_rest("1").await.analysis.work.is_none());
}

#[tokio::test]
async fn the_poll_for_late_tags_follows_a_refresh() {
    let stage = Stage::with(&[("VENDOR__POLLING__SETTLE_AFTER", "1h")]).await;
    let acme = stage.acme();
    acme.submitted(json!({"call_id": "1"})).await;
    acme.outcome("1").await;
    assert_eq!(refresh(&stage, "1").await.status, 200);
    let found = stage.record("1", |_| true).await.analysis;
    let work = found.work.unwrap();
    let settle_at = found.finished_at.unwrap() + Duration::from_hours(1);
    assert_eq!((work.stage, work.due_at), (WorkStage::Settle, settle_at));
}

#[tokio::test]
async fn a_failed_call_that_has_a_result_now_becomes_completed() {
    let stage = Stage::with(&[("VENDOR__POLLING__DEADLINE", "1ms")]).await;
    let acme = stage.acme();
    acme.submitted(json!({"call_id": "1"})).await;
    assert_eq!(acme.outcome("1").await["status"], "failed");
    // The stand-in has the result after two polls.
    while refresh(&stage, "1").await.json()["status"] == "failed" {}
    let completed = acme.analysis("1").await.json();
    assert_eq!((&completed["revision"], &completed["error"]), (&json!(1), &Value::Null));
    let [_, end] = <[Value; 2]>::try_from(events(&stage).await).unwrap();
    assert_eq!((&end["type"], &end["data"]), (&json!("analysis.completed"), &completed));
    assert_eq!(stage.vendor.submits(&call("1")), 1);
}

#[tokio::test]
async fn an_unfinished_call_is_not_polled_twice() {
    let stage = Stage::with(&[("VENDOR__POLLING__FIRST_AFTER", LATER)]).await;
    let acme = stage.acme();
    acme.submitted(json!({"call_id": "1"})).await;
    stage.record("1", |found| found.analysis.status.as_str() == "processing").await;
    for _ in 0..3 {
        let answer = refresh_with(&acme, "1", &[]).await;
        assert_eq!((answer.status, &answer.json()["status"]), (202, &json!("processing")), "{answer:?}");
        assert!(answer.has("retry-after"));
    }
    assert_eq!((stage.vendor.submits(&call("1")), stage.vendor.polls(&call("1"))), (1, 0));
}

#[tokio::test]
async fn unknown_foreign_and_deleted_calls_are_not_found() {
    let stage = Stage::start().await;
    refresh(&stage, "unknown").await.problem(404, "not_found");
    stage.acme().submitted(json!({"call_id": "1"})).await;
    stage.acme().outcome("1").await;
    refresh_with(&stage.globex(), "1", &[WAIT]).await.problem(404, "not_found");
    assert_eq!(stage.acme().send(Method::DELETE, "/v1/analyses/1", &[], "").await.status, 204);
    refresh(&stage, "1").await.problem(404, "not_found");
    // A call that AloVoice finished without a submission is fetched, as if it had been read.
    let fetched = refresh(&stage, "known-1").await;
    assert_eq!((fetched.status, &fetched.json()["status"]), (200, &json!("completed")));
    assert_eq!(stage.vendor.submits(&call("known-1")), 0);
}

#[tokio::test]
async fn a_vendor_that_is_down_is_polled_three_times_and_the_error_is_shown() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    acme.submitted(json!({"call_id": "1"})).await;
    let before = acme.outcome("1").await;
    stage.vendor.set_down(true);
    let polls = stage.vendor.polls(&call("1"));
    let mut failed = refresh(&stage, "1").await.json();
    assert_eq!(stage.vendor.polls(&call("1")), polls + 3);
    assert!(failed["last_error"].take()["code"].is_string());
    let mut expected = before.clone();
    expected["last_error"].take();
    assert_eq!(failed, expected);
    stage.vendor.set_down(false);
    assert_eq!(refresh(&stage, "1").await.json(), before, "the next refresh clears the error");
    assert_eq!(events(&stage).await.len(), 1);
}

#[tokio::test]
async fn many_refreshes_of_a_call_are_one_request_to_the_vendor() {
    let stage = Stage::with(&[("VENDOR__POLLING__SETTLE_AFTER", "2ms")]).await;
    let acme = stage.acme();
    acme.submitted(json!({"call_id": "1"})).await;
    stage.at_rest("1").await;
    let polls = stage.vendor.polls(&call("1"));
    stage.vendor.set_held(true);
    let answers = join_all((0..20).map(|_| refresh_with(&acme, "1", &[]))).await;
    assert!(answers.iter().all(|answer| answer.status == 202));
    stage.vendor.set_held(false);
    stage.at_rest("1").await;
    assert_eq!(stage.vendor.polls(&call("1")), polls + 1);
}

#[tokio::test]
async fn refreshes_in_progress_are_limited() {
    // The vendor is held while the test sends many requests.
    let timeout = ("VENDOR__REQUEST_TIMEOUT", "5m");
    let stage = Stage::with(&[timeout, ("VENDOR__POLLING__SETTLE_AFTER", "1ms")]).await;
    let calls: Vec<String> = (0..101).map(|number| format!("known-{number}")).collect();
    for call_id in &calls {
        assert_eq!(stage.acme().analysis(call_id).await.status, 200);
    }
    for call_id in &calls {
        stage.at_rest(call_id).await;
    }
    let stage = stage.restart_with(("VENDOR__MAX_CONCURRENCY", "1")).await;
    let acme = stage.acme();
    stage.vendor.set_held(true);
    for call_id in &calls[..100] {
        assert_eq!(refresh_with(&acme, call_id, &[]).await.status, 202);
    }
    let refused = refresh_with(&acme, &calls[100], &[]).await;
    refused.problem(429, "rate_limited");
    assert!(refused.has("retry-after"));
    stage.vendor.set_held(false);
    for call_id in &calls[..100] {
        stage.at_rest(call_id).await;
    }
    assert_eq!(refresh(&stage, &calls[100]).await.status, 200);
}

#[tokio::test]
async fn a_refresh_with_a_key_is_executed_once() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    acme.submitted(json!({"call_id": "1"})).await;
    acme.outcome("1").await;
    let keyed = [WAIT, ("idempotency-key", "k")];
    let first = refresh_with(&acme, "1", &keyed).await;
    let polls = stage.vendor.polls(&call("1"));
    let again = refresh_with(&acme, "1", &keyed).await;
    assert_eq!((first.status, again.header("idempotency-replayed")), (200, "true"));
    assert_eq!((again.json(), stage.vendor.polls(&call("1"))), (first.json(), polls));
}
