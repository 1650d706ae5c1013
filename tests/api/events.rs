//! The event feed in pages.

use serde_json::{Value, json};

use crate::caller::Answer;
use crate::stage::Stage;

/// Submits calls one after another and waits until each is finished.
pub(crate) async fn finish(stage: &Stage, calls: &[&str]) {
    for call in calls {
        stage.acme().submitted(json!({"call_id": call})).await;
        stage.acme().outcome(call).await;
    }
}

fn calls(page: &Value) -> Vec<&str> {
    let events = page["events"].as_array().unwrap();
    events.iter().map(|event| event["data"]["call_id"].as_str().unwrap()).collect()
}

fn next(page: &Value) -> &str {
    page["next"].as_str().unwrap()
}

#[tokio::test]
async fn the_feed_can_be_read_to_its_end_and_continued_later() {
    let stage = Stage::start().await;
    let empty = stage.acme().get("/v1/events").await.json();
    assert_eq!(empty["events"], json!([]));

    finish(&stage, &["1", "2", "3"]).await;
    let first = stage.acme().get("/v1/events?limit=2").await;
    assert_eq!((first.header("cache-control"), first.header("vary")), ("no-store", "Authorization, Accept"));
    let first = first.json();
    assert_eq!(calls(&first), ["1", "2"]);
    let rest = stage.acme().get(&format!("/v1/events?after={}", next(&first))).await.json();
    assert_eq!(calls(&rest), ["3"]);
    let end = stage.acme().get(&format!("/v1/events?after={}", next(&rest))).await.json();
    assert_eq!((calls(&end), next(&end)), (vec![], next(&rest)));
    let latest = stage.acme().get("/v1/events?after=latest").await.json();
    assert_eq!(latest, end);
    for all in ["/v1/events", "/v1/events?after=earliest", &format!("/v1/events?after={}", next(&empty))] {
        assert_eq!(calls(&stage.acme().get(all).await.json()), ["1", "2", "3"], "{all}");
    }
    let id = first["events"][0]["id"].as_str().unwrap();
    assert_eq!(calls(&stage.acme().get(&format!("/v1/events?after={id}")).await.json()), ["2", "3"]);

    finish(&stage, &["4"]).await;
    let more = stage.acme().get(&format!("/v1/events?after={}", next(&end))).await.json();
    assert_eq!(calls(&more), ["4"]);
}

#[tokio::test]
async fn an_event_equals_the_body_of_its_callback() {
    let stage = Stage::start().await;
    stage.acme().submitted(json!({"call_id": "1", "callback": {"url": stage.hook("ok")}})).await;
    let analysis = stage.acme().outcome("1").await;
    let callback = stage.receiver.next().await;
    let mut event = stage.acme().get("/v1/events").await.json()["events"][0].take();
    assert_eq!(event["data"], analysis);
    let id = event.as_object_mut().unwrap().remove("id").unwrap();
    assert_eq!(callback.header("webhook-id"), id.as_str());
    assert_eq!(serde_json::from_slice::<Value>(&callback.body).unwrap(), event);
}

#[tokio::test]
async fn a_foreign_or_invalid_cursor_is_refused() {
    let stage = Stage::start().await;
    finish(&stage, &["1"]).await;
    let page = stage.acme().get("/v1/events").await.json();
    let cursor = next(&page);
    let tampered = format!("{}{}", if cursor.starts_with('B') { 'C' } else { 'B' }, &cursor[1..]);
    for after in ["", "x", "0", "evt_", "evt_00000000000000000000000000000000", &tampered, &cursor[1..]] {
        let refused = stage.acme().get(&format!("/v1/events?after={after}")).await;
        assert_eq!(refused.pointers(), ["?after"], "{after:?}");
    }
    let foreign = stage.globex().get(&format!("/v1/events?after={cursor}")).await;
    assert_eq!(foreign.pointers(), ["?after"]);
    for limit in ["0", "501", "-1", "many"] {
        let refused: Answer = stage.acme().get(&format!("/v1/events?limit={limit}")).await;
        assert_eq!(refused.pointers(), ["?limit"], "{limit}");
    }
    assert_eq!(stage.acme().get("/v1/events?befor=1").await.pointers(), ["?befor"]);
    assert_eq!(calls(&stage.acme().get("/v1/events?limit=500").await.json()), ["1"]);
}

#[tokio::test]
async fn another_tenants_events_are_not_listed() {
    let stage = Stage::start().await;
    finish(&stage, &["1"]).await;
    let of_acme = stage.acme().get("/v1/events").await.json();
    let id = of_acme["events"][0]["id"].as_str().unwrap();
    for path in ["/v1/events", &format!("/v1/events?after={id}")] {
        assert_eq!(stage.globex().get(path).await.json()["events"], json!([]), "{path}");
    }
}

#[tokio::test]
async fn an_unacceptable_media_type_is_refused() {
    let stage = Stage::start().await;
    for accept in ["text/html", "application/xml, image/*", "application/json;q=0"] {
        stage.acme().get_with("/v1/events", &[("accept", accept)]).await.problem(406, "not_acceptable");
    }
    for accept in ["*/*", "application/*", "text/html, application/json;q=0.1"] {
        let page = stage.acme().get_with("/v1/events", &[("accept", accept)]).await;
        assert_eq!((page.status, page.header("content-type")), (200, "application/json"), "{accept}");
    }
}
