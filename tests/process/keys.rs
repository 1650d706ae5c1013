//! Responses kept for an `Idempotency-Key` survive a crash of the process.

use reqwest::StatusCode;

use crate::gateway::Serving;
use crate::stage::{SCOPES, Stage, send};

const KEY: &str = "\"once\"";

/// Submits with a key and returns the status, the body, and whether the response was replayed.
async fn submit(stage: &Stage, gateway: &Serving, key: &str) -> (StatusCode, String, bool) {
    let request = stage
        .client
        .post(gateway.api.join("v1/analyses").unwrap())
        .header("content-type", "application/json")
        .header("idempotency-key", key)
        .body(stage.submission("1").to_string())
        .bearer_auth(stage.token(SCOPES));
    let answer = send(request).await.unwrap();
    let replayed = answer.headers().contains_key("idempotency-replayed");
    (answer.status(), answer.text().await.unwrap(), replayed)
}

async fn check_replay_after_a_kill(stage: Stage) {
    for attempt in 0.. {
        let key = format!("\"once-{attempt}\"");
        let gateway = stage.serve().await;
        let (status, body, replayed) = submit(&stage, &gateway, &key).await;
        assert!(status.is_success() && !replayed, "{status}");
        gateway.kill();
        let log = gateway.process.stderr.whole().await;
        let gateway = stage.serve().await;
        let after = submit(&stage, &gateway, &key).await;
        gateway.stop().await;
        // The gateway answers even if a slow store cannot keep the response.
        if !log.contains("failed to store the answer") {
            return assert_eq!(after, (status, body, true));
        }
    }
}

#[tokio::test]
async fn a_kept_response_survives_a_kill_on_sqlite() {
    check_replay_after_a_kill(Stage::set_up().await).await;
}

#[tokio::test]
async fn a_kept_response_survives_a_kill_on_postgres() {
    check_replay_after_a_kill(Stage::set_up_on_postgres().await).await;
}

/// The killed process leaves the claim of an unfinished request in the store.
#[tokio::test]
async fn an_unfinished_request_of_a_killed_process_can_be_repeated_at_once() {
    let stage = Stage::set_up().await;
    let gateway = stage.serve().await;
    submit(&stage, &gateway, KEY).await;
    gateway.kill();
    let file = rusqlite::Connection::open(stage.file()).unwrap();
    let unfinished = "UPDATE idempotency SET leased_until = expires_at, answer = NULL";
    assert_eq!(file.execute(unfinished, []).unwrap(), 1);
    drop(file);
    let gateway = stage.serve().await;
    let (status, _, replayed) = submit(&stage, &gateway, KEY).await;
    assert!(status.is_success() && !replayed, "{status}");
    let again = submit(&stage, &gateway, KEY).await;
    assert_eq!((again.0, again.2), (status, true));
    gateway.stop().await;
}
