//! Refreshes: one more poll of a finished analysis, under a lease like any other work.

use alovoice_gateway::domain::analysis::{ReanalysisOutcome, Stage, Status};
use alovoice_gateway::domain::events::EventKind;
use alovoice_gateway::domain::lifecycle::{PollOutcome, Step, SubmitOutcome};
use alovoice_gateway::store::{Change, Queue, Refreshing, StoreError, StoredAnalysis};
use futures_util::future::join_all;

use crate::harness::{
    Harness, LEASE, acme, call_id, globex, obtained, ready, reanalysis, submission, trace, with_callback,
};

async fn refresh(harness: &Harness, call: &str) -> Refreshing {
    harness.store.refresh_analysis(&acme(), &call_id(call)).await.unwrap()
}

/// Refreshes a call that the tenant acme has.
async fn refreshed(harness: &Harness, call: &str) -> StoredAnalysis {
    match refresh(harness, call).await {
        Refreshing::UnderWay(found) => *found,
        other => panic!("{other:?}"),
    }
}

/// Completes a call and does its settle poll.
async fn completed(harness: &Harness, call: &str) {
    harness.complete(with_callback(call, "https://a.example/"), "salom").await;
    harness.advance(120);
    let settle = harness.claim_one(Queue::Polls).await;
    harness.store.apply(settle.lease, ready("salom").into()).await.unwrap();
    assert_eq!(harness.find(call).await.analysis.work, None);
}

pub(crate) async fn a_refresh_is_one_poll_and_no_submit(harness: Harness) {
    completed(&harness, "1").await;
    harness.changes();
    let before = harness.find("1").await;
    let planned = refreshed(&harness, "1").await;
    assert_eq!((planned.result, planned.analysis.status), (before.result, Status::Completed));
    assert_eq!(harness.find("1").await.analysis, planned.analysis, "a column is not written or not read");
    let changed = Change::Analysis(acme(), call_id("1"));
    assert_eq!(harness.changes(), [changed, Change::Work(Queue::Polls)]);
    // Another refresh joins the first one.
    assert_eq!(refreshed(&harness, "1").await.analysis, planned.analysis);
    assert_eq!(harness.changes(), []);
    assert_eq!(harness.claim(Queue::Submits).await.len(), 0);
    let claimed = harness.claim_one(Queue::Polls).await;
    assert_eq!(claimed.analysis.work.as_ref().unwrap().stage, Stage::Refresh);
    assert_eq!(refreshed(&harness, "1").await.analysis, claimed.analysis, "the poll is in progress");
    let applied = harness.store.apply(claimed.lease, ready("salom yana").into()).await.unwrap();
    assert_eq!((applied.event, applied.analysis.revision), (Some(EventKind::AnalysisUpdated), 2));
    assert_eq!(harness.deliveries("1").await.len(), 2);
    assert_eq!(harness.find("1").await.result, Some(obtained("salom yana").result));
    harness.advance(100_000);
    assert_eq!((harness.claim(Queue::Polls).await.len(), harness.claim(Queue::Submits).await.len()), (0, 0));
}

pub(crate) async fn a_stalled_refresh_cannot_write(harness: Harness) {
    completed(&harness, "1").await;
    refreshed(&harness, "1").await;
    let stalled = harness.claim_one(Queue::Polls).await;
    harness.advance(LEASE.as_secs() + 1);
    let second = harness.claim_one(Queue::Polls).await;
    let lost = harness.store.apply(stalled.lease, ready("boshqa").into()).await;
    assert!(matches!(lost, Err(StoreError::LeaseLost)), "{lost:?}");
    // A new analysis replaces the refresh, and ends its lease.
    harness.submit(reanalysis("1")).await;
    let lost = harness.store.apply(second.lease, ready("boshqa").into()).await;
    assert!(matches!(lost, Err(StoreError::LeaseLost)), "{lost:?}");
    assert_eq!(harness.find("1").await.result, Some(obtained("salom").result));
    assert_eq!(harness.claim(Queue::Submits).await.len(), 1);
}

