//! The audit log of a real process has a line for each operation, with caller, action and status.

use std::collections::{BTreeMap, BTreeSet};

use alovoice_gateway::commands;
use futures_util::StreamExt;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::gateway::Serving;
use crate::stage::{ISSUER, SUBJECT, Stage};

const EVERY_SCOPE: &str = "analyses:read analyses:write audio:read webhooks:manage";
/// Ids of resources that do not exist.
const WEBHOOK: &str = "whk_018f95f4cd287c5b9a6f3b1f8f0a1d2e";
const DELIVERY: &str = "dlv_018f95f4cd287c5b9a6f3b1f8f0a1d2e";
const REPLAY: &str = "rpl_018f95f4cd287c5b9a6f3b1f8f0a1d2e";

/// Sends a request with `name` as its request id.
async fn send(
    stage: &Stage,
    gateway: &Serving,
    (method, path): (Method, &str),
    (name, scopes): (&str, Option<&str>),
    body: Option<Value>,
) -> Response {
    let request = stage.client.request(method, gateway.api.join(path).unwrap()).header("x-request-id", name);
    let request = match scopes {
        Some(scopes) => request.bearer_auth(stage.token(scopes)),
        None => request,
    };
    let request = match body {
        Some(body) => request.header("content-type", "application/json").body(body.to_string()),
        None => request,
    };
    request.send().await.unwrap()
}

/// The lines of the audit log, by request id.
fn by_request(log: &str) -> BTreeMap<String, Vec<Value>> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut audit: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in lines.filter(|line| line["target"].as_str().is_some_and(|target| target.starts_with("audit")))
    {
        audit.entry(line["request_id"].as_str().unwrap().to_owned()).or_default().push(line);
    }
    audit
}

#[tokio::test]
async fn every_operation_of_the_openapi_document_is_audited() {
    let stage = Stage::set_up().await;
    let gateway = stage.serve().await;
    let document: Value = serde_json::from_str(&commands::openapi().unwrap()).unwrap();
    let mut expected = BTreeMap::new();
    for (template, item) in document["paths"].as_object().unwrap() {
        let path = template
            .replace("{call_id}", "known-1")
            .replace("{webhook_id}", WEBHOOK)
            .replace("{delivery_id}", DELIVERY)
            .replace("{replay_id}", REPLAY);
        for (method, operation) in item.as_object().unwrap() {
            // The test requests it at the end, with a real link.
            if path.contains("{link}") {
                continue;
            }
            let id = operation["operationId"].as_str().unwrap();
            let method: Method = method.to_ascii_uppercase().parse().unwrap();
            let body = match id {
                "submit_analysis" => Some(json!({"call_id": "of-the-body"})),
                "submit_analyses" => Some(json!({"analyses": [
                    {"call_id": "one"}, {"call_id": "two", "callback": {"url": "http://10.0.0.1/"}},
                    {"call_id": "three", "metadata": []}, {"call_id": "no spaces"},
                ]})),
                "create_webhook" => Some(json!({"url": stage.hook_of("ok")})),
                _ => operation["requestBody"].is_object().then(|| json!({})),
            };
            let answer = send(&stage, &gateway, (method.clone(), &path), (id, Some(EVERY_SCOPE)), body).await;
            let made = answer.headers().get("location").map(|location| location.to_str().unwrap().to_owned());
            expected.insert(id.to_owned(), (answer.status().as_u16(), path.clone(), made));
        }
    }
    let read = (Method::GET, "v1/analyses/known-2");
    send(&stage, &gateway, read.clone(), ("refused", Some("audio:read")), None).await;
    send(&stage, &gateway, read.clone(), ("anonymous", None), None).await;
    send(&stage, &gateway, (Method::HEAD, "v1/analyses/%6Bnown-2"), ("head", Some(EVERY_SCOPE)), None).await;
    let link = (Method::POST, "v1/analyses/known-2/audio-link");
    let made = send(&stage, &gateway, link, ("made", Some(EVERY_SCOPE)), None).await;
    let link: Value = serde_json::from_slice(&made.bytes().await.unwrap()).unwrap();
    let link = link["url"].as_str().unwrap().to_owned();
    for _ in 0..2 {
        let url = gateway.api.join("v1/analyses").unwrap();
        let request = stage.client.post(url).bearer_auth(stage.token(EVERY_SCOPE));
        let request = request.header("content-type", "application/json").header("x-request-id", "twice");
        let request = request.header("idempotency-key", "once").body(json!({"call_id": "kept"}).to_string());
        assert_eq!(request.send().await.unwrap().status(), 202);
    }
    let heard = send(&stage, &gateway, (Method::GET, &link), ("heard", None), None).await;
    assert_eq!(heard.status(), 200);
    drop(heard);
    gateway.process.terminate();
    let log = gateway.process.stderr.whole().await;

    let audit = by_request(&log);
    for (id, (status, path, made)) in &expected {
        let lines = audit.get(id).unwrap_or_else(|| panic!("{id} has no audit line"));
        assert_eq!(lines.len(), if id == "submit_analyses" { 3 } else { 1 }, "{id}");
        for line in lines {
            assert_eq!(line["action"], **id);
            assert!(line["status"] == *status || id == "submit_analyses", "{id}");
            let reads = ["get_", "list_"].iter().any(|verb| id.starts_with(verb));
            assert_eq!(line["target"], if reads { "audit::read" } else { "audit" }, "{id}");
            assert_eq!([&line["tenant"], &line["subject"], &line["issuer"]], ["acme", SUBJECT, ISSUER]);
            let named = |field: &str, value: &str| match path.contains(value) {
                true => assert_eq!(line[field], value, "{id}"),
                false => assert!(
                    line[field].is_null()
                        || field == "call_id"
                        || made.as_ref().unwrap().ends_with(line[field].as_str().unwrap()),
                    "{id}"
                ),
            };
            named("call_id", "known-1");
            named("webhook_id", WEBHOOK);
            named("delivery_id", DELIVERY);
            named("replay_id", REPLAY);
        }
    }
    let calls = |id: &str| audit[id].iter().map(|line| line["call_id"].clone()).collect::<Vec<_>>();
    assert_eq!(calls("submit_analysis"), ["of-the-body"]);
    let per_item: Vec<_> =
        audit["submit_analyses"].iter().map(|line| json!([line["call_id"], line["status"]])).collect();
    assert_eq!(per_item, [json!(["one", 202]), json!(["two", 422]), json!(["three", 422])]);
    assert!(audit["create_webhook"][0]["webhook_id"].is_string());
    let replayed: Vec<_> = audit["twice"].iter().map(|line| line["replayed"].clone()).collect();
    assert_eq!(replayed, [Value::Null, json!(true)]);
    let short = |id: &str| {
        let [line] = &audit[id][..] else { panic!("{id} must have one audit line") };
        json!([line["action"], line["status"], line["tenant"], line["subject"], line["call_id"]])
    };
    assert_eq!(short("refused"), json!(["get_analysis", 403, "acme", SUBJECT, "known-2"]));
    assert_eq!(short("head"), json!(["get_analysis", 200, "acme", SUBJECT, "known-2"]));
    assert_eq!(short("heard"), json!(["get_linked_audio", 200, "acme", null, "known-2"]));
    assert!(!audit.contains_key("anonymous"), "a request without a token has no known caller");
    assert!(!log.contains(link.rsplit('/').next().unwrap()), "a log line contains an audio link");
}

