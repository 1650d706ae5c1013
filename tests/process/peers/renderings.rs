//! The official SDK of Bitrix24 for Python makes the same requests as the presets.

use alovoice_gateway::sandbox::stand_in::{FixedAnswer, Operation};
use serde_json::{Value, json};

use super::{python, run, text};
use crate::gateway::Serving;
use crate::stage::{SCOPES, Stage, id, send};

const PRESETS: [&str; 2] = ["bitrix24.transcript", "bitrix24.comment"];

/// A result with this number of turns.
fn talk(turns: usize) -> FixedAnswer {
    let turn = |number: usize| {
        let direction = if number.is_multiple_of(2) { "operator" } else { "client" };
        json!({"begin": number, "end": number + 1, "direction": direction, "text": "soʻz \"матн\" <b> 🙂"})
    };
    let stalk: Vec<_> = (0..turns).map(turn).collect();
    let answer = json!({"answer": {"stalk": stalk, "tags": [{"name": "Жалоба", "value": "да"}]}});
    FixedAnswer {
        status: 200,
        content_type: "application/json",
        headers: Vec::new(),
        body: answer.to_string().into(),
    }
}

async fn read(stage: &Stage, gateway: &Serving, path: &str) -> Value {
    let request = stage.client.get(gateway.api.join(path).unwrap()).bearer_auth(stage.token(SCOPES));
    let answer = send(request).await.unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    serde_json::from_str(&answer.text().await.unwrap()).unwrap()
}

/// The requests that the SDK makes of bodies.
async fn requests(bodies: &[(&str, Value)]) -> Vec<Value> {
    let output = run(python("request_bitrix24.py"), json!(bodies).to_string()).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn b24pysdk_makes_the_same_requests() {
    let stage = Stage::set_up().await;
    // The result without turns is final at once.
    let serve = || {
        let mut command = stage.command(&["serve"]);
        command.env("GATEWAY_VENDOR__POLLING__EMPTY_GRACE", "0s");
        command
    };
    let gateway = stage.serve_with(serve).await;
    let mut bodies = Vec::new();
    for turns in [3, 500, 0] {
        let call_id = format!("of-{turns}-turns");
        stage.vendor.set_answer(Operation::Result, id(&call_id), talk(turns));
        let crm = json!({"bitrix24_call_id": "externalCall.1", "bitrix24_entity_id": "17"});
        let submission = json!({"call_id": call_id, "call": {"crm": crm}}).to_string();
        let url = gateway.api.join("v1/analyses").unwrap();
        let request = stage.client.post(url).header("content-type", "application/json").body(submission);
        assert!(send(request.bearer_auth(stage.token(SCOPES))).await.unwrap().status().is_success());
        assert_eq!(stage.completed(&gateway, &call_id).await["transcript"].as_array().unwrap().len(), turns);
        for preset in PRESETS {
            let path = format!("v1/analyses/{call_id}/renderings/{preset}");
            bodies.push((preset, read(&stage, &gateway, &path).await));
        }
    }
    let listed = read(&stage, &gateway, "v1/renderings").await["renderings"].take();
    gateway.stop().await;

    let requests = requests(&bodies).await;
    assert_eq!(requests.len(), bodies.len());
    for ((preset, body), request) in bodies.iter().zip(&requests) {
        let listed = listed.as_array().unwrap().iter().find(|it| it["preset"] == *preset).unwrap();
        assert_eq!(request["method"], listed["method"], "{request}");
        // The SDK names the format of the answer, which is JSON by default, and writes `Add` for `add`: Bitrix24 ignores the case.
        let url = request["url"].as_str().and_then(|url| url.strip_suffix(".json")).unwrap();
        assert!(url.eq_ignore_ascii_case(listed["url"].as_str().unwrap()), "{request}");
        assert_eq!(request["content_type"], "application/json");
        assert_eq!(request["body"], *body);
    }
}

#[tokio::test]
async fn b24pysdk_refuses_other_bodies() {
    let refused = requests(&[
        ("bitrix24.transcript", json!({"CALL_ID": 1, "MESSAGES": []})),
        ("bitrix24.transcript", json!({"CALL_ID": "1", "MESSAGES": {}})),
        ("bitrix24.transcript", json!({"CALL_ID": "1", "MESSAGES": [], "TEXT": "1"})),
        ("bitrix24.comment", json!({"fields": []})),
        ("bitrix24.comment", json!({"ENTITY_ID": 17, "ENTITY_TYPE": "deal", "COMMENT": "1"})),
    ])
    .await;
    for request in refused {
        assert!(request["error"].is_string(), "{request}");
    }
}
