//! Transitions of analyses, with their events, deliveries and announcements.

use std::time::Duration;

use alovoice_gateway::domain::analysis::{FaultCode, Status};
use alovoice_gateway::domain::events::EventKind;
use alovoice_gateway::domain::lifecycle::{PollOutcome, Step, SubmitOutcome, VendorFault};
use alovoice_gateway::store::{Change, Queue, StoreError};
use futures_util::future::join_all;

use crate::harness::{
    Harness, LEASE, acme, call_id, delivered, event_of, globex, obtained, ready, reanalysis, submission,
    with_callback,
};

fn analysis_changed(call: &str) -> Change {
    Change::Analysis(acme(), call_id(call))
}

/// Claims the only due delivery and returns its event.
async fn announced(harness: &Harness) -> (String, serde_json::Value) {
    let delivery = harness.claim_delivery().await;
    harness.store.finish_attempt(delivery.lease, delivered()).await.unwrap();
    event_of(&delivery)
}

pub(crate) async fn a_completion_writes_its_event_and_deliveries(harness: Harness) {
    harness.announce("1", &["https://a.example/", "https://a.example/2", "https://b.example/"]).await;
    let found = harness.find("1").await;
    assert_eq!((found.analysis.status, found.analysis.revision), (Status::Completed, 1));
    assert_eq!(found.result, Some(obtained("salom").result));

    let deliveries = harness.claim_deliveries(100, 100).await;
    assert_eq!(deliveries.len(), 3);
    for delivery in &deliveries {
        assert_eq!(delivery.delivery.event_id, deliveries[0].delivery.event_id, "one event");
        assert_eq!(delivery.body, deliveries[0].body);
        assert_eq!((&delivery.delivery.tenant, &delivery.delivery.call_id), (&acme(), &Some(call_id("1"))));
        assert_eq!(delivery.delivery.trace, found.analysis.trace);
    }
    let (kind, data) = event_of(&deliveries[0]);
    assert_eq!(kind, "analysis.completed");
    assert_eq!((&data["status"], &data["revision"]), (&"completed".into(), &1.into()));
    assert_eq!(data["transcript"][0]["text"], "salom");
}

pub(crate) async fn a_failure_is_announced(harness: Harness) {
    harness.submit(with_callback("1", "https://a.example/")).await;
    let claimed = harness.claim_one(Queue::Submits).await;
    let step = Step::Submitted(SubmitOutcome::Rejected("the vendor answered 400".to_owned()));
    let applied = harness.store.apply(claimed.lease, step.into()).await.unwrap();
    assert_eq!((applied.event, &applied.analysis.work), (Some(EventKind::AnalysisFailed), &None));
    assert_eq!(harness.find("1").await.analysis, applied.analysis);
    let (kind, data) = announced(&harness).await;
    assert_eq!((kind.as_str(), &data["error"]["code"]), ("analysis.failed", &"vendor_rejected".into()));
}

pub(crate) async fn a_revision_is_announced(harness: Harness) {
    harness.announce("1", &["https://a.example/"]).await;
    assert_eq!(announced(&harness).await.0, "analysis.completed");
    harness.advance(120);
    let settle = harness.claim_one(Queue::Polls).await;
    let applied = harness.store.apply(settle.lease, ready("salom yana").into()).await.unwrap();
    assert_eq!((applied.event, applied.analysis.revision), (Some(EventKind::AnalysisUpdated), 2));
    let (kind, data) = announced(&harness).await;
    assert_eq!((kind.as_str(), &data["revision"]), ("analysis.updated", &2.into()));
    assert_eq!(data["transcript"][0]["text"], "salom yana");
    assert_eq!(harness.find("1").await.result, Some(obtained("salom yana").result));
    let answer = harness.store.find_vendor_answer(&acme(), &call_id("1")).await.unwrap();
    assert_eq!(answer, Some(obtained("salom yana").vendor_answer));
}

pub(crate) async fn a_settle_poll_without_changes_writes_no_event(harness: Harness) {
    harness.announce("1", &["https://a.example/"]).await;
    announced(&harness).await;
    harness.advance(120);
    let settle = harness.claim_one(Queue::Polls).await;
    let applied = harness.store.apply(settle.lease, ready("salom").into()).await.unwrap();
    assert_eq!((applied.event, applied.analysis.work), (None, None));
    assert_eq!(harness.deliveries("1").await, [("delivered".to_owned(), 1)]);
    harness.advance(100_000);
    assert_eq!(harness.claim(Queue::Polls).await.len(), 0);
}

