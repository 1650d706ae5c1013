//! The learned processing time (pace) of a tenant, and the time of the first poll.

use std::time::Duration;

use alovoice_gateway::domain::lifecycle::{PollOutcome, Step};
use alovoice_gateway::domain::pace::Pace;
use alovoice_gateway::store::Queue;

use crate::harness::{Harness, acme, globex, ready, submission};

/// Completes enough calls to learn a pace. Each result is found by the second poll, between 10 s and 100 s.
pub(crate) async fn learn(harness: &Harness) -> Pace {
    let not_ready = || Step::Polled(PollOutcome::NotReady { etag: None, retry_after: None, detail: None });
    for call in 0..Pace::ENOUGH_SAMPLES {
        harness.submit(submission(&format!("learned-{call}"))).await;
        harness.submit_queued().await;
        for (seconds, step) in [(10, not_ready()), (90, ready("salom"))] {
            harness.advance(seconds);
            let claimed = harness.claim(Queue::Polls).await;
            let call = claimed.into_iter().find(|claimed| claimed.analysis.revision == 0).unwrap();
            harness.store.apply(call.lease, step.into()).await.unwrap();
        }
    }
    harness.rows.pace(&acme()).await.unwrap()
}

/// The time from the acceptance of a new call to its first poll.
pub(crate) async fn first_poll_delay(harness: &Harness, call: &str) -> Duration {
    harness.submit(submission(call)).await;
    harness.submit_queued().await;
    let work = harness.find(call).await.analysis.work.unwrap();
    work.due_at.since(work.accepted_at.unwrap())
}

pub(crate) async fn a_completion_updates_the_pace_of_its_tenant_only(harness: Harness) {
    assert_eq!(harness.rows.pace(&acme()).await, None);
    harness.complete(submission("1"), "salom").await;
    let pace = harness.rows.pace(&acme()).await.unwrap();
    assert_eq!(pace.samples, 1);
    assert!(pace.first_poll_after < Duration::from_secs(10), "the first poll would come too late: {pace:?}");
    assert_eq!(harness.rows.pace(&globex()).await, None);
}

pub(crate) async fn the_learned_pace_sets_the_first_poll(harness: Harness) {
    assert_eq!(first_poll_delay(&harness, "before").await, Duration::from_secs(10));
    let claimed = {
        harness.advance(10);
        harness.claim_one(Queue::Polls).await
    };
    harness
        .store
        .apply(
            claimed.lease,
            Step::Polled(PollOutcome::Rejected("the vendor answered 400".to_owned())).into(),
        )
        .await
        .unwrap();
    let pace = learn(&harness).await;
    assert_eq!(pace.samples, Pace::ENOUGH_SAMPLES);
    assert!((50..100).contains(&pace.first_poll_after.as_secs()), "{pace:?}");
    assert_eq!(first_poll_delay(&harness, "after").await, pace.first_poll_after);
}

pub(crate) async fn failures_and_revisions_do_not_change_the_pace(harness: Harness) {
    harness.complete(submission("1"), "salom").await;
    let learned = harness.rows.pace(&acme()).await;
    // A settle poll that finds a revision, and a call that fails.
    harness.advance(120);
    let settle = harness.claim_one(Queue::Polls).await;
    harness.store.apply(settle.lease, ready("salom yana").into()).await.unwrap();
    harness.submit(submission("2")).await;
    harness.submit_queued().await;
    harness.advance(10);
    let claimed = harness.claim_one(Queue::Polls).await;
    harness
        .store
        .apply(
            claimed.lease,
            Step::Polled(PollOutcome::Rejected("the vendor answered 400".to_owned())).into(),
        )
        .await
        .unwrap();
    assert_eq!(harness.rows.pace(&acme()).await, learned);
}
