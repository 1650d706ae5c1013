//! Answers of CRMs as presets judge them, and attempts of unknown outcome.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use alovoice_gateway::sandbox::receiver::{Received, Receiver, ReceiverOptions};
use serde_json::{Value, json};
use url::Url;

use crate::caller::Caller;
use crate::stage::Stage;
use crate::webhooks::{completed, delivery_that, registered};

/// A receiver that gives these answers, one for each request.
async fn receiver_with(answers: &[(u16, Value)]) -> Receiver {
    let answers = Mutex::new(answers.iter().cloned().collect::<VecDeque<_>>());
    let choose_answer = move |_: &Received| {
        let answer = answers.lock().unwrap().pop_front();
        answer.map(|(status, body)| (status, body.to_string()))
    };
    let options =
        ReceiverOptions { choose_answer: Some(Arc::new(choose_answer)), ..ReceiverOptions::default() };
    Receiver::start(options).await.unwrap()
}

/// The path of the only delivery of call `1`.
async fn delivery_of_1(acme: &Caller) -> String {
    let listed = acme.get("/v1/deliveries?call_id=1").await.json()["deliveries"].take();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    format!("/v1/deliveries/{}", listed[0]["id"].as_str().unwrap())
}

/// Waits until a delivery has this number of attempts, all of which have ended.
async fn attempted(acme: &Caller, delivery: &str, attempts: usize) -> Value {
    let is_over = |attempts: &[Value]| attempts.iter().all(|attempt| attempt["outcome"].is_string());
    delivery_that(acme, delivery, |delivery| {
        let made = delivery["attempts"].as_array().unwrap();
        made.len() == attempts && is_over(made)
    })
    .await
}

fn bitrix(url: &Url) -> Value {
    let values = json!({"bitrix24_call_id": "externalCall.1"});
    json!({"url": url.as_str(), "transform": {"preset": "bitrix24.transcript", "values": values}})
}

#[tokio::test]
async fn bitrix24_is_asked_again_until_it_takes_the_transcript() {
    let stage = Stage::with(&[("CALLBACKS__RETRY_SCHEDULE", "1h,1h,1h,1h")]).await;
    let acme = stage.acme();
    let receiver = receiver_with(&[
        (503, json!({"error": "QUERY_LIMIT_EXCEEDED", "error_description": "Too many requests"})),
        (400, json!({"error": "", "error_description": "Call is not found. Is it finished?"})),
        (200, json!({"error": "INTERNAL_SERVER_ERROR", "error_description": ""})),
        (200, json!({"result": {"TRANSCRIPT_ID": 7}})),
    ])
    .await;
    let (path, _) = registered(&acme, bitrix(&receiver.hook("ok"))).await;
    completed(&stage, "1").await;
    let delivery = delivery_of_1(&acme).await;
    for made in 1..=3 {
        let tried = attempted(&acme, &delivery, made).await;
        let attempt = &tried["attempts"][made - 1];
        assert_eq!(
            (&tried["status"], &attempt["outcome"]),
            (&json!("pending"), &json!("declined")),
            "{tried}"
        );
        assert!(attempt["error"].as_str().unwrap().starts_with("Bitrix24 "), "{tried}");
        assert_eq!(acme.post(&format!("{delivery}/redeliver"), json!({})).await.status, 202);
    }
    let done = delivery_that(&acme, &delivery, |delivery| delivery["status"] == "delivered").await;
    assert_eq!(
        (done["attempts"].as_array().unwrap().len(), &done["attempts"][3]["outcome"]),
        (4, &json!("delivered"))
    );
    assert_eq!(acme.get(&path).await.json()["health"]["consecutive_failures"], 0);
}

#[tokio::test]
async fn a_rejected_event_fails_for_good_and_does_not_pause_the_webhook() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let receiver =
        receiver_with(&[(200, json!({"error": "ERROR_ARGUMENT", "error_description": "wrong"}))]).await;
    let (path, _) = registered(&acme, bitrix(&receiver.hook("ok"))).await;
    completed(&stage, "1").await;
    let delivery = delivery_of_1(&acme).await;
    let failed = delivery_that(&acme, &delivery, |delivery| delivery["status"] == "failed").await;
    let attempts = failed["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), &attempts[0]["outcome"]), (1, &json!("rejected")));
    assert_eq!(attempts[0]["error"], "Bitrix24 answered ERROR_ARGUMENT (status 200)");
    let health = acme.get(&path).await.json()["health"].take();
    assert_eq!((&health["consecutive_failures"], &health["failing_since"]), (&json!(0), &json!(null)));
    assert_eq!((&health["last_failure"]["status"], &health["paused_until"]), (&json!(200), &json!(null)));
}