pub(crate) async fn a_failed_call_restarts_on_request(harness: Harness) {
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
    announced(&harness).await;
    harness.submit(submission("1")).await;
    assert_eq!(harness.claim(Queue::Submits).await.len(), 0);

    let again = harness.complete(reanalysis("1"), "salom").await.analysis;
    assert_eq!((again.status, again.revision, again.failure), (Status::Completed, 1, None));
    assert_eq!(announced(&harness).await.0, "analysis.completed");
}

pub(crate) async fn a_failed_new_round_announces_the_earlier_result(harness: Harness) {
    harness.announce("1", &["https://a.example/"]).await;
    announced(&harness).await;
    harness.submit(reanalysis("1")).await;
    let claimed = harness.claim_one(Queue::Submits).await;
    harness
        .store
        .apply(
            claimed.lease,
            Step::Submitted(SubmitOutcome::Rejected("the vendor answered 400".to_owned())).into(),
        )
        .await
        .unwrap();
    let (kind, data) = announced(&harness).await;
    assert_eq!((kind.as_str(), &data["status"]), ("analysis.updated", &"completed".into()));
    assert_eq!(data["last_error"]["code"], "vendor_error");
    assert_eq!((&data["revision"], &data["transcript"][0]["text"]), (&1.into(), &"salom".into()));
    assert_eq!(harness.find("1").await.result, Some(obtained("salom").result));
}

pub(crate) async fn polls_are_counted_per_round(harness: Harness) {
    harness.submit(submission("1")).await;
    harness.submit_queued().await;
    let fault = VendorFault { code: FaultCode::VendorError, detail: "502".to_owned(), retry_after: None };
    let steps = [
        Step::Polled(PollOutcome::NotReady {
            etag: Some("\"n\"".to_owned()),
            retry_after: None,
            detail: None,
        }),
        Step::Polled(PollOutcome::Fault(fault)),
        ready("salom"),
    ];
    let mut polls = Vec::new();
    for step in steps {
        harness.advance(60);
        let claimed = harness.claim_one(Queue::Polls).await;
        let applied = harness.store.apply(claimed.lease, step.into()).await.unwrap();
        assert_eq!(harness.find("1").await.analysis, applied.analysis, "a column is not written or not read");
        polls.push(applied.polls);
    }
    assert_eq!(polls, [1, 2, 3]);
    harness.submit(reanalysis("1")).await;
    assert_eq!(harness.find("1").await.analysis.work.unwrap().polls, 0);
}

pub(crate) async fn simultaneous_steps_fail_alone(harness: Harness) {
    const CALLS: usize = 60;
    for number in 0..CALLS {
        harness.submit(with_callback(&number.to_string(), "https://a.example/")).await;
    }
    harness.submit_queued().await;
    harness.advance(10);
    let leases: Vec<_> = harness.claim(Queue::Polls).await.iter().map(|work| work.lease).collect();
    assert_eq!(leases.len(), CALLS);
    // The deletion of a row and a second step with the same lease fail only their own steps.
    harness.rows.change("DELETE FROM analyses WHERE call_id = '7'", 1).await;
    let steps = leases.iter().chain(&leases[..10]);
    let apply = |lease: &_| harness.store.apply(*lease, ready("salom").into());
    let applied = join_all(steps.map(apply)).await;
    assert!(applied.iter().all(|applied| matches!(applied, Ok(_) | Err(StoreError::LeaseLost))));
    let applied: Vec<_> = applied.into_iter().flatten().collect();
    assert_eq!(applied.len(), CALLS - 1);
    for applied in applied {
        assert_eq!(applied.event, Some(EventKind::AnalysisCompleted));
        assert_eq!(harness.find(applied.analysis.call_id.as_str()).await.analysis, applied.analysis);
    }

    // Some leases end before the outcomes of their attempts are written.
    let claimed = harness.claim_deliveries(CALLS, CALLS).await;
    assert_eq!(claimed.len(), CALLS - 1);
    let (stale, valid) = claimed.split_at(5);
    for claimed in stale {
        harness.store.finish_attempt(claimed.lease, delivered()).await.unwrap();
    }
    let finish = |lease| harness.store.finish_attempt(lease, delivered());
    let finished = join_all(claimed.iter().map(|claimed| finish(claimed.lease))).await;
    for (claimed, finished) in claimed.iter().zip(&finished) {
        let is_stale = stale.iter().any(|stale| stale.lease == claimed.lease);
        assert_eq!(matches!(finished, Err(StoreError::LeaseLost)), is_stale, "{finished:?}");
    }
    assert_eq!(finished.iter().filter(|finished| finished.is_ok()).count(), valid.len());
    let delivered = "SELECT count(*) FROM deliveries JOIN attempts ON delivery = seq AND outcome = 'delivered' \
                     WHERE deliveries.status = 'delivered' AND NOT leased";
    assert_eq!(harness.rows.number(delivered).await as usize, CALLS - 1);
}

