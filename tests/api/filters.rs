//! Filters of webhooks on the content of events.

use serde_json::{Value, json};

use crate::caller::Caller;
use crate::stage::Stage;
use crate::webhooks::registered;

const LONG_AGO: &str = "2026-01-01T00:00:00Z";

/// Submits a call with this ticket and waits until it is completed.
async fn completed(acme: &Caller, call_id: &str, ticket: &str) {
    acme.submitted(json!({"call_id": call_id, "metadata": {"ticket": ticket}})).await;
    assert_eq!(acme.outcome(call_id).await["status"], "completed");
}

/// The calls of the deliveries to the webhook with this path, newest first.
async fn delivered_calls(acme: &Caller, path: &str) -> Vec<String> {
    let id = path.rsplit('/').next().unwrap();
    let listed = acme.get(&format!("/v1/deliveries?webhook={id}")).await.json()["deliveries"].take();
    let calls = listed.as_array().unwrap().iter();
    calls.map(|delivery| delivery["call_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_webhook_receives_the_events_that_pass_its_filter() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let filter =
        json!({"status": "completed", "$or": [{"metadata.ticket": "T-1"}, {"revision": {"$gt": 1}}]});
    let (path, _) = registered(&acme, json!({"url": stage.hook("ok/one"), "filter": filter})).await;
    assert_eq!(acme.get(&path).await.json()["filter"], filter);
    let (all, _) = registered(&acme, json!({"url": stage.hook("ok/all")})).await;
    assert_eq!(acme.get(&all).await.json()["filter"], json!(null));
    completed(&acme, "1", "T-2").await;
    completed(&acme, "2", "T-1").await;
    assert_eq!(delivered_calls(&acme, &path).await, ["2"]);
    assert_eq!(delivered_calls(&acme, &all).await, ["2", "1"]);
    let (_, metrics) = stage.admin("metrics").await;
    let dropped = "alovoice_gateway_webhook_events_filtered_total{tenant=\"acme\"} 1\n";
    assert!(metrics.contains(dropped), "{metrics}");
    // The feed has every event.
    assert_eq!(acme.get("/v1/events").await.json()["events"].as_array().unwrap().len(), 2);
    let remains = stage.close().await;
    let mut paths: Vec<_> = remains.receiver.received().iter().map(|request| request.path.clone()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/hook/ok/all", "/hook/ok/all", "/hook/ok/one"]);
}

#[tokio::test]
async fn a_filter_reads_the_facts_of_the_call() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let filter = json!({
        "call.queue": {"$in": ["sales", "support"]}, "call.direction": "inbound", "call.agent.id": {"$ne": "18"},
        "call.crm.desk.ticket": {"$startsWith": "T-"}, "call.phone": {"$startsWith": "+998"},
    });
    let (path, _) = registered(&acme, json!({"url": stage.hook("ok"), "filter": filter})).await;
    for (call_id, queue, agent, ticket) in [
        ("1", "support", "17", "T-1"),
        ("2", "support", "18", "T-2"),
        ("3", "other", "17", "T-3"),
        ("4", "sales", "17", "4"),
    ] {
        let call = json!({
            "direction": "inbound", "phone": "90 123-45-67", "queue": queue, "agent": {"id": agent}, "crm": {"desk.ticket": ticket},
        });
        acme.submitted(json!({"call_id": call_id, "call": call})).await;
        acme.outcome(call_id).await;
    }
    assert_eq!(delivered_calls(&acme, &path).await, ["1"]);
    let preview = acme.post(&format!("{path}/preview"), json!({"call_id": "4"})).await.json();
    assert_eq!(preview["passes_filter"], false);
}

#[tokio::test]
async fn a_changed_filter_applies_to_events_from_then_on_and_null_removes_it() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let webhook = json!({"url": stage.hook("ok"), "filter": {"metadata.ticket": "T-1"}});
    let (path, _) = registered(&acme, webhook).await;
    completed(&acme, "1", "T-2").await;
    let filter =
        json!({"metadata.ticket": {"$startsWith": "T-"}, "transcript.speaker": ["operator", "client"]});
    let changed = acme.patch(&path, json!({ "filter": filter })).await.json();
    assert_eq!(changed["filter"], filter);
    completed(&acme, "2", "T-2").await;
    completed(&acme, "3", "S-1").await;
    assert_eq!(acme.patch(&path, json!({"description": "CRM"})).await.json()["filter"], filter);
    assert_eq!(acme.patch(&path, json!({"filter": null})).await.json()["filter"], json!(null));
    completed(&acme, "4", "S-1").await;
    assert_eq!(delivered_calls(&acme, &path).await, ["4", "2"]);
}

#[tokio::test]
async fn a_test_event_needs_no_filter_and_a_replay_sends_what_passes() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    for (call_id, ticket) in [("1", "T-1"), ("2", "T-2"), ("3", "T-1")] {
        completed(&acme, call_id, ticket).await;
    }
    let webhook = json!({"url": stage.hook("ok"), "filter": {"metadata.ticket": "T-1"}});
    let (path, _) = registered(&acme, webhook).await;
    let replay = acme.post(&format!("{path}/replay"), json!({"since": LONG_AGO})).await;
    assert_eq!(replay.status, 202);
    let mut received = Vec::new();
    for _ in 0..2 {
        let event: Value = serde_json::from_slice(&stage.receiver.next().await.body).unwrap();
        received.push(event["data"]["call_id"].as_str().unwrap().to_owned());
    }
    received.sort_unstable();
    assert_eq!(received, ["1", "3"]);
    let replay = loop {
        let replay = acme.get(replay.header("location")).await.json();
        if replay["finished_at"].is_string() {
            break replay;
        }
    };
    assert_eq!(replay["sent"], 2);
    assert_eq!(acme.post(&format!("{path}/test"), json!({})).await.status, 202);
    let event: Value = serde_json::from_slice(&stage.receiver.next().await.body).unwrap();
    assert_eq!(event["type"], "webhook.test");
}

#[tokio::test]
async fn an_invalid_filter_names_all_its_fields() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let url = stage.hook("ok");
    let (path, _) = registered(&acme, json!({ "url": url })).await;
    for (filter, pointers) in [
        (json!({}), vec!["#/filter"]),
        (json!([]), vec!["#/filter"]),
        (json!("status"), vec!["#/filter"]),
        (json!({"state": "completed"}), vec!["#/filter/state"]),
        (
            json!({"tags.name": {"$regex": "a"}, "revision": "1"}),
            vec!["#/filter/tags.name/$regex", "#/filter/revision"],
        ),
        (json!({"$or": [{"status": "done"}]}), vec!["#/filter/$or/0/status"]),
        (json!({"metadata.a/b": {"$exist": 1}}), vec!["#/filter/metadata.a~1b/$exist"]),
        (json!({"metadata.a": "x".repeat(5000)}), vec!["#/filter"]),
    ] {
        let mut expected = pointers;
        expected.sort_unstable();
        for answer in [
            acme.post("/v1/webhooks", json!({"url": url, "filter": filter})).await,
            acme.patch(&path, json!({ "filter": filter })).await,
        ] {
            let mut found = answer.pointers();
            found.sort_unstable();
            assert_eq!(found, expected, "{filter}");
        }
    }
    let twice = format!(r#"{{"url": "{url}", "filter": {{"status": "failed", "status": "completed"}}}}"#);
    let json = [("content-type", "application/json")];
    let answer = acme.send(reqwest::Method::POST, "/v1/webhooks", &json, twice).await;
    assert_eq!(answer.pointers(), ["#/filter"]);
}
