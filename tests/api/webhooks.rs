//! Webhooks: events, signatures, secrets and deliveries.

use reqwest::Method;
use serde_json::{Value, json};

use crate::caller::Caller;
use crate::journey::assert_is_signed;
use crate::stage::{ACME_SECRET, Stage};

const HOOKS: &str = "/v1/webhooks";

/// Registers a webhook. Returns its path and its secret.
pub(crate) async fn registered(caller: &Caller, webhook: Value) -> (String, String) {
    let answer = caller.post(HOOKS, webhook).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let created = answer.json();
    let path = format!("{HOOKS}/{}", created["id"].as_str().unwrap());
    assert_eq!(answer.header("location"), path);
    assert_eq!(answer.header("cache-control"), "no-store");
    (path, created["secret"].as_str().unwrap().to_owned())
}

/// Submits a call of `acme` and waits until it is completed.
pub(crate) async fn completed(stage: &Stage, call_id: &str) {
    stage.acme().submitted(json!({"call_id": call_id})).await;
    stage.acme().outcome(call_id).await;
}

/// Waits until the delivery at this path meets the condition.
pub(crate) async fn delivery_that(caller: &Caller, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    loop {
        let delivery = caller.get(path).await.json();
        if is_so(&delivery) {
            return delivery;
        }
    }
}

fn is_delivered(delivery: &Value) -> bool {
    delivery["status"] == "delivered"
}

#[tokio::test]
async fn a_webhook_receives_every_event_signed_with_its_secret() {
    let stage = Stage::start().await;
    let (path, secret) = registered(&stage.acme(), json!({"url": stage.hook("ok/hook")})).await;
    assert_ne!(secret, ACME_SECRET);
    // The webhook of another tenant gets no event.
    registered(&stage.globex(), json!({"url": stage.hook("ok/other")})).await;
    let call = json!({"call_id": "1", "callback": {"url": stage.hook("ok/callback")}});
    stage.acme().submitted(call).await;
    let mut received = [stage.receiver.next().await, stage.receiver.next().await];
    received.sort_by(|one, other| one.path.cmp(&other.path));
    let [callback, hook] = &received;
    assert_eq!((callback.path.as_str(), hook.path.as_str()), ("/hook/ok/callback", "/hook/ok/hook"));
    assert_is_signed(hook, &secret);
    assert_is_signed(callback, ACME_SECRET);
    assert_eq!(hook.body, callback.body, "both requests carry the same event");
    assert_eq!(hook.header("webhook-id"), callback.header("webhook-id"));
    let event: Value = serde_json::from_slice(&hook.body).unwrap();
    assert_eq!((&event["type"], &event["data"]["call_id"]), (&json!("analysis.completed"), &json!("1")));

    let of_hook = format!("/v1/deliveries?webhook={}", &path[HOOKS.len() + 1..]);
    let listed = stage.acme().get(&of_hook).await.json()["deliveries"].take();
    let delivery = format!("/v1/deliveries/{}", listed[0]["id"].as_str().unwrap());
    let delivery = delivery_that(&stage.acme(), &delivery, is_delivered).await;
    assert_eq!(delivery["event"], hook.header("webhook-id").unwrap());
    assert_eq!(delivery["attempts"][0]["outcome"], "delivered");
    assert_eq!((&delivery["attempt_count"], &delivery["call_id"]), (&json!(1), &json!("1")));
    let shown = stage.acme().get(&path).await.json();
    assert_eq!((&shown["health"]["success_rate"], &shown["health"]["attempts"]), (&json!(1.0), &json!(1)));
    let remains = stage.close().await;
    assert_eq!(remains.receiver.received().len(), 2, "each endpoint gets the event once");
}