pub(crate) async fn changes_are_announced_after_the_commit(harness: Harness) {
    harness.submit(with_callback("1", "https://a.example/")).await;
    assert_eq!(harness.changes(), [Change::Work(Queue::Submits)]);
    let claimed = harness.claim_one(Queue::Submits).await;
    assert_eq!(harness.changes(), []);

    let accepted = Step::Submitted(SubmitOutcome::Accepted);
    harness.store.apply(claimed.lease, accepted.clone().into()).await.unwrap();
    assert_eq!(harness.changes(), [analysis_changed("1"), Change::Work(Queue::Polls)]);
    let lost = harness.store.apply(claimed.lease, accepted.into()).await;
    assert!(matches!(lost, Err(StoreError::LeaseLost)), "{lost:?}");
    assert_eq!(harness.changes(), []);

    harness.advance(10);
    let claimed = harness.claim_one(Queue::Polls).await;
    harness.store.apply(claimed.lease, ready("salom").into()).await.unwrap();
    let changes = harness.changes();
    let expected =
        [analysis_changed("1"), Change::Event(acme()), Change::Delivery, Change::Work(Queue::Polls)];
    assert_eq!(changes, expected);
    // The announced change is already visible.
    assert_eq!(harness.find("1").await.analysis.status, Status::Completed);

    harness.submit(reanalysis("1")).await;
    assert_eq!(harness.changes(), [analysis_changed("1"), Change::Work(Queue::Submits)]);
    harness.submit(submission("1")).await;
    assert_eq!(harness.changes(), []);
}

pub(crate) async fn statistics_count_stored_rows(harness: Harness) {
    let seconds = Duration::from_secs;
    let stats_of = async |tenant| {
        harness.store.stats_across_tenants(&[acme(), globex()]).await.unwrap()[&tenant].clone()
    };
    let stats = || stats_of(acme());
    let empty = stats().await;
    assert!(Status::UNFINISHED.iter().all(|status| empty.unfinished[status] == 0), "{empty:?}");
    assert_eq!((empty.pending_deliveries, empty.delivery_lag), (0, Duration::ZERO));

    harness.announce("1", &["https://a.example/", "https://b.example/"]).await; // takes 10 s
    harness.submit(submission("2")).await;
    harness.submit_queued().await;
    harness.advance(40);
    harness.submit(submission("3")).await;
    harness.store.submit(&globex(), submission("1")).await.unwrap();
    harness.advance(3);
    let now = stats().await;
    let counted = Status::UNFINISHED.map(|status| now.unfinished[&status]);
    assert_eq!(counted, [1, 1], "queued, processing");
    let of_globex = stats_of(globex()).await;
    assert_eq!(Status::UNFINISHED.map(|status| of_globex.unfinished[&status]), [1, 0]);
    assert_eq!((of_globex.work_lag[&Queue::Polls], of_globex.pending_deliveries), (Duration::ZERO, 0));
    assert_eq!((now.work_lag[&Queue::Submits], now.work_lag[&Queue::Polls]), (seconds(3), seconds(33)));
    assert_eq!((now.pending_deliveries, now.delivery_lag), (2, seconds(43)));

    // Leased work does not count as lag until its lease runs out.
    harness.claim(Queue::Polls).await;
    harness.claim_deliveries(100, 100).await;
    let leased = stats().await;
    assert_eq!((leased.work_lag[&Queue::Polls], leased.delivery_lag), (Duration::ZERO, Duration::ZERO));
    assert_eq!(leased.pending_deliveries, 2);
    harness.advance(LEASE.as_secs() + 1);
    assert_eq!(stats().await.delivery_lag, seconds(1));
}