#[tokio::test]
async fn an_aborted_request_is_audited() {
    let stage = Stage::set_up().await;
    let gateway = stage.serve().await;
    let address = gateway.api.socket_addrs(|| None).unwrap()[0];
    let head = format!(
        "POST /v1/analyses HTTP/1.1\r\nhost: gateway\r\nx-request-id: half\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 100\r\n\r\n{{\"call_id\"",
        stage.token(EVERY_SCOPE)
    );
    std::io::Write::write_all(&mut std::net::TcpStream::connect(address).unwrap(), head.as_bytes()).unwrap();
    let is_audit_line = |line: &str| line.contains("\"target\":\"audit\"") && line.contains("\"half\"");
    let line = gateway.process.stderr.line("the audit line of the aborted request", is_audit_line).await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!([&line["action"], &line["subject"]], ["submit_analysis", SUBJECT]);
    assert!(
        line["status"].as_u64().is_none_or(|status| status >= 400),
        "an aborted request must not succeed: {line}"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn a_shutdown_writes_the_audit_lines_of_all_reads() {
    let stage = Stage::set_up().await;
    let gateway = stage.serve().await;
    let names: BTreeSet<String> = (0..2_000).map(|number| format!("read-{number}")).collect();
    let reads = futures_util::stream::iter(&names).for_each_concurrent(32, async |name| {
        let read = (Method::GET, "v1/analyses/known-1");
        let answer = send(&stage, &gateway, read, (name, Some(EVERY_SCOPE)), None).await;
        assert_eq!(answer.status(), 200);
    });
    reads.await;
    gateway.process.terminate();
    let log = gateway.process.stderr.whole().await;
    let logged: BTreeSet<String> = by_request(&log).into_keys().collect();
    assert!(logged == names, "{} of {} reads have an audit line", logged.len(), names.len());
}

#[tokio::test]
async fn the_audit_line_of_a_change_is_written_before_the_answer() {
    let stage = Stage::set_up().await;
    let gateway = stage.serve().await;
    let submit = (Method::POST, "v1/analyses");
    let body = Some(json!({"call_id": "1"}));
    let answer = send(&stage, &gateway, submit, ("change", Some(EVERY_SCOPE)), body).await;
    assert_eq!(answer.status(), 202);
    gateway.kill();
    let log = gateway.process.stderr.whole().await;
    assert!(by_request(&log).contains_key("change"), "{log}");
}

#[tokio::test]
async fn the_audit_log_is_written_unless_the_filter_turns_it_off() {
    let mut stage = Stage::set_up().await;
    for (filter, is_written) in
        [("info,audit=off", false), ("alovoice_gateway=info", true), ("info,audit::read=off", false)]
    {
        stage.set("LOG__FILTER", filter);
        let gateway = stage.serve().await;
        let read = (Method::GET, "v1/analyses/known-1");
        assert_eq!(send(&stage, &gateway, read, ("read", Some(EVERY_SCOPE)), None).await.status(), 200);
        gateway.process.terminate();
        let log = gateway.process.stderr.whole().await;
        assert!(log.contains("stopped"), "{log}");
        assert_eq!(by_request(&log).contains_key("read"), is_written, "{filter}: {log}");
    }
}
