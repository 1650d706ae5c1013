//! Batches: many submissions in one request.

use serde_json::{Value, json};

use crate::caller::{Answer, Caller};
use crate::stage::Stage;

async fn submit(caller: &Caller, body: &str) -> Answer {
    let headers = [("content-type", "application/json")];
    caller.send(reqwest::Method::POST, "/v1/analyses/batch", &headers, body.to_owned()).await
}

fn results(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["results"].as_array().unwrap().clone()
}

#[tokio::test]
async fn each_item_of_a_batch_has_its_own_result() {
    let stage = Stage::start().await;
    let caller = stage.acme();
    assert_eq!(caller.analysis("known-1").await.status, 200);
    let body = json!({"analyses": [
        {"call_id": "1", "metadata": {"n": 1}},
        {"call_id": "known-1"},
        {"call_id": "a b"},
        {"call_id": "2", "calback": {}},
        {"call_id": "3", "callback": {"url": "https://192.168.0.1/"}},
        7,
        {"call_id": "1", "metadata": {"n": 2}},
    ]});
    let twice = body.to_string().replace("]}", r#", {"call_id": "4", "metadata": {"k": 1, "k": 2}}]}"#);
    let answer = submit(&caller, &twice).await;
    let results = results(&answer);
    let statuses: Vec<_> =
        results.iter().map(|result| (result["call_id"].clone(), result["status"].clone())).collect();
    let row = |call: Value, status: u16| (call, json!(status));
    assert_eq!(
        statuses,
        [
            row(json!("1"), 202),
            row(json!("known-1"), 200),
            row(json!("a b"), 422),
            row(json!("2"), 422),
            row(json!("3"), 422),
            row(Value::Null, 422),
            row(json!("1"), 202),
            row(json!("4"), 422),
        ]
    );
    let problem = |index: usize| {
        let problem = &results[index]["problem"];
        assert_eq!(problem["request_id"], answer.header("x-request-id"));
        (problem["code"].as_str().unwrap(), problem["errors"][0]["pointer"].as_str().unwrap())
    };
    assert_eq!(problem(2), ("invalid_request", "#/analyses/2/call_id"));
    assert_eq!(problem(3), ("invalid_request", "#/analyses/3/calback"));
    assert_eq!(problem(4), ("callback_forbidden", "#/analyses/4/callback/url"));
    assert_eq!(problem(5), ("invalid_request", "#/analyses/5"));
    assert_eq!(problem(7), ("invalid_request", "#/analyses/7/metadata"));
    assert_eq!(results[6]["analysis"]["metadata"], json!({"n": 2}));
    assert_eq!(results[1]["analysis"]["status"], "completed");
    assert_eq!(caller.outcome("1").await["status"], "completed");
    assert_eq!(stage.vendor.submits(&crate::stage::call("1")), 1);
}

#[tokio::test]
async fn a_batch_has_at_most_a_thousand_items() {
    let stage = Stage::start().await;
    let batch = |count: usize| {
        let items: Vec<_> = (0..count).map(|n| json!({"call_id": format!("never-ready~{n}")})).collect();
        json!({ "analyses": items }).to_string()
    };
    let taken = results(&submit(&stage.acme(), &batch(1000)).await);
    assert_eq!(taken.len(), 1000);
    assert!(taken.iter().all(|result| result["status"] == 202));
    for body in [batch(1001), batch(0)] {
        assert_eq!(submit(&stage.globex(), &body).await.pointers(), ["#/analyses"]);
    }
    assert_eq!(submit(&stage.acme(), "{}").await.pointers(), ["#"]);
    assert_eq!(submit(&stage.acme(), r#"{"analyses": {}}"#).await.pointers(), ["#/analyses"]);
    submit(&stage.acme(), "{").await.problem(400, "malformed_body");
}