#[tokio::test]
async fn a_webhook_receives_only_its_selected_event_types() {
    let stage = Stage::with(&[("VENDOR__POLLING__DEADLINE", "1ms")]).await;
    registered(&stage.acme(), json!({"url": stage.hook("ok/failed"), "events": ["analysis.failed"]})).await;
    registered(&stage.acme(), json!({"url": stage.hook("ok/completed"), "events": ["analysis.completed"]}))
        .await;
    stage.acme().submitted(json!({"call_id": "1"})).await;
    assert_eq!(stage.acme().outcome("1").await["status"], "failed");
    assert_eq!(stage.receiver.next().await.path, "/hook/ok/failed");
    assert_eq!(stage.acme().get("/v1/deliveries").await.json()["deliveries"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn custom_headers_are_sent_and_never_returned() {
    let stage = Stage::start().await;
    let (acme, value) = (stage.acme(), "Bearer of-the-receiver");
    let (path, secret) = registered(
        &acme,
        json!({"url": stage.hook("ok"), "headers": {"Authorization": value, "X-Site": "tashkent-1"}}),
    )
    .await;
    completed(&stage, "1").await;
    let received = stage.receiver.next().await;
    assert_eq!(received.header("authorization"), Some(value));
    assert_eq!(received.header("x-site"), Some("tashkent-1"));

    let changed = acme.patch(&path, json!({"headers": {"x-SITE": null, "X-Other": "o"}})).await.json();
    assert_eq!(changed["header_names"], json!(["authorization", "x-other"]));
    completed(&stage, "2").await;
    let received = stage.receiver.next().await;
    assert_eq!((received.header("authorization"), received.header("x-site")), (Some(value), None));
    for shown in [HOOKS, &path, "/v1/deliveries"] {
        let text = acme.get(shown).await.text().to_owned();
        assert!(!text.contains("of-the-receiver") && !text.contains(&secret), "{text}");
    }
    let changed = acme.patch(&path, json!({"headers": null})).await.json();
    assert_eq!(changed["header_names"], json!([]));
}

#[tokio::test]
async fn a_change_applies_to_pending_deliveries() {
    let stage = Stage::with(&[("CALLBACKS__RETRY_SCHEDULE", "1ms,1h")]).await;
    let acme = stage.acme();
    let (path, _) = registered(&acme, json!({"url": stage.hook("500"), "description": "CRM"})).await;
    completed(&stage, "1").await;
    stage.receiver.next().await;
    stage.receiver.next().await;
    let listed = acme.get("/v1/deliveries?call_id=1&status=pending").await.json()["deliveries"].take();
    let delivery = format!("/v1/deliveries/{}", listed[0]["id"].as_str().unwrap());
    delivery_that(&acme, &delivery, |delivery| delivery["under_way"] == false).await;
    let changed = acme.patch(&path, json!({"url": stage.hook("ok/moved"), "description": null})).await.json();
    assert_eq!((&changed["description"], &changed["enabled"]), (&json!(null), &json!(true)));
    // The next attempt is due in an hour.
    let again = acme.post(&format!("{delivery}/redeliver"), json!({})).await;
    assert_eq!(again.status, 202);
    assert_eq!(stage.receiver.next().await.path, "/hook/ok/moved");
    let delivery = delivery_that(&acme, &delivery, is_delivered).await;
    let outcomes: Vec<_> =
        delivery["attempts"].as_array().unwrap().iter().map(|attempt| attempt["outcome"].clone()).collect();
    assert_eq!(outcomes, ["refused", "refused", "delivered"], "the history of attempts is kept");
    assert_eq!(delivery["attempts"][0]["response"], "500\n");
}

#[tokio::test]
async fn a_delivered_event_can_be_redelivered_with_the_same_id() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    acme.submitted(json!({"call_id": "1", "callback": {"url": stage.hook("ok")}})).await;
    let first = stage.receiver.next().await;
    let listed = acme.get("/v1/deliveries?call_id=1").await.json()["deliveries"].take();
    assert_eq!((&listed[0]["webhook"], &listed[0]["url"]), (&json!(null), &json!(stage.hook("ok"))));
    let path = format!("/v1/deliveries/{}", listed[0]["id"].as_str().unwrap());
    delivery_that(&acme, &path, is_delivered).await;
    acme.post(&format!("{path}/redeliver"), json!({})).await;
    let second = stage.receiver.next().await;
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    assert_eq!(first.body, second.body);
    delivery_that(&acme, &path, |delivery| is_delivered(delivery) && delivery["attempt_count"] == 2).await;
}

#[tokio::test]
async fn both_secrets_sign_during_the_overlap_of_a_rotation() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let (path, first) = registered(&acme, json!({"url": stage.hook("ok")})).await;
    let rotated = acme.post(&format!("{path}/rotate-secret"), json!({})).await.json();
    let second = rotated["secret"].as_str().unwrap().to_owned();
    assert!(second != first && rotated["previous_secret_until"].is_string(), "{rotated}");
    completed(&stage, "1").await;
    let received = stage.receiver.next().await;
    assert_is_signed(&received, &first);
    assert_is_signed(&received, &second);

    // The caller supplies a secret and ends the overlap at once. The body is optional.
    let own = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let rotated = acme
        .post(&format!("{path}/rotate-secret"), json!({"overlap_seconds": 0, "secret": own}))
        .await
        .json();
    assert_eq!((&rotated["secret"], &rotated["previous_secret_until"]), (&json!(own), &json!(null)));
    completed(&stage, "2").await;
    let received = stage.receiver.next().await;
    assert_is_signed(&received, own);
    assert_eq!(received.header("webhook-signature").unwrap().split(' ').count(), 1);
    let bare = acme.send(Method::POST, &format!("{path}/rotate-secret"), &[], "").await;
    assert_eq!(bare.status, 200);
}

#[tokio::test]
async fn a_test_event_is_marked_and_not_in_the_feed() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let (path, secret) =
        registered(&acme, json!({"url": stage.hook("ok"), "events": ["analysis.failed"]})).await;
    let accepted = acme.post(&format!("{path}/test"), json!({})).await;
    assert_eq!(accepted.status, 202);
    let received = stage.receiver.next().await;
    assert_is_signed(&received, &secret);
    let event: Value = serde_json::from_slice(&received.body).unwrap();
    assert_eq!((&event["type"], &event["data"]["is_test"]), (&json!("webhook.test"), &json!(true)));
    let delivery = delivery_that(&acme, accepted.header("location"), is_delivered).await;
    assert_eq!((&delivery["call_id"], &delivery["event_type"]), (&json!(null), &json!("webhook.test")));
    completed(&stage, "1").await;
    let events = acme.get("/v1/events").await.json();
    let types: Vec<_> =
        events["events"].as_array().unwrap().iter().map(|event| event["type"].clone()).collect();
    assert_eq!(types, ["analysis.completed"]);
    // The ID of a test event is not a position in the feed.
    let after = format!("/v1/events?after={}", received.header("webhook-id").unwrap());
    assert_eq!(acme.get(&after).await.status, 200);
}

