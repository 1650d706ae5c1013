//! The end of a gateway: what is under way is finished, who waits is answered, what is left can be taken up at once.

use std::time::Duration;

use alovoice_gateway::store::{Queue, WorkSlots};
use serde_json::json;
use url::Url;

use crate::rows::deliveries_of_call;
use crate::stage::{Stage, acme, call};

#[tokio::test]
async fn a_request_under_way_is_finished_and_the_gateway_is_not_ready() {
    let stage = Stage::start().await;
    stage.vendor.set_held(true);
    let asking = tokio::spawn({
        let acme = stage.acme();
        async move { acme.analysis("known-1").await }
    });
    stage.vendor.wait_for(|requests| requests.len() == 1).await;
    assert_eq!(stage.admin("readyz").await.0, 200);

    let admin: Url = stage.gateway.admin().clone();
    let draining = tokio::spawn(stage.gateway.drain());
    let status = |path: &str| {
        let url = admin.join(path).unwrap();
        async move { reqwest::get(url).await.unwrap().status().as_u16() }
    };
    assert_eq!((status("readyz").await, status("livez").await), (503, 200));
    assert!(!draining.is_finished());

    stage.vendor.set_held(false);
    assert_eq!(asking.await.unwrap().status, 200);
    assert!(draining.await.unwrap(), "everything was finished in time");
    assert!(reqwest::get(admin).await.unwrap_err().is_connect(), "nobody listens any more");
}

#[tokio::test]
async fn a_wait_ends_early_with_the_state_as_it_is() {
    let stage = Stage::start().await;
    stage.acme().submitted(json!({"call_id": "never-ready~1"})).await;
    stage
        .record("never-ready~1", |found| found.analysis.work.as_ref().is_some_and(|work| work.polls > 0))
        .await;
    let waiting = tokio::spawn({
        let acme = stage.acme();
        async move { acme.get_with("/v1/analyses/never-ready~1", &[("prefer", "wait=60")]).await }
    });
    stage.in_flight(1).await;
    stage.close().await;
    let answer = waiting.await.unwrap();
    assert_eq!((answer.status, &answer.json()["status"]), (200, &json!("processing")));
    assert_eq!(answer.header("retry-after"), "1");
}

#[tokio::test]
async fn a_callback_under_way_is_finished() {
    let stage = Stage::start().await;
    stage.receiver.set_held(true);
    stage.acme().submitted(json!({"call_id": "1", "callback": {"url": stage.hook("ok")}})).await;
    stage.receiver.next().await;
    let (store, readyz) = (stage.gateway.store(), stage.gateway.admin().join("readyz").unwrap());
    let draining = tokio::spawn(stage.gateway.drain());
    assert_eq!(reqwest::get(readyz).await.unwrap().status(), 503);
    stage.receiver.set_held(false);
    assert!(draining.await.unwrap(), "everything was finished in time");
    let delivery = deliveries_of_call(&*store, &acme(), &call("1")).await.remove(0);
    assert_eq!((delivery.status.as_str(), delivery.attempts), ("delivered", 1));
}

#[tokio::test]
async fn what_cannot_be_finished_in_time_is_given_back() {
    // All of it is kept for the closing, so that the gateway's patience is over at once.
    let stage = Stage::with(&[("SERVER__SHUTDOWN_GRACE", "1s")]).await;
    stage.vendor.set_held(true);
    stage.acme().submitted(json!({"call_id": "1"})).await;
    stage.vendor.wait_for(|requests| requests.len() == 1).await;
    let store = stage.gateway.store();
    let slots = || vec![WorkSlots { tenant: acme(), free: 1, most: usize::MAX }];
    let claim = |queue| store.claim_work_across_tenants(queue, slots(), Duration::from_secs(30));
    assert!(claim(Queue::Polls).await.unwrap().claimed.is_empty(), "it is leased");

    assert!(!stage.gateway.drain().await, "it says that not everything was finished");
    let claimed = claim(Queue::Polls).await.unwrap().claimed;
    assert_eq!(claimed.len(), 1, "the outcome of its submit is unknown: the result is asked for first");
    assert!(claim(Queue::Submits).await.unwrap().claimed.is_empty());
}
