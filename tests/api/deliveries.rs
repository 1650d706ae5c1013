//! Delivery of callbacks: attempts, responses of receivers, and forbidden addresses.

use alovoice_gateway::sandbox::receiver::{Received, Receiver, ReceiverOptions};
use alovoice_gateway::store::{RecordedAttempt, RecordedDelivery};
use serde_json::json;

use crate::journey::assert_is_signed;
use crate::rows::attempts_of;
use crate::stage::{ACME_SECRET, GLOBEX_SECRET, Stage, acme};

/// Submits a call with this callback, waits for this number of requests to it, and drains the gateway.
async fn delivered(
    stage: Stage,
    answer: &str,
    requests: usize,
) -> (Vec<Received>, RecordedDelivery, Vec<RecordedAttempt>) {
    stage.acme().submitted(json!({"call_id": "1", "callback": {"url": stage.hook(answer)}})).await;
    let mut received = Vec::new();
    for _ in 0..requests {
        received.push(stage.receiver.next().await);
    }
    let remains = stage.close().await;
    assert_eq!(remains.receiver.received().len(), requests, "unexpected number of requests");
    let (delivery, attempts) = remains.delivery("1").await;
    let numbers: Vec<_> = attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, (1..=delivery.attempts).collect::<Vec<_>>());
    (received, delivery, attempts)
}

/// The outcome and the status of each attempt.
fn outcomes(attempts: &[RecordedAttempt]) -> Vec<(&str, Option<u16>)> {
    attempts.iter().map(|attempt| (attempt.outcome.as_deref().unwrap(), attempt.status)).collect()
}

#[tokio::test]
async fn a_retried_callback_keeps_its_id_and_gets_a_new_signature() {
    let stage = Stage::with(&[("CALLBACKS__RETRY_SCHEDULE", "1100ms,1ms")]).await;
    let (received, delivery, attempts) = delivered(stage, "500-twice", 3).await;
    for received in &received {
        assert_is_signed(received, ACME_SECRET);
    }
    let of = |header| received.iter().map(|received| received.header(header).unwrap()).collect::<Vec<_>>();
    assert!(of("webhook-id").windows(2).all(|pair| pair[0] == pair[1]));
    assert!(received.windows(2).all(|pair| pair[0].body == pair[1].body));
    let times: Vec<i64> = of("webhook-timestamp").iter().map(|time| time.parse().unwrap()).collect();
    assert!(times[1] > times[0], "the retry must wait more than a second: {times:?}");
    assert_eq!((delivery.status.as_str(), delivery.attempts), ("delivered", 3));
    assert_eq!(
        outcomes(&attempts),
        [("refused", Some(500)), ("refused", Some(500)), ("delivered", Some(200))]
    );
    assert_eq!(attempts[0].response, b"500\n");
    assert!(attempts.iter().all(|attempt| attempt.latency.is_some()));
}

#[tokio::test]
async fn a_retry_waits_for_the_retry_after_of_the_receiver() {
    for answer in ["429-twice", "503-twice"] {
        let (_, delivery, attempts) = delivered(Stage::start().await, answer, 3).await;
        assert_eq!(delivery.status, "delivered");
        // The retry schedule has 1 ms, the receiver asks for 1 s.
        let pauses = attempts.windows(2).map(|pair| pair[1].started_at.since(pair[0].started_at).as_millis());
        assert!(pauses.min() >= Some(1000), "{attempts:?}");
    }
}

#[tokio::test]
async fn a_callback_answered_with_410_is_not_retried() {
    let (_, delivery, attempts) = delivered(Stage::start().await, "410", 1).await;
    assert_eq!((delivery.status.as_str(), outcomes(&attempts)), ("failed", vec![("gone", Some(410))]));
}

#[tokio::test]
async fn a_callback_fails_at_the_end_of_the_retry_schedule() {
    let (_, delivery, attempts) = delivered(Stage::start().await, "500", 3).await;
    assert_eq!((delivery.status.as_str(), outcomes(&attempts)), ("failed", vec![("refused", Some(500)); 3]));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (received, delivery, attempts) = delivered(Stage::start().await, "redirect", 3).await;
    assert!(received.iter().all(|received| received.path == "/hook/redirect"));
    assert_eq!((delivery.status.as_str(), outcomes(&attempts)), ("failed", vec![("refused", Some(307)); 3]));
}

#[tokio::test]
async fn a_callback_is_retried_after_a_reset_and_ends_in_timeout_without_an_answer() {
    let (_, _, attempts) = delivered(Stage::start().await, "reset-twice", 3).await;
    assert_eq!(outcomes(&attempts), [("closed", None), ("closed", None), ("delivered", Some(200))]);
    let stage = Stage::with(&[("CALLBACKS__TIMEOUT", "100ms"), ("CALLBACKS__RETRY_SCHEDULE", "")]).await;
    stage.acme().submitted(json!({"call_id": "1", "callback": {"url": stage.hook("hang")}})).await;
    // On a busy machine, the time may be over before the request arrives.
    while stage.acme().get("/v1/deliveries?status=failed").await.json()["deliveries"] == json!([]) {}
    let (delivery, attempts) = stage.close().await.delivery("1").await;
    assert_eq!((delivery.status.as_str(), outcomes(&attempts)), ("failed", vec![("timeout", None)]));
}