#[tokio::test]
async fn a_test_event_passes_every_preset_and_placeholder() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let presets = acme.get("/v1/renderings").await.json()["renderings"].take();
    let by_preset = |preset: &Value| {
        let url = preset["url"].as_str().unwrap();
        let path = url.splitn(4, '/').nth(3).unwrap();
        (path.to_owned(), json!({"preset": preset["preset"]}))
    };
    let mut webhooks: Vec<_> = presets.as_array().unwrap().iter().map(by_preset).collect();
    assert_eq!(webhooks.len(), 15);
    let template = json!({"template": "[{{ data.call.crm.jira_issue_key }}, {{ data.transcript[0].text }}, {{ link }}]"});
    webhooks.push(("deals/{crm.deal}".to_owned(), template));
    for (path, transform) in webhooks {
        let url = format!("{}{path}", stage.receiver.base_url());
        let (webhook, _) = registered(&acme, json!({"url": url, "transform": transform})).await;
        let accepted = acme.post(&format!("{webhook}/test"), json!({})).await;
        let is_over = |delivery: &Value| delivery["attempts"][0]["outcome"].is_string();
        let delivery = delivery_that(&acme, accepted.header("location"), is_over).await;
        assert_eq!(delivery["attempts"][0]["outcome"], "delivered", "{delivery}");
        let received = stage.receiver.next().await;
        let body = String::from_utf8(received.body.to_vec()).unwrap();
        assert!(body.contains("This is a test of a webhook"), "{transform}: {body}");
    }
    let received = stage.receiver.received().pop().unwrap();
    assert_eq!(received.path, "/deals/999999999999");
    let body: Value = serde_json::from_slice(&received.body).unwrap();
    assert_eq!((&body[0], &body[2]), (&json!("TEST-999999999999"), &json!("/v1/analyses/webhook.test")));
}

