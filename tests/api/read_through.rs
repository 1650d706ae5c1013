//! Read-through: the gateway requests a call that was never submitted from the vendor once.

use std::time::{Duration, Instant};

use alovoice_gateway::sandbox::stand_in::{FixedAnswer, Operation};
use serde_json::{Value, json};

use crate::stage::{Stage, VENDOR_TOKENS, call};

/// Time for which the gateway remembers that the vendor has no result of a call.
const MISS_TIME_TO_LIVE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_call_that_the_vendor_has_finished_is_adopted() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let adopted = acme.analysis("known-1").await;
    assert_eq!((adopted.status, &adopted.json()["status"]), (200, &json!("completed")));
    assert_eq!(adopted.json()["revision"], 1);
    stage.vendor.set_down(true);
    assert_eq!(acme.analysis("known-1").await.body, adopted.body);

    // The adoption has stored the event, so a callback that is registered later gets it.
    let later = acme.submit(json!({"call_id": "known-1", "callback": {"url": stage.hook("ok")}})).await;
    assert_eq!(later.status, 200);
    let event: Value = serde_json::from_slice(&stage.receiver.next().await.body).unwrap();
    assert_eq!((&event["type"], &event["data"]), (&json!("analysis.completed"), &adopted.json()));

    let stage = stage.restart().await;
    assert_eq!(stage.acme().analysis("known-1").await.body, adopted.body);
    assert_eq!((stage.vendor.submits(&call("known-1")), stage.vendor.polls(&call("known-1"))), (0, 1));
}

#[tokio::test]
async fn a_request_for_the_transcript_or_vendor_answer_adopts_the_call() {
    let stage = Stage::start().await;
    for part in ["transcript", "vendor-answer"] {
        let call_id = format!("known-{part}");
        let answer = stage.acme().get(&format!("/v1/analyses/{call_id}/{part}")).await;
        assert_eq!(answer.status, 200, "{part}");
        assert_eq!(stage.acme().analysis(&call_id).await.status, 200);
        assert_eq!(stage.vendor.polls(&call(&call_id)), 1);
    }
}

#[tokio::test]
async fn concurrent_reads_cause_one_request_to_the_vendor() {
    let stage = Stage::start().await;
    stage.vendor.set_held(true);
    let asking: Vec<_> = (0..50)
        .map(|_| {
            let acme = stage.acme();
            tokio::spawn(async move { acme.analysis("known-1").await })
        })
        .collect();
    stage.in_flight(50).await;
    stage.vendor.set_held(false);
    let mut bodies = Vec::new();
    for asking in asking {
        let answer = asking.await.unwrap();
        assert_eq!(answer.status, 200);
        bodies.push(answer.body);
    }
    bodies.dedup();
    assert_eq!((bodies.len(), stage.vendor.calls().len()), (1, 1));
}

#[tokio::test]
async fn a_miss_is_cached_for_a_limited_time() {
    let stage = Stage::start().await;
    for number in 0.. {
        let (call_id, began) = (number.to_string(), Instant::now());
        let polls = || stage.vendor.polls(&call(&call_id));
        for _ in 0..2 {
            stage.acme().analysis(&call_id).await.problem(404, "not_found");
        }
        // On a busy machine, the time may be over before the second read.
        if began.elapsed() > MISS_TIME_TO_LIVE {
            continue;
        }
        assert_eq!(polls(), 1);
        stage.globex().analysis(&call_id).await.problem(404, "not_found");
        assert_eq!(polls(), 2, "a miss is cached for its tenant only");
        // A cached miss does not affect a submission.
        stage.acme().submitted(json!({"call_id": call_id})).await;
        assert_eq!(stage.acme().analysis(&call_id).await.status, 200);
        assert_eq!(stage.acme().outcome(&call_id).await["status"], "completed");
        break;
    }
}

#[tokio::test]
async fn a_call_that_the_vendor_has_not_finished_is_not_adopted() {
    let stage = Stage::start().await;
    for call_id in ["never-ready~1", "not-ready-202~1", "not-ready-204~1", "not-ready-null~1", "silent~1"] {
        let mut url = stage.vendor.base_url();
        url.set_path(&format!("callsendai/{}/{call_id}", VENDOR_TOKENS[0]));
        assert_eq!(reqwest::get(url).await.unwrap().status(), 200);
        stage.acme().analysis(call_id).await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn a_vendor_failure_is_not_cached_as_a_miss() {
    let stage = Stage::start().await;
    stage.vendor.set_down(true);
    for _ in 0..2 {
        let answer = stage.acme().without_retries().analysis("known-1").await;
        answer.problem(503, "unavailable");
        assert_eq!(answer.header("retry-after"), "5");
    }
    stage.vendor.set_down(false);
    assert_eq!(stage.acme().analysis("known-1").await.status, 200);

    for _ in 0..2 {
        let answer = stage.acme().without_retries().analysis("known-result-401~1").await;
        answer.problem(503, "unavailable");
        assert_eq!(answer.header("retry-after"), "5");
    }
    assert_eq!(stage.acme().analysis("known-result-401~1").await.status, 200);
    assert_eq!(stage.vendor.polls(&call("known-result-401~1")), 3);

    // If the vendor sends `Retry-After`, the second read causes no request.
    for (tenant, call_id, status) in [("globex", "503", 503), ("initech", "429", 429)] {
        let answer = FixedAnswer {
            status,
            content_type: "text/plain",
            headers: vec![("Retry-After", "3600".to_owned())],
            body: "busy".into(),
        };
        stage.vendor.set_answer(Operation::Result, call(call_id), answer);
        let began = Instant::now();
        for _ in 0..2 {
            let answer = stage.caller(tenant).without_retries().analysis(call_id).await;
            answer.problem(503, "unavailable");
            let seconds: u64 = answer.header("retry-after").parse().unwrap();
            assert!(seconds <= 3600 && seconds + began.elapsed().as_secs() >= 3599, "{call_id}: {seconds}");
        }
        assert_eq!(stage.vendor.polls(&call(call_id)), 1, "{call_id}");
    }
}

#[tokio::test]
async fn a_redirect_of_the_vendor_is_not_followed() {
    let stage = Stage::start().await;
    stage.acme().without_retries().analysis("known-redirect~1").await.problem(503, "unavailable");
    assert!(stage.vendor.calls().iter().all(|request| request.operation == Operation::Result));
}

#[tokio::test]
async fn a_wait_for_an_unknown_call_ends_immediately() {
    let stage = Stage::start().await;
    let answer = stage.acme().get_with("/v1/analyses/1", &[("prefer", "wait=60")]).await;
    answer.problem(404, "not_found");
}

#[tokio::test]
async fn late_tags_of_an_adopted_call_create_a_revision() {
    let stage = Stage::with(&[("VENDOR__POLLING__SETTLE_AFTER", "2ms")]).await;
    let first = stage.acme().analysis("known-tags-late~1").await.json();
    assert_eq!((&first["revision"], &first["tags"]), (&json!(1), &json!([])));
    assert_eq!(stage.at_rest("known-tags-late~1").await.analysis.revision, 2);
    assert_ne!(stage.acme().analysis("known-tags-late~1").await.json()["tags"], json!([]));
}
