//! Times that a wrong clock left in the store.

use std::sync::Arc;
use std::time::Duration;

use alovoice_gateway::domain::clock::{Clock, ClockStep, SteadyClock, Timestamp};
use alovoice_gateway::domain::lifecycle::{PollOutcome, Step};
use alovoice_gateway::domain::retries::{RetryDecision, RetrySchedule};
use alovoice_gateway::env::Env;
use alovoice_gateway::store::Queue;
use alovoice_gateway::workers::{ClockKeeper, Worker};
use tokio_util::task::TaskTracker;

use super::deliveries::A;
use crate::harness::{Harness, START, acme, finished, store_context, submission, with_callback};

const DAY: Duration = Duration::from_hours(24);
const YEARS: Duration = Duration::from_hours(4 * 365 * 24);
const NOT_READY: Step = Step::Polled(PollOutcome::NotReady { etag: None, retry_after: None, detail: None });

fn before(time: Timestamp, by: Duration) -> Timestamp {
    Timestamp::from_millis(time.as_millis() - i64::try_from(by.as_millis()).unwrap())
}

/// Corrects the times as a start does, when the size of an earlier error is unknown.
async fn correct_at_start(harness: &Harness) -> usize {
    harness.store.correct_times_across_tenants(None, DAY).await.unwrap()
}

/// Sets a clock that was wrong since `since` to `to`, and corrects the times.
async fn step(harness: &Harness, since: Timestamp, to: Timestamp) -> usize {
    let step = ClockStep { since, from: harness.clock.now(), to };
    harness.clock.set(to);
    harness.store.correct_times_across_tenants(Some(step), DAY).await.unwrap()
}

pub(crate) async fn work_that_a_fast_clock_parked_becomes_due_after_a_restart(harness: Harness) {
    harness.clock.set(START + YEARS);
    harness.complete(with_callback("3", A), "salom").await;
    harness.submit(with_callback("1", A)).await;
    harness.submit_queued().await;
    harness.advance(10);
    let claimed = harness.claim_one(Queue::Polls).await;
    harness.store.apply(claimed.lease, NOT_READY).await.unwrap();
    let delivery = harness.claim_delivery().await;
    let later = RetryDecision::RetryAt(harness.clock.now() + Duration::from_hours(2));
    harness.store.finish_attempt(delivery.lease, finished("refused", Some(503), later)).await.unwrap();
    harness.submit(submission("2")).await;

    harness.clock.set(START);
    assert!(harness.claim(Queue::Submits).await.is_empty() && harness.claim(Queue::Polls).await.is_empty());
    assert!(correct_at_start(&harness).await > 0);
    for call in ["1", "2", "3"] {
        let analysis = harness.find(call).await.analysis;
        assert_eq!(analysis.submitted_at, START, "{call}");
        let work = analysis.work.unwrap();
        assert!(
            work.started_at <= START && work.due_at <= START + Duration::from_secs(300),
            "{call}: {work:?}"
        );
    }
    harness.submit_queued().await;
    harness.advance(300);
    assert_eq!(harness.claim(Queue::Polls).await.len(), 3);
    harness.advance(2 * 3600);
    assert_eq!(harness.claim_deliveries(10, 10).await.len(), 1, "the retry keeps its pause of two hours");
    assert_eq!(correct_at_start(&harness).await, 0, "there is nothing left to correct");
}

pub(crate) async fn waiting_work_keeps_its_pauses_when_a_fast_clock_is_corrected(harness: Harness) {
    let wrong = START + Duration::from_hours(2);
    harness.clock.set(wrong);
    harness.submit(submission("1")).await;
    harness.submit_queued().await;
    assert!(step(&harness, wrong, START).await > 0);
    let analysis = harness.find("1").await.analysis;
    let work = analysis.work.unwrap();
    assert_eq!((work.started_at, work.due_at), (START, START + Duration::from_secs(10)));
    assert_eq!(analysis.submitted_at, START);
}

pub(crate) async fn work_of_a_clock_without_time_starts_again_after_a_restart(harness: Harness) {
    harness.clock.set(Timestamp::from_millis(60_000)); // 1970-01-01T00:01:00Z
    harness.announce("1", &[A]).await;
    harness.submit(submission("2")).await;
    harness.submit_queued().await;
    assert_eq!(correct_at_start(&harness).await, 0, "the clock itself may be wrong");

    harness.clock.set(START);
    assert!(correct_at_start(&harness).await > 0);
    let finished = harness.find("1").await.analysis;
    assert_eq!((finished.submitted_at, finished.finished_at), (START, Some(START)));
    let analysis = harness.find("2").await.analysis;
    assert_eq!((analysis.submitted_at, analysis.work.unwrap().started_at), (START, START));
    let claimed = harness
        .claim(Queue::Polls)
        .await
        .into_iter()
        .find(|claimed| claimed.analysis.call_id.as_str() == "2");
    let applied = harness.store.apply(claimed.unwrap().lease, NOT_READY).await.unwrap();
    assert_eq!(applied.event, None, "the deadline of 24 hours is not over");
    assert_eq!(harness.store.delete_expired_across_tenants(before(START, 90 * DAY), 100).await.unwrap(), 0);
}

