//! Replacement of the encryption key while the gateway runs. Everything that the old key sealed stays readable.

use std::process::Output;

use alovoice_gateway::sandbox::receiver::Received;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::gateway::{Serving, within};
use crate::peers::run_patiently;
use crate::stage::{ENCRYPTION_KEY, SCOPES, Stage, send};

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
    let answer = send(request).await.unwrap();
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

async fn reseal(stage: &Stage, arguments: &[&str]) -> (Option<i32>, String, String) {
    let arguments = [&["store", "reseal"], arguments].concat();
    let Output { status, stdout, stderr } = run_patiently(|| stage.command(&arguments)).await;
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// The numbers in the printed table. Each row has the webhooks, the URLs of callbacks and the stored answers sealed by the first
/// key, by another key, and by no known key.
fn numbers(report: &str) -> [[usize; 3]; 3] {
    let rows = report.lines().skip(1).take(3).map(|line| {
        let mut numbers = line.split_whitespace().rev().map(|number| number.parse().unwrap());
        let mut next = || numbers.next().unwrap();
        let (answers, urls) = (next(), next());
        [next(), urls, answers]
    });
    rows.collect::<Vec<_>>().try_into().unwrap()
}

async fn wait_for_reloads(gateway: &Serving, times: usize) {
    let changed = |line: &str| line.contains("secret changed");
    gateway.process.stderr.repeated("the log line of a changed secret", times, changed).await;
}

async fn check_key_replacement(mut stage: Stage) {
    let gateway = stage.serve().await;
    let url = stage.receiver.hook("ok/rest/1/s3cr3t-of-a-url/m");
    let hook = json!({"url": url, "headers": {"X-Api-Key": "s3cret"}});
    let (status, _, created) = post(&stage, &gateway, "v1/webhooks", hook.clone()).await;
    assert_eq!(status, StatusCode::CREATED);
    let path = format!("v1/webhooks/{}", created["id"].as_str().unwrap());
    let (_, _, rotated) = post(&stage, &gateway, &format!("{path}/rotate-secret"), json!({})).await;
    let secrets = [&created, &rotated].map(|answer| answer["secret"].as_str().unwrap().to_owned());
    let callback = stage.receiver.hook("500/s3cr3t-of-a-callback");
    let submission = json!({"call_id": "1", "callback": {"url": callback}});
    let first = post(&stage, &gateway, "v1/analyses", submission.clone()).await;
    let is_attempt = |received: &Received| received.path == callback.path();
    within("an attempt", stage.receiver.wait_for(|all| all.iter().any(is_attempt))).await;

    // Two secrets, the headers and the URL of the webhook; the URL of the callback and of its delivery; and three stored answers.
    assert_eq!(numbers(&reseal(&stage, &["--check"]).await.1), [[4, 2, 3], [0; 3], [0; 3]]);
    // An earlier version stored plain URLs.
    let plain = format!(
        "UPDATE callbacks SET url = '{callback}'; UPDATE deliveries SET url = '{callback}' WHERE url <> ''"
    );
    stage.store.execute(&plain).await;
    stage.set_file("ENCRYPTION__KEY_FILE", &format!("{NEW_KEY}\n{ENCRYPTION_KEY}\n"));
    wait_for_reloads(&gateway, 1).await;
    let (code, report, why) = reseal(&stage, &["--check"]).await;
    assert_eq!((code, numbers(&report)), (Some(1), [[0; 3], [4, 2, 3], [0; 3]]), "{why}");
    assert!(why.contains("store reseal"), "{why}");
    let (code, report, why) = reseal(&stage, &[]).await;
    assert_eq!((code, numbers(&report)), (Some(0), [[0; 3], [4, 2, 3], [0; 3]]), "{why}");
    for arguments in [&["--check"] as &[_], &[]] {
        let (code, report, why) = reseal(&stage, arguments).await;
        assert_eq!((code, numbers(&report)), (Some(0), [[4, 2, 3], [0; 3], [0; 3]]), "{why}");
    }

    stage.set_file("ENCRYPTION__KEY_FILE", NEW_KEY);
    wait_for_reloads(&gateway, 2).await;
    let (status, ..) = post(&stage, &gateway, &format!("{path}/test"), json!({})).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let is_test = |received: &Received| String::from_utf8_lossy(&received.body).contains("is_test");
    let received = within("the test", stage.receiver.wait_for(|all| all.iter().any(is_test))).await;
    let test = received.iter().find(|received| is_test(received)).unwrap();
    assert_eq!(test.header("x-api-key"), Some("s3cret"));
    assert_eq!(test.path, url.path());
    for secret in ["s3cr3t-of-a-url", "s3cr3t-of-a-callback"] {
        assert!(stage.store.texts().await.iter().all(|text| !text.contains(secret)), "{secret}");
    }
    assert!(secrets.iter().all(|secret| is_signed_by(test, secret)), "{:?}", test.headers);
    for (path, body, was) in [("v1/analyses", submission, &first.2), ("v1/webhooks", hook, &created)] {
        let (_, headers, again) = post(&stage, &gateway, path, body).await;
        assert!(headers.contains_key("idempotency-replayed"), "{path} {again}");
        assert_eq!(&again, was);
    }

    // With a wrong key, the command reports what it cannot decrypt and changes nothing.
    stage.set_file("ENCRYPTION__KEY_FILE", FOREIGN_KEY);
    let (code, report, why) = reseal(&stage, &[]).await;
    assert_eq!((code, numbers(&report)[2][0]), (Some(1), 4), "{report}{why}");
    let lost =
        format!("{} of tenant acme: secret, previous secret, headers, url", created["id"].as_str().unwrap());
    assert!(why.contains(&lost) && why.contains("stored answers of tenant acme"), "{why}");
    stage.set_file("ENCRYPTION__KEY_FILE", NEW_KEY);
    assert_eq!(reseal(&stage, &["--check"]).await.0, Some(0));
    gateway.stop().await;
    assert_eq!(
        reseal(&stage, &["--check"]).await.0,
        Some(0),
        "the check must pass without a running gateway"
    );
}

#[tokio::test]
async fn an_encryption_key_can_be_retired_on_sqlite() {
    check_key_replacement(Stage::set_up().await).await;
}

#[tokio::test]
async fn an_encryption_key_can_be_retired_on_postgres() {
    check_key_replacement(Stage::set_up_on_postgres().await).await;
}

/// A trigger plays a replica that has only the former key. First it restores the former secret after the pass has left the webhooks.
/// Then it undoes every replacement.
#[tokio::test]
async fn reseal_replaces_records_that_are_written_with_the_former_key_during_a_pass() {
    let mut stage = Stage::set_up_on_postgres().await;
    let gateway = stage.serve().await;
    post(&stage, &gateway, "v1/webhooks", json!({"url": stage.receiver.hook("ok/hook")})).await;
    let callback = stage.receiver.hook("500/s3cr3t-of-a-callback");
    post(&stage, &gateway, "v1/analyses", json!({"call_id": "1", "callback": {"url": callback}})).await;
    gateway.stop().await;
    stage.set_file("ENCRYPTION__KEY_FILE", &format!("{NEW_KEY}\n{ENCRYPTION_KEY}\n"));
    let write = "CREATE TABLE former AS SELECT secret FROM webhooks; CREATE TABLE restorations (change TEXT); \
         CREATE FUNCTION write_former() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         INSERT INTO restorations VALUES ('after ' || TG_TABLE_NAME); \
         UPDATE webhooks SET secret = (SELECT secret FROM former); RETURN NULL; END $$";
    stage.store.execute(write).await;
    let write_after_change_of = |table: &str| {
        format!(
            "CREATE TRIGGER former_key AFTER UPDATE ON {table} WHEN (pg_trigger_depth() = 0) \
             EXECUTE FUNCTION write_former()"
        )
    };
    stage.store.execute(&write_after_change_of("callbacks")).await;
    let (code, report, why) = reseal(&stage, &[]).await;
    assert_eq!(code, Some(0), "{report}{why}");
    assert!(
        stage.store.texts().await.iter().any(|text| text.contains("after callbacks")),
        "no secret was restored"
    );
    // The secret was replaced twice, and counts once.
    assert_eq!(numbers(&report).map(|row| row[0]), [0, 1, 0], "{report}");
    let (code, report, why) = reseal(&stage, &["--check"]).await;
    assert_eq!((code, numbers(&report)[1]), (Some(0), [0; 3]), "{report}{why}");

    stage.store.execute("DROP TRIGGER former_key ON callbacks").await;
    stage.store.execute(&write_after_change_of("webhooks")).await;
    stage.store.execute("UPDATE webhooks SET version = version").await;
    let (code, report, why) = reseal(&stage, &[]).await;
    assert_eq!(code, Some(1), "{report}{why}");
    assert!(why.contains("give every replica the new key file"), "{why}");
}

#[tokio::test]
async fn reseal_does_not_change_a_database_without_a_schema() {
    let stage = Stage::set_up_on_postgres().await;
    for _ in 0..2 {
        let (code, _, why) = reseal(&stage, &["--check"]).await;
        assert_eq!(code, Some(1), "{why}");
        assert!(why.contains("start a gateway of this version first"), "{why}");
    }
}

#[tokio::test]
async fn reseal_without_a_key_or_a_store_fails() {
    let mut stage = Stage::set_up().await;
    let (code, _, why) = reseal(&stage, &[]).await;
    assert_eq!(code, Some(1), "{why}");
    assert!(!stage.file().exists(), "reseal must not create a store");
    stage.unset("ENCRYPTION__KEY_FILE");
    let (code, _, why) = reseal(&stage, &[]).await;
    assert_eq!(code, Some(2));
    assert!(why.contains("encryption.key_file"), "{why}");
}
