//! The examples of the OpenAPI document are responses of the sandbox. `RECORD_EXAMPLES=1 cargo test --test process examples`
//! records them. Without the variable, the test compares them with new responses.

use std::collections::HashMap;
use std::fs;

use alovoice_gateway::domain::clock::{Clock, SystemClock};
use alovoice_gateway::domain::usage::Day;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::gateway::within;
use crate::sandbox::Sandbox;
use crate::stage::Stage;

const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/document/examples.json");
const JSON: (&str, &str) = ("Content-Type", "application/json");
/// Number of requests at the same time, until the rate limit refuses one.
const FLOOD: usize = 64;
/// Length of an id, including its prefix.
const ID_LENGTH: usize = 36;

/// A request whose response is an example of an operation.
struct Step {
    operation: &'static str,
    status: u16,
    method: Method,
    path: String,
    headers: Vec<(&'static str, &'static str)>,
    body: Option<Value>,
    /// The request is repeated until the status is as expected and this condition holds for the response.
    until: fn(&Value) -> bool,
}

impl Step {
    fn get(operation: &'static str, path: impl Into<String>) -> Self {
        let path = path.into();
        Self {
            operation,
            status: 200,
            method: Method::GET,
            path,
            headers: Vec::new(),
            body: None,
            until: |_| true,
        }
    }

    fn post(operation: &'static str, path: &str, status: u16, body: Value) -> Self {
        let headers = vec![JSON];
        let body = Some(body);
        Self { headers, status, method: Method::POST, body, ..Self::get(operation, path) }
    }

    fn with(mut self, header: (&'static str, &'static str)) -> Self {
        self.headers.push(header);
        self
    }

    fn until(self, until: fn(&Value) -> bool) -> Self {
        Self { until, ..self }
    }

    fn answers(self, status: u16) -> Self {
        Self { status, ..self }
    }
}

