//! Deadlines of analyses while the vendor cannot be asked.

use alovoice_gateway::domain::analysis::{FailureCode, Status};
use alovoice_gateway::domain::events::EventKind;
use alovoice_gateway::domain::polling::PollingPolicy;
use alovoice_gateway::store::{Queue, StoreError};

use crate::harness::{Harness, LEASE, START, acme, event_of, globex, ready, submission, with_callback};

/// Fails the overdue analyses of the tenant acme. Returns their calls, and the next deadline in seconds from the start.
async fn end(harness: &Harness, limit: usize) -> (Vec<String>, Option<u64>) {
    let ended = harness.store.fail_overdue_across_tenants(vec![acme()], limit).await.unwrap();
    let call = |applied: &alovoice_gateway::store::Applied| {
        assert_eq!(applied.event, Some(EventKind::AnalysisFailed));
        applied.analysis.call_id.as_str().to_owned()
    };
    (ended.applied.iter().map(call).collect(), ended.next_due.map(|due| due.since(START).as_secs()))
}

fn deadline() -> u64 {
    PollingPolicy::default().deadline.as_secs()
}

pub(crate) async fn an_overdue_analysis_fails_and_is_announced(harness: Harness) {
    assert_eq!(end(&harness, 100).await, (vec![], None));
    harness.submit(with_callback("polled", "https://a.example/")).await;
    harness.submit_queued().await;
    harness.store.submit(&globex(), submission("theirs")).await.unwrap();
    harness.advance(1);
    harness.submit(submission("submitted")).await;
    harness.advance(deadline() - 2);
    assert_eq!(end(&harness, 100).await, (vec![], Some(deadline())));
    harness.advance(1);
    assert_eq!(end(&harness, 100).await, (vec!["polled".to_owned()], Some(deadline() + 1)));
    let failed = harness.find("polled").await.analysis;
    assert_eq!((failed.status, failed.work), (Status::Failed, None));
    assert_eq!(failed.failure.unwrap().code, FailureCode::DeadlineExceeded);
    assert_eq!(event_of(&harness.claim_delivery().await).0, "analysis.failed");
    harness.advance(1);
    assert_eq!(end(&harness, 100).await, (vec!["submitted".to_owned()], None));
    assert_eq!(end(&harness, 100).await, (vec![], None));
}

pub(crate) async fn leased_work_does_not_fail_as_overdue(harness: Harness) {
    harness.submit(submission("1")).await;
    harness.submit_queued().await;
    harness.advance(deadline());
    let claimed = harness.claim_one(Queue::Polls).await;
    assert_eq!(end(&harness, 100).await, (vec![], None));
    // The analysis fails after the lease has run out.
    harness.advance(LEASE.as_secs());
    assert_eq!(end(&harness, 100).await, (vec!["1".to_owned()], None));
    let stale = harness.store.apply(claimed.lease, ready("salom").into()).await;
    assert!(matches!(stale, Err(StoreError::LeaseLost)), "{stale:?}");
}

pub(crate) async fn overdue_work_fails_in_batches_oldest_first(harness: Harness) {
    for call in ["3", "1", "2"] {
        harness.submit(submission(call)).await;
        harness.advance(1);
    }
    harness.advance(deadline());
    assert_eq!(end(&harness, 2).await.0, ["3", "1"]);
    assert_eq!(end(&harness, 2).await.0, ["2"]);
}

pub(crate) async fn a_settle_poll_has_no_deadline(harness: Harness) {
    let before = harness.complete(submission("1"), "salom").await;
    harness.advance(deadline() * 2);
    assert_eq!(end(&harness, 100).await, (vec![], None));
    assert_eq!(harness.find("1").await, before);
}
