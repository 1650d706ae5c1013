//! Secrets in the URLs of receivers are sent, but neither shown nor stored in plain form.

use std::sync::Arc;

use alovoice_gateway::sandbox::receiver::{Receiver, ReceiverOptions};
use reqwest::Method;
use serde_json::{Value, json};

use crate::caller::Caller;
use crate::stage::{Stage, UNSET};
use crate::webhooks::{completed, delivery_that, registered};

const SECRET: &str = "k3ep-m3-h1dden";

/// A receiver that repeats the path of the request in an error, like many frameworks.
async fn echoing_receiver() -> Receiver {
    let choose_answer = Arc::new(|received: &alovoice_gateway::sandbox::receiver::Received| {
        Some((404, format!("Cannot {} {}", received.method, received.path)))
    });
    let options = ReceiverOptions { choose_answer: Some(choose_answer), ..ReceiverOptions::default() };
    Receiver::start(options).await.unwrap()
}

/// Every answer of the API that shows URLs.
async fn answers(caller: &Caller, webhook: Option<&str>) -> Vec<String> {
    let mut answers = vec![
        caller.get("/v1/webhooks").await.text().to_owned(),
        caller.get("/v1/events").await.text().to_owned(),
        caller.get("/v1/usage").await.text().to_owned(),
    ];
    let list = caller.get("/v1/deliveries").await;
    answers.push(list.text().to_owned());
    for delivery in list.json()["deliveries"].as_array().unwrap() {
        answers.push(
            caller
                .get(&format!("/v1/deliveries/{}", delivery["id"].as_str().unwrap()))
                .await
                .text()
                .to_owned(),
        );
    }
    if let Some(webhook) = webhook {
        answers.push(caller.get(webhook).await.text().to_owned());
        answers.push(
            caller.post(&format!("{webhook}/preview"), json!({"call_id": "1"})).await.text().to_owned(),
        );
    }
    answers
}

fn assert_hidden(answers: &[String]) {
    for answer in answers {
        assert!(!answer.contains(SECRET), "{answer}");
    }
}

async fn delivery_of_1(caller: &Caller) -> (String, Value) {
    let listed = caller.get("/v1/deliveries?call_id=1").await.json()["deliveries"].take();
    let path = format!("/v1/deliveries/{}", listed[0]["id"].as_str().unwrap());
    let ended = |delivery: &Value| delivery["attempts"][0]["outcome"].is_string();
    let delivery = delivery_that(caller, &path, ended).await;
    (path, delivery)
}

#[tokio::test]
async fn the_url_of_a_webhook_with_a_secret_is_sealed_and_shown_masked() {
    let stage = Stage::with(&[("CALLBACKS__RETRY_SCHEDULE", "1h,1h,1h")]).await;
    let acme = stage.acme();
    let receiver = echoing_receiver().await;
    let url = format!("{}rest/1/{SECRET}/crm.deal.add?auth={SECRET}", receiver.base_url());
    let shown = json!(format!("{}rest/1/***/crm.deal.add?***", receiver.base_url()));
    let key = [("idempotency-key", "one"), ("content-type", "application/json")];
    let body = json!({"url": url}).to_string();
    let created = acme.send(Method::POST, "/v1/webhooks", &key, body.clone()).await;
    assert_eq!((created.status, &created.json()["url"]), (201, &shown));
    let again = acme.send(Method::POST, "/v1/webhooks", &key, body).await;
    assert_eq!((again.header("idempotency-replayed"), again.text()), ("true", created.text()));
    let path = format!("/v1/webhooks/{}", created.json()["id"].as_str().unwrap());
    assert_eq!(
        stage.rows().number(&format!("SELECT count(*) FROM webhooks WHERE url LIKE '%{SECRET}%'")).await,
        0
    );

    completed(&stage, "1").await;
    let sent = receiver.next().await;
    assert_eq!(sent.path, format!("/rest/1/{SECRET}/crm.deal.add"));
    let (delivery, failed) = delivery_of_1(&acme).await;
    assert_eq!(
        (&failed["url"], &failed["attempts"][0]["response"]),
        (&shown, &json!("Cannot POST /rest/1/[url]/crm.deal.add"))
    );
    let preview = acme.post(&format!("{path}/preview"), json!({"call_id": "1"})).await.json();
    assert_eq!((&preview["url"], &preview["problems"]), (&shown, &json!([])));
    let preview = acme.post("/v1/webhooks/preview", json!({"call_id": "1", "url": url})).await.json();
    assert_eq!(preview["url"], shown);
    assert_hidden(&answers(&acme, Some(&path)).await);

    // A redelivery, and a delivery after a change of other fields, use the whole URL.
    assert_eq!(acme.patch(&path, json!({"description": "deals"})).await.json()["url"], shown);
    assert_eq!(acme.post(&format!("{delivery}/redeliver"), json!({})).await.status, 202);
    assert_eq!(receiver.next().await.path, sent.path);
    assert_hidden(&answers(&acme, Some(&path)).await);
}

