//! New analyses of finished calls (`reanalyze`): their progress, the wait for them, and their ends.

use alovoice_gateway::domain::clock::Timestamp;
use serde_json::{Value, json};

use crate::caller::Answer;
use crate::stage::{Stage, call};

const WAIT: (&str, &str) = ("prefer", "wait=60");

/// A short grace period, after which the previous result counts as the new result.
const SHORT_GRACE: &[(&str, &str)] = &[("VENDOR__POLLING__EMPTY_GRACE", "20ms")];

/// Submits a call. With [`WAIT`], it repeats the wait until the analysis has ended, as it may last longer on a busy machine.
async fn submit(stage: &Stage, headers: &[(&str, &str)], mut body: Value) -> Answer {
    let headers = [&[("content-type", "application/json")], headers].concat();
    loop {
        let answer = stage.acme().post_with(&headers, body.to_string()).await;
        if answer.status != 202 || !headers.contains(&WAIT) {
            return answer;
        }
        body.as_object_mut().unwrap().remove("reanalyze");
    }
}

/// The events of `acme`, oldest first.
async fn events(stage: &Stage) -> Vec<Value> {
    stage.acme().get("/v1/events").await.json()["events"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_new_analysis_is_shown_until_it_ends() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    acme.submitted(json!({"call_id": "changed~1"})).await;
    let first = acme.outcome("changed~1").await;
    assert_eq!((&first["reanalysis"], &first["last_reanalysis"]), (&Value::Null, &Value::Null));
    stage.vendor.set_held(true);
    let again = acme.submit(json!({"call_id": "changed~1", "reanalyze": true})).await;
    assert_eq!((again.status, &again.json()["status"]), (202, &json!("completed")));
    assert!(again.has("retry-after"), "{again:?}");
    let queued = again.json()["reanalysis"].take();
    assert_eq!((&queued["status"], queued["since"].is_string()), (&json!("queued"), true));
    let time = |value: &Value| -> Timestamp { serde_json::from_value(value.clone()).unwrap() };
    assert!(time(&queued["since"]) >= time(&first["completed_at"]));
    // A submission without `reanalyze`, a batch, the resource and the list show the same.
    let plain = acme.submit(json!({"call_id": "changed~1"})).await;
    assert_eq!((plain.status, plain.json()["reanalysis"].take()), (202, queued.clone()));
    let batch = acme.post("/v1/analyses/batch", json!({"analyses": [{"call_id": "changed~1"}]})).await.json();
    let item = &batch["results"][0];
    assert_eq!((&item["status"], &item["analysis"]["reanalysis"]), (&json!(202), &queued));
    assert_eq!(acme.analysis("changed~1").await.json()["reanalysis"], queued);
    let listed = acme.get("/v1/analyses").await.json()["analyses"][0].take();
    assert_eq!((&listed["reanalysis"], &listed["last_reanalysis"]), (&queued, &Value::Null));
    stage.vendor.set_held(false);

    stage.record("changed~1", |found| !found.analysis.is_under_way()).await;
    let answer = acme.get_with("/v1/analyses/changed~1", &[WAIT]).await;
    let second = answer.json();
    assert_eq!((&second["reanalysis"], &second["revision"]), (&Value::Null, &json!(2)));
    assert!(!answer.has("retry-after"));
    let last = &second["last_reanalysis"];
    assert_eq!((&last["outcome"], &last["since"]), (&json!("new_result"), &queued["since"]));
    assert_eq!(last["ended_at"], second["completed_at"]);
    assert_eq!(acme.get("/v1/analyses").await.json()["analyses"][0]["last_reanalysis"], *last);
    assert_eq!(stage.vendor.submits(&call("changed~1")), 2);
}

#[tokio::test]
async fn the_progress_of_a_new_analysis_is_visible_before_its_result() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    // The first analysis is found without a wait, because the vendor knows the call.
    assert_eq!(acme.analysis("known-1").await.status, 200);
    acme.submitted(json!({"call_id": "known-1", "reanalyze": true})).await;
    // The previous result does not end the new analysis.
    stage.record("known-1", |found| found.analysis.work.as_ref().is_some_and(|work| work.polls > 0)).await;
    let analysis = acme.analysis("known-1").await.json();
    assert_eq!(
        (&analysis["status"], &analysis["reanalysis"]["status"]),
        (&json!("completed"), &json!("processing"))
    );
}

#[tokio::test]
async fn every_end_of_a_new_analysis_is_an_event_with_the_outcome() {
    for (call_id, outcome, settings) in
        [("changed~1", "new_result", &[][..]), ("1", "same_result", SHORT_GRACE)]
    {
        let stage = Stage::with(settings).await;
        stage.acme().submitted(json!({"call_id": call_id})).await;
        stage.acme().outcome(call_id).await;
        let again = submit(&stage, &[WAIT], json!({"call_id": call_id, "reanalyze": true})).await;
        assert_eq!((again.status, again.header("preference-applied")), (200, "wait=60"));
        let [_, end] = <[Value; 2]>::try_from(events(&stage).await).unwrap();
        assert_eq!((&end["type"], &end["data"]), (&json!("analysis.updated"), &again.json()), "{call_id}");
        let last = &end["data"]["last_reanalysis"];
        assert_eq!((&last["outcome"], &last["ended_at"]), (&json!(outcome), &end["timestamp"]));
    }
}