#[tokio::test]
async fn a_deleted_webhook_receives_nothing() {
    let stage = Stage::with(&[("CALLBACKS__RETRY_SCHEDULE", "1h")]).await;
    let acme = stage.acme();
    let (path, _) = registered(&acme, json!({"url": stage.hook("500")})).await;
    completed(&stage, "1").await;
    stage.receiver.next().await;
    assert_eq!(acme.send(Method::DELETE, &path, &[], "").await.status, 204);
    acme.get(&path).await.problem(404, "not_found");
    acme.send(Method::DELETE, &path, &[], "").await.problem(404, "not_found");
    completed(&stage, "2").await;
    assert_eq!(acme.get(HOOKS).await.json(), json!({"webhooks": []}));
    let remains = stage.close().await;
    assert_eq!(remains.receiver.received().len(), 1);
}

#[tokio::test]
async fn a_deleted_call_is_deleted_with_its_deliveries() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    registered(&acme, json!({"url": stage.hook("ok")})).await;
    completed(&stage, "1").await;
    stage.receiver.next().await;
    assert_eq!(acme.send(Method::DELETE, "/v1/analyses/1", &[], "").await.status, 204);
    assert_eq!(acme.get("/v1/deliveries").await.json(), json!({"deliveries": [], "next_cursor": null}));
}