#[tokio::test]
async fn a_masked_url_is_never_stored() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let (path, _) = registered(&acme, json!({"url": stage.hook(&format!("ok/{SECRET}"))})).await;
    let shown = acme.get(&path).await.json()["url"].take();
    assert_eq!(shown, stage.hook("ok/***"));
    for url in [shown.clone(), json!(stage.hook("500/***")), json!(format!("{}?***", stage.hook("ok")))] {
        for refused in [
            acme.patch(&path, json!({"url": url})).await,
            acme.post("/v1/webhooks", json!({"url": url})).await,
            acme.post("/v1/webhooks/preview", json!({"call_id": "1", "url": url})).await,
        ] {
            assert_eq!(refused.pointers(), ["#/url"], "{url}");
        }
        let refused = acme.submit(json!({"call_id": "1", "callback": {"url": url}})).await;
        assert_eq!(refused.pointers(), ["#/callback/url"], "{url}");
    }
    completed(&stage, "1").await;
    assert_eq!(stage.receiver.next().await.path, format!("/hook/ok/{SECRET}"));
    // A URL without a secret replaces it, and is shown.
    let plain = json!({"url": stage.hook("ok/deals")});
    assert_eq!(acme.patch(&path, plain.clone()).await.json()["url"], plain["url"]);
}

#[tokio::test]
async fn a_plain_url_of_an_earlier_version_works_and_is_shown_masked() {
    let stage = Stage::with(&[("CALLBACKS__RETRY_SCHEDULE", "1h")]).await;
    let acme = stage.acme();
    let (path, _) = registered(&acme, json!({"url": stage.hook("ok")})).await;
    let url = stage.hook(&format!("ok/{SECRET}"));
    stage.rows().change(&format!("UPDATE webhooks SET url = '{url}'"), 1).await;
    assert_eq!(acme.get(&path).await.json()["url"], stage.hook("ok/***"));
    completed(&stage, "1").await;
    assert_eq!(stage.receiver.next().await.path, format!("/hook/ok/{SECRET}"));
    delivery_of_1(&acme).await;
    assert_hidden(&answers(&acme, Some(&path)).await);
}

#[tokio::test]
async fn the_secret_of_a_callback_is_not_shown() {
    let stage = Stage::with(&[("CALLBACKS__RETRY_SCHEDULE", "1h")]).await;
    let acme = stage.acme();
    let receiver = echoing_receiver().await;
    let url = format!("{}hooks/{SECRET}?key={SECRET}", receiver.base_url());
    let submission = json!({"call_id": "1", "callback": {"url": url}});
    let submitted = acme.submit(submission.clone()).await;
    acme.outcome("1").await;
    assert_eq!(receiver.next().await.path, format!("/hooks/{SECRET}"));
    assert_eq!(plain_urls(&stage).await, [0, 0]);
    let (path, failed) = delivery_of_1(&acme).await;
    assert_eq!(failed["url"], format!("{}hooks/***?***", receiver.base_url()));
    assert_eq!(failed["attempts"][0]["response"], "Cannot POST /hooks/[url]");
    let mut shown = answers(&acme, None).await;
    shown.push(submitted.text().to_owned());
    assert_hidden(&shown);
    // The URL counts once, and a redelivery uses the whole URL.
    acme.submit(submission).await;
    assert_eq!(acme.post(&format!("{path}/redeliver"), json!({})).await.status, 202);
    assert_eq!(receiver.next().await.path, format!("/hooks/{SECRET}"));
    assert_eq!(acme.get("/v1/deliveries").await.json()["deliveries"].as_array().unwrap().len(), 1);
}

