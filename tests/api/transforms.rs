//! Transforms of webhooks and callbacks: presets, templates and previews.

use alovoice_gateway::sandbox::receiver::Received;
use serde_json::{Value, json};

use crate::caller::Caller;
use crate::journey::assert_is_signed;
use crate::stage::{ACME_SECRET, Stage};
use crate::webhooks::{delivery_that, registered};

const HOOKS: &str = "/v1/webhooks";

fn body(received: &Received) -> Value {
    serde_json::from_slice(&received.body).unwrap()
}

/// Submits a call with this metadata and waits until it is completed.
async fn completed(acme: &Caller, call_id: &str, metadata: Value) {
    acme.submitted(json!({"call_id": call_id, "metadata": metadata})).await;
    assert_eq!(acme.outcome(call_id).await["status"], "completed");
}

/// The path of the only delivery of a call.
async fn delivery_of(acme: &Caller, call_id: &str) -> String {
    let listed = acme.get(&format!("/v1/deliveries?call_id={call_id}")).await.json()["deliveries"].take();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    format!("/v1/deliveries/{}", listed[0]["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_webhook_with_a_preset_gets_its_body_signed_with_the_method_of_the_preset() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let webhook =
        json!({"url": stage.hook("ok"), "transform": {"preset": "zendesk.comment"}, "payload": "thin"});
    let (path, secret) = registered(&acme, webhook).await;
    let shown = acme.get(&path).await.json();
    assert_eq!(
        (&shown["transform"], &shown["method"]),
        (&json!({"preset": "zendesk.comment"}), &json!("PUT"))
    );
    completed(&acme, "1", json!({})).await;
    let received = stage.receiver.next().await;
    assert_is_signed(&received, &secret);
    assert_eq!(
        (received.method.as_str(), received.header("content-type")),
        ("PUT", Some("application/json"))
    );
    let comment = body(&received)["ticket"]["comment"].take();
    assert_eq!(comment["public"], false);
    let text = comment["body"].as_str().unwrap();
    assert!(text.starts_with("Call: 1\n") && text.contains("Operator: "), "{text}");

    let changed =
        acme.patch(&path, json!({"method": "PATCH", "transform": {"preset": "markdown"}})).await.json();
    assert_eq!(
        (&changed["method"], &changed["transform"]),
        (&json!("PATCH"), &json!({"preset": "markdown"}))
    );
    completed(&acme, "2", json!({})).await;
    let received = stage.receiver.next().await;
    assert_eq!(received.method, "PATCH");
    assert_eq!(received.header("content-type"), Some("text/markdown; charset=utf-8"));
    assert!(received.body.starts_with(b"**Call:** 2"), "{received:?}");
    let changed = acme.patch(&path, json!({"method": null, "transform": null})).await.json();
    assert_eq!((&changed["method"], &changed["transform"]), (&json!("POST"), &json!(null)));
    completed(&acme, "3", json!({})).await;
    assert_eq!(body(&stage.receiver.next().await)["data"]["url"], "/v1/analyses/3");
}

#[tokio::test]
async fn a_callback_with_a_template_gets_its_output() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let template =
        r#"{"text": {{ "Call " ~ data.call_id }}, "ticket": {{ data.metadata.ticket }}, "link": {{ link }}}"#;
    let callback = |answer: &str| json!({"url": stage.hook(answer), "transform": {"template": template}});
    let call = json!({"call_id": "1", "metadata": {"ticket": "T-\"1\""}, "callback": callback("ok/one")});
    acme.submitted(call).await;
    let received = stage.receiver.next().await;
    assert_is_signed(&received, ACME_SECRET);
    let expected = json!({"text": "Call 1", "ticket": "T-\"1\"", "link": "/v1/analyses/1"});
    assert_eq!(body(&received), expected);
    acme.outcome("1").await;
    // A callback that is added to a finished call, and one in a batch.
    let finished = acme.submit(json!({"call_id": "1", "callback": callback("ok/two")})).await;
    assert_eq!(finished.status, 200);
    assert_eq!(body(&stage.receiver.next().await), expected);
    let batch =
        json!({"analyses": [{"call_id": "2", "metadata": {"ticket": "T-2"}, "callback": callback("ok")}]});
    acme.post("/v1/analyses/batch", batch).await;
    assert_eq!(body(&stage.receiver.next().await)["ticket"], "T-2");
}

#[tokio::test]
async fn a_transform_that_fails_is_an_attempt_with_its_reason_and_sends_nothing() {
    let stage = Stage::with(&[("CALLBACKS__RETRY_SCHEDULE", "1h")]).await;
    let acme = stage.acme();
    let webhook = json!({"url": stage.hook("ok"), "transform": {"preset": "bitrix24.transcript"}});
    let (path, _) = registered(&acme, webhook).await;
    completed(&acme, "1", json!({})).await;
    let delivery = delivery_of(&acme, "1").await;
    let failed =
        delivery_that(&acme, &delivery, |delivery| delivery["attempts"][0]["outcome"].is_string()).await;
    let attempt = &failed["attempts"][0];
    assert_eq!((&failed["status"], &attempt["outcome"]), (&json!("pending"), &json!("transform")));
    let reason = attempt["error"].as_str().unwrap();
    assert!(reason.contains("bitrix24_call_id is missing"), "{reason}");
    assert_eq!(attempt["status"], json!(null));
    let health = acme.get(&path).await.json()["health"].take();
    assert_eq!((&health["consecutive_failures"], &health["paused_until"]), (&json!(0), &json!(null)));
    assert_eq!(health["last_failure"]["error"], reason);
    let (_, metrics) = stage.admin("metrics").await;
    assert!(
        metrics.contains("callback_attempt_duration_seconds_count{outcome=\"transform\"} 1"),
        "{metrics}"
    );
    // The next attempt uses the facts that the call has then.
    let ids = json!({"bitrix24_call_id": "externalCall.1"});
    assert_eq!(acme.submit(json!({"call_id": "1", "call": {"crm": ids}})).await.status, 200);
    assert_eq!(acme.post(&format!("{delivery}/redeliver"), json!({})).await.status, 202);
    assert_eq!(body(&stage.receiver.next().await)["CALL_ID"], "externalCall.1");
    delivery_that(&acme, &delivery, |delivery| delivery["status"] == "delivered").await;
    // So does the changed transform.
    let values = json!({"preset": "bitrix24.transcript", "values": {"bitrix24_call_id": "x.1"}});
    assert_eq!(acme.patch(&path, json!({ "transform": values })).await.json()["transform"], values);
    assert_eq!(acme.post(&format!("{delivery}/redeliver"), json!({})).await.status, 202);
    let received = body(&stage.receiver.next().await);
    assert_eq!(received["CALL_ID"], "x.1");
    for message in received["MESSAGES"].as_array().unwrap() {
        assert!(
            message["STOP_TIME"].as_i64().unwrap() >= 1 && !message["MESSAGE"].as_str().unwrap().is_empty()
        );
    }
    let remains = stage.close().await;
    assert_eq!(remains.receiver.received().len(), 2, "the attempt that failed sent nothing");
}

#[tokio::test]
async fn a_preview_shows_the_request_the_filter_and_every_problem() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    completed(&acme, "1", json!({"ticket": "T-1"})).await;
    let preview = |webhook: Value| {
        let mut webhook = webhook;
        webhook["call_id"] = json!("1");
        let acme = stage.acme();
        async move {
            let answer = acme.post("/v1/webhooks/preview", webhook).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            answer.json()
        }
    };
    let shown =
        preview(json!({"filter": {"metadata.ticket": "T-2"}, "transform": {"preset": "zendesk.comment"}}))
            .await;
    let text = shown["body"].as_str().unwrap();
    assert_eq!(
        (&shown["method"], &shown["passes_filter"], &shown["problems"]),
        (&json!("PUT"), &json!(false), &json!([]))
    );
    assert_eq!((&shown["size"], &shown["body_truncated"]), (&json!(text.len()), &json!(false)));
    assert_eq!(
        shown["headers"],
        json!({"content-type": "application/json", "webhook-id": null, "webhook-signature": null, "webhook-timestamp": null})
    );
    assert!(serde_json::from_str::<Value>(text).unwrap()["ticket"]["comment"]["body"].is_string());
    let shown = preview(json!({"events": ["analysis.failed"], "transform": {"preset": "amocrm.call"}})).await;
    assert_eq!(
        (&shown["passes_filter"], &shown["body"], &shown["size"]),
        (&json!(false), &json!(null), &json!(0))
    );
    assert_eq!(shown["problems"].as_array().unwrap().len(), 2, "{shown}");
    let shown = preview(json!({"transform": {"template": "{{ data.nothing }}"}})).await;
    assert!(shown["problems"][0].as_str().unwrap().contains("undefined value"), "{shown}");
    let shown = preview(json!({"payload": "thin"})).await;
    assert_eq!(
        serde_json::from_str::<Value>(shown["body"].as_str().unwrap()).unwrap()["data"]["url"],
        "/v1/analyses/1"
    );

    let webhook = json!({"url": stage.hook("ok"), "headers": {"X-Key": "s3cr3t"}, "filter": {"metadata.ticket": "T-1"},
        "transform": {"template": "{{ data.call_id }}", "content_type": "text/plain"}, "enabled": false});
    let (path, _) = registered(&acme, webhook).await;
    let answer = acme.post(&format!("{path}/preview"), json!({"call_id": "1"})).await;
    let shown = answer.json();
    assert_eq!(
        (&shown["body"], &shown["passes_filter"], &shown["headers"]["x-key"]),
        (&json!("1"), &json!(true), &json!(null))
    );
    assert!(!answer.text().contains("s3cr3t"));
    for (path, body) in [
        (format!("{path}/preview"), json!({"call_id": "2"})),
        (format!("{HOOKS}/preview"), json!({"call_id": "2"})),
    ] {
        acme.post(&path, body).await.problem(404, "not_found");
    }
    stage.globex().post(&format!("{path}/preview"), json!({"call_id": "1"})).await.problem(404, "not_found");
    let unfinished = json!({"call_id": "never-ready~1"});
    acme.submitted(unfinished.clone()).await;
    let shown = acme.post(&format!("{path}/preview"), unfinished).await.json();
    assert!(shown["problems"][0].as_str().unwrap().contains("no event yet"), "{shown}");
    assert_eq!(stage.close().await.receiver.received().len(), 0);
}

