//! The OpenAPI document: the committed file, the served document and Swagger UI. `contract` checks responses against it.

use alovoice_gateway::commands;
use serde_json::{Value, json};

use crate::contract::{self, DOCUMENT, Operation};
use crate::stage::Stage;

#[test]
fn the_committed_document_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    let generated = commands::openapi().unwrap_or_else(|error| panic!("{error:?}"));
    assert!(
        committed.trim_end() == generated,
        "openapi/openapi.json is out of date; run: cargo run -- openapi > openapi/openapi.json"
    );
}

#[tokio::test]
async fn the_document_is_served_without_a_token() {
    let stage = Stage::start().await;
    let answer = stage.acme().anonymous().get("/openapi.json").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    assert_eq!(answer.json(), *DOCUMENT);
    let head = stage.acme().anonymous().send(reqwest::Method::HEAD, "/openapi.json", &[], "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    let other = stage.acme().anonymous().send(reqwest::Method::DELETE, "/openapi.json", &[], "").await;
    other.problem(405, "method_not_allowed");
    assert_eq!(other.header("allow"), "GET, HEAD");
}

#[tokio::test]
async fn the_document_contains_the_public_url() {
    let stage = Stage::with(&[("SERVER__PUBLIC_URL", "https://api.example.uz/voice/")]).await;
    let served = stage.acme().anonymous().get("/openapi.json").await.json();
    assert_eq!(served["servers"], json!([{"url": "https://api.example.uz/voice", "x-internal": false}]));
}

#[tokio::test]
async fn swagger_ui_shows_the_document() {
    let stage = Stage::start().await;
    let page = stage.acme().anonymous().get("/swagger-ui/").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("text/html"), "{page:?}");
    let script = stage.acme().anonymous().get("/swagger-ui/swagger-initializer.js").await;
    assert_eq!(script.status, 200);
    assert!(script.text().contains("/openapi.json"), "{}", script.text());
    assert!(!script.text().contains("petstore"), "{}", script.text());
    let head = stage.acme().anonymous().send(reqwest::Method::HEAD, "/swagger-ui/", &[], "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    for same in ["content-type", "content-length"] {
        assert_eq!(head.header(same), page.header(same));
    }
    for path in ["/swagger-ui/", "/swagger-ui/swagger-ui.css"] {
        let other = stage.acme().anonymous().send(reqwest::Method::POST, path, &[], "").await;
        other.problem(405, "method_not_allowed");
        assert_eq!(other.header("allow"), "GET, HEAD");
    }
    stage.acme().anonymous().get("/swagger-ui/none.js").await.problem(404, "not_found");
    for short in ["/swagger-ui", "/"] {
        let answer = stage.acme().anonymous().get(short).await;
        assert_eq!((answer.status, &answer.body), (200, &page.body), "{short} leads there");
    }
}

