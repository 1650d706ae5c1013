//! Changes after completion: late tags and repeated analyses.

use alovoice_gateway::sandbox::receiver::Received;
use serde_json::{Value, json};

use crate::stage::{Stage, call};

const SETTLING: &[(&str, &str)] = &[("VENDOR__POLLING__SETTLE_AFTER", "2ms")];

fn event(received: &Received) -> (Value, Value) {
    let mut body: Value = serde_json::from_slice(&received.body).unwrap();
    (body["type"].take(), body["data"].take())
}

/// The next two callbacks, sorted by type because they may arrive in either order.
async fn two_events(stage: &Stage) -> [(Value, Value); 2] {
    let mut events = [event(&stage.receiver.next().await), event(&stage.receiver.next().await)];
    events.sort_by_key(|(kind, _)| kind.to_string());
    events
}

#[tokio::test]
async fn a_late_change_creates_a_revision_and_an_event() {
    for (call_id, changed) in [("tags-late~1", "tags"), ("tags-more~1", "tags"), ("changed~1", "transcript")]
    {
        let stage = Stage::with(SETTLING).await;
        stage.acme().submitted(json!({"call_id": call_id, "callback": {"url": stage.hook("ok")}})).await;
        let [(completed, first), (updated, second)] = two_events(&stage).await;
        assert_eq!(
            (completed, updated),
            (json!("analysis.completed"), json!("analysis.updated")),
            "{call_id}"
        );
        assert_eq!((&first["revision"], &second["revision"]), (&json!(1), &json!(2)), "{call_id}");
        let differing: Vec<_> =
            first.as_object().unwrap().keys().filter(|key| first[*key] != second[*key]).collect();
        let with_metrics = ["revision", "talk_metrics", "transcript"];
        let expected: Vec<_> =
            if changed == "tags" { vec!["revision", "tags"] } else { with_metrics.to_vec() };
        assert_eq!(differing, expected, "{call_id}");
        assert_eq!(stage.acme().analysis(call_id).await.json(), second);
        assert_eq!(stage.vendor.submits(&call(call_id)), 1);
    }
}

#[tokio::test]
async fn an_unchanged_result_after_completion_creates_no_event() {
    let stage = Stage::with(SETTLING).await;
    for call_id in ["1", "etag-ignored~1", "no-etag~1"] {
        stage.acme().submitted(json!({"call_id": call_id, "callback": {"url": stage.hook("ok")}})).await;
        let found = stage.at_rest(call_id).await;
        assert_eq!((found.analysis.revision, stage.vendor.polls(&call(call_id))), (1, 4), "{call_id}");
        assert_eq!(stage.deliveries(call_id).await.len(), 1, "{call_id}");
    }
    let last = stage.vendor.calls().into_iter().rfind(|request| request.call_id == call("1")).unwrap();
    assert!(last.if_none_match.is_some(), "the poll after completion must be conditional");
}

#[tokio::test]
async fn a_completed_analysis_stays_completed_if_the_vendor_fails() {
    // The vendor is down during the poll after completion.
    let stage = Stage::with(&[("VENDOR__POLLING__SETTLE_AFTER", "100ms")]).await;
    stage.acme().submitted(json!({"call_id": "1"})).await;
    let completed = stage.acme().outcome("1").await;
    stage.vendor.set_down(true);
    stage.at_rest("1").await;
    assert_eq!(stage.acme().analysis("1").await.json(), completed);
}

#[tokio::test]
async fn a_repeated_analysis_with_a_new_result_creates_a_revision() {
    let stage = Stage::start().await;
    let (acme, hook) = (stage.acme(), stage.hook("ok"));
    acme.submitted(json!({"call_id": "changed~1", "callback": {"url": hook}})).await;
    let first = acme.outcome("changed~1").await;
    let mut again = acme.submitted(json!({"call_id": "changed~1", "reanalyze": true})).await;
    assert_eq!(again["reanalysis"].take()["status"], "queued");
    assert_eq!(again, first, "the analysis stays completed while it is repeated");
    let [(_, _), (updated, second)] = two_events(&stage).await;
    assert_eq!((updated, &second["revision"]), (json!("analysis.updated"), &json!(2)));
    assert_ne!(
        second["transcript"], first["transcript"],
        "the vendor's old result does not count as the new one"
    );
    assert_eq!(stage.vendor.submits(&call("changed~1")), 2);
    assert_eq!(acme.analysis("changed~1").await.json(), second);
}

#[tokio::test]
async fn a_repeated_analysis_with_the_same_result_creates_a_revision_after_the_grace_period() {
    let stage = Stage::with(&[("VENDOR__POLLING__EMPTY_GRACE", "20ms")]).await;
    let (acme, hook) = (stage.acme(), stage.hook("ok"));
    acme.submitted(json!({"call_id": "1", "callback": {"url": hook}})).await;
    let first = acme.outcome("1").await;
    acme.submitted(json!({"call_id": "1", "reanalyze": true})).await;
    let [_, (updated, second)] = two_events(&stage).await;
    assert_eq!((updated, &second["revision"]), (json!("analysis.updated"), &json!(2)));
    assert_eq!(second["transcript"], first["transcript"]);
}

#[tokio::test]
async fn a_repeated_failed_analysis_starts_from_the_beginning() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    acme.submitted(json!({"call_id": "submit-400~1"})).await;
    assert_eq!(acme.outcome("submit-400~1").await["status"], "failed");
    let same = acme.submit(json!({"call_id": "submit-400~1"})).await;
    assert_eq!((same.status, &same.json()["status"]), (200, &json!("failed")));
    // The stand-in refuses the first two submits.
    for wanted in ["failed", "completed"] {
        let again = acme.submitted(json!({"call_id": "submit-400~1", "reanalyze": true})).await;
        assert_eq!((&again["status"], &again["error"]), (&json!("queued"), &Value::Null));
        assert_eq!(acme.outcome("submit-400~1").await["status"], wanted);
    }
    assert_eq!(stage.vendor.submits(&call("submit-400~1")), 3);
}

#[tokio::test]
async fn repeating_an_unfinished_analysis_has_no_effect() {
    let stage = Stage::start().await;
    stage.acme().submitted(json!({"call_id": "never-ready~1"})).await;
    stage.vendor.wait_for(|requests| requests.len() > 2).await;
    stage.acme().submitted(json!({"call_id": "never-ready~1", "reanalyze": true})).await;
    let seen = stage.vendor.polls(&call("never-ready~1"));
    stage.vendor.wait_for(|requests| requests.len() > seen + 5).await;
    assert_eq!(stage.vendor.submits(&call("never-ready~1")), 1);
}

#[tokio::test]
async fn a_failed_repetition_keeps_the_completed_analysis_and_reports_the_error() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    acme.submitted(json!({"call_id": "1", "callback": {"url": stage.hook("ok")}})).await;
    let mut first = acme.outcome("1").await;
    stage.vendor.set_tokens(vec!["another".to_owned()]);
    acme.submitted(json!({"call_id": "1", "reanalyze": true})).await;
    stage.record("1", |found| found.analysis.last_error.is_some()).await;
    assert_eq!(acme.analysis("1").await.json()["last_error"]["code"], "token_refused");
    let stage = stage.past_deadline().await;
    stage.at_rest("1").await;
    let mut second = stage.acme().analysis("1").await.json();
    assert_ne!(second["last_error"].take(), first["last_error"].take());
    assert_eq!(second["last_reanalysis"].take()["outcome"], "failed");
    assert_eq!(second, first);
    assert_eq!(stage.deliveries("1").await.len(), 2, "the failed repetition is delivered to the callback");
}