#[tokio::test]
async fn a_reason_does_not_contain_the_values_of_headers() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    // As JSON, the value contains backslashes.
    let secret = "Bearer \"s3cr3t\"\tkey";
    let receiver = receiver_with(&[(200, json!({"error": format!("wrong {secret}")}))]).await;
    let mut webhook = bitrix(&receiver.hook("ok"));
    webhook["headers"] = json!({"Authorization": secret});
    let (path, _) = registered(&acme, webhook).await;
    completed(&stage, "1").await;
    let delivery = delivery_of_1(&acme).await;
    let failed = delivery_that(&acme, &delivery, |delivery| delivery["status"] == "failed").await;
    let error = json!("Bitrix24 answered wrong [header] (status 200)");
    assert_eq!(failed["attempts"][0]["error"], error);
    assert_eq!(acme.get(&path).await.json()["health"]["last_failure"]["error"], error);
}

#[tokio::test]
async fn callers_that_amocrm_does_not_know_do_not_pause_the_webhook() {
    let stage = Stage::with(&[("CALLBACKS__RETRY_SCHEDULE", "1h")]).await;
    let acme = stage.acme();
    let nothing = (200, json!({"_total_items": 0, "_embedded": {"calls": []}}));
    let added = (200, json!({"_total_items": 1, "_embedded": {"calls": [{"id": 1}]}}));
    let mut answers = vec![nothing; 6];
    answers.push(added);
    let receiver = receiver_with(&answers).await;
    let values = json!({"direction": "inbound", "phone": "+998901234567"});
    let transform = json!({"preset": "amocrm.call", "values": values});
    let webhook = json!({"url": receiver.hook("ok").as_str(), "transform": transform});
    let (path, _) = registered(&acme, webhook).await;
    for call in 1..=7 {
        completed(&stage, &call.to_string()).await;
        receiver.wait_for(|received| received.len() == call).await;
        let listed = acme.get(&format!("/v1/deliveries?call_id={call}")).await.json()["deliveries"].take();
        let delivery = format!("/v1/deliveries/{}", listed[0]["id"].as_str().unwrap());
        let attempted = attempted(&acme, &delivery, 1).await;
        let outcome = if call < 7 { "declined" } else { "delivered" };
        assert_eq!(attempted["attempts"][0]["outcome"], outcome, "{attempted}");
        let webhook = acme.get(&path).await.json();
        let health = &webhook["health"];
        assert_eq!(
            (&health["consecutive_failures"], &health["failing_since"], &health["paused_until"]),
            (&json!(0), &json!(null), &json!(null))
        );
        assert_eq!(health["last_failure"]["status"], 200);
    }
}

#[tokio::test]
async fn a_webhook_with_a_preset_shows_the_events_that_it_receives() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let (path, _) = registered(&acme, bitrix(&stage.hook("ok").parse().unwrap())).await;
    let of_analyses = json!(["analysis.completed", "analysis.failed", "analysis.updated"]);
    assert_eq!(acme.get(&path).await.json()["events"], of_analyses);
    let every = acme.patch(&path, json!({"transform": null})).await.json()["events"].take();
    assert_eq!(every.as_array().unwrap().len(), 4, "{every}");
}

#[tokio::test]
async fn an_attempt_of_unknown_outcome_is_retried_or_given_up() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    for (call_id, on_unknown, attempts) in [("1", "give_up", 1), ("2", "retry", 3)] {
        // The receiver reads the request and resets the connection.
        let transform = json!({"preset": "markdown", "on_unknown": on_unknown});
        let callback = json!({"url": stage.hook(&format!("reset/{on_unknown}")), "transform": transform});
        acme.submitted(json!({"call_id": call_id, "callback": callback})).await;
        acme.outcome(call_id).await;
        let listed = acme.get(&format!("/v1/deliveries?call_id={call_id}")).await.json()["deliveries"].take();
        let delivery = format!("/v1/deliveries/{}", listed[0]["id"].as_str().unwrap());
        let failed = delivery_that(&acme, &delivery, |delivery| delivery["status"] == "failed").await;
        assert_eq!(failed["attempts"].as_array().unwrap().len(), attempts, "{failed}");
    }
    let remains = stage.close().await;
    let received = remains.receiver.received();
    let to = |path: &str| received.iter().filter(|request| request.path == path).count();
    assert_eq!((to("/hook/reset/give_up"), to("/hook/reset/retry")), (1, 3));
}

#[tokio::test]
async fn an_attempt_without_a_connection_is_retried_also_with_give_up() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let closed = tokio::net::TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/", closed.local_addr().unwrap());
    let transform = json!({"preset": "markdown", "on_unknown": "give_up"});
    acme.submitted(json!({"call_id": "1", "callback": {"url": url, "transform": transform}})).await;
    acme.outcome("1").await;
    let delivery = delivery_of_1(&acme).await;
    let failed = delivery_that(&acme, &delivery, |delivery| delivery["status"] == "failed").await;
    let outcomes: Vec<_> =
        failed["attempts"].as_array().unwrap().iter().map(|it| it["outcome"].clone()).collect();
    assert_eq!(outcomes, ["connect", "connect", "connect"]);
}
