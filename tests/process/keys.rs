//! What is kept for an `Idempotency-Key` outlives the process, however that ends.

use reqwest::StatusCode;

use crate::gateway::Serving;
use crate::stage::{SCOPES, Stage};

/// The answer's status, body, and whether it was given before.
async fn submit(stage: &Stage, gateway: &Serving) -> (StatusCode, String, bool) {
    let request = stage
        .client
        .post(gateway.api.join("v1/analyses").unwrap())
        .header("content-type", "application/json")
        .header("idempotency-key", "\"once\"")
        .body(stage.submission("1").to_string())
        .bearer_auth(stage.token(SCOPES));
    let answer = request.send().await.unwrap();
    let replayed = answer.headers().contains_key("idempotency-replayed");
    (answer.status(), answer.text().await.unwrap(), replayed)
}

async fn killed_and_asked_again(stage: Stage) {
    let gateway = stage.serve().await;
    let (status, body, replayed) = submit(&stage, &gateway).await;
    assert_eq!((status, replayed), (StatusCode::ACCEPTED, false));
    gateway.kill();
    let gateway = stage.serve().await;
    assert_eq!(submit(&stage, &gateway).await, (status, body, true));
    gateway.stop().await;
}

#[tokio::test]
async fn an_answer_outlives_a_kill_on_a_file() {
    killed_and_asked_again(Stage::set_up().await).await;
}

#[tokio::test]
async fn an_answer_outlives_a_kill_on_a_server() {
    killed_and_asked_again(Stage::set_up_on_postgres().await).await;
}

/// A process that was killed half way: its claim stands in the file, and nobody will finish it.
#[tokio::test]
async fn what_a_killed_process_had_begun_may_be_done_again_at_once() {
    let stage = Stage::set_up().await;
    let gateway = stage.serve().await;
    submit(&stage, &gateway).await;
    gateway.kill();
    let file = rusqlite::Connection::open(stage.file()).unwrap();
    let half = "UPDATE idempotency SET leased_until = expires_at, answer = NULL";
    assert_eq!(file.execute(half, []).unwrap(), 1);
    drop(file);
    let gateway = stage.serve().await;
    let (status, _, replayed) = submit(&stage, &gateway).await;
    assert!(status.is_success() && !replayed, "{status}");
    let again = submit(&stage, &gateway).await;
    assert_eq!((again.0, again.2), (status, true));
    gateway.stop().await;
}