pub(crate) async fn a_round_keeps_its_deadline_when_a_slow_clock_is_corrected(harness: Harness) {
    let wrong = Timestamp::from_millis(60_000); // 1970-01-01T00:01:00Z
    harness.clock.set(wrong);
    harness.submit(submission("1")).await;
    harness.submit_queued().await;
    harness.advance(10);
    assert!(step(&harness, wrong, START).await > 0);
    let began = before(START, Duration::from_secs(10));
    let analysis = harness.find("1").await.analysis;
    assert_eq!((analysis.submitted_at, analysis.work.unwrap().started_at), (began, began));
    let claimed = harness.claim_one(Queue::Polls).await;
    let applied = harness.store.apply(claimed.lease, NOT_READY).await.unwrap();
    assert_eq!(applied.event, None, "the deadline of 24 hours is not over");
}

pub(crate) async fn finished_work_of_a_slow_clock_outlives_the_correction(harness: Harness) {
    let wrong = Timestamp::from_millis(60_000);
    harness.clock.set(wrong);
    harness.announce("1", &[A]).await;
    let finished_at = harness.find("1").await.analysis.finished_at.unwrap();
    let shift = START.since(harness.clock.now());
    assert!(step(&harness, wrong, START).await > 0);
    let analysis = harness.find("1").await.analysis;
    assert_eq!(analysis.finished_at, Some(finished_at + shift));
    assert_eq!(harness.claim_delivery().await.delivery.attempts, 1);
    assert_eq!(harness.store.delete_expired_across_tenants(before(START, 90 * DAY), 100).await.unwrap(), 0);
}

/// A machine that was suspended makes such a step too.
pub(crate) async fn finished_work_keeps_its_times_at_a_small_step(harness: Harness) {
    harness.complete(submission("1"), "salom").await;
    let before = harness.find("1").await.analysis;
    let to = harness.clock.now() + Duration::from_hours(8);
    step(&harness, START, to).await;
    let after = harness.find("1").await.analysis;
    assert_eq!((after.submitted_at, after.finished_at), (before.submitted_at, before.finished_at));
}

/// Receivers have got these times already.
pub(crate) async fn finished_work_of_a_fast_clock_keeps_its_times_after_a_restart(harness: Harness) {
    harness.announce("1", &[A]).await;
    let finished = harness.find("1").await.analysis;
    harness.clock.set(before(START, Duration::from_hours(2)));
    correct_at_start(&harness).await;
    let after = harness.find("1").await.analysis;
    assert_eq!((after.submitted_at, after.finished_at), (finished.submitted_at, finished.finished_at));
}

pub(crate) async fn right_times_are_not_changed(harness: Harness) {
    harness.announce("1", &[A]).await;
    harness.submit(submission("2")).await;
    harness.submit_queued().await;
    let before = (harness.find("1").await, harness.find("2").await);
    assert_eq!(correct_at_start(&harness).await, 0);
    harness.advance(3600);
    assert_eq!(correct_at_start(&harness).await, 0);
    assert_eq!((harness.find("1").await, harness.find("2").await), before);
}

pub(crate) async fn the_clock_keeper_corrects_the_clock_and_counts_the_step(harness: Harness) {
    harness.clock.set(START + YEARS);
    harness.submit(submission("1")).await;
    let steady = Arc::new(SteadyClock::starting_at(START + YEARS));
    harness.clock.set(START);
    let (context, _) = store_context();
    let env = Env { clock: steady.clone(), wall_clock: harness.clock.clone(), ..context.env };
    let schedule = RetrySchedule::new(Vec::new());
    let (reference, store) = (Some(harness.clock.clone() as _), harness.store.clone());
    let keeper = Arc::new(ClockKeeper::new(steady.clone(), reference, store, &schedule, env.clone()));
    let report = keeper.clone().run_once(&TaskTracker::new()).await.unwrap();
    assert!(steady.now() < START + Duration::from_hours(1), "{}", steady.now());
    assert!(report.next_due.unwrap() < START + Duration::from_hours(1));
    assert_eq!(env.metrics.clock_steps.with_label_values(&["backward"]).get(), 1);
    assert_eq!(harness.find("1").await.analysis.submitted_at, START);
    let claimed = harness.claim_one(Queue::Submits).await;
    assert_eq!(claimed.analysis.tenant, acme());
    keeper.run_once(&TaskTracker::new()).await.unwrap();
    assert_eq!(env.metrics.clock_steps.with_label_values(&["backward"]).get(), 1);
}
