//! Draining: the gateway finishes requests in flight, answers waiting callers, and releases the leases of unfinished work.

use std::time::Duration;

use alovoice_gateway::domain::claim_order::ClaimOrder;
use alovoice_gateway::domain::clock::{Clock, SystemClock};
use alovoice_gateway::store::{Queue, WorkSlots};
use serde_json::json;
use url::Url;

use crate::patience::patiently;
use crate::rows::deliveries_of_call;
use crate::stage::{Stage, acme, call};

#[tokio::test]
async fn a_drain_finishes_requests_in_flight_and_fails_the_readiness_probe() {
    let stage = Stage::start().await;
    stage.vendor.set_held(true);
    let asking = tokio::spawn({
        let acme = stage.acme();
        async move { acme.analysis("known-1").await }
    });
    stage.vendor.wait_for(|requests| !requests.is_empty()).await;
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
    assert!(draining.await.unwrap(), "the drain finished all work in time");
    assert!(reqwest::get(admin).await.unwrap_err().is_connect(), "the port must be closed");
}

#[tokio::test]
async fn a_drain_ends_a_wait_early_with_the_current_state() {
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
async fn a_drain_finishes_callbacks_in_flight() {
    let stage = Stage::start().await;
    stage.receiver.set_held(true);
    stage.acme().submitted(json!({"call_id": "1", "callback": {"url": stage.hook("ok")}})).await;
    stage.receiver.next().await;
    let (store, readyz) = (stage.gateway.store(), stage.gateway.admin().join("readyz").unwrap());
    let draining = tokio::spawn(stage.gateway.drain());
    assert_eq!(reqwest::get(readyz).await.unwrap().status(), 503);
    stage.receiver.set_held(false);
    assert!(draining.await.unwrap(), "the drain finished all work in time");
    let delivery = deliveries_of_call(&*store, &acme(), &call("1")).await.remove(0);
    assert_eq!((delivery.status.as_str(), delivery.attempts), ("delivered", 1));
}

#[tokio::test]
async fn a_drain_releases_the_lease_of_unfinished_work() {
    // The shutdown reserves this whole period for its last step, so the gateway does not wait for unfinished work. The lease is longer
    // than twice the time limit of the request.
    let stage = Stage::with(&[("SERVER__SHUTDOWN_GRACE", "1s"), ("VENDOR__REQUEST_TIMEOUT", "5m")]).await;
    stage.vendor.set_held(true);
    stage.acme().submitted(json!({"call_id": "1"})).await;
    stage.vendor.wait_for(|requests| !requests.is_empty()).await;
    let store = stage.gateway.store();
    let slots =
        || vec![WorkSlots { tenant: acme(), free: 1, most: usize::MAX, order: ClaimOrder::OldestFirst }];
    let claim = async |queue| {
        let lease = Duration::from_secs(30);
        patiently(|| store.claim_work_across_tenants(queue, slots(), lease)).await.claimed
    };
    assert!(claim(Queue::Polls).await.is_empty(), "the work is leased");
    let leased_until = stage.record("1", |_| true).await.analysis.work.unwrap().due_at;

    assert!(!stage.gateway.drain().await, "the drain reports unfinished work");
    // A busy database releases the lease a little after the drain. The outcome of the submit is unknown, so the work is a poll.
    while claim(Queue::Polls).await.is_empty() {
        assert!(SystemClock.now() < leased_until, "the lease was not released");
    }
    assert!(claim(Queue::Submits).await.is_empty());
}