#[tokio::test]
async fn deliveries_are_listed_newest_first_and_page_by_page() {
    let stage = Stage::with(&[("CALLBACKS__RETRY_SCHEDULE", "1h")]).await;
    let acme = stage.acme();
    let (good, _) = registered(&acme, json!({"url": stage.hook("ok")})).await;
    for number in 1..=3 {
        acme.submitted(json!({"call_id": number.to_string(), "callback": {"url": stage.hook("410")}})).await;
        acme.outcome(&number.to_string()).await;
        stage.receiver.next().await;
        stage.receiver.next().await;
    }
    let calls = |page: &Value| {
        let listed = page["deliveries"].as_array().unwrap().iter();
        listed.map(|delivery| delivery["call_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let mut seen = Vec::new();
    let mut path = "/v1/deliveries?limit=2".to_owned();
    loop {
        let page = acme.get(&path).await.json();
        seen.extend(calls(&page));
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/deliveries?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, ["3", "3", "2", "2", "1", "1"]);
    let id = &good[HOOKS.len() + 1..];
    assert_eq!(calls(&acme.get(&format!("/v1/deliveries?webhook={id}")).await.json()), ["3", "2", "1"]);
    for status in ["failed", "delivered"] {
        // The receiver gets the request before the store has the outcome.
        let path = format!("/v1/deliveries?status={status}");
        while calls(&acme.get(&path).await.json()) != ["3", "2", "1"] {}
        let both = format!("{path}&webhook={id}&call_id=2");
        let expected: &[&str] = if status == "delivered" { &["2"] } else { &[] };
        assert_eq!(calls(&acme.get(&both).await.json()), expected);
    }
    let cursor = acme.get("/v1/deliveries?limit=1").await.json()["next_cursor"].as_str().unwrap().to_owned();
    for (query, pointer) in [
        (format!("status=failed&cursor={cursor}"), "?cursor"),
        ("limit=0".to_owned(), "?limit"),
        ("status=lost".to_owned(), "?status"),
        ("webhook=whk_1".to_owned(), "?webhook"),
        ("call_id=a%20b".to_owned(), "?call_id"),
    ] {
        assert_eq!(acme.get(&format!("/v1/deliveries?{query}")).await.pointers(), [pointer]);
    }
}

#[tokio::test]
async fn invalid_fields_are_named_without_header_values() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let url = stage.hook("ok");
    for (body, pointer) in [
        (json!({"url": "ftp://a.uz/"}), "#/url"),
        (json!({"url": url, "events": []}), "#/events"),
        (json!({"url": url, "events": vec!["analysis.failed"; 5]}), "#/events"),
        (json!({"url": url, "events": ["webhook.test"]}), "#/events/0"),
        (json!({"url": url, "headers": {"Host": "b"}}), "#/headers/Host"),
        (json!({"url": url, "headers": {"X-A": "s3cr3t\r\nB: c"}}), "#/headers/X-A"),
        (json!({"url": url, "headers": {"X-A": "1", "x-a": "2"}}), "#/headers/x-a"),
        (json!({"url": url, "description": "x".repeat(257)}), "#/description"),
        (json!({"url": url, "secret": "whsec_s3cr3t"}), "#/secret"),
        (json!({"url": url, "is_enabled": true}), "#/is_enabled"),
    ] {
        let answer = acme.post(HOOKS, body).await;
        assert_eq!(answer.pointers(), [pointer]);
        assert!(!answer.text().contains("s3cr3t"), "{}", answer.text());
    }
    let many: serde_json::Map<_, _> = (0..17).map(|n| (format!("x-{n}"), json!("v"))).collect();
    assert_eq!(acme.post(HOOKS, json!({"url": url, "headers": many})).await.pointers(), ["#/headers"]);
    let inside = acme.post(HOOKS, json!({"url": "https://10.0.0.1/"})).await;
    assert_eq!(inside.problem(422, "callback_forbidden")["errors"][0]["pointer"], "#/url");
    assert_eq!(acme.get(HOOKS).await.json(), json!({"webhooks": []}), "no invalid webhook is stored");

    let (path, _) = registered(&acme, json!({"url": url})).await;
    for (body, pointer) in [
        (json!({"url": null}), "#/url"),
        (json!({"enabled": null}), "#/enabled"),
        (json!({"url": "https:///"}), "#/url"),
        (json!({"secret": "whsec_"}), "#/secret"),
    ] {
        assert_eq!(acme.patch(&path, body.clone()).await.pointers(), [pointer], "{body}");
    }
    acme.patch(&path, json!({"url": "https://127.1/"})).await;
    let rotate = format!("{path}/rotate-secret");
    assert_eq!(
        acme.post(&rotate, json!({"overlap_seconds": 604_801})).await.pointers(),
        ["#/overlap_seconds"]
    );
    assert_eq!(acme.post(&rotate, json!({"secret": "s3cr3t"})).await.pointers(), ["#/secret"]);
    for (method, path) in [(Method::PUT, path.as_str()), (Method::GET, &rotate)] {
        acme.send(method, path, &[], "").await.problem(405, "method_not_allowed");
    }
    acme.get("/v1/webhooks/no-id").await.problem(404, "not_found");
}

#[tokio::test]
async fn a_change_accepts_json_and_merge_patch() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let (path, _) = registered(&acme, json!({"url": stage.hook("ok")})).await;
    let body = json!({"description": "patched"}).to_string();
    let patch = [("content-type", "application/merge-patch+json; charset=utf-8")];
    let patched = acme.send(Method::PATCH, &path, &patch, body.clone()).await;
    assert_eq!((patched.status, &patched.json()["description"]), (200, &json!("patched")));
    for media_type in ["application/json-patch+json", "text/plain"] {
        let refused = acme.send(Method::PATCH, &path, &[("content-type", media_type)], body.clone()).await;
        refused.problem(415, "unsupported_media_type");
    }
    let created = json!({"url": stage.hook("ok")}).to_string();
    acme.send(Method::POST, HOOKS, &patch, created).await.problem(415, "unsupported_media_type");
}

#[tokio::test]
async fn operations_without_input_refuse_fields() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let (path, _) = registered(&acme, json!({"url": stage.hook("ok")})).await;
    let test = format!("{path}/test");
    let sent = acme.send(Method::POST, &test, &[], "").await;
    assert_eq!(sent.status, 202, "{sent:?}");
    let redeliver = format!("{}/redeliver", sent.header("location"));
    for action in [test.as_str(), &redeliver] {
        assert_eq!(acme.send(Method::POST, action, &[], "").await.status, 202);
        assert_eq!(acme.post(action, json!({})).await.status, 202);
        assert_eq!(acme.post(action, json!({"url": "https://other.example/"})).await.pointers(), ["#/url"]);
        let text = acme.send(Method::POST, action, &[("content-type", "text/plain")], "now").await;
        text.problem(415, "unsupported_media_type");
    }
}

