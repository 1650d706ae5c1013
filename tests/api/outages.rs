//! Outages of the vendor, of the issuer, of the receivers and of the gateway itself.

use serde_json::{Value, json};

use crate::issuer::Issuer;
use crate::stage::{LATER, Stage, call};

#[tokio::test]
async fn reads_and_submissions_work_while_the_vendor_and_the_issuer_are_down() {
    let issuer = Issuer::start().await;
    let jwks_url = issuer.url.to_string();
    let stage = Stage::with(&[
        ("AUTH__ISSUERS__1__ISSUER", Issuer::NAME),
        ("AUTH__ISSUERS__1__AUDIENCES", "alovoice-gateway"),
        ("AUTH__ISSUERS__1__ALGORITHMS", "EdDSA"),
        ("AUTH__ISSUERS__1__JWKS_URL", &jwks_url),
        ("AUTH__ISSUERS__1__JWKS_REFRESH", "5ms"),
    ])
    .await;
    let before = stage.caller_with(&issuer.token("acme", "before"));
    before.submitted(json!({"call_id": "1"})).await;
    let finished = before.outcome("1").await;

    issuer.set_down(true).await;
    stage.vendor.set_down(true);
    // The token differs from the one before, so its signature is not cached.
    let during = stage.caller_with(&issuer.token("acme", "during"));
    assert_eq!(during.analysis("1").await.json(), finished);
    assert_eq!(during.get("/v1/analyses/1/transcript").await.status, 200);
    assert_eq!(during.get("/v1/analyses/1/vendor-answer").await.status, 200);
    during.submitted(json!({"call_id": "2"})).await;
    let failed = r#"alovoice_gateway_jwks_refreshes_total{outcome="failed"}"#;
    assert!(stage.admin("metrics").await.1.contains(failed));

    stage.vendor.set_down(false);
    assert_eq!(during.outcome("2").await["status"], "completed");
    assert_eq!(stage.vendor.accepted_submits(&call("2")), 1);
}

#[tokio::test]
async fn after_a_restart_finished_analyses_are_served_and_work_continues() {
    let stage = Stage::start().await;
    stage.acme().submitted(json!({"call_id": "finished"})).await;
    let finished = stage.acme().outcome("finished").await;
    stage.acme().submitted(json!({"call_id": "never-ready~1"})).await;
    stage
        .vendor
        .wait_for(|requests| requests.iter().any(|request| request.call_id == call("never-ready~1")))
        .await;
    stage.vendor.set_down(true);
    for call_id in ["a", "b", "c"] {
        stage.acme().submitted(json!({"call_id": call_id, "callback": {"url": stage.hook("ok")}})).await;
    }

    let stage = stage.restart().await;
    assert_eq!(stage.acme().analysis("finished").await.json(), finished);
    stage.vendor.set_down(false);
    for call_id in ["a", "b", "c"] {
        assert_eq!(stage.acme().outcome(call_id).await["status"], "completed");
        assert_eq!(stage.vendor.accepted_submits(&call(call_id)), 1);
        stage.receiver.next().await;
    }
    let seen = stage.vendor.polls(&call("never-ready~1"));
    stage.vendor.wait_for(|_| stage.vendor.polls(&call("never-ready~1")) > seen).await;
    assert_eq!(stage.vendor.submits(&call("never-ready~1")), 1);
}

#[tokio::test]
async fn callbacks_are_retried_after_a_restart() {
    // The retry is due in an hour, so that it does not precede the restart.
    let stage = Stage::with(&[("CALLBACKS__RETRY_SCHEDULE", LATER)]).await;
    stage.receiver.set_down(true);
    stage.acme().submitted(json!({"call_id": "1", "callback": {"url": stage.hook("ok")}})).await;
    let first = stage.receiver.next().await;
    stage.receiver.set_down(false);
    let stage = stage.restart_with_work_due().await;
    let second = stage.receiver.next().await;
    assert_eq!(second.header("webhook-id"), first.header("webhook-id"));
    assert_eq!(second.body, first.body);
    let (delivery, _) = stage.close().await.delivery("1").await;
    assert_eq!((delivery.status.as_str(), delivery.attempts), ("delivered", 2));
}

#[tokio::test]
async fn analyses_complete_while_the_receivers_are_down() {
    let stage = Stage::start().await;
    stage.receiver.set_down(true);
    stage.acme().submitted(json!({"call_id": "1", "callback": {"url": stage.hook("ok")}})).await;
    let analysis = stage.acme().outcome("1").await;
    assert_eq!((&analysis["status"], &analysis["last_error"]), (&json!("completed"), &Value::Null));
}
