//! Failing webhooks: pauses, disabling, and deliveries that wait.

use alovoice_gateway::sandbox::receiver::Received;
use serde_json::{Value, json};

use crate::journey::assert_is_signed;
use crate::stage::Stage;
use crate::webhooks::{completed, registered};

/// Waits until the webhook at this path meets the condition.
async fn webhook_that(stage: &Stage, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    loop {
        let webhook = stage.acme().get(path).await.json();
        if is_so(&webhook) {
            return webhook;
        }
    }
}

#[tokio::test]
async fn a_410_disables_the_webhook_at_once_and_no_delivery_is_lost() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let (path, _) = registered(&acme, json!({"url": stage.hook("410")})).await;
    completed(&stage, "1").await;
    stage.receiver.next().await;
    let webhook = webhook_that(&stage, &path, |webhook| webhook["enabled"] == false).await;
    assert_eq!((&webhook["disabled_reason"], &webhook["health"]["pending"]), (&json!("gone"), &json!(1)));
    assert_eq!(webhook["health"]["last_failure"]["status"], 410);
    for (action, body) in [("test", json!({})), ("replay", json!({"since": "2026-01-01T00:00:00Z"}))] {
        acme.post(&format!("{path}/{action}"), body).await.problem(409, "webhook_disabled");
    }
    let listed = acme.get("/v1/deliveries").await.json()["deliveries"].take();
    let again = format!("/v1/deliveries/{}/redeliver", listed[0]["id"].as_str().unwrap());
    acme.post(&again, json!({})).await.problem(409, "webhook_disabled");
    // Events that occur while the webhook is disabled are not delivered.
    completed(&stage, "2").await;
    let enabled = acme.patch(&path, json!({"enabled": true, "url": stage.hook("ok")})).await.json();
    assert_eq!(
        (&enabled["disabled_reason"], &enabled["health"]["consecutive_failures"]),
        (&json!(null), &json!(0))
    );
    let received = stage.receiver.next().await;
    let event: Value = serde_json::from_slice(&received.body).unwrap();
    assert_eq!((received.path.as_str(), &event["data"]["call_id"]), ("/hook/ok", &json!("1")));
    let remains = stage.close().await;
    assert_eq!(remains.receiver.received().len(), 2);
}

#[tokio::test]
async fn a_webhook_that_the_gateway_disables_is_an_event_for_the_others() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let gone = json!({"url": stage.hook("410"), "description": "CRM", "events": ["analysis.completed", "webhook.disabled"]});
    let (gone, _) = registered(&acme, gone).await;
    let others = json!(["webhook.disabled"]);
    let (_, secret) = registered(&acme, json!({"url": stage.hook("ok/chosen"), "events": others})).await;
    // A preset and a filter refer to an analysis, so these webhooks do not get the event.
    let preset = json!({"preset": "slack.message"});
    registered(&acme, json!({"url": stage.hook("ok/preset"), "transform": preset})).await;
    registered(&acme, json!({"url": stage.hook("ok/filter"), "filter": {"metadata.a": "b"}})).await;
    let template = json!({"template": "{\"text\": {{ \"disabled: \" ~ data.description }}}"});
    let template = json!({"url": stage.hook("ok/template"), "events": others, "transform": template});
    registered(&acme, template).await;
    registered(&stage.globex(), json!({"url": stage.hook("ok/globex")})).await;
    completed(&stage, "1").await;
    let is_told =
        |received: &Received| ["/hook/ok/chosen", "/hook/ok/template"].contains(&received.path.as_str());
    let received = stage.receiver.wait_for(|all| all.iter().filter(|it| is_told(it)).count() == 2).await;
    let told = received.iter().find(|received| received.path == "/hook/ok/chosen").unwrap();
    assert_is_signed(told, &secret);
    let event: Value = serde_json::from_slice(&told.body).unwrap();
    let webhook = acme.get(&gone).await.json();
    assert_eq!(webhook["disabled_reason"], "gone");
    let error = "the receiver answered 410 and wants no more callbacks";
    let data = json!({"webhook": webhook["id"], "description": "CRM", "reason": "gone",
        "disabled_at": webhook["disabled_at"], "error": error});
    assert_eq!((&event["type"], &event["data"]), (&json!("webhook.disabled"), &data));
    let by_template = received.iter().find(|received| received.path == "/hook/ok/template").unwrap();
    assert_eq!(by_template.body, r#"{"text": "disabled: CRM"}"#);

    let feed = acme.get("/v1/events").await.json()["events"].take();
    let kinds: Vec<_> =
        feed.as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["analysis.completed", "webhook.disabled"]);
    assert_eq!((&feed[1]["data"], &feed[1]["id"]), (&data, &json!(told.header("webhook-id").unwrap())));
    assert_eq!(stage.globex().get("/v1/events").await.json()["events"], json!([]));
    let deliveries = acme.get("/v1/deliveries").await.json()["deliveries"].take();
    let of_disabled = |delivery: &&Value| delivery["event_type"] == "webhook.disabled";
    assert_eq!(deliveries.as_array().unwrap().iter().filter(of_disabled).count(), 2, "{deliveries}");
    let counted = "alovoice_gateway_events_total{tenant=\"acme\",type=\"webhook.disabled\"} 1\n";
    while !stage.admin("metrics").await.1.contains(counted) {}

    // A caller who disables a webhook knows it.
    acme.patch(&gone, json!({"enabled": true, "url": stage.hook("ok/gone")})).await;
    acme.patch(&gone, json!({"enabled": false})).await;
    completed(&stage, "2").await;
    let feed = acme.get("/v1/events").await.json()["events"].take();
    assert_eq!((feed.as_array().unwrap().len(), &feed[2]["type"]), (3, &json!("analysis.completed")));
}