#[test]
fn every_operation_documents_its_answers() {
    let mut names = Vec::new();
    for operation in Operation::all() {
        let Operation { path, definition, .. } = operation;
        names.push(definition["operationId"].as_str().unwrap());
        assert!(definition["summary"].as_str().is_some_and(|text| !text.is_empty()), "{path}");
        assert!(definition["description"].as_str().is_some_and(|text| !text.is_empty()), "{path}");
        for status in definition["responses"].as_object().unwrap().keys() {
            let response = operation.response(status);
            assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{path} {status}");
            if status.as_str() >= "400" {
                let schema = &response["content"]["application/problem+json"]["schema"];
                assert_eq!(schema["$ref"], "#/components/schemas/Problem", "{path} {status}");
            }
        }
        let is_open = definition["operationId"] == "get_linked_audio";
        assert_eq!(definition["security"] == json!([{}]), is_open, "{path}");
        for status in if is_open { &["429", "503"][..] } else { &["401", "403", "429", "503"] } {
            assert!(definition["responses"][*status].is_object(), "{path} {status}");
        }
    }
    insta::assert_json_snapshot!(names, @r#"
    [
      "list_analyses",
      "submit_analysis",
      "submit_analyses",
      "delete_analysis",
      "get_analysis",
      "get_audio",
      "create_audio_link",
      "refresh_analysis",
      "get_rendering",
      "get_transcript",
      "get_vendor_answer",
      "get_linked_audio",
      "list_deliveries",
      "get_delivery",
      "redeliver",
      "list_events",
      "list_renderings",
      "get_usage",
      "list_webhooks",
      "create_webhook",
      "preview_unregistered_webhook",
      "delete_webhook",
      "get_webhook",
      "change_webhook",
      "preview_webhook",
      "replay_webhook",
      "get_replay",
      "rotate_webhook_secret",
      "test_webhook"
    ]
    "#);
}

/// `tests/process/examples.rs` records the examples.
#[test]
fn every_json_body_has_an_example_that_matches_its_schema() {
    let mut missing = Vec::new();
    for Operation { definition, .. } in Operation::all() {
        let name = definition["operationId"].as_str().unwrap();
        let responses = definition["responses"].as_object().unwrap().iter();
        let mut bodies: Vec<_> =
            responses.map(|(status, response)| (status.as_str(), contract::resolved(response))).collect();
        bodies.extend(definition.get("requestBody").map(|body| ("request", body)));
        for (part, body) in bodies {
            for (media_type, content) in body["content"].as_object().into_iter().flatten() {
                if !media_type.ends_with("json") {
                    continue;
                }
                let Some(example) = content.get("example") else {
                    missing.push(format!("{name} {part}"));
                    continue;
                };
                let errors = contract::errors(&content["schema"], example);
                assert!(errors.is_empty(), "{name} {part}: {errors:#?}");
            }
        }
    }
    assert!(missing.is_empty(), "tests/process/examples.rs records no example of {missing:?}");
}

/// Generators of TypeScript take a property with a default for one that is always present, also in a request.
#[test]
fn an_optional_property_has_no_default() {
    let schemas = DOCUMENT["components"]["schemas"].as_object().unwrap();
    for (name, schema) in schemas {
        for (property, definition) in schema["properties"].as_object().into_iter().flatten() {
            let is_required = schema["required"].as_array().is_some_and(|all| all.contains(&json!(property)));
            assert!(is_required || definition.get("default").is_none(), "{name}.{property} has a default");
        }
    }
    assert_eq!(schemas["CreateWebhook"]["required"], json!(["url"]));
}

#[test]
fn only_the_answers_that_create_a_secret_have_one() {
    let schemas = &DOCUMENT["components"]["schemas"];
    assert!(schemas["Webhook"]["properties"]["secret"].is_null());
    let required = schemas["WebhookWithSecret"]["required"].as_array().unwrap();
    assert!(required.contains(&json!("secret")) && required.contains(&json!("url")), "{required:?}");
    for operation in Operation::all() {
        let name = operation.definition["operationId"].as_str().unwrap();
        let text = operation.definition["responses"].to_string();
        let has_secret = ["create_webhook", "rotate_webhook_secret"].contains(&name);
        assert_eq!(text.contains("schemas/WebhookWithSecret\""), has_secret, "{name}");
    }
}

#[test]
fn every_reference_of_the_document_resolves() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    references(&DOCUMENT, &mut found);
    for reference in found {
        assert!(DOCUMENT.pointer(&reference[1..]).is_some(), "{reference}");
    }
}

/// Tests the check that finds undocumented responses.
#[test]
fn an_answer_that_differs_from_the_document_is_detected() {
    let schema = json!({"$ref": "#/components/schemas/Problem"});
    let problem = json!({"type": "/problems/x", "code": "x", "title": "X", "status": 400, "detail": "d", "request_id": "r"});
    assert_eq!(contract::errors(&schema, &problem), Vec::<String>::new());
    for (field, value) in [("status", json!("400")), ("detail", json!(null)), ("undocumented", json!(1))] {
        let mut wrong = problem.clone();
        wrong[field] = value;
        assert_eq!(contract::errors(&schema, &wrong).len(), 1, "{field}");
    }
    let mut short = problem;
    short.as_object_mut().unwrap().remove("code");
    assert_eq!(contract::errors(&schema, &short).len(), 1);
}