#[tokio::test]
async fn invalid_transforms_are_refused_where_they_are_given() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let url = stage.hook("ok");
    let (path, _) = registered(&acme, json!({ "url": url })).await;
    for (transform, pointer) in [
        (json!({}), "/transform"),
        (json!([]), "/transform"),
        (json!({"preset": "bitrix"}), "/transform/preset"),
        (json!({"preset": "markdown", "url": "https://a.uz"}), "/transform/url"),
        (json!({"template": "{{ data."}), "/transform/template"),
        (json!({"template": "1", "content_type": "image/png"}), "/transform/content_type"),
        (json!({"preset": "telegram.message", "values": {"chat": "1"}}), "/transform/values/chat"),
    ] {
        let hook = json!({"url": url, "transform": transform});
        assert_eq!(acme.post(HOOKS, hook.clone()).await.pointers(), [format!("#{pointer}")]);
        let change = json!({ "transform": transform });
        assert_eq!(acme.patch(&path, change).await.pointers(), [format!("#{pointer}")]);
        let submitted = acme.submit(json!({"call_id": "1", "callback": hook})).await;
        assert_eq!(submitted.pointers(), [format!("#/callback{pointer}")]);
        let preview = json!({"call_id": "1", "transform": transform});
        assert_eq!(acme.post("/v1/webhooks/preview", preview).await.pointers(), [format!("#{pointer}")]);
    }
    for method in [json!("GET"), json!(1)] {
        let hook = json!({"url": url, "method": method});
        assert_eq!(acme.post(HOOKS, hook).await.pointers(), ["#/method"]);
    }
}

