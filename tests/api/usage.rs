//! Usage counts of a tenant.

use serde_json::{Value, json};

use crate::stage::Stage;

#[tokio::test]
async fn usage_is_counted_and_includes_empty_days() {
    let stage = Stage::start().await;
    let caller = stage.acme();
    caller.submitted(json!({"call_id": "1"})).await;
    caller.outcome("1").await;
    loop {
        let answer = caller.get("/v1/usage").await;
        assert_eq!(answer.status, 200);
        let days = answer.json()["days"].as_array().unwrap().clone();
        assert_eq!(days.len(), 30);
        // The last two days are added up, because the test may run at midnight.
        let sum = |field: &str| days[28..].iter().map(|day| day[field].as_u64().unwrap()).sum::<u64>();
        assert_eq!((sum("submissions"), sum("failures")), (1, 0));
        // On PostgreSQL, a completion is counted a little after its commit.
        assert!(sum("completions") <= 1);
        if sum("completions") == 1 && sum("polls") >= 1 {
            break;
        }
    }

    let past = caller.get("/v1/usage?from=2024-02-28&to=2024-03-01").await.json();
    let nothing = |date: &str| {
        json!({"date": date, "submissions": 0, "polls": 0, "completions": 0, "failures": 0,
            "deliveries": {"attempts": 0, "delivered": 0, "failed": 0}})
    };
    let wanted: Vec<Value> = ["2024-02-28", "2024-02-29", "2024-03-01"].map(nothing).into();
    assert_eq!(past, json!({ "days": wanted }));
    let foreign = stage.globex().get("/v1/usage").await.json();
    assert!(foreign["days"].as_array().unwrap().iter().all(|day| day["submissions"] == 0));
}

#[tokio::test]
async fn usage_counts_the_attempts_and_outcomes_that_the_list_of_deliveries_shows() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    for (call_id, hook) in [("1", "ok"), ("2", "500"), ("3", "500-twice"), ("4", "410")] {
        acme.submitted(json!({"call_id": call_id, "callback": {"url": stage.hook(hook)}})).await;
    }
    let listed = loop {
        let listed = acme.get("/v1/deliveries").await.json()["deliveries"].as_array().unwrap().clone();
        if listed.len() == 4 && listed.iter().all(|delivery| delivery["status"] != "pending") {
            break listed;
        }
    };
    let attempts: u64 = listed.iter().map(|delivery| delivery["attempt_count"].as_u64().unwrap()).sum();
    let with = |status: &str| listed.iter().filter(|delivery| delivery["status"] == status).count() as u64;
    assert_eq!((attempts, with("delivered"), with("failed")), (8, 2, 2));
    loop {
        let days = acme.get("/v1/usage").await.json()["days"].as_array().unwrap().clone();
        let counted =
            |field: &str| days.iter().map(|day| day["deliveries"][field].as_u64().unwrap()).sum::<u64>();
        let counts = (counted("attempts"), counted("delivered"), counted("failed"));
        // On PostgreSQL, an outcome is counted a little after its commit.
        assert!(counts.0 == 8 && counts.1 <= 2 && counts.2 <= 2, "{counts:?}");
        if counts == (8, 2, 2) {
            break;
        }
    }
}

#[tokio::test]
async fn invalid_periods_are_refused() {
    let stage = Stage::start().await;
    for (query, pointer) in [
        ("?from=2026-01-02&to=2026-01-01", "?from"),
        ("?from=2024-01-01&to=2025-01-01", "?from"),
        ("?from=yesterday", "?from"),
        ("?to=2026-02-30", "?to"),
        ("?day=2026-01-01", "?day"),
    ] {
        assert_eq!(stage.acme().get(&format!("/v1/usage{query}")).await.pointers(), [pointer], "{query}");
    }
    let whole = stage.acme().get("/v1/usage?from=2024-01-01&to=2024-12-31").await.json();
    assert_eq!(whole["days"].as_array().unwrap().len(), 366);
}

#[tokio::test]
async fn usage_is_grouped_by_agent_or_queue() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let facts = json!({"agent": {"id": "17", "name": "Dilnoza"}, "queue": "support"});
    acme.submitted(json!({"call_id": "1", "call": facts})).await;
    acme.submitted(json!({"call_id": "submit-400~2", "call": {"agent": {"id": "18"}, "queue": "support"}}))
        .await;
    acme.submitted(json!({"call_id": "never-ready~3"})).await;
    acme.outcome("1").await;
    acme.outcome("submit-400~2").await;
    let groups =
        async |fact: &str| acme.get(&format!("/v1/usage?group_by={fact}")).await.json()["groups"].clone();
    let row = |value: &str, submissions: u64, completions: u64, failures: u64| json!({"value": value, "submissions": submissions, "completions": completions, "failures": failures});
    // On PostgreSQL, an outcome is counted a little after its commit.
    while groups("queue").await != json!([row("support", 2, 1, 1)]) {}
    while groups("agent").await != json!([row("17", 1, 1, 0), row("18", 1, 0, 1)]) {}
    assert_eq!(acme.get("/v1/usage").await.json().get("groups"), None);
    assert_eq!(stage.globex().get("/v1/usage?group_by=agent").await.json()["groups"], json!([]));
    assert_eq!(acme.get("/v1/usage?group_by=phone").await.pointers(), ["?group_by"]);
}