#[tokio::test]
async fn an_attempt_is_stored_before_it_is_sent() {
    let stage = Stage::start().await;
    stage.receiver.set_held(true);
    stage.acme().submitted(json!({"call_id": "1", "callback": {"url": stage.hook("ok")}})).await;
    stage.receiver.next().await;
    let delivery = stage.deliveries("1").await.remove(0);
    assert_eq!((delivery.status.as_str(), delivery.attempts), ("pending", 1));
    let (store, tenant) = (stage.gateway.store(), acme());
    let attempts = attempts_of(&*store, &tenant, delivery.id).await;
    assert_eq!((attempts.len(), attempts[0].outcome.as_deref()), (1, None));
    stage.receiver.set_held(false);
    let (_, attempts) = stage.close().await.delivery("1").await;
    assert_eq!(outcomes(&attempts), [("delivered", Some(200))]);
}

#[tokio::test]
async fn a_slow_receiver_delays_no_other_receiver() {
    let stage = Stage::start().await;
    let slow = Receiver::start(ReceiverOptions::default()).await.unwrap();
    slow.set_held(true);
    for number in 0..20 {
        let submission = json!({"call_id": format!("slow-{number}"), "callback": {"url": slow.hook("ok")}});
        stage.acme().submitted(submission).await;
    }
    for number in 0..20 {
        stage.acme().outcome(&format!("slow-{number}")).await;
    }
    slow.wait_for(|received| received.len() >= 8).await;
    stage.acme().submitted(json!({"call_id": "quick", "callback": {"url": stage.hook("ok")}})).await;
    stage.receiver.next().await;
    assert_eq!(slow.received().len(), 8, "the limit of concurrent attempts per receiver");
    slow.set_held(false);
    slow.wait_for(|received| received.len() >= 20).await;
}

#[tokio::test]
async fn both_secrets_sign_during_a_rotation() {
    let stage = Stage::start().await;
    stage.write("both", &format!("{ACME_SECRET} {GLOBEX_SECRET}\n"));
    let both = stage.home.path().join("both");
    let stage = stage.restart_with(("TENANTS__ACME__CALLBACK_SECRET_FILE", both.to_str().unwrap())).await;
    stage.acme().submitted(json!({"call_id": "1", "callback": {"url": stage.hook("ok")}})).await;
    let received = stage.receiver.next().await;
    assert_is_signed(&received, ACME_SECRET);
    assert_is_signed(&received, GLOBEX_SECRET);
}

#[tokio::test]
async fn a_callback_to_an_internal_address_is_refused_at_submission() {
    let stage = Stage::with(&[("CALLBACKS__ALLOW_NETWORKS", "192.0.2.0/24")]).await;
    for url in [
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://[::1]:8080/",
        "http://[::ffff:10.0.0.1]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://192.168.1.1/",
        "http://localhost/",
    ] {
        let answer = stage.acme().submit(json!({"call_id": "1", "callback": {"url": url}})).await;
        let problem = answer.problem(422, "callback_forbidden");
        assert_eq!(problem["errors"][0]["pointer"], "#/callback/url", "{url}");
    }
    stage.acme().analysis("1").await.problem(404, "not_found");
    let allowed =
        stage.acme().submit(json!({"call_id": "1", "callback": {"url": "http://192.0.2.7/"}})).await;
    assert_eq!(allowed.status, 202);
}

#[tokio::test]
async fn a_callback_without_tls_is_refused_unless_the_operator_allows_it() {
    let stage = Stage::with(&[("CALLBACKS__ALLOW_HTTP", "false")]).await;
    let answer = stage.acme().submit(json!({"call_id": "1", "callback": {"url": stage.hook("ok")}})).await;
    insta::assert_json_snapshot!(answer.problem(422, "callback_forbidden"), {".request_id" => "[id]"}, @r##"
    {
      "code": "callback_forbidden",
      "detail": "the URL must use https",
      "errors": [
        {
          "detail": "the URL must use https",
          "pointer": "#/callback/url"
        }
      ],
      "request_id": "[id]",
      "status": 422,
      "title": "Forbidden callback URL",
      "type": "/problems/callback_forbidden"
    }
    "##);
}

#[tokio::test]
async fn a_callback_of_a_tenant_without_a_secret_is_refused() {
    let stage = Stage::start().await;
    let answer =
        stage.caller("initech").submit(json!({"call_id": "1", "callback": {"url": stage.hook("ok")}})).await;
    assert_eq!(answer.pointers(), ["#/callback"]);
    let without = stage.caller("initech").submit(json!({"call_id": "1"})).await;
    assert_eq!(without.status, 202);
}
