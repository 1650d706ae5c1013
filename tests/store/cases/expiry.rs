//! Retention: expired rows are deleted, except those with pending work or deliveries.

use std::sync::Arc;

use alovoice_gateway::domain::clock::Clock;
use alovoice_gateway::domain::lifecycle::{PollOutcome, Step};
use alovoice_gateway::store::{Change, Queue};
use alovoice_gateway::workers::{Retention, Worker};
use tokio_util::task::TaskTracker;

use super::deliveries::A;
use crate::harness::{Harness, acme, call_id, certain_clock, delivered, submission};
use crate::rows::attempts_of;

/// Runs the settle poll of every completed call, so that no work is pending.
async fn settle(harness: &Harness) {
    harness.advance(3600);
    for claimed in harness.claim(Queue::Polls).await {
        harness.store.apply(claimed.lease, Step::Polled(PollOutcome::Unchanged).into()).await.unwrap();
    }
}

async fn delete(harness: &Harness, limit: usize) -> usize {
    harness.store.delete_expired_across_tenants(harness.clock.now(), limit).await.unwrap()
}

pub(crate) async fn expired_analyses_are_deleted_with_dependent_rows(harness: Harness) {
    harness.announce("old", &[A]).await;
    let delivery = harness.claim_delivery().await;
    harness.store.finish_attempt(delivery.lease, delivered()).await.unwrap();
    settle(&harness).await;
    harness.submit(submission("new")).await;
    harness.changes();

    assert_eq!(delete(&harness, 100).await, 2, "an analysis and its event");
    assert_eq!(harness.changes(), [Change::Analysis(acme(), call_id("old"))]);
    assert_eq!(harness.store.find_analysis(&acme(), &call_id("old")).await.unwrap(), None);
    assert_eq!(harness.store.find_vendor_answer(&acme(), &call_id("old")).await.unwrap(), None);
    assert_eq!(harness.deliveries("old").await, []);
    assert_eq!(attempts_of(&*harness.store, &acme(), delivery.delivery.id).await, []);
    assert_eq!(harness.find("new").await.analysis.call_id, call_id("new"));
    assert_eq!(delete(&harness, 100).await, 0);
}

pub(crate) async fn rows_younger_than_the_retention_are_kept(harness: Harness) {
    harness.announce("1", &[]).await;
    let finished_at = harness.find("1").await.analysis.finished_at.unwrap();
    settle(&harness).await;
    assert_eq!(harness.store.delete_expired_across_tenants(finished_at, 100).await.unwrap(), 0);
    assert_eq!(harness.find("1").await.analysis.finished_at, Some(finished_at));
}

pub(crate) async fn analyses_with_pending_deliveries_are_kept(harness: Harness) {
    harness.announce("1", &[A]).await;
    settle(&harness).await;
    assert_eq!(delete(&harness, 100).await, 0);
    assert_eq!(harness.deliveries("1").await, [("pending".to_owned(), 0)]);
    let delivery = harness.claim_delivery().await;
    harness.store.finish_attempt(delivery.lease, delivered()).await.unwrap();
    assert_eq!(delete(&harness, 100).await, 2);
}

pub(crate) async fn analyses_with_pending_work_are_kept(harness: Harness) {
    harness.submit(submission("1")).await;
    harness.advance(1_000_000);
    assert_eq!(delete(&harness, 100).await, 0);
    harness.submit_queued().await;
    assert_eq!(delete(&harness, 100).await, 0);
}

pub(crate) async fn expired_rows_are_deleted_in_batches(harness: Harness) {
    for call in 0..5 {
        harness.announce(&call.to_string(), &[]).await;
    }
    settle(&harness).await;
    let mut batches = Vec::new();
    while let deleted @ 1.. = delete(&harness, 2).await {
        batches.push(deleted);
    }
    assert_eq!(batches, [4, 4, 2]);
}

pub(crate) async fn the_worker_deletes_expired_rows(harness: Harness) {
    harness.announce("1", &[]).await;
    let finished_at = harness.find("1").await.analysis.finished_at.unwrap();
    settle(&harness).await;
    let age = harness.clock.now().since(finished_at);
    let (store, clock) = (harness.store.clone(), harness.clock.clone());
    let clock_status = certain_clock();
    let worker = Arc::new(Retention { store, period: age, clock, clock_status });
    assert!(!worker.clone().run_once(&TaskTracker::new()).await.unwrap().has_more);
    harness.advance(1);
    assert!(worker.run_once(&TaskTracker::new()).await.unwrap().has_more);
    assert!(harness.store.find_analysis(&acme(), &call_id("1")).await.unwrap().is_none());
    assert_eq!(harness.rows.count("events").await, 0);
}
