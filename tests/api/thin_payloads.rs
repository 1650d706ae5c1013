//! Thin payloads: events without the result, for receivers that limit the size of a request.

use alovoice_gateway::sandbox::receiver::Received;
use serde_json::{Value, json};

use crate::journey::assert_is_signed;
use crate::stage::{ACME_SECRET, Stage};
use crate::webhooks::{completed, delivery_that, registered};

const LONG_AGO: &str = "2026-01-01T00:00:00Z";

fn body(received: &Received) -> Value {
    serde_json::from_slice(&received.body).unwrap()
}

#[tokio::test]
async fn a_thin_callback_gets_ids_status_and_url() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let callback = json!({"url": stage.hook("ok"), "payload": "thin"});
    acme.submitted(json!({"call_id": "1", "metadata": {"ticket": "T-1"}, "callback": callback})).await;
    let received = stage.receiver.next().await;
    assert_is_signed(&received, ACME_SECRET);
    let analysis = acme.analysis("1").await.json();
    let event = body(&received);
    assert_eq!(
        event,
        json!({"type": "analysis.completed", "timestamp": analysis["completed_at"], "data": {
            "call_id": "1", "ai_call_id": analysis["ai_call_id"], "status": "completed", "revision": 1,
            "url": "/v1/analyses/1",
        }})
    );
    assert_eq!(acme.get(event["data"]["url"].as_str().unwrap()).await.json(), analysis);
    let listed = acme.get("/v1/deliveries?call_id=1").await.json()["deliveries"].take();
    assert_eq!(listed[0]["payload"], "thin");
    // The feed has the whole event.
    assert_eq!(acme.get("/v1/events").await.json()["events"][0]["data"], analysis);
}

#[tokio::test]
async fn a_failure_is_thin_too() {
    let stage = Stage::start().await;
    let callback = json!({"url": stage.hook("ok"), "payload": "thin"});
    stage.acme().submitted(json!({"call_id": "submit-400~1", "callback": callback})).await;
    let event = body(&stage.receiver.next().await);
    let data = json!({"call_id": "submit-400~1", "ai_call_id": null, "status": "failed", "revision": 0,
        "url": "/v1/analyses/submit-400~1"});
    assert_eq!((&event["type"], &event["data"]), (&json!("analysis.failed"), &data));
}

#[tokio::test]
async fn a_thin_webhook_gets_the_same_bytes_in_every_delivery() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let (path, secret) = registered(&acme, json!({"url": stage.hook("ok"), "payload": "thin"})).await;
    assert_eq!(acme.get(&path).await.json()["payload"], "thin");
    completed(&stage, "1").await;
    let first = stage.receiver.next().await;
    assert_is_signed(&first, &secret);
    assert_eq!(body(&first)["data"]["url"], "/v1/analyses/1");
    let listed = acme.get("/v1/deliveries?call_id=1").await.json()["deliveries"].take();
    let delivery = format!("/v1/deliveries/{}", listed[0]["id"].as_str().unwrap());
    let is_delivered = |delivery: &Value| delivery["status"] == "delivered";
    delivery_that(&acme, &delivery, is_delivered).await;
    for (action, body) in
        [(format!("{delivery}/redeliver"), json!({})), (format!("{path}/replay"), json!({"since": LONG_AGO}))]
    {
        assert_eq!(acme.post(&action, body).await.status, 202);
        let again = stage.receiver.next().await;
        assert_is_signed(&again, &secret);
        assert_eq!((&again.body, again.header("webhook-id")), (&first.body, first.header("webhook-id")));
        delivery_that(&acme, &delivery, is_delivered).await;
    }
    assert_eq!(acme.post(&format!("{path}/test"), json!({})).await.status, 202);
    let test = stage.receiver.next().await;
    assert_is_signed(&test, &secret);
    assert_eq!(body(&test)["data"]["is_test"], true);
}

#[tokio::test]
async fn a_change_to_thin_applies_to_pending_deliveries() {
    let stage = Stage::with(&[("CALLBACKS__RETRY_SCHEDULE", "1h")]).await;
    let acme = stage.acme();
    let (path, _) = registered(&acme, json!({"url": stage.hook("413-twice")})).await;
    assert_eq!(acme.get(&path).await.json()["payload"], "full");
    completed(&stage, "1").await;
    assert!(body(&stage.receiver.next().await)["data"]["transcript"].is_array());
    let listed = acme.get("/v1/deliveries?call_id=1").await.json()["deliveries"].take();
    let delivery = format!("/v1/deliveries/{}", listed[0]["id"].as_str().unwrap());
    delivery_that(&acme, &delivery, |delivery| delivery["under_way"] == false).await;
    assert_eq!(acme.patch(&path, json!({"payload": "thin"})).await.json()["payload"], "thin");
    acme.post(&format!("{delivery}/redeliver"), json!({})).await;
    assert_eq!(body(&stage.receiver.next().await)["data"]["revision"], 1);
    assert_eq!(acme.get(&delivery).await.json()["payload"], "thin");
}

#[tokio::test]
async fn an_unknown_payload_is_refused() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let (path, _) = registered(&acme, json!({"url": stage.hook("ok")})).await;
    for payload in [json!("none"), json!(null), json!(1)] {
        let callback = json!({"url": stage.hook("ok"), "payload": payload});
        let submitted = acme.submit(json!({"call_id": "1", "callback": callback})).await;
        assert_eq!(submitted.pointers(), ["#/callback/payload"]);
        let created = acme.post("/v1/webhooks", callback).await;
        assert_eq!(created.pointers(), ["#/payload"]);
        assert_eq!(acme.patch(&path, json!({ "payload": payload })).await.pointers(), ["#/payload"]);
    }
}