#[tokio::test]
async fn templates_and_filters_of_great_depth_do_not_end_the_process() {
    const SIZE: usize = 16 << 10;
    let stage = Stage::start().await;
    let acme = stage.acme();
    completed(&acme, "1", json!({})).await;
    for (start, repeated, end) in [
        ("{{ ", "-", "a }}"),
        ("{{ ", "- ", "a }}"),
        ("{{ 1", "~1", " }}"),
        ("{{ 1", "+1", " }}"),
        ("{{ data", ".a", " }}"),
        ("{{ 1", "|e", " }}"),
        ("{{ 1", "()", " }}"),
        ("{{ ", "not ", "1 }}"),
        ("{{ ", "[", " }}"),
        ("{{ ", "(", " }}"),
        ("{% if 1 %}", "{%elif 1%}", "{% endif %}"),
    ] {
        let times = (SIZE - start.len() - end.len()) / repeated.len();
        let template = format!("{start}{}{end}", repeated.repeat(times));
        let preview = json!({"call_id": "1", "transform": {"template": template}});
        let answer = acme.post("/v1/webhooks/preview", preview).await;
        assert!([200, 422].contains(&answer.status), "{repeated}: {answer:?}");
    }
    let nested = (0..100).fold(json!({"status": "completed"}), |inner, _| json!({ "$not": inner }));
    let value = (0..100).fold(json!(1), |inner, _| json!({ "a": inner }));
    for filter in [
        json!({ format!("metadata{}", ".a".repeat(2_000)): 1 }),
        json!({ format!("/metadata{}", ".a".repeat(2_000)): 1 }),
        json!({ "metadata.a": value }),
        nested,
    ] {
        let preview = json!({"call_id": "1", "filter": filter});
        let answer = acme.post("/v1/webhooks/preview", preview).await;
        assert!([200, 422].contains(&answer.status), "{answer:?}");
    }
    assert_eq!(acme.get("/v1/analyses/1").await.status, 200);
}

