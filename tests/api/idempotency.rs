//! `Idempotency-Key`: a repeated request is executed once and gets the stored response.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::caller::{Answer, Caller};
use crate::postgres::server::Server;
use crate::stage::{Stage, UNSET, call};

const JSON: (&str, &str) = ("content-type", "application/json");

async fn send_to(path: &str, caller: &Caller, key: &str, body: &Value) -> Answer {
    caller.send(Method::POST, path, &[JSON, ("idempotency-key", key)], body.to_string()).await
}

async fn send(caller: &Caller, key: &str, body: &Value) -> Answer {
    send_to("/v1/analyses", caller, key, body).await
}

/// The parts of a response that must be the same for a repeated request.
fn kept(answer: &Answer) -> (u16, Vec<(String, String)>, Value) {
    let own = ["date", "x-request-id", "ratelimit", "idempotency-replayed", "connection"];
    let mut headers: Vec<_> = answer
        .headers
        .iter()
        .filter(|(name, _)| !own.contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort_unstable();
    (answer.status, headers, answer.json())
}

fn assert_replays(first: &Answer, again: &Answer) {
    assert!(!first.has("idempotency-replayed"), "{first:?}");
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(kept(first), kept(again));
}

/// The number of submissions that the usage of `acme` counts.
async fn submissions(stage: &Stage) -> Value {
    stage.acme().get("/v1/usage").await.json()["days"]
        .as_array()
        .unwrap()
        .iter()
        .map(|day| day["submissions"].as_u64().unwrap())
        .sum::<u64>()
        .into()
}

#[tokio::test]
async fn the_same_request_gets_the_first_answer_again() {
    let stage = Stage::start().await;
    let body = json!({"call_id": "1", "metadata": {"ticket": "T-1"}});
    let first = send(&stage.acme(), "\"8e03978e-40d5-43e8\"", &body).await;
    assert_eq!((first.status, first.header("location")), (202, "/v1/analyses/1"));
    stage.acme().outcome("1").await;
    // The stored response does not depend on the present state, on the quotes around the key, or on a restart.
    assert_replays(&first, &send(&stage.acme(), "\"8e03978e-40d5-43e8\"", &body).await);
    assert_replays(&first, &send(&stage.acme(), "8e03978e-40d5-43e8", &body).await);
    assert_eq!(submissions(&stage).await, 1);
    let stage = stage.restart().await;
    assert_replays(&first, &send(&stage.acme(), "8e03978e-40d5-43e8", &body).await);
    // Without a key, or with another key, the request is a new one.
    assert_eq!(stage.acme().submit(body.clone()).await.status, 200);
    let other = send(&stage.acme(), "other", &body).await;
    assert_eq!((other.status, other.has("idempotency-replayed")), (200, false));
    assert_eq!(submissions(&stage).await, 3);
}

#[tokio::test]
async fn a_repeated_reanalysis_is_submitted_once() {
    // The previous result soon counts as the new one, so that the new analysis ends.
    let stage = Stage::with(&[("VENDOR__POLLING__EMPTY_GRACE", "20ms")]).await;
    stage.acme().submitted(json!({"call_id": "1"})).await;
    stage.acme().outcome("1").await;
    let body = json!({"call_id": "1", "reanalyze": true});
    let first = send(&stage.acme(), "again", &body).await;
    assert_eq!(first.status, 202);
    stage.acme().outcome("1").await;
    assert_replays(&first, &send(&stage.acme(), "again", &body).await);
    assert_eq!(stage.vendor.accepted_submits(&call("1")), 2);
}

#[tokio::test]
async fn a_repeated_batch_is_executed_once() {
    let stage = Stage::start().await;
    let body = json!({"analyses": [{"call_id": "1"}, {"call_id": "no spaces"}]});
    let first = send_to("/v1/analyses/batch", &stage.acme(), "b", &body).await;
    assert_eq!(first.status, 200);
    let again = send_to("/v1/analyses/batch", &stage.acme(), "b", &body).await;
    assert_replays(&first, &again);
    assert_eq!(submissions(&stage).await, 1);
    // A key belongs to one operation.
    assert_eq!(send(&stage.acme(), "b", &json!({"call_id": "2"})).await.status, 202);
}

#[tokio::test]
async fn a_key_belongs_to_one_request() {
    let stage = Stage::start().await;
    send(&stage.acme(), "k", &json!({"call_id": "1"})).await;
    let other = send(&stage.acme(), "k", &json!({"call_id": "2"})).await;
    other.problem(422, "idempotency_key_reused");
    stage.acme().analysis("2").await.problem(404, "not_found");
    // A key belongs to one tenant.
    let foreign = send(&stage.globex(), "k", &json!({"call_id": "2"})).await;
    assert_eq!((foreign.status, foreign.has("idempotency-replayed")), (202, false));
}

#[tokio::test]
async fn a_problem_is_not_stored_and_frees_the_key() {
    let stage = Stage::start().await;
    let wrong = json!({"call_id": "no spaces"});
    assert_eq!(send(&stage.acme(), "k", &wrong).await.pointers(), ["#/call_id"]);
    let forbidden = json!({"call_id": "1", "callback": {"url": "http://10.0.0.1/"}});
    for _ in 0..2 {
        let refused = send(&stage.acme(), "k", &forbidden).await;
        refused.problem(422, "callback_forbidden");
        assert!(!refused.has("idempotency-replayed"));
    }
    assert_eq!(send(&stage.acme(), "k", &json!({"call_id": "1"})).await.status, 202);
}

#[tokio::test]
async fn an_invalid_key_is_refused() {
    let stage = Stage::start().await;
    let long = "x".repeat(256);
    for key in ["", "\"\"", "a b", "\"open", long.as_str()] {
        let refused = send(&stage.acme(), key, &json!({"call_id": "1"})).await;
        assert_eq!(refused.pointers(), ["Idempotency-Key"], "{key}");
    }
    let twice = [JSON, ("idempotency-key", "a"), ("idempotency-key", "b")];
    assert_eq!(stage.acme().post_with(&twice, r#"{"call_id":"1"}"#).await.pointers(), ["Idempotency-Key"]);
    stage.acme().analysis("1").await.problem(404, "not_found");
    let longest = format!("\"{}\"", "x".repeat(255));
    assert_eq!(send(&stage.acme(), &longest, &json!({"call_id": "1"})).await.status, 202);
}

#[tokio::test]
async fn a_stored_redelivery_is_deleted_with_its_call() {
    let stage = Stage::start().await;
    let (path, _) = crate::webhooks::registered(&stage.acme(), json!({"url": stage.hook("ok")})).await;
    crate::webhooks::completed(&stage, "1").await;
    let listed = format!("/v1/deliveries?webhook={}", path.trim_start_matches("/v1/webhooks/"));
    let delivery = stage.acme().get(&listed).await.json()["deliveries"][0]["id"].as_str().unwrap().to_owned();
    let delivery = format!("/v1/deliveries/{delivery}");
    while stage.acme().get(&delivery).await.json()["status"] != "delivered" {}
    let redeliver = format!("{delivery}/redeliver");
    assert_eq!(send_to(&redeliver, &stage.acme(), "k", &json!({})).await.status, 202);
    assert_eq!(stage.acme().send(Method::DELETE, "/v1/analyses/1", &[], "").await.status, 204);
    send_to(&redeliver, &stage.acme(), "k", &json!({})).await.problem(409, "idempotent_answer_not_kept");
}

#[tokio::test]
async fn a_stored_answer_is_deleted_with_its_call() {
    let stage = Stage::start().await;
    let (one, two) = (json!({"call_id": "1"}), json!({"call_id": "2"}));
    send(&stage.acme(), "one", &one).await;
    let first = send(&stage.acme(), "two", &two).await;
    let deleted = stage.acme().send(Method::DELETE, "/v1/analyses/1", &[], "").await;
    assert_eq!(deleted.status, 204);
    send(&stage.acme(), "one", &one).await.problem(409, "idempotent_answer_not_kept");
    stage.acme().analysis("1").await.problem(404, "not_found");
    assert_replays(&first, &send(&stage.acme(), "two", &two).await);
}

#[tokio::test]
async fn a_request_with_an_answer_too_large_to_store_is_not_executed_twice() {
    let stage = Stage::start().await;
    let metadata = json!({"text": "x".repeat(4000)});
    let items: Vec<_> = (0..400)
        .map(|item| json!({"call_id": format!("never-ready~{item}"), "metadata": metadata}))
        .collect();
    let body = json!({"analyses": items});
    let first = send_to("/v1/analyses/batch", &stage.acme(), "large", &body).await;
    assert_eq!(first.status, 200);
    assert!(first.body.len() > 1 << 20);
    let again = send_to("/v1/analyses/batch", &stage.acme(), "large", &body).await;
    again.problem(409, "idempotent_answer_not_kept");
    assert_eq!(submissions(&stage).await, 400);
}

#[tokio::test]
async fn stored_answers_are_encrypted_with_the_current_keys() {
    let stage = Stage::start().await;
    let body = json!({"call_id": "1", "metadata": {"ticket": "T-1"}});
    let first = send(&stage.acme(), "k", &body).await;
    assert_eq!(first.status, 202);
    stage.write("other-key", "YW5vdGhlciBrZXkgb2YgdGhpcnR5LXR3byBieXRlcyE=");
    let other = stage.home.path().join("other-key").display().to_string();
    let stage = stage.restart_with(("ENCRYPTION__KEY_FILE", &other)).await;
    send(&stage.acme(), "k", &body).await.problem(409, "idempotent_answer_not_kept");
    // With both keys in the file, the second one opens the stored response.
    let (new, old) = (std::fs::read_to_string(&other).unwrap(), stage.home.path().join("encryption-key"));
    stage.write("both-keys", &format!("{new}\n{}", std::fs::read_to_string(old).unwrap()));
    let both = stage.home.path().join("both-keys").display().to_string();
    let stage = stage.restart_with(("ENCRYPTION__KEY_FILE", &both)).await;
    assert_replays(&first, &send(&stage.acme(), "k", &body).await);
}

#[tokio::test]
async fn without_encryption_keys_answers_without_secrets_are_stored() {
    let stage = Stage::with(&[("ENCRYPTION__KEY_FILE", UNSET)]).await;
    let body = json!({"call_id": "1"});
    let first = send(&stage.acme(), "k", &body).await;
    assert_replays(&first, &send(&stage.acme(), "k", &body).await);
}

#[tokio::test]
async fn concurrent_requests_with_one_key_at_two_replicas_are_executed_once() {
    let database = Server::shared().await.fresh_database().await;
    let stage = Stage::on(Some(database), &[]).await;
    let other = stage.replica(stage.database().url()).await;
    let callers = [stage.acme(), stage.acme_at(&other)];
    let mut unavailable = 0;
    for round in 0..10 {
        let body = json!({"call_id": format!("never-ready~{round}")});
        let key = round.to_string();
        let once = callers.each_ref().map(Caller::without_retries);
        let answers = join_all((0..8).map(|sender| send(&once[sender % 2], &key, &body))).await;
        let first =
            answers.iter().filter(|answer| answer.status == 202 && !answer.has("idempotency-replayed"));
        // A busy database may execute a request although it does not answer in time.
        if answers.iter().any(|answer| answer.status == 503) {
            assert!(first.count() <= 1, "{answers:?}");
            unavailable += 1;
            continue;
        }
        assert_eq!(first.count(), 1, "{answers:?}");
        for answer in answers.iter().filter(|answer| answer.status != 202) {
            answer.problem(409, "idempotency_key_in_use");
            assert_eq!(answer.header("retry-after"), "1");
        }
        let again = send(&callers[round % 2], &key, &body).await;
        assert_eq!((again.status, again.header("idempotency-replayed")), (202, "true"));
    }
    assert!(other.drain().await);
    let executed = submissions(&stage).await.as_u64().unwrap();
    assert!((10 - unavailable..=10).contains(&executed), "{executed}");
}

#[tokio::test]
async fn repeated_webhook_operations_are_executed_once() {
    let stage = Stage::start().await;
    let webhook = json!({"url": stage.hook("ok")});
    let first = send_to("/v1/webhooks", &stage.acme(), "new", &webhook).await;
    assert_eq!(first.status, 201, "{first:?}");
    assert_replays(&first, &send_to("/v1/webhooks", &stage.acme(), "new", &webhook).await);
    let listed = stage.acme().get("/v1/webhooks").await.json();
    assert_eq!(listed["webhooks"].as_array().unwrap().len(), 1);

    let path = first.header("location").to_owned();
    for (action, body) in [
        ("rotate-secret", json!({})),
        ("test", json!({})),
        ("replay", json!({"since": "2026-01-01T00:00:00Z"})),
    ] {
        let path = format!("{path}/{action}");
        let first = send_to(&path, &stage.acme(), "once", &body).await;
        assert!(first.status < 300, "{first:?}");
        assert_replays(&first, &send_to(&path, &stage.acme(), "once", &body).await);
    }
    let deliveries = stage.acme().get("/v1/deliveries").await.json();
    let [delivery] = deliveries["deliveries"].as_array().unwrap().as_slice() else { panic!("{deliveries}") };
    let redeliver = format!("/v1/deliveries/{}/redeliver", delivery["id"].as_str().unwrap());
    while stage.acme().get(redeliver.trim_end_matches("/redeliver")).await.json()["status"] != "delivered" {}
    let first = send_to(&redeliver, &stage.acme(), "once", &json!({})).await;
    assert_eq!(first.status, 202, "{first:?}");
    assert_replays(&first, &send_to(&redeliver, &stage.acme(), "once", &json!({})).await);
}

#[tokio::test]
async fn a_request_with_a_key_continues_after_the_client_disconnects() {
    let stage = Stage::start().await;
    stage.vendor.set_held(true);
    let (caller, body) = (stage.acme(), json!({}));
    let hanging_up = async {
        tokio::select! {
            answer = send_to("/v1/analyses/known-1/audio-link", &caller, "k", &body) => panic!("{answer:?}"),
            _ = stage.vendor.wait_for(|requests| !requests.is_empty()) => {}
        }
    };
    hanging_up.await;
    stage.vendor.set_held(false);
    let again = loop {
        let answer = send_to("/v1/analyses/known-1/audio-link", &stage.acme(), "k", &body).await;
        if answer.status != 409 {
            break answer;
        }
    };
    assert_eq!((again.status, again.header("idempotency-replayed")), (201, "true"));
}