pub(crate) async fn a_refresh_completes_a_failed_analysis(harness: Harness) {
    harness.submit(with_callback("1", "https://a.example/")).await;
    let claimed = harness.claim_one(Queue::Submits).await;
    harness
        .store
        .apply(
            claimed.lease,
            Step::Submitted(SubmitOutcome::Rejected("the vendor answered 400".to_owned())).into(),
        )
        .await
        .unwrap();
    let planned = refreshed(&harness, "1").await;
    assert_eq!((planned.analysis.status, planned.result), (Status::Failed, None));
    let claimed = harness.claim_one(Queue::Polls).await;
    let applied =
        harness.store.apply(claimed.lease, Step::Polled(PollOutcome::NotFound(None)).into()).await.unwrap();
    assert_eq!((applied.event, applied.analysis.status), (None, Status::Failed));
    harness.advance(5);
    refreshed(&harness, "1").await;
    let claimed = harness.claim_one(Queue::Polls).await;
    let applied = harness.store.apply(claimed.lease, ready("salom").into()).await.unwrap();
    assert_eq!(
        (applied.event, applied.analysis.status),
        (Some(EventKind::AnalysisCompleted), Status::Completed)
    );
    assert_eq!(harness.deliveries("1").await.len(), 2);
}

pub(crate) async fn only_the_tenants_own_calls_are_refreshed(harness: Harness) {
    completed(&harness, "1").await;
    let of_another = harness.store.refresh_analysis(&globex(), &call_id("1")).await.unwrap();
    assert_eq!(of_another, Refreshing::NotFound);
    assert_eq!(refresh(&harness, "2").await, Refreshing::NotFound);
    assert_eq!(harness.claim(Queue::Polls).await.len(), 0);
}

pub(crate) async fn refreshes_in_progress_are_limited_per_tenant(harness: Harness) {
    let calls: Vec<String> = (0..101).map(|number| format!("call-{number}")).collect();
    for call in &calls {
        harness.store.adopt(&acme(), &call_id(call), trace(), obtained("salom")).await.unwrap();
    }
    for call in &calls[..100] {
        refreshed(&harness, call).await;
    }
    assert_eq!(refresh(&harness, &calls[100]).await, Refreshing::TooMany);
    refreshed(&harness, &calls[0]).await;
    harness.store.adopt(&globex(), &call_id("1"), trace(), obtained("salom")).await.unwrap();
    let of_another = harness.store.refresh_analysis(&globex(), &call_id("1")).await.unwrap();
    assert!(matches!(of_another, Refreshing::UnderWay(_)), "{of_another:?}");
    let claimed = harness.claim(Queue::Polls).await.remove(0);
    harness.store.apply(claimed.lease, ready("salom").into()).await.unwrap();
    refreshed(&harness, &calls[100]).await;
}

pub(crate) async fn concurrent_refreshes_of_a_call_are_one(harness: Harness) {
    completed(&harness, "1").await;
    let answers = join_all((0..16).map(|_| refresh(&harness, "1"))).await;
    assert!(answers.iter().all(|answer| matches!(answer, Refreshing::UnderWay(_))));
    let claimed = harness.claim_one(Queue::Polls).await;
    let applied =
        harness.store.apply(claimed.lease, Step::Polled(PollOutcome::Unchanged).into()).await.unwrap();
    assert_eq!((applied.event, applied.analysis.work), (None, None));
}

pub(crate) async fn the_end_of_a_reanalysis_is_stored(harness: Harness) {
    completed(&harness, "1").await;
    harness.submit(reanalysis("1")).await;
    assert!(harness.find("1").await.analysis.reanalysis().is_some());
    harness.submit_queued().await;
    harness.advance(60);
    let claimed = harness.claim_one(Queue::Polls).await;
    harness.store.apply(claimed.lease, ready("salom yana").into()).await.unwrap();
    let found = harness.find("1").await.analysis;
    let last = found.last_reanalysis.unwrap();
    assert_eq!((last.outcome, Some(last.ended_at)), (ReanalysisOutcome::NewResult, found.finished_at));
    // A batch shows it too, and a later submission keeps it.
    let again = harness.store.submit_all(&acme(), vec![submission("1")]).await.unwrap();
    assert_eq!(again[0].analysis.last_reanalysis, Some(last));
}