/// The steps, in order: early ones create what later ones read. A new operation needs a step for each successful JSON answer,
/// and a new kind of problem needs one step. `whk_`, `dlv_` and `rpl_` in a path stand for the last id of that kind.
fn steps(hook: &str) -> Vec<Step> {
    let today = Day::of(SystemClock.now());
    let call = "/v1/analyses/1716207617.42";
    let facts = json!({
        "direction": "inbound", "agent": {"id": "17", "name": "Dilnoza"}, "phone": "+998901234567", "queue": "support",
        "crm": {"bitrix24_call_id": "externalCall.a1b2"},
    });
    let submission = || json!({"call_id": "1716207617.42", "metadata": {"ticket": "T-1"}, "call": facts});
    let batch = json!({"analyses": [
        {"call_id": "1716207618.43"},
        {"call_id": "1716207619.44", "metadata": {"ticket": "T-2"}},
    ]});
    let shown = json!({
        "url": "https://crm.example.uz/hooks/alovoice", "events": ["analysis.completed", "analysis.failed"],
        "headers": {"X-Api-Key": "made-up"}, "enabled": false,
    });
    let misspelt = json!({"call_id": "1716207617.42", "calback": {"url": "https://crm.example.uz/hooks"}});
    let unfinished = json!({"call_id": "never-ready~1"});
    vec![
        Step::post("submit_analysis", "/v1/analyses", 202, submission()),
        Step::get("get_analysis", call).with(("Prefer", "wait=60")).until(is_completed),
        Step::post("submit_analysis", "/v1/analyses", 200, submission()),
        Step::get("list_analyses", "/v1/analyses?status=completed&agent=17"),
        Step::get("get_transcript", format!("{call}/transcript")),
        Step::get("get_transcript", format!("{call}/transcript")).with(("Accept", "image/png")).answers(406),
        Step::get("list_renderings", "/v1/renderings"),
        Step::get("get_rendering", format!("{call}/renderings/slack.message")),
        Step::get("get_vendor_answer", format!("{call}/vendor-answer")),
        Step { method: Method::POST, ..Step::get("refresh_analysis", format!("{call}/refresh")) }
            .answers(202),
        Step { method: Method::POST, ..Step::get("refresh_analysis", format!("{call}/refresh")) }
            .with(("Prefer", "wait=60")),
        Step::post("create_audio_link", &format!("{call}/audio-link"), 201, json!({"expires_in": 86400})),
        Step::get("list_events", "/v1/events?limit=1"),
        Step::get("get_usage", format!("/v1/usage?from={today}&to={today}&group_by=agent")),
        Step::post("submit_analyses", "/v1/analyses/batch", 200, batch),
        // Two webhooks: one to show, and one that receives events.
        Step::post("create_webhook", "/v1/webhooks", 201, shown),
        Step::get("list_webhooks", "/v1/webhooks"),
        Step::get("get_webhook", "/v1/webhooks/whk_"),
        Step {
            method: Method::PATCH,
            ..Step::post(
                "change_webhook",
                "/v1/webhooks/whk_",
                200,
                json!({"description": "CRM", "headers": null}),
            )
        },
        Step { method: Method::POST, ..Step::get("test_webhook", "/v1/webhooks/whk_/test") }.answers(409),
        Step::post("create_webhook", "/v1/webhooks", 201, json!({"url": hook})),
        Step { method: Method::POST, ..Step::get("test_webhook", "/v1/webhooks/whk_/test") }.answers(202),
        Step::post(
            "preview_unregistered_webhook",
            "/v1/webhooks/preview",
            200,
            json!({
                "call_id": "1716207617.42", "url": "https://example.zendesk.com/api/v2/tickets/{crm.zendesk_ticket_id}",
                "filter": {"call.direction": "inbound"}, "transform": {"preset": "zendesk.comment"},
            }),
        ),
        Step::post("preview_webhook", "/v1/webhooks/whk_/preview", 200, json!({"call_id": "1716207618.43"})),
        Step::get("get_delivery", "/v1/deliveries/dlv_").until(|delivery| delivery["status"] == "delivered"),
        Step::get("list_deliveries", "/v1/deliveries?webhook=whk_").until(|list| {
            list["deliveries"].as_array().unwrap().iter().all(|delivery| delivery["status"] == "delivered")
        }),
        Step { method: Method::POST, ..Step::get("redeliver", "/v1/deliveries/dlv_/redeliver") }.answers(202),
        Step::post(
            "replay_webhook",
            "/v1/webhooks/whk_/replay",
            202,
            json!({"since": "2026-11-20T00:00:00Z"}),
        ),
        Step::get("get_replay", "/v1/webhooks/whk_/replays/rpl_")
            .until(|replay| !replay["finished_at"].is_null()),
        Step::post(
            "replay_webhook",
            "/v1/webhooks/whk_/replay",
            200,
            json!({"since": "2026-11-20T00:00:00Z", "dry_run": true}),
        ),
        Step::post(
            "rotate_webhook_secret",
            "/v1/webhooks/whk_/rotate-secret",
            200,
            json!({"overlap_seconds": 3600}),
        ),
        // Problems, one of each kind.
        Step::post("submit_analysis", "/v1/analyses", 422, misspelt),
        Step::post("submit_analysis", "/v1/analyses", 400, json!("cut off")),
        Step::post("submit_analysis", "/v1/analyses", 413, json!("x".repeat(5 << 20))),
        Step {
            headers: vec![("Content-Type", "text/plain")],
            ..Step::post("submit_analysis", "/v1/analyses", 415, json!(1))
        },
        Step::get("get_analysis", "/v1/analyses/submit-404~1").answers(404),
        Step::post("submit_analysis", "/v1/analyses", 202, unfinished),
        Step::get("get_transcript", "/v1/analyses/never-ready~1/transcript").answers(409),
        Step::get("get_audio", format!("{call}/audio")).with(("Range", "bytes=99999999-")).answers(416),
        Step::get("get_analysis", call).with(("Authorization", "Bearer none")).answers(401),
    ]
}

fn is_completed(analysis: &Value) -> bool {
    analysis["status"] == "completed"
}

/// Runs all steps and returns the requests and responses by operation, with lists shortened.
async fn record(stage: &Stage, sandbox: &Sandbox, writer: &str) -> Value {
    let mut recorded = Map::new();
    let mut keep = |operation: &str, part: &str, body: Value| {
        let parts = recorded.entry(operation).or_insert_with(|| json!({}));
        // The first example of each kind counts.
        parts.as_object_mut().unwrap().entry(part).or_insert(shortened(body));
    };
    let mut ids: HashMap<&str, String> = HashMap::new();
    for mut step in steps(stage.receiver.hook("ok").as_str()) {
        for (prefix, id) in &ids {
            step.path = step.path.replace(prefix, id);
        }
        let answer: Value = within("the condition of a step", async {
            loop {
                let (status, body) = ask(stage, sandbox, &step).await;
                // On a slow machine, a wait ends before the outcome (202), and a repeated step exceeds the rate limit (429).
                if matches!(status, 202 | 408 | 429 | 503) && status != step.status {
                    continue;
                }
                assert_eq!(status, step.status, "{} {}: {body}", step.method, step.path);
                let answer = serde_json::from_str(&body).unwrap();
                if (step.until)(&answer) {
                    return answer;
                }
            }
        })
        .await;
        for prefix in ["whk_", "dlv_", "rpl_"] {
            let text = answer.to_string();
            let id = text.find(prefix).and_then(|place| text.get(place..place + ID_LENGTH));
            ids.extend(id.map(|id| (prefix, id.to_owned())));
        }
        keep(step.operation, &step.status.to_string(), answer);
        if step.status < 300
            && let Some(sent) = step.body
        {
            keep(step.operation, "request", sent);
        }
    }
    let step = Step::get("get_analysis", "/v1/analyses/1716207617.42");
    let (status, body) = ask_as(stage, sandbox, &step, writer).await;
    assert_eq!(status, 403, "{body}");
    keep("get_analysis", "403", serde_json::from_str(&body).unwrap());
    let refused = within("a request over the rate limit", async {
        loop {
            let answers = join_all((0..FLOOD).map(|_| ask(stage, sandbox, &step))).await;
            if let Some((_, body)) = answers.into_iter().find(|(status, _)| *status == 429) {
                return body;
            }
        }
    })
    .await;
    keep("get_analysis", "429", serde_json::from_str(&refused).unwrap());
    recorded.into()
}