#[tokio::test]
async fn a_new_analysis_that_fails_ends_with_an_event_and_the_reason() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    assert_eq!(acme.analysis("known-submit-400-forever~1").await.json()["status"], "completed");
    let body = json!({"call_id": "known-submit-400-forever~1", "reanalyze": true});
    let again = submit(&stage, &[WAIT], body).await;
    let end = events(&stage).await.pop().unwrap();
    assert_eq!((again.status, &end["type"], &end["data"]), (200, &json!("analysis.updated"), &again.json()));
    let analysis = again.json();
    assert_eq!((&analysis["status"], &analysis["revision"]), (&json!("completed"), &json!(1)));
    assert_eq!(analysis["last_reanalysis"]["outcome"], "failed");
    assert!(analysis["last_error"]["detail"].as_str().unwrap().contains("400"), "{analysis}");
}

#[tokio::test]
async fn a_new_analysis_of_a_failed_call_ends_with_an_event_too() {
    let stage = Stage::start().await;
    let submitted = submit(&stage, &[WAIT], json!({"call_id": "submit-400~1"})).await;
    let first = submitted.json();
    assert_eq!(
        (submitted.status, &first["status"], &first["last_reanalysis"]),
        (200, &json!("failed"), &Value::Null)
    );
    // The stand-in refuses the first two submits.
    for (kind, outcome) in [("analysis.failed", "failed"), ("analysis.completed", "new_result")] {
        let again = submit(&stage, &[WAIT], json!({"call_id": "submit-400~1", "reanalyze": true})).await;
        assert_eq!((again.status, again.json()["last_reanalysis"]["outcome"].as_str()), (200, Some(outcome)));
        let end = events(&stage).await.pop().unwrap();
        assert_eq!((&end["type"], &end["data"]), (&json!(kind), &again.json()));
    }
}

#[tokio::test]
async fn a_submission_waits_for_its_outcome() {
    let stage = Stage::start().await;
    let answer = submit(&stage, &[WAIT], json!({"call_id": "1", "metadata": {"ticket": "T-1"}})).await;
    let analysis = answer.json();
    assert_eq!((answer.status, &analysis["status"]), (200, &json!("completed")));
    assert_eq!(
        (answer.header("preference-applied"), answer.header("location")),
        ("wait=60", "/v1/analyses/1")
    );
    assert!(answer.has("etag") && !answer.has("retry-after"));
    assert_eq!(
        (analysis, &answer.json()["metadata"]),
        (stage.acme().analysis("1").await.json(), &json!({"ticket": "T-1"}))
    );
    // The answer for a finished call is immediate, and the preference is still applied.
    let finished = submit(&stage, &[WAIT], json!({"call_id": "1"})).await;
    assert_eq!((finished.status, finished.header("preference-applied")), (200, "wait=60"));
    let plain = submit(&stage, &[], json!({"call_id": "1"})).await;
    assert!(!plain.has("preference-applied"));
    assert_eq!(stage.vendor.submits(&call("1")), 1);
}

#[tokio::test]
async fn a_submission_whose_wait_is_over_is_answered_202() {
    let stage = Stage::start().await;
    for preference in ["wait=0", "wait=1"] {
        let answer = submit(&stage, &[("prefer", preference)], json!({"call_id": "never-ready~1"})).await;
        assert_eq!((answer.status, answer.header("preference-applied")), (202, preference));
        assert!(answer.has("retry-after"));
    }
    let batch = json!({"analyses": [{"call_id": "never-ready~2"}]}).to_string();
    let headers = [("content-type", "application/json"), WAIT];
    let answer = stage.acme().send(reqwest::Method::POST, "/v1/analyses/batch", &headers, batch).await;
    assert_eq!((answer.status, answer.has("preference-applied")), (200, false), "a batch does not wait");
}

#[tokio::test]
async fn a_drain_answers_waiting_submissions() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let body = json!({"call_id": "never-ready~1"}).to_string();
    let headers = [("content-type", "application/json"), WAIT, ("idempotency-key", "k")];
    let waiting = tokio::spawn(async move { acme.post_with(&headers, body).await });
    stage.vendor.wait_for(|requests| requests.len() > 3).await;
    stage.close().await;
    assert_eq!(waiting.await.unwrap().status, 202);
}

#[tokio::test]
async fn a_waiting_submission_with_a_key_stores_the_outcome() {
    let stage = Stage::start().await;
    let body = || json!({"call_id": "1"});
    let first = submit(&stage, &[WAIT, ("idempotency-key", "k")], body()).await;
    assert_eq!((first.status, &first.json()["status"]), (200, &json!("completed")));
    let again = submit(&stage, &[("idempotency-key", "k")], body()).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (200, "true"));
    assert_eq!(again.json(), first.json());
}

#[tokio::test]
async fn a_submission_whose_call_is_deleted_during_the_wait_is_answered_202() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let body = json!({"call_id": "never-ready~1"}).to_string();
    let headers = [("content-type", "application/json"), WAIT];
    let waiting = tokio::spawn(async move { acme.post_with(&headers, body).await });
    stage.vendor.wait_for(|requests| requests.len() > 3).await;
    let deleted = stage.acme().send(reqwest::Method::DELETE, "/v1/analyses/never-ready~1", &[], "").await;
    assert_eq!(deleted.status, 204);
    assert_eq!(waiting.await.unwrap().status, 202);
}