#[tokio::test]
async fn a_disabled_webhook_gets_no_events_until_it_is_enabled() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let (path, _) = registered(&acme, json!({"url": stage.hook("ok"), "enabled": false})).await;
    completed(&stage, "1").await;
    let webhook = acme.get(&path).await.json();
    assert_eq!((&webhook["enabled"], &webhook["disabled_reason"]), (&json!(false), &json!("requested")));
    acme.patch(&path, json!({"enabled": true})).await;
    completed(&stage, "2").await;
    let event: Value = serde_json::from_slice(&stage.receiver.next().await.body).unwrap();
    assert_eq!(event["data"]["call_id"], "2");
}

/// The next request that does not probe the failing webhook. A pause may be over before the test ends, if the machine is busy.
async fn next_besides_probes(stage: &Stage) -> Received {
    loop {
        let received = stage.receiver.next().await;
        if received.path != "/hook/500" {
            return received;
        }
    }
}

#[tokio::test]
async fn a_failing_webhook_is_paused_and_delays_no_other_webhook() {
    let stage = Stage::with(&[("CALLBACKS__RETRY_SCHEDULE", "1ms,1ms,1ms,1ms,1h")]).await;
    let acme = stage.acme();
    let (dead, _) = registered(&acme, json!({"url": stage.hook("500")})).await;
    completed(&stage, "1").await;
    for _ in 0..5 {
        stage.receiver.next().await;
    }
    let paused = webhook_that(&stage, &dead, |webhook| !webhook["health"]["paused_until"].is_null()).await;
    assert_eq!(paused["health"]["consecutive_failures"], 5);
    registered(&acme, json!({"url": stage.hook("ok")})).await;
    completed(&stage, "2").await;
    let received = next_besides_probes(&stage).await;
    assert_eq!(received.path, "/hook/ok", "the other webhook does not wait");
    // A change of the URL ends the pause.
    let mended = acme.patch(&dead, json!({"url": stage.hook("ok/mended")})).await.json()["health"].take();
    assert_eq!((&mended["paused_until"], &mended["consecutive_failures"]), (&json!(null), &json!(0)));
    acme.post(&format!("{dead}/test"), json!({})).await;
    let mut types = Vec::new();
    for _ in 0..2 {
        let received = next_besides_probes(&stage).await;
        assert_eq!(received.path, "/hook/ok/mended");
        let event: Value = serde_json::from_slice(&received.body).unwrap();
        types.push(event["type"].as_str().unwrap().to_owned());
    }
    types.sort();
    assert_eq!(
        types,
        ["analysis.completed", "webhook.test"],
        "the event of the second call, which waited, and the test event"
    );
}