async fn ask(stage: &Stage, sandbox: &Sandbox, step: &Step) -> (u16, String) {
    ask_as(stage, sandbox, step, sandbox.token()).await
}

async fn ask_as(stage: &Stage, sandbox: &Sandbox, step: &Step, token: &str) -> (u16, String) {
    let url = format!("{}{}", sandbox.base(), step.path);
    let mut request = stage.client.request(step.method.clone(), url);
    if step.headers.iter().all(|(name, _)| *name != "Authorization") {
        request = request.bearer_auth(token);
    }
    for (name, value) in &step.headers {
        request = request.header(*name, *value);
    }
    if let Some(body) = &step.body {
        let text = body.to_string();
        // Half of the JSON text is not valid JSON.
        request = request.body(if step.status == 400 { text[..text.len() / 2].to_owned() } else { text });
    }
    let answer = within("an answer", request.send()).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Truncates lists, so that the examples stay short.
fn shortened(mut value: Value) -> Value {
    const ENOUGH: usize = 3;
    match &mut value {
        Value::Array(items) => {
            items.truncate(ENOUGH);
            items.iter_mut().for_each(|item| *item = shortened(item.take()));
        }
        Value::Object(fields) => {
            fields.values_mut().for_each(|field| *field = shortened(field.take()));
        }
        _ => {}
    }
    value
}

/// The parts that are the same in every response: field names and value types. These fields keep their values.
fn form(value: &Value, kept: &[&str]) -> Value {
    match value {
        Value::Object(fields) => {
            let of_field = |(name, value): (&String, &Value)| {
                let is_kept = kept.contains(&name.as_str()) && !value.is_object();
                (name.clone(), if is_kept { value.clone() } else { form(value, kept) })
            };
            fields.iter().map(of_field).collect::<Map<_, _>>().into()
        }
        Value::Array(items) => items.iter().map(|item| form(item, kept)).collect::<Vec<_>>().into(),
        Value::String(_) => json!("text"),
        Value::Number(_) => json!("number"),
        Value::Bool(_) => json!("truth"),
        Value::Null => Value::Null,
    }
}

/// Whether both forms are equal. A value that is `null` on one side matches anything, because such values change over time.
fn matches_form(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Null, _) | (_, Value::Null) => true,
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(name, value)| other.get(name).is_some_and(|other| matches_form(value, other)))
        }
        // Lists can differ in length, but each item must match an item of the other list.
        (Value::Array(one), Value::Array(other)) => {
            one.is_empty() == other.is_empty()
                && other.iter().all(|item| one.iter().any(|known| matches_form(known, item)))
        }
        _ => one == other,
    }
}

#[tokio::test]
async fn the_examples_match_responses_of_the_sandbox() {
    let stage = Stage::set_up().await;
    let folder = stage.home.path().join("sandbox");
    let sandbox = Sandbox::start_in(&stage, &folder).await;
    let answers = record(&stage, &sandbox, &Sandbox::token_with(&folder, "analyses:write")).await;
    sandbox.process.stop().await;
    if std::env::var_os("RECORD_EXAMPLES").is_some() {
        let text = serde_json::to_string_pretty(&answers).unwrap();
        return fs::write(RECORDED, text + "\n").unwrap();
    }
    let recorded: Value = serde_json::from_str(&fs::read_to_string(RECORDED).unwrap()).unwrap();
    let advice = "record them again: RECORD_EXAMPLES=1 cargo test --test process examples";
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&recorded), names(&answers), "{advice}");
    for (operation, parts) in recorded.as_object().unwrap() {
        assert_eq!(names(parts), names(&answers[operation]), "{operation}; {advice}");
        for (part, body) in parts.as_object().unwrap() {
            // The work that a 202 describes may have ended before the response is written.
            let kept: &[_] =
                if part == "202" { &["code", "type", "title"] } else { &["status", "code", "type", "title"] };
            let (recorded_form, current_form) = (form(body, kept), form(&answers[operation][part], kept));
            assert!(
                matches_form(&recorded_form, &current_form),
                "{operation} {part}: {recorded_form:#}\nis now {current_form:#}\n{advice}"
            );
        }
    }
}