#[tokio::test]
async fn the_number_of_webhooks_is_limited() {
    let stage = Stage::start().await;
    for _ in 0..50 {
        registered(&stage.acme(), json!({"url": stage.hook("ok"), "enabled": false})).await;
    }
    let one_more = stage.acme().post(HOOKS, json!({"url": stage.hook("ok")})).await;
    one_more.problem(409, "webhook_limit");
    registered(&stage.globex(), json!({"url": stage.hook("ok")})).await;
}

#[tokio::test]
async fn without_an_encryption_key_secrets_are_refused() {
    let stage = Stage::start().await;
    let (path, _) =
        registered(&stage.acme(), json!({"url": stage.hook("ok"), "headers": {"X-A": "1"}})).await;
    let stage = stage.restart_without("ENCRYPTION__KEY_FILE").await;
    let acme = stage.acme();
    for (path, body) in
        [(HOOKS.to_owned(), json!({"url": stage.hook("ok")})), (format!("{path}/rotate-secret"), json!({}))]
    {
        acme.post(&path, body).await.problem(501, "encryption_not_configured");
    }
    acme.patch(&path, json!({"headers": {"X-B": "2"}})).await.problem(501, "encryption_not_configured");
    // Operations that need no encryption still work.
    assert_eq!(acme.patch(&path, json!({"description": "still"})).await.json()["description"], "still");
    // The delivery names the missing setting and does not count as a failure of the receiver.
    completed(&stage, "1").await;
    let listed = acme.get("/v1/deliveries").await.json()["deliveries"].take();
    let delivery = format!("/v1/deliveries/{}", listed[0]["id"].as_str().unwrap());
    let delivery =
        delivery_that(&acme, &delivery, |delivery| delivery["attempts"][0]["outcome"].is_string()).await;
    assert_eq!(delivery["attempts"][0]["outcome"], "unsigned");
    assert!(delivery["attempts"][0]["error"].as_str().unwrap().contains("encryption.key_file"), "{delivery}");
    assert_eq!(delivery["status"], "pending");
    let health = acme.get(&path).await.json()["health"].take();
    assert_eq!((&health["consecutive_failures"], &health["failing_since"]), (&json!(0), &json!(null)));
    assert!(health["unsigned_since"].is_string() && health["paused_until"].is_string(), "{health}");
    assert!(health["last_failure"]["error"].as_str().unwrap().contains("encryption.key_file"), "{health}");
    assert_eq!((&health["success_rate"], &health["pending"]), (&json!(null), &json!(1)));
    let (_, metrics) = stage.admin("metrics").await;
    assert!(metrics.contains("callback_attempt_duration_seconds_count{outcome=\"unsigned\"}"), "{metrics}");
}
