//! A key that seals is replaced and taken away, under a gateway that works, and everything that it had sealed is still there.

use std::process::Output;

use alovoice_gateway::sandbox::receiver::Received;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::gateway::{Serving, within};
use crate::stage::{ENCRYPTION_KEY, SCOPES, Stage};

/// Base64 of 32 bytes each.
const NEW_KEY: &str = "bm8gc2VjcmV0OiBhIGtleSBvZiB0aGlydHktdHdvIGI=";
const FOREIGN_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

async fn post(stage: &Stage, gateway: &Serving, path: &str, body: Value) -> (StatusCode, HeaderMap, Value) {
    let request = stage
        .client
        .request(Method::POST, gateway.api.join(path).unwrap())
        .header("content-type", "application/json")
        .header("idempotency-key", path)
        .body(body.to_string())
        .bearer_auth(stage.token(SCOPES));
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status(), answer.headers().clone());
    (status, headers, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
}

fn is_signed_by(received: &Received, secret: &str) -> bool {
    let mut headers = HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, received.header(name).unwrap().parse().unwrap());
    }
    standardwebhooks::Webhook::new(secret).unwrap().verify(&received.body, &headers).is_ok()
}

fn reseal(stage: &Stage, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        stage.command(&[&["store", "reseal"], arguments].concat()).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// The table's numbers, of webhooks and of answers: sealed by the first key, another, none.
fn numbers(told: &str) -> [[usize; 2]; 3] {
    let rows = told.lines().skip(1).take(3).map(|line| {
        let mut numbers = line.split_whitespace().rev().map(|number| number.parse().unwrap());
        let answers = numbers.next().unwrap();
        [numbers.next().unwrap(), answers]
    });
    rows.collect::<Vec<_>>().try_into().unwrap()
}

async fn is_taken_up(gateway: &Serving, times: usize) {
    let changed = |line: &str| line.contains("secret changed");
    gateway.process.stderr.repeated("the change of a secret", times, changed).await;
}

async fn replaced_and_taken_away(mut stage: Stage) {
    let gateway = stage.serve().await;
    let hook = json!({"url": stage.receiver.hook("ok"), "headers": {"X-Api-Key": "s3cret"}});
    let (status, _, created) = post(&stage, &gateway, "v1/webhooks", hook.clone()).await;
    assert_eq!(status, StatusCode::CREATED);
    let path = format!("v1/webhooks/{}", created["id"].as_str().unwrap());
    let (_, _, rotated) = post(&stage, &gateway, &format!("{path}/rotate-secret"), json!({})).await;
    let secrets = [&created, &rotated].map(|answer| answer["secret"].as_str().unwrap().to_owned());
    let first = post(&stage, &gateway, "v1/analyses", json!({"call_id": "1"})).await;

    // Both secrets, the headers, three answers.
    assert_eq!(numbers(&reseal(&stage, &["--check"]).1), [[3, 3], [0, 0], [0, 0]]);
    stage.set_file("ENCRYPTION__KEY_FILE", &format!("{NEW_KEY}\n{ENCRYPTION_KEY}\n"));
    is_taken_up(&gateway, 1).await;
    let (code, told, why) = reseal(&stage, &["--check"]);
    assert_eq!((code, numbers(&told)), (Some(1), [[0, 0], [3, 3], [0, 0]]), "{why}");
    assert!(why.contains("store reseal"), "{why}");
    let (code, told, why) = reseal(&stage, &[]);
    assert_eq!((code, numbers(&told)), (Some(0), [[0, 0], [3, 3], [0, 0]]), "{why}");
    for arguments in [&["--check"] as &[_], &[]] {
        let (code, told, why) = reseal(&stage, arguments);
        assert_eq!((code, numbers(&told)), (Some(0), [[3, 3], [0, 0], [0, 0]]), "{why}");
    }

    stage.set_file("ENCRYPTION__KEY_FILE", NEW_KEY);
    is_taken_up(&gateway, 2).await;
    let (status, ..) = post(&stage, &gateway, &format!("{path}/test"), json!({})).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let is_test = |received: &Received| String::from_utf8_lossy(&received.body).contains("is_test");
    let received = within("the test", stage.receiver.wait_for(|all| all.iter().any(is_test))).await;
    let test = received.iter().find(|received| is_test(received)).unwrap();
    assert_eq!(test.header("x-api-key"), Some("s3cret"));
    assert!(secrets.iter().all(|secret| is_signed_by(test, secret)), "{:?}", test.headers);
    for (path, body, was) in
        [("v1/analyses", json!({"call_id": "1"}), &first.2), ("v1/webhooks", hook, &created)]
    {
        let (_, headers, again) = post(&stage, &gateway, path, body).await;
        assert!(headers.contains_key("idempotency-replayed"), "{path} {again}");
        assert_eq!(&again, was);
    }

    // The wrong file: what is lost is told, and stays as it is.
    stage.set_file("ENCRYPTION__KEY_FILE", FOREIGN_KEY);
    let (code, told, why) = reseal(&stage, &[]);
    assert_eq!((code, numbers(&told)[2][0]), (Some(1), 3), "{told}{why}");
    let lost =
        format!("{} of tenant acme: secret, previous secret, headers", created["id"].as_str().unwrap());
    assert!(why.contains(&lost) && why.contains("stored responses of tenant acme"), "{why}");
    stage.set_file("ENCRYPTION__KEY_FILE", NEW_KEY);
    assert_eq!(reseal(&stage, &["--check"]).0, Some(0));
    gateway.stop().await;
    assert_eq!(reseal(&stage, &["--check"]).0, Some(0), "without a gateway, too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_can_be_retired_on_a_file() {
    replaced_and_taken_away(Stage::set_up().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_can_be_retired_on_a_server() {
    replaced_and_taken_away(Stage::set_up_on_postgres().await).await;
}

#[tokio::test]
async fn a_database_of_no_version_is_left_as_it_is() {
    let stage = Stage::set_up_on_postgres().await;
    for _ in 0..2 {
        let (code, _, why) = reseal(&stage, &["--check"]);
        assert_eq!(code, Some(1), "{why}");
        assert!(why.contains("start a gateway of this version first"), "{why}");
    }
}

#[tokio::test]
async fn without_a_key_or_a_file_there_is_nothing_to_seal_anew() {
    let mut stage = Stage::set_up().await;
    let (code, _, why) = reseal(&stage, &[]);
    assert_eq!(code, Some(1), "{why}");
    assert!(!stage.file().exists(), "a store is not made by this");
    stage.unset("ENCRYPTION__KEY_FILE");
    let (code, _, why) = reseal(&stage, &[]);
    assert_eq!(code, Some(2));
    assert!(why.contains("encryption.key_file"), "{why}");
}
