//! Replays of past events to a webhook.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::caller::Caller;
use crate::stage::Stage;
use crate::webhooks::{completed, registered};

const LONG_AGO: &str = "2026-01-01T00:00:00Z";

/// Waits until a replay is finished.
async fn finished(caller: &Caller, path: &str) -> Value {
    loop {
        let replay = caller.get(path).await.json();
        if replay["finished_at"].is_string() {
            return replay;
        }
    }
}

#[tokio::test]
async fn a_replay_sends_missed_and_delivered_events_with_their_ids() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    for call in ["1", "2"] {
        completed(&stage, call).await;
    }
    let (path, _) = registered(&acme, json!({"url": stage.hook("ok")})).await;
    completed(&stage, "3").await;
    let first = stage.receiver.next().await;
    let events = acme.get("/v1/events").await.json()["events"].take();
    let ids: HashSet<_> =
        events.as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();

    let replay = format!("{path}/replay");
    let estimate = acme.post(&replay, json!({"since": LONG_AGO, "dry_run": true})).await;
    assert_eq!((estimate.status, estimate.json()), (200, json!({"events": 3, "more": false})));
    let begun = acme.post(&replay, json!({"since": LONG_AGO})).await;
    assert_eq!(begun.status, 202);
    assert_eq!(finished(&acme, begun.header("location")).await["sent"], 3);
    let mut received = HashSet::new();
    // The third event is sent only once if its first delivery is not recorded as finished yet.
    while received.len() < 3 {
        let id = stage.receiver.next().await.header("webhook-id").unwrap().to_owned();
        received.insert(id);
        received.insert(first.header("webhook-id").unwrap().to_owned());
    }
    assert_eq!(received, ids);
    let done = outcomes(&acme, begun.header("location"), 3).await;
    assert_eq!((&done["delivered"], &done["failed"]), (&json!(3), &json!(0)));

    let failed = json!({"since": LONG_AGO, "events": ["analysis.failed"], "dry_run": true});
    assert_eq!(acme.post(&replay, failed).await.json(), json!({"events": 0, "more": false}));
    let before = json!({"since": LONG_AGO, "until": LONG_AGO, "dry_run": true});
    assert_eq!(acme.post(&replay, before).await.json(), json!({"events": 0, "more": false}));
    for (body, pointer) in [
        (json!({"since": "2999-01-01T00:00:00Z"}), "#/since"),
        (json!({"since": LONG_AGO, "until": "2025-01-01T00:00:00Z"}), "#/since"),
        (json!({"since": LONG_AGO, "events": []}), "#/events"),
        (json!({"since": "yesterday"}), "#/since"),
    ] {
        assert_eq!(acme.post(&replay, body).await.pointers(), [pointer]);
    }
}

/// Waits until this number of a replay's deliveries have their outcome.
async fn outcomes(caller: &Caller, path: &str, wanted: u64) -> Value {
    loop {
        let replay = caller.get(path).await.json();
        if replay["delivered"].as_u64().unwrap() + replay["failed"].as_u64().unwrap() == wanted {
            return replay;
        }
    }
}

#[tokio::test]
async fn a_replay_counts_failed_deliveries() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    completed(&stage, "1").await;
    let (path, _) = registered(&acme, json!({"url": stage.hook("500")})).await;
    let begun = acme.post(&format!("{path}/replay"), json!({"since": LONG_AGO})).await;
    let started = begun.json();
    assert_eq!(
        (&started["sent"], &started["delivered"], &started["failed"]),
        (&json!(0), &json!(0), &json!(0))
    );
    let replay = outcomes(&acme, begun.header("location"), 1).await;
    assert_eq!((&replay["sent"], &replay["delivered"], &replay["failed"]), (&json!(1), &json!(0), &json!(1)));
}

#[tokio::test]
async fn a_replay_continues_after_a_restart() {
    let stage = Stage::with(&[("CALLBACKS__RETRY_SCHEDULE", "1h")]).await;
    for call in ["1", "2"] {
        completed(&stage, call).await;
    }
    let (path, _) = registered(&stage.acme(), json!({"url": stage.hook("ok")})).await;
    let begun = stage.acme().post(&format!("{path}/replay"), json!({"since": LONG_AGO})).await;
    let location = begun.header("location").to_owned();
    // The gateway drains at once, and the next gateway continues the replay from its position.
    let stage = stage.restart().await;
    assert_eq!(finished(&stage.acme(), &location).await["sent"], 2);
    let remains = async {
        while stage.acme().get("/v1/deliveries?status=delivered").await.json()["deliveries"]
            .as_array()
            .unwrap()
            .len()
            < 2
        {}
        stage.close().await
    };
    assert_eq!(remains.await.receiver.received().len(), 2, "each event is delivered once");
}