#[tokio::test]
async fn templates_need_the_permission_of_the_operator_and_presets_do_not() {
    let stage = Stage::with(&[("CALLBACKS__ALLOW_TEMPLATES", "false")]).await;
    let acme = stage.acme();
    let (template, preset) = (json!({"template": "{{ data.call_id }}"}), json!({"preset": "markdown"}));
    let (url, hook) =
        (stage.hook("ok"), |transform: &Value| json!({"url": stage.hook("ok"), "transform": transform}));
    let call = |transform: &Value| json!({"call_id": "1", "callback": {"url": url, "transform": transform}});
    let preview = |transform: &Value| json!({"call_id": "1", "transform": transform});
    acme.submitted(call(&preset)).await;
    let (path, _) = registered(&acme, hook(&preset)).await;
    assert_eq!(acme.post("/v1/webhooks/preview", preview(&preset)).await.status, 200);

    for (answer, pointer) in [
        (acme.post("/v1/analyses", call(&template)).await, "#/callback/transform/template"),
        (acme.post(HOOKS, hook(&template)).await, "#/transform/template"),
        (acme.post("/v1/webhooks/preview", preview(&template)).await, "#/transform/template"),
        (acme.patch(&path, json!({"transform": template})).await, "#/transform/template"),
    ] {
        answer.problem(422, "invalid_request");
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{answer:?}");
    }
    assert_eq!(acme.get(&path).await.json()["transform"], preset);
}
