//! Templates of callers: the permission of the operator, and their limits.

use serde_json::{Value, json};

use crate::caller::Caller;
use crate::stage::Stage;
use crate::webhooks::{delivery_that, registered};

const FORBIDDEN: &str =
    "the template is not allowed: the operator has not set callbacks.allow_templates; use a preset";

/// The paths of the deliveries of a call, newest first.
async fn deliveries_of(caller: &Caller, call_id: &str) -> Vec<String> {
    let list = caller.get(&format!("/v1/deliveries?call_id={call_id}")).await.json();
    let deliveries = list["deliveries"].as_array().unwrap().iter();
    deliveries.map(|delivery| format!("/v1/deliveries/{}", delivery["id"].as_str().unwrap())).collect()
}

/// An attempt of a delivery, when it has ended.
async fn attempt(caller: &Caller, delivery: &str, index: usize) -> Value {
    let ended = |delivery: &Value| delivery["attempts"][index]["outcome"].is_string();
    delivery_that(caller, delivery, ended).await["attempts"][index].take()
}

#[tokio::test]
async fn templates_are_not_rendered_after_the_operator_has_forbidden_them() {
    let stage = Stage::with(&[("CALLBACKS__RETRY_SCHEDULE", "1h,1h,1h")]).await;
    let acme = stage.acme();
    let hook = json!({"url": stage.hook("500"), "transform": {"template": "{{ data.call_id }}"}});
    let (path, _) = registered(&acme, hook.clone()).await;
    acme.submitted(json!({"call_id": "1", "callback": hook})).await;
    acme.outcome("1").await;
    let deliveries = deliveries_of(&acme, "1").await;
    assert_eq!(deliveries.len(), 2);
    for delivery in &deliveries {
        assert_eq!(attempt(&acme, delivery, 0).await["outcome"], "refused");
        assert_eq!(stage.receiver.next().await.body, "\"1\"".as_bytes());
    }

    let stage = stage.restart_with(("CALLBACKS__ALLOW_TEMPLATES", "false")).await;
    let acme = stage.acme();
    for delivery in &deliveries {
        assert_eq!(acme.post(&format!("{delivery}/redeliver"), json!({})).await.status, 202);
        let attempt = attempt(&acme, delivery, 1).await;
        let reason = format!("the transform failed: {FORBIDDEN}");
        assert_eq!((&attempt["outcome"], &attempt["error"]), (&json!("transform"), &json!(reason)));
    }
    let preview = acme.post(&format!("{path}/preview"), json!({"call_id": "1"})).await.json();
    assert_eq!((&preview["body"], &preview["problems"]), (&json!(null), &json!([FORBIDDEN])));
    // Other fields of the webhook can change.
    assert_eq!(acme.patch(&path, json!({"description": "crm"})).await.status, 200);

    let stage = stage.restart_with(("CALLBACKS__ALLOW_TEMPLATES", "true")).await;
    let acme = stage.acme();
    for delivery in &deliveries {
        assert_eq!(acme.post(&format!("{delivery}/redeliver"), json!({})).await.status, 202);
        assert_eq!(attempt(&acme, delivery, 2).await["outcome"], "refused");
    }
    assert_eq!(stage.receiver.received().len(), 4);
}
