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

/// Templates that need too much work or memory, each with the reason.
fn abuses() -> Vec<(String, &'static str)> {
    let text = format!("{{% set a = 'x' %}}{}", "{% set a = a ~ a %}".repeat(20));
    let more = "{% set a = a ~ a %}".repeat(20);
    let work = "the template does more work than allowed (line 1)";
    vec![
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}".to_owned(), work),
        ("{{ 'x'|indent(999999999, true) }}".to_owned(), work),
        (format!("{text}{more}"), work),
        (format!("{text}{{{{ a|replace('x', a) }}}}"), work),
        (format!("{text}{}", "{{ a }}".repeat(9)), "the body has more than 8388608 bytes"),
        ("{{ 10 ** 999999999 }}".to_owned(), "invalid operation (line 1)"),
        ("{{ range(999999999) }}".to_owned(), "invalid operation (line 1)"),
    ]
}

#[tokio::test]
async fn a_template_that_needs_too_much_is_an_attempt_with_its_reason() {
    let stage = Stage::with(&[("CALLBACKS__RETRY_SCHEDULE", "1h")]).await;
    let acme = stage.acme();
    acme.submitted(json!({"call_id": "1"})).await;
    acme.outcome("1").await;
    let mut reasons = Vec::new();
    for (number, (template, reason)) in abuses().into_iter().enumerate() {
        let transform = json!({"template": template, "content_type": "text/plain"});
        let preview = json!({"call_id": "1", "transform": transform});
        let preview = acme.post("/v1/webhooks/preview", preview).await.json();
        assert_eq!((&preview["body"], &preview["problems"]), (&json!(null), &json!([reason])));
        // An added callback gets the event of the finished call.
        let callback = json!({"url": stage.hook(&format!("ok/{number}")), "transform": transform});
        assert_eq!(acme.submit(json!({"call_id": "1", "callback": callback})).await.status, 200);
        reasons.push(format!("the transform failed: {reason}"));
    }
    let deliveries = deliveries_of(&acme, "1").await;
    assert_eq!(deliveries.len(), reasons.len());
    for (delivery, reason) in deliveries.iter().rev().zip(reasons) {
        let attempt = attempt(&acme, delivery, 0).await;
        assert_eq!((&attempt["outcome"], &attempt["error"]), (&json!("transform"), &json!(reason)));
    }
    assert_eq!(stage.receiver.received().len(), 0);
}

#[tokio::test]
async fn a_template_that_nests_values_is_refused_and_not_rendered() {
    let stage = Stage::with(&[("CALLBACKS__RETRY_SCHEDULE", "1h")]).await;
    let acme = stage.acme();
    let nested = format!("{{% set a = [1] %}}{}{{{{ a ~ '' }}}}", "{% set a = [a, a] %}".repeat(60));
    let reason = "a list or map must have only constants, unless it is printed as it is (line 1)";
    let hook = json!({"url": stage.hook("ok"), "transform": {"template": nested}});
    for (path, body, pointer) in [
        ("/v1/webhooks", hook.clone(), "#/transform/template"),
        (
            "/v1/webhooks/preview",
            json!({"call_id": "1", "transform": hook["transform"]}),
            "#/transform/template",
        ),
        ("/v1/analyses", json!({"call_id": "1", "callback": hook}), "#/callback/transform/template"),
    ] {
        let refused = acme.post(path, body).await;
        assert_eq!(refused.pointers(), [pointer]);
        assert_eq!(refused.json()["errors"][0]["detail"], reason);
    }
    // An earlier version accepted the template.
    registered(&acme, json!({"url": stage.hook("ok"), "transform": {"template": "{{ data.call_id }}"}}))
        .await;
    let transform = hook["transform"].to_string().replace('\'', "''");
    stage.rows().change(&format!("UPDATE webhooks SET transform = '{transform}'"), 1).await;
    acme.submitted(json!({"call_id": "1"})).await;
    acme.outcome("1").await;
    let deliveries = deliveries_of(&acme, "1").await;
    assert_eq!(attempt(&acme, &deliveries[0], 0).await["error"], format!("the transform failed: {reason}"));
    assert_eq!(stage.receiver.received().len(), 0);
}