/// The numbers of callbacks and of deliveries whose stored URL shows the secret.
async fn plain_urls(stage: &Stage) -> [u64; 2] {
    let count = |table| {
        let sql = format!("SELECT count(*) FROM {table} WHERE url LIKE '%{SECRET}%'");
        async move { stage.rows().number(&sql).await }
    };
    [count("callbacks").await, count("deliveries").await]
}

#[tokio::test]
async fn the_plain_url_of_a_callback_of_an_earlier_version_counts_once() {
    let stage = Stage::with(&[("CALLBACKS__RETRY_SCHEDULE", "1h")]).await;
    let acme = stage.acme();
    let url = stage.hook(&format!("ok/{SECRET}"));
    // The analysis is in progress until all submissions are stored.
    stage.vendor.set_held(true);
    acme.submit(json!({"call_id": "1", "callback": {"url": url}})).await;
    stage.rows().change(&format!("UPDATE callbacks SET url = '{url}'"), 1).await;
    for callback in [json!({"url": url}), json!({"url": url, "payload": "thin"})] {
        acme.submit(json!({"call_id": "1", "callback": callback})).await;
    }
    stage.vendor.set_held(false);
    acme.outcome("1").await;
    let received = stage.receiver.next().await;
    assert_eq!(received.path, format!("/hook/ok/{SECRET}"));
    let (_, delivery) = delivery_of_1(&acme).await;
    assert_eq!((&delivery["url"], &delivery["payload"]), (&json!(stage.hook("ok/***")), &json!("thin")));
    assert_eq!(stage.rows().number("SELECT count(*) FROM deliveries").await, 1);
}

#[tokio::test]
async fn the_url_of_a_callback_opens_only_for_its_call() {
    let stage = Stage::with(&[("CALLBACKS__RETRY_SCHEDULE", "1h")]).await;
    let acme = stage.acme();
    acme.submit(json!({"call_id": "2", "callback": {"url": stage.hook(&format!("ok/{SECRET}"))}})).await;
    acme.outcome("2").await;
    stage.receiver.next().await;
    stage.vendor.set_held(true);
    acme.submit(json!({"call_id": "1", "callback": {"url": stage.hook("ok")}})).await;
    let copy = "UPDATE callbacks SET url = (SELECT url FROM callbacks WHERE url LIKE '%invalid%') \
                WHERE url NOT LIKE '%invalid%'";
    stage.rows().change(copy, 1).await;
    stage.vendor.set_held(false);
    acme.outcome("1").await;
    let (_, delivery) = delivery_of_1(&acme).await;
    let attempt = &delivery["attempts"][0];
    assert_eq!(attempt["outcome"], "unsigned");
    assert_eq!(attempt["error"], "no key in encryption.key_file decrypts the URL of the callback");
    assert_eq!(stage.receiver.received().len(), 1);
}

#[tokio::test]
async fn a_callback_whose_sealed_url_is_too_long_is_refused() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let url = |length| format!("{}?{}", stage.hook("ok"), "x".repeat(length));
    let refused = acme.submit(json!({"call_id": "1", "callback": {"url": url(1900)}})).await;
    assert_eq!((refused.status, refused.pointers()), (422, vec!["#/callback/url".to_owned()]));
    acme.submit(json!({"call_id": "1", "callback": {"url": url(1700)}})).await;
    acme.outcome("1").await;
    assert_eq!(stage.receiver.next().await.path, "/hook/ok");
}

#[tokio::test]
async fn without_a_key_callbacks_work_and_their_urls_are_plain() {
    let stage = Stage::with(&[("ENCRYPTION__KEY_FILE", UNSET)]).await;
    let acme = stage.acme();
    let submission = json!({"call_id": "1", "callback": {"url": stage.hook(&format!("ok/{SECRET}"))}});
    acme.submit(submission.clone()).await;
    acme.submit(submission).await;
    acme.outcome("1").await;
    assert_eq!(stage.receiver.next().await.path, format!("/hook/ok/{SECRET}"));
    assert_eq!(plain_urls(&stage).await, [1, 1]);
}
