//! What is learned of a tenant's processing times, and when the first look comes of it.

use std::time::Duration;

use alovoice_gateway::domain::lifecycle::{PollOutcome, Step};
use alovoice_gateway::domain::pace::Pace;
use alovoice_gateway::store::Queue;

use crate::harness::{Harness, acme, globex, ready, submission};

/// As many results as it takes to learn from, each found by the second look: after 10 s and before 100 s, at 100 s.
pub(crate) async fn learn(harness: &Harness) -> Pace {
    let not_ready = || Step::Polled(PollOutcome::NotReady { etag: None, retry_after: None });
    for call in 0..Pace::ENOUGH_SAMPLES {
        harness.submit(submission(&format!("learned-{call}"))).await;
        harness.hand_over().await;
        for (seconds, step) in [(10, not_ready()), (90, ready("salom"))] {
            harness.advance(seconds);
            let claimed = harness.claim(Queue::Polls).await;
            let call = claimed.into_iter().find(|claimed| claimed.analysis.revision == 0).unwrap();
            harness.store.apply(call.lease, step).await.unwrap();
        }
    }
    harness.rows.pace(&acme()).await.unwrap()
}

/// How long after its acceptance a new call is looked at.
pub(crate) async fn first_look(harness: &Harness, call: &str) -> Duration {
    harness.submit(submission(call)).await;
    harness.hand_over().await;
    let work = harness.find(call).await.analysis.work.unwrap();
    work.due_at.since(work.accepted_at.unwrap())
}

pub(crate) async fn a_completion_teaches_its_tenant_and_no_other(harness: Harness) {
    assert_eq!(harness.rows.pace(&acme()).await, None);
    harness.complete(submission("1"), "salom").await;
    let pace = harness.rows.pace(&acme()).await.unwrap();
    assert_eq!(pace.samples, 1);
    assert!(pace.first_look < Duration::from_secs(10), "the first look found it: {pace:?}");
    assert_eq!(harness.rows.pace(&globex()).await, None);
}

pub(crate) async fn what_was_learned_says_when_the_next_call_is_looked_at(harness: Harness) {
    assert_eq!(first_look(&harness, "before").await, Duration::from_secs(10));
    let claimed = {
        harness.advance(10);
        harness.claim_one(Queue::Polls).await
    };
    harness.store.apply(claimed.lease, Step::Polled(PollOutcome::Rejected(400))).await.unwrap();
    let pace = learn(&harness).await;
    assert_eq!(pace.samples, Pace::ENOUGH_SAMPLES);
    assert!((50..100).contains(&pace.first_look.as_secs()), "{pace:?}");
    assert_eq!(first_look(&harness, "after").await, pace.first_look);
}

pub(crate) async fn what_tells_nothing_changes_nothing(harness: Harness) {
    harness.complete(submission("1"), "salom").await;
    let learned = harness.rows.pace(&acme()).await;
    // A settle look that finds a revision, and a call that fails.
    harness.advance(120);
    let settle = harness.claim_one(Queue::Polls).await;
    harness.store.apply(settle.lease, ready("salom yana")).await.unwrap();
    harness.submit(submission("2")).await;
    harness.hand_over().await;
    harness.advance(10);
    let claimed = harness.claim_one(Queue::Polls).await;
    harness.store.apply(claimed.lease, Step::Polled(PollOutcome::Rejected(400))).await.unwrap();
    assert_eq!(harness.rows.pace(&acme()).await, learned);
}
