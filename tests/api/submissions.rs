//! Repeated submissions of calls that are finished or in progress.

use serde_json::{Value, json};

use crate::stage::{Stage, call};

#[tokio::test]
async fn submitting_a_finished_call_is_answered_with_its_analysis() {
    let stage = Stage::start().await;
    stage.acme().submitted(json!({"call_id": "1"})).await;
    let finished = stage.acme().outcome("1").await;
    let again = stage.acme().submit(json!({"call_id": "1"})).await;
    assert_eq!((again.status, again.json()), (200, finished));
    assert_eq!(again.header("location"), "/v1/analyses/1");
    assert!(!again.has("retry-after"));
    assert_eq!(again.header("etag"), stage.acme().analysis("1").await.header("etag"));
}

#[tokio::test]
async fn a_new_callback_for_a_finished_call_is_delivered_at_once() {
    let stage = Stage::start().await;
    stage.acme().submitted(json!({"call_id": "1", "callback": {"url": stage.hook("ok/first")}})).await;
    let first = stage.receiver.next().await;
    let answer =
        stage.acme().submit(json!({"call_id": "1", "callback": {"url": stage.hook("ok/second")}})).await;
    assert_eq!(answer.status, 200);
    let second = stage.receiver.next().await;
    assert_eq!((first.path.as_str(), second.path.as_str()), ("/hook/ok/first", "/hook/ok/second"));
    assert_eq!(
        first.header("webhook-id"),
        second.header("webhook-id"),
        "both callbacks carry the same event"
    );
    assert_eq!(first.body, second.body);
}

#[tokio::test]
async fn a_callback_url_is_registered_once_per_call() {
    let stage = Stage::start().await;
    let hook = stage.hook("ok");
    let again = hook.replacen("http://", "HTTP://", 1);
    for url in [&hook, &hook, &again] {
        stage.acme().submit(json!({"call_id": "1", "callback": {"url": url}})).await;
    }
    stage.acme().outcome("1").await;
    let after = stage.acme().submit(json!({"call_id": "1", "callback": {"url": hook}})).await;
    assert_eq!(after.status, 200);
    stage.receiver.next().await;
    let (delivery, _) = stage.close().await.delivery("1").await;
    assert_eq!(delivery.attempts, 1);
}

#[tokio::test]
async fn resubmitting_an_unfinished_call_adds_its_callback_and_replaces_metadata() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    stage.vendor.set_held(true);
    let first =
        json!({"call_id": "1", "callback": {"url": stage.hook("ok/a")}, "metadata": {"a": 1, "b": 2}});
    acme.submitted(first).await;
    stage.vendor.wait_for(|requests| !requests.is_empty()).await;
    let second = json!({"call_id": "1", "callback": {"url": stage.hook("ok/b")}, "metadata": {"c": 3}});
    assert_eq!(acme.submitted(second).await["metadata"], json!({"c": 3}));
    let unchanged = acme.submitted(json!({"call_id": "1"})).await;
    assert_eq!(
        unchanged["metadata"],
        json!({"c": 3}),
        "a submission without metadata must keep the metadata"
    );
    stage.vendor.set_held(false);

    let received = [stage.receiver.next().await, stage.receiver.next().await];
    let mut paths = received.each_ref().map(|received| received.path.as_str());
    paths.sort_unstable();
    assert_eq!(paths, ["/hook/ok/a", "/hook/ok/b"]);
    for received in &received {
        let event: Value = serde_json::from_slice(&received.body).unwrap();
        assert_eq!(event["data"]["metadata"], json!({"c": 3}));
    }
    assert_eq!(stage.vendor.submits(&call("1")), 1);
}

#[tokio::test]
async fn metadata_of_a_finished_call_can_be_replaced() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    acme.submitted(json!({"call_id": "1", "metadata": {"a": 1}})).await;
    acme.outcome("1").await;
    let before = acme.analysis("1").await;
    let answer = acme.submit(json!({"call_id": "1", "metadata": {}})).await;
    assert_eq!((answer.status, &answer.json()["metadata"]), (200, &json!({})));
    let after = acme.analysis("1").await;
    assert_eq!(after.json()["metadata"], json!({}));
    assert_ne!(before.header("etag"), after.header("etag"));
}

#[tokio::test]
async fn tenants_have_separate_analyses_of_the_same_call_id() {
    let stage = Stage::start().await;
    stage.acme().submitted(json!({"call_id": "1", "metadata": {"of": "acme"}})).await;
    stage.globex().submitted(json!({"call_id": "1", "metadata": {"of": "globex"}})).await;
    assert_eq!(stage.acme().outcome("1").await["metadata"], json!({"of": "acme"}));
    assert_eq!(stage.globex().outcome("1").await["metadata"], json!({"of": "globex"}));
    assert_eq!(stage.vendor.submits(&call("1")), 2, "the call is submitted once per tenant");
}

#[tokio::test]
async fn every_valid_call_id_completes() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let longest = "x".repeat(128);
    for call_id in ["...", "~", "A-Za.z0_9", "a:b@c+d=e", "-", longest.as_str()] {
        let answer = acme.submit(json!({"call_id": call_id})).await;
        assert_eq!(answer.header("location"), format!("/v1/analyses/{call_id}"));
        let analysis = acme.outcome(call_id).await;
        assert_eq!((&analysis["call_id"], &analysis["status"]), (&json!(call_id), &json!("completed")));
        assert_eq!(acme.get(&format!("/v1/analyses/{call_id}/transcript")).await.status, 200);
        assert_eq!(stage.vendor.submits(&call(call_id)), 1, "{call_id}");
    }
}
