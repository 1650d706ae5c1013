//! Batches of submissions.

use alovoice_gateway::domain::analysis::Status;
use alovoice_gateway::store::{Change, Queue};
use futures_util::future::join_all;

use super::deliveries::A;
use crate::harness::{
    Harness, acme, event_of, globex, metadata, ready, submission, with_callback, with_metadata,
};

pub(crate) async fn a_batch_equals_consecutive_submissions(harness: Harness) {
    let done = harness.complete(submission("done"), "salom").await;
    harness.changes();
    let batch = vec![
        with_metadata("new", "T-1"),
        with_callback("done", A),
        with_callback("new", A),
        with_metadata("new", "T-2"),
        submission("other"),
    ];
    let found = harness.store.submit_all(&acme(), batch).await.unwrap();
    let told_of: Vec<_> = found
        .iter()
        .map(|found| (found.analysis.call_id.to_string(), found.analysis.status, found.result.is_some()))
        .collect();
    let row = |call: &str, status, has_result| (call.to_owned(), status, has_result);
    assert_eq!(
        told_of,
        [
            row("new", Status::Queued, false),
            row("done", Status::Completed, true),
            row("new", Status::Queued, false),
            row("new", Status::Queued, false),
            row("other", Status::Queued, false),
        ]
    );
    assert_eq!(found[0].analysis.metadata, metadata("T-1"));
    assert_eq!(found[3], harness.find("new").await);
    assert_eq!(found[3].analysis.metadata, metadata("T-2"));
    assert_eq!((&found[1].result, &found[4]), (&done.result, &harness.find("other").await));
    let changes = harness.changes();
    assert!(changes.contains(&Change::Work(Queue::Submits)) && changes.contains(&Change::Delivery));
    assert_eq!(event_of(&harness.claim_delivery().await).1["call_id"], "done");
    assert_eq!(harness.claim(Queue::Submits).await.len(), 2);
}

pub(crate) async fn a_callback_of_a_batch_is_announced(harness: Harness) {
    harness.store.submit_all(&acme(), vec![with_callback("1", A), submission("2")]).await.unwrap();
    harness.submit_queued().await;
    harness.advance(10);
    for claimed in harness.claim(Queue::Polls).await {
        harness.store.apply(claimed.lease, ready("salom").into()).await.unwrap();
    }
    assert_eq!(harness.deliveries("1").await, [("pending".to_owned(), 0)]);
    assert_eq!(harness.deliveries("2").await, []);
}

pub(crate) async fn a_batch_may_have_a_thousand_calls_or_none(harness: Harness) {
    assert_eq!(harness.store.submit_all(&acme(), Vec::new()).await.unwrap(), []);
    let batch: Vec<_> = (0..1000).map(|n| submission(&n.to_string())).collect();
    let found = harness.store.submit_all(&acme(), batch.clone()).await.unwrap();
    assert_eq!(found.len(), 1000);
    assert_eq!(harness.store.submit_all(&acme(), batch).await.unwrap(), found);
    assert_eq!(harness.store.submit_all(&globex(), vec![submission("1")]).await.unwrap().len(), 1);
    let stats = harness.store.stats_across_tenants(&[acme(), globex()]).await.unwrap();
    let queued = [acme(), globex()].map(|tenant| stats[&tenant].unfinished[&Status::Queued]);
    assert_eq!(queued, [1000, 1]);
}

pub(crate) async fn batches_of_the_same_calls_do_not_deadlock(harness: Harness) {
    let rounds = (0..8_usize).map(|round| {
        let mut batch: Vec<_> = (0..40).map(|n| with_metadata(&n.to_string(), "T")).collect();
        batch.rotate_left(round * 5);
        if round % 2 == 1 {
            batch.reverse();
        }
        let store = harness.store.clone();
        async move { store.submit_all(&acme(), batch).await.unwrap().len() }
    });
    assert_eq!(join_all(rounds).await, [40; 8]);
    assert_eq!(harness.claim(Queue::Submits).await.len(), 40);
}
