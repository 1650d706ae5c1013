//! Renderings of calls by preset, and the list of presets.

use serde_json::{Value, json};

use crate::stage::Stage;

fn path(call_id: &str, preset: &str) -> String {
    format!("/v1/analyses/{call_id}/renderings/{preset}")
}

#[tokio::test]
async fn a_rendering_is_the_body_that_a_webhook_with_the_preset_gets() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let facts = json!({"direction": "inbound", "phone": "+998901234567", "crm": {"telegram_chat_id": "7"}});
    acme.submitted(json!({"call_id": "1", "call": facts})).await;
    acme.outcome("1").await;
    for preset in ["zendesk.comment", "jira.comment", "amocrm.call", "telegram.message", "markdown", "html"] {
        let answer = acme.get(&path("1", preset)).await;
        assert_eq!(answer.status, 200, "{preset}: {answer:?}");
        let preview = json!({"call_id": "1", "transform": {"preset": preset}});
        let preview = acme.post("/v1/webhooks/preview", preview).await.json();
        assert_eq!(answer.text(), preview["body"], "{preset}");
        assert_eq!(answer.header("content-type"), preview["headers"]["content-type"], "{preset}");
        let etag = answer.header("etag").to_owned();
        let unchanged = [("if-none-match", etag.as_str())];
        let again = acme.send(reqwest::Method::GET, &path("1", preset), &unchanged, String::new()).await;
        assert_eq!(again.status, 304, "{preset}");
    }
    // A call that was never submitted is read from AloVoice, as by `get_analysis`.
    assert_eq!(acme.get(&path("known-1", "slack.message")).await.status, 200);
}

#[tokio::test]
async fn renderings_that_wait_for_the_vendor_do_not_delay_others() {
    let stage = Stage::start().await;
    let (acme, globex) = (stage.acme(), stage.globex());
    for caller in [&acme, &globex] {
        caller.submitted(json!({"call_id": "1"})).await;
        caller.outcome("1").await;
    }
    stage.vendor.set_held(true);
    let asking: Vec<_> = (0..3)
        .map(|number| {
            let acme = stage.acme();
            tokio::spawn(async move { acme.get(&path(&format!("known-{number}"), "markdown")).await })
        })
        .collect();
    stage.in_flight(3).await;
    for caller in [&acme, &globex] {
        assert_eq!(caller.get(&path("1", "markdown")).await.status, 200);
        let preview = json!({"call_id": "1", "transform": {"preset": "markdown"}});
        assert_eq!(caller.post("/v1/webhooks/preview", preview).await.status, 200);
    }
    stage.vendor.set_held(false);
    for asking in asking {
        assert_eq!(asking.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_rendering_names_what_is_missing() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    acme.submitted(json!({"call_id": "1"})).await;
    acme.outcome("1").await;
    let answer = acme.get(&path("1", "amocrm.call")).await;
    let problem = answer.problem(422, "invalid_request");
    let details: Vec<_> =
        problem["errors"].as_array().unwrap().iter().map(|error| &error["detail"]).collect();
    assert_eq!(details.len(), 2, "{problem}");
    for (detail, name) in details.into_iter().zip(["direction", "phone"]) {
        assert!(detail.as_str().unwrap().starts_with(&format!("{name} is missing")), "{detail}");
    }
    assert_eq!(answer.pointers(), ["{preset}", "{preset}"]);
    acme.submit(json!({"call_id": "1", "call": {"direction": "outbound", "phone": "90 123-45-67"}})).await;
    let rendered = acme.get(&path("1", "amocrm.call")).await.json();
    assert_eq!(
        (&rendered[0]["phone"], &rendered[0]["direction"]),
        (&json!("+998901234567"), &json!("outbound"))
    );

    acme.get(&path("1", "unknown")).await.problem(404, "not_found");
    acme.get(&path("unknown~404", "markdown")).await.problem(404, "not_found");
    stage.globex().get(&path("1", "markdown")).await.problem(404, "not_found");
    acme.submitted(json!({"call_id": "never-ready~1"})).await;
    acme.get(&path("never-ready~1", "markdown")).await.problem(409, "no_result");
}

#[tokio::test]
async fn the_list_describes_every_preset() {
    let stage = Stage::start().await;
    let listed = stage.acme().get("/v1/renderings").await.json()["renderings"].take();
    let names: Vec<_> =
        listed.as_array().unwrap().iter().map(|preset| preset["preset"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "bitrix24.transcript",
            "bitrix24.comment",
            "amocrm.note",
            "amocrm.call",
            "zendesk.comment",
            "jira.comment",
            "jsm.comment",
            "hubspot.transcript",
            "salesforce.task",
            "zammad.article",
            "chatwoot.note",
            "slack.message",
            "telegram.message",
            "markdown",
            "html",
        ]
    );
    for preset in listed.as_array().unwrap() {
        let hook = json!({"url": preset["url"], "transform": {"preset": preset["preset"]}, "enabled": false});
        assert_eq!(stage.acme().post("/v1/webhooks", hook).await.status, 201, "{preset}");
        assert!(preset["documentation"].as_str().unwrap().starts_with("https://"), "{preset}");
    }
    let is_needed = |need: &Value| need["name"] == "direction" && need["required"] == true;
    assert!(listed[3]["needs"].as_array().unwrap().iter().any(is_needed), "{listed}");
}
