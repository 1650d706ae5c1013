//! The requests that the gateway sends, against the sections `webhooks` and `callbacks` of the OpenAPI document.

use serde_json::{Value, json};

use crate::contract::{self, DOCUMENT};
use crate::stage::Stage;
use crate::webhooks::registered;

fn body_schema(operation: &'static Value) -> &'static Value {
    &operation["requestBody"]["content"]["application/json"]["schema"]
}

#[tokio::test]
async fn requests_to_webhooks_and_callbacks_match_the_document() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    registered(&acme, json!({"url": stage.hook("410"), "events": ["analysis.completed"]})).await;
    let (full, _) = registered(&acme, json!({"url": stage.hook("ok/full")})).await;
    let (thin, _) = registered(&acme, json!({"url": stage.hook("ok/thin"), "payload": "thin"})).await;
    let callback = json!({"url": stage.hook("ok/callback")});
    acme.submitted(json!({"call_id": "1", "callback": callback, "call": {"phone": "90 123-45-67"}})).await;
    for webhook in [full, thin] {
        assert_eq!(acme.post(&format!("{webhook}/test"), json!({})).await.status, 202);
    }
    let received = stage.receiver.wait_for(|all| all.len() == 8).await;
    let callback = &DOCUMENT["paths"]["/v1/analyses"]["post"]["callbacks"]["event"];
    let callback = &callback["{$request.body#/callback/url}"]["post"];
    let mut kinds: Vec<(&str, String)> = Vec::new();
    for request in &received {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let kind = body["type"].as_str().unwrap();
        let operation = match request.path.as_str() {
            "/hook/ok/callback" => callback,
            _ => &DOCUMENT["webhooks"][kind]["post"],
        };
        let errors = contract::errors(body_schema(operation), &body);
        assert!(errors.is_empty(), "{} {kind}: {errors:#?}", request.path);
        for header in operation["parameters"].as_array().unwrap() {
            assert!(request.header(header["name"].as_str().unwrap()).is_some(), "{header}");
        }
        // A test event has all fields of a real event.
        if kind == "webhook.test" {
            let (mut real, schema) = (body.clone(), &DOCUMENT["webhooks"]["analysis.completed"]["post"]);
            real["type"] = json!("analysis.completed");
            let data = real["data"].as_object_mut().unwrap();
            assert!(data.remove("is_test").is_some() && data.remove("webhook").is_some(), "{body}");
            assert_eq!(contract::errors(body_schema(schema), &real), Vec::<String>::new());
        }
        kinds.push((request.path.trim_start_matches("/hook/"), kind.to_owned()));
    }
    kinds.sort_unstable();
    let expected = [
        ("410", "analysis.completed"),
        ("ok/callback", "analysis.completed"),
        ("ok/full", "analysis.completed"),
        ("ok/full", "webhook.disabled"),
        ("ok/full", "webhook.test"),
        ("ok/thin", "analysis.completed"),
        ("ok/thin", "webhook.disabled"),
        ("ok/thin", "webhook.test"),
    ];
    assert_eq!(kinds, expected.map(|(path, kind)| (path, kind.to_owned())));
}
