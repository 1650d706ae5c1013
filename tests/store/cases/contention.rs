//! Concurrent operations on several threads.

use std::collections::HashSet;
use std::sync::Arc;

use alovoice_gateway::domain::lifecycle::{Step, SubmitOutcome};
use alovoice_gateway::store::{Queue, StoreError};
use futures_util::future::join_all;

use super::delivery_rates::limited;
use super::webhooks::events;
use crate::harness::{
    Harness, acme, call_id, obtained, slots_of, submission, trace, with_callback, with_metadata,
};

const TASKS: usize = 50;

/// Runs [`TASKS`] concurrent tasks and returns their results.
async fn concurrently<T, F>(harness: &Arc<Harness>, task: impl Fn(Arc<Harness>, usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let tasks = (0..TASKS).map(|number| tokio::spawn(task(Arc::clone(harness), number)));
    join_all(tasks).await.into_iter().map(Result::unwrap).collect()
}

pub(crate) async fn concurrent_claims_get_each_submission_once(harness: Harness) {
    let harness = Arc::new(harness);
    let claimed = concurrently(&harness, |harness, number| async move {
        let mut claimed = Vec::new();
        for part in 0..4 {
            harness.submit(submission(&format!("{number}-{part}"))).await;
            let slots = vec![slots_of(acme(), 3)];
            let lease = crate::harness::LEASE;
            let claims = harness.store.claim_work_across_tenants(Queue::Submits, slots, lease).await.unwrap();
            claimed.extend(claims.claimed.into_iter().map(|claimed| claimed.analysis.call_id));
        }
        claimed
    })
    .await;
    let mut claimed = claimed.concat();
    claimed.extend(harness.claim(Queue::Submits).await.into_iter().map(|claimed| claimed.analysis.call_id));
    let different: HashSet<_> = claimed.iter().cloned().collect();
    assert_eq!(claimed.len(), different.len(), "claimed twice");
    let submitted =
        (0..TASKS).flat_map(|number| (0..4).map(move |part| call_id(&format!("{number}-{part}"))));
    assert_eq!(different, submitted.collect());
}

pub(crate) async fn concurrent_submissions_of_a_call_create_one_row(harness: Harness) {
    let harness = Arc::new(harness);
    concurrently(&harness, |harness, number| async move {
        harness.submit(with_metadata("1", &number.to_string())).await;
        harness.submit(with_callback("1", &format!("https://a.example/{}", number % 5))).await;
    })
    .await;
    let stats = harness.store.stats_across_tenants(&[acme()]).await.unwrap();
    assert_eq!(stats[&acme()].unfinished.values().sum::<u64>(), 1);
    harness.complete(submission("1"), "salom").await;
    assert_eq!(harness.deliveries("1").await.len(), 5);
}

pub(crate) async fn concurrent_adoptions_of_a_call_write_one_event(harness: Harness) {
    let harness = Arc::new(harness);
    concurrently(&harness, |harness, number| async move {
        let words = number.to_string();
        harness.store.adopt(&acme(), &call_id("1"), trace(), obtained(&words)).await.unwrap();
        harness.submit(with_callback("1", "https://a.example/")).await;
    })
    .await;
    assert_eq!(harness.find("1").await.analysis.revision, 1);
    assert_eq!(harness.deliveries("1").await, [("pending".to_owned(), 0)]);
}

pub(crate) async fn concurrent_claims_get_each_delivery_once(harness: Harness) {
    for number in 0..TASKS {
        let call = number.to_string();
        harness.store.adopt(&acme(), &call_id(&call), trace(), obtained("salom")).await.unwrap();
        harness.submit(with_callback(&call, &format!("https://{}.example/", number % 3))).await;
    }
    let harness = Arc::new(harness);
    let claimed =
        concurrently(&harness, |harness, _| async move { harness.claim_deliveries(2, 1).await }).await;
    let mut claimed = claimed.concat();
    claimed.extend(harness.claim_deliveries(TASKS, TASKS).await);
    let different: HashSet<_> = claimed.iter().map(|claimed| claimed.delivery.id).collect();
    assert_eq!((claimed.len(), different.len()), (TASKS, TASKS));
}

pub(crate) async fn concurrent_claims_take_each_token_once(harness: Harness) {
    const TOKENS: u32 = 30;
    let webhook = limited(&harness, 0.01, TOKENS).await;
    events(&harness, "event", TASKS).await;
    let harness = Arc::new(harness);
    let claimed =
        concurrently(&harness, |harness, _| async move { harness.claim_deliveries(2, TASKS).await }).await;
    let mut claimed = claimed.concat();
    claimed.extend(harness.claim_deliveries(TASKS, TASKS).await);
    let different: HashSet<_> = claimed.iter().map(|claimed| claimed.delivery.id).collect();
    assert_eq!((claimed.len(), different.len()), (TOKENS as usize, TOKENS as usize));
    assert!(claimed.iter().all(|claimed| claimed.delivery.webhook == Some(webhook)));
}

pub(crate) async fn one_of_many_steps_with_the_same_lease_succeeds(harness: Harness) {
    harness.submit(submission("1")).await;
    let lease = harness.claim_one(Queue::Submits).await.lease;
    let harness = Arc::new(harness);
    let outcomes = concurrently(&harness, |harness, _| async move {
        harness.store.apply(lease, Step::Submitted(SubmitOutcome::Accepted).into()).await
    })
    .await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let lost = outcomes.iter().filter(|outcome| matches!(outcome, Err(StoreError::LeaseLost))).count();
    assert_eq!(lost, TASKS - 1);
}
