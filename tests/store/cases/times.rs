//! Times that a wrong clock left in the store.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alovoice_gateway::domain::analysis::Analysis;
use alovoice_gateway::domain::clock::{Clock, ClockStep, SteadyClock, Timestamp};
use alovoice_gateway::domain::clock_guard::{JumpConfirmation, StoredClock};
use alovoice_gateway::domain::clock_status::ClockStatus;
use alovoice_gateway::domain::lifecycle::{PollOutcome, Step};
use alovoice_gateway::domain::polling::PollingPolicy;
use alovoice_gateway::domain::retries::{RetryDecision, RetrySchedule};
use alovoice_gateway::env::Env;
use alovoice_gateway::store::{Keyed, Queue};
use alovoice_gateway::telemetry::metrics::Metrics;
use alovoice_gateway::workers::{ClockKeeper, Clocks, RemoteClock, Worker};
use async_trait::async_trait;
use prometheus::IntCounterVec;
use tokio_util::task::TaskTracker;

use super::deliveries::A;
use super::idempotency::request;
use crate::clock::ManualClock;
use crate::harness::{Harness, START, acme, finished, store_context, submission, with_callback};

const DAY: Duration = Duration::from_hours(24);
const YEARS: Duration = Duration::from_hours(4 * 365 * 24);
const NOT_READY: Step = Step::Polled(PollOutcome::NotReady { etag: None, retry_after: None, detail: None });

fn before(time: Timestamp, by: Duration) -> Timestamp {
    Timestamp::from_millis(time.as_millis() - i64::try_from(by.as_millis()).unwrap())
}

/// Sets a clock that was wrong since `since` to `to`, and corrects the times. Returns the number of corrected rows.
pub(crate) async fn step(harness: &Harness, since: Option<Timestamp>, to: Timestamp) -> usize {
    let (store, from) = (&harness.store, harness.clock.now());
    assert!(store.record_clock(from, steps_of(harness).await, true).await.unwrap());
    let (clock, step) = (Arc::new(SteadyClock::starting_at(from)), ClockStep { since, from, to });
    let taken = store.step_clock_across_tenants(
        clock.clone(),
        step,
        JumpConfirmation::Vendor,
        steps_of(harness).await,
    );
    let rows = taken.await.unwrap().unwrap();
    assert!(clock.now() >= to && clock.now() < to + Duration::from_mins(5));
    harness.clock.set(to);
    rows
}

async fn steps_of(harness: &Harness) -> i64 {
    harness.store.find_clock().await.unwrap().map_or(0, |clock| clock.steps)
}

/// Checks for impossible times, as after a start.
async fn limit(harness: &Harness) -> usize {
    harness.store.limit_times_across_tenants(DAY).await.unwrap()
}

pub(crate) async fn work_that_a_fast_clock_parked_becomes_due_after_a_restart(harness: Harness) {
    harness.clock.set(START + YEARS);
    harness.complete(with_callback("3", A), "salom").await;
    harness.submit(with_callback("1", A)).await;
    harness.submit_queued().await;
    harness.advance(10);
    let claimed = harness.claim_one(Queue::Polls).await;
    harness.store.apply(claimed.lease, NOT_READY.into()).await.unwrap();
    let delivery = harness.claim_delivery().await;
    let later = RetryDecision::RetryAt(harness.clock.now() + Duration::from_hours(2));
    harness.store.finish_attempt(delivery.lease, finished("refused", Some(503), later)).await.unwrap();
    harness.submit(submission("2")).await;

    // The process that begins after the correction has lost the time at which the clock became wrong.
    let since = Some(harness.clock.now());
    assert!(step(&harness, since, START).await > 0);
    for call in ["1", "2", "3"] {
        let analysis = harness.find(call).await.analysis;
        assert!(analysis.submitted_at <= START && analysis.submitted_at > before(START, DAY), "{call}");
        let work = analysis.work.unwrap();
        assert!(
            work.started_at <= START && work.due_at <= START + Duration::from_secs(300),
            "{call}: {work:?}"
        );
    }
    harness.submit_queued().await;
    harness.advance(300);
    assert_eq!(harness.claim(Queue::Polls).await.len(), 3);
    assert!(harness.claim_deliveries(10, 10).await.is_empty());
    harness.advance(2 * 3600);
    assert_eq!(harness.claim_deliveries(10, 10).await.len(), 1, "the retry keeps its pause of two hours");
    assert_eq!(limit(&harness).await, 0, "there is nothing left to correct");
}

pub(crate) async fn waiting_work_keeps_its_pauses_when_a_fast_clock_is_corrected(harness: Harness) {
    let wrong = START + Duration::from_hours(2);
    harness.clock.set(wrong);
    harness.submit(submission("1")).await;
    harness.submit_queued().await;
    assert!(step(&harness, Some(wrong), START).await > 0);
    let analysis = harness.find("1").await.analysis;
    let work = analysis.work.unwrap();
    assert_eq!((work.started_at, work.due_at), (START, START + Duration::from_secs(10)));
    assert_eq!(analysis.submitted_at, START);
}

pub(crate) async fn work_of_a_clock_without_time_goes_on_after_the_correction(harness: Harness) {
    harness.clock.set(Timestamp::from_millis(60_000)); // 1970-01-01T00:01:00Z
    harness.announce("1", &[A]).await;
    harness.submit(submission("2")).await;
    harness.submit_queued().await;
    assert_eq!(limit(&harness).await, 0, "the clock itself may be wrong");

    let before_the_step = (harness.find("1").await.analysis, harness.find("2").await.analysis);
    let shift = START.millis_after(harness.clock.now());
    assert!(step(&harness, None, START).await > 0);
    let finished = harness.find("1").await.analysis;
    let shifted = |time: Timestamp| time.plus_millis(shift);
    let (submitted_at, finished_at) = (before_the_step.0.submitted_at, before_the_step.0.finished_at);
    assert_eq!(
        (finished.submitted_at, finished.finished_at),
        (shifted(submitted_at), finished_at.map(shifted))
    );
    let analysis = harness.find("2").await.analysis;
    let began = before_the_step.1.work.unwrap().started_at;
    assert_eq!(analysis.submitted_at, shifted(before_the_step.1.submitted_at));
    assert_eq!(analysis.work.unwrap().started_at, shifted(began));
    let claimed = harness
        .claim(Queue::Polls)
        .await
        .into_iter()
        .find(|claimed| claimed.analysis.call_id.as_str() == "2");
    let applied = harness.store.apply(claimed.unwrap().lease, NOT_READY.into()).await.unwrap();
    assert_eq!(applied.event, None, "the deadline of 24 hours is not over");
    assert_eq!(harness.store.delete_expired_across_tenants(before(START, 90 * DAY), 100).await.unwrap(), 0);
}

/// Times from before any gateway, which a program of an earlier version wrote.
pub(crate) async fn impossible_times_become_the_present(harness: Harness) {
    harness.clock.set(Timestamp::from_millis(60_000));
    harness.announce("1", &[A]).await;
    harness.submit(submission("2")).await;
    harness.clock.set(START);
    assert!(limit(&harness).await > 0);
    let finished = harness.find("1").await.analysis;
    assert_eq!((finished.submitted_at, finished.finished_at), (START, Some(START)));
    let analysis = harness.find("2").await.analysis;
    assert_eq!((analysis.submitted_at, analysis.work.unwrap().started_at), (START, START));
}

pub(crate) async fn a_round_keeps_its_deadline_when_a_slow_clock_is_corrected(harness: Harness) {
    let wrong = Timestamp::from_millis(60_000); // 1970-01-01T00:01:00Z
    harness.clock.set(wrong);
    harness.submit(submission("1")).await;
    harness.submit_queued().await;
    harness.advance(10);
    assert!(step(&harness, Some(before(wrong, Duration::from_millis(1))), START).await > 0);
    let began = before(START, Duration::from_secs(10));
    let analysis = harness.find("1").await.analysis;
    assert_eq!((analysis.submitted_at, analysis.work.unwrap().started_at), (began, began));
    let claimed = harness.claim_one(Queue::Polls).await;
    let applied = harness.store.apply(claimed.lease, NOT_READY.into()).await.unwrap();
    assert_eq!(applied.event, None, "the deadline of 24 hours is not over");
}

pub(crate) async fn finished_work_of_a_slow_clock_outlives_the_correction(harness: Harness) {
    let wrong = Timestamp::from_millis(60_000);
    harness.clock.set(wrong);
    harness.announce("1", &[A]).await;
    let finished_at = harness.find("1").await.analysis.finished_at.unwrap();
    let shift = START.since(harness.clock.now());
    assert!(step(&harness, Some(wrong), START).await > 0);
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
    step(&harness, Some(START), to).await;
    let after = harness.find("1").await.analysis;
    assert_eq!((after.submitted_at, after.finished_at), (before.submitted_at, before.finished_at));
}

/// Receivers have got these times already.
pub(crate) async fn finished_work_of_a_fast_clock_keeps_its_times_at_a_small_step_back(harness: Harness) {
    harness.announce("1", &[A]).await;
    let finished = harness.find("1").await.analysis;
    step(&harness, None, before(START, Duration::from_hours(2))).await;
    let after = harness.find("1").await.analysis;
    assert_eq!((after.submitted_at, after.finished_at), (finished.submitted_at, finished.finished_at));
}

pub(crate) async fn right_times_are_not_changed(harness: Harness) {
    harness.announce("1", &[A]).await;
    harness.submit(submission("2")).await;
    harness.submit_queued().await;
    let before = (harness.find("1").await, harness.find("2").await);
    assert_eq!(limit(&harness).await, 0);
    harness.advance(3600);
    assert_eq!(limit(&harness).await, 0);
    assert_eq!((harness.find("1").await, harness.find("2").await), before);
}

/// Another replica, whose clock is a little ahead, may plan the longest pauses while this one checks the times.
pub(crate) async fn the_longest_pauses_of_another_replica_are_not_changed(harness: Harness) {
    harness.clock.set(START + Duration::from_secs(30));
    harness.announce("1", &[A]).await;
    harness.submit(submission("2")).await;
    harness.submit_queued().await;
    harness.advance(10);
    let claimed = harness.claim_one(Queue::Polls).await;
    let longest =
        PollOutcome::NotReady { etag: None, retry_after: Some(PollingPolicy::MAX_RETRY_AFTER), detail: None };
    harness.store.apply(claimed.lease, Step::Polled(longest).into()).await.unwrap();
    let delivery = harness.claim_delivery().await;
    let later = RetryDecision::RetryAt(harness.clock.now() + DAY);
    harness.store.finish_attempt(delivery.lease, finished("refused", Some(503), later)).await.unwrap();
    harness.clock.set(START);
    assert_eq!(limit(&harness).await, 0);
}

pub(crate) async fn an_outage_of_weeks_counts_for_no_deadline(harness: Harness) {
    harness.complete(submission("2"), "salom").await;
    harness.submit(submission("1")).await;
    harness.submit_queued().await;
    harness.advance(10);
    let (stopped, finished_at) = (harness.now(), harness.find("2").await.analysis.finished_at);
    step(&harness, Some(stopped), stopped + 21 * DAY).await;
    let overdue = harness.store.fail_overdue_across_tenants(vec![acme()], 10).await.unwrap();
    assert!(overdue.applied.is_empty(), "{overdue:?}");
    let claimed = harness.claim(Queue::Polls).await;
    let claimed = claimed.into_iter().find(|claimed| claimed.analysis.call_id.as_str() == "1");
    let applied = harness.store.apply(claimed.unwrap().lease, NOT_READY.into()).await.unwrap();
    assert_eq!(applied.event, None, "the rest of the 24 hours is left");
    assert_eq!(harness.find("2").await.analysis.finished_at, finished_at, "the time from before the outage");
    harness.advance(24 * 3600);
    let overdue = harness.store.fail_overdue_across_tenants(vec![acme()], 10).await.unwrap();
    assert_eq!(overdue.applied.len(), 1);
}

/// The analysis of a call. A step forward makes its work due, and a step back leaves it due.
async fn without_due_time(harness: &Harness, call: &str) -> Analysis {
    let mut analysis = harness.find(call).await.analysis;
    if let Some(work) = &mut analysis.work {
        work.due_at = START;
    }
    analysis
}

pub(crate) async fn steps_there_and_back_restore_all_times(harness: Harness) {
    harness.announce("1", &[A]).await;
    harness.submit(submission("2")).await;
    harness.submit_queued().await;
    assert!(matches!(harness.key(request(1, 1)).await, Keyed::Claimed(_)));
    let analyses = async || (without_due_time(&harness, "1").await, without_due_time(&harness, "2").await);
    let before_the_steps = analyses().await;
    let now = harness.now();
    for jump in [2 * DAY, 400 * DAY] {
        step(&harness, Some(now), now + jump).await;
        assert_eq!(harness.key(request(1, 1)).await, Keyed::UnderWay, "a lease keeps its rest");
        step(&harness, Some(harness.now()), now).await;
        assert_eq!(analyses().await, before_the_steps);
        assert_eq!(harness.key(request(1, 1)).await, Keyed::UnderWay);
    }
    assert_eq!(limit(&harness).await, 0);
}

pub(crate) async fn the_store_keeps_the_latest_time_and_counts_steps(harness: Harness) {
    let store = &harness.store;
    assert_eq!(store.find_clock().await.unwrap(), None);
    assert!(!store.confirm_clock(START).await.unwrap(), "there is no clock yet");
    assert!(store.record_clock(START, 0, false).await.unwrap());
    assert!(store.record_clock(before(START, DAY), 0, true).await.unwrap());
    let found = store.find_clock().await.unwrap().unwrap();
    assert_eq!((found.at, found.steps, found.is_anchored), (START, 0, true));
    assert!(store.confirm_clock(START + DAY).await.unwrap());
    assert_eq!(store.find_clock().await.unwrap().unwrap().confirmed, Some(START + DAY));

    let clock = Arc::new(SteadyClock::starting_at(START));
    let step = ClockStep { since: Some(START), from: START, to: START + DAY };
    let taken = |confirmation| store.step_clock_across_tenants(clock.clone(), step, confirmation, 0);
    assert!(taken(JumpConfirmation::Observation).await.unwrap().is_some());
    assert_eq!(taken(JumpConfirmation::Vendor).await.unwrap(), None, "another replica was faster");
    assert!(!store.record_clock(START + 2 * DAY, 0, true).await.unwrap(), "this replica missed the step");
    let found = store.find_clock().await.unwrap().unwrap();
    let retention_after = START + 2 * DAY;
    let expected =
        StoredClock { at: found.at, steps: 1, is_anchored: true, retention_after, confirmed: None };
    assert_eq!(found, expected);
    assert!(found.at >= START + DAY && found.at <= clock.now(), "the time after the step, which advances");
}

/// A store that a program of an earlier version wrote.
pub(crate) async fn a_store_without_a_clock_has_the_newest_time_of_its_rows(harness: Harness) {
    harness.announce("1", &[A]).await;
    harness.advance(60);
    harness.submit(submission("2")).await;
    let found = harness.store.find_clock().await.unwrap().unwrap();
    assert_eq!((found.at, found.steps, found.is_anchored), (harness.now(), 0, true));
}

/// A clock that advances from the time of a manual clock, as the gateway's clock advances.
struct RunningClock {
    manual: Arc<ManualClock>,
    started: Instant,
}

impl Clock for RunningClock {
    fn now(&self) -> Timestamp {
        self.manual.now() + self.started.elapsed()
    }
}

/// A vendor whose clock advances from this time.
struct RunningVendor {
    time: Mutex<Option<Timestamp>>,
    started: Instant,
}

#[async_trait]
impl RemoteClock for RunningVendor {
    fn now_if_read_since(&self, _since: Instant) -> Option<Timestamp> {
        self.time.lock().unwrap().map(|time| time + self.started.elapsed())
    }

    async fn ask(&self) {}
}

/// The clocks of a gateway whose reference is the clock of the harness.
struct KeptClock {
    clocks: Clocks,
    vendor: Arc<RunningVendor>,
    env: Env,
    status: Arc<ClockStatus>,
}

impl KeptClock {
    fn of(harness: &Harness) -> Self {
        let own = Arc::new(SteadyClock::starting_at(harness.now()));
        let started = Instant::now();
        let vendor = Arc::new(RunningVendor { time: Mutex::default(), started });
        let (context, _) = store_context();
        let env = Env { clock: own.clone(), wall_clock: harness.clock.clone(), ..context.env };
        let reference = Arc::new(RunningClock { manual: harness.clock.clone(), started });
        let clocks =
            Clocks { own, reference, gradual: Duration::ZERO, machine: None, vendor: vendor.clone() };
        Self { clocks, vendor, env, status: Arc::default() }
    }

    async fn start(&self, harness: &Harness) -> Arc<ClockKeeper> {
        let (clocks, store, status) = (self.clocks.clone(), harness.store.clone(), self.status.clone());
        let schedule = RetrySchedule::new(Vec::new());
        let keeper = ClockKeeper::start(clocks, store, &schedule, self.env.clone(), status).await;
        Arc::new(keeper.unwrap())
    }

    fn set_vendor(&self, time: Timestamp) {
        *self.vendor.time.lock().unwrap() = Some(time);
    }

    /// Whether the gateway's clock shows this time.
    fn shows(&self, time: Timestamp) -> bool {
        let now = self.clocks.own.now();
        time <= now && now < time + Duration::from_mins(5)
    }

    fn counts(&self) -> [u64; 3] {
        let Metrics { clock_steps, clock_jumps, clock_in_doubt, .. } = &*self.env.metrics;
        let sum = |counter: &IntCounterVec| {
            ["forward", "backward"]
                .iter()
                .map(|direction| counter.with_label_values(&[direction]).get())
                .sum()
        };
        [sum(clock_steps), sum(clock_jumps), clock_in_doubt.get().try_into().unwrap()]
    }
}

async fn compare(keeper: &Arc<ClockKeeper>) {
    keeper.clone().run_once(&TaskTracker::new()).await.unwrap();
}

pub(crate) async fn the_clock_keeper_ignores_a_jump_until_the_vendor_confirms_it(harness: Harness) {
    harness.submit(submission("1")).await;
    assert!(harness.store.record_clock(START, 0, true).await.unwrap());
    let kept = KeptClock::of(&harness);
    let keeper = kept.start(&harness).await;
    compare(&keeper).await;
    assert!(kept.status.allows_retention(kept.clocks.own.now()));
    assert_eq!(kept.counts(), [0, 0, 0]);

    harness.clock.set(START + YEARS);
    compare(&keeper).await;
    compare(&keeper).await;
    assert!(kept.shows(START));
    assert_eq!(kept.counts(), [0, 1, 1]);
    assert!(kept.status.warning(START).unwrap().contains("clock in doubt"));
    harness.clock.set(START);
    compare(&keeper).await;
    assert_eq!(kept.counts(), [0, 1, 0]);
    assert!(kept.status.allows_retention(kept.clocks.own.now()));

    harness.clock.set(START + YEARS);
    kept.set_vendor(START + YEARS);
    compare(&keeper).await;
    assert!(kept.shows(START + YEARS));
    assert_eq!(kept.counts(), [1, 1, 0]);
    let now = kept.clocks.own.now();
    assert!(!kept.status.allows_retention(now) && kept.status.allows_retention(now + DAY));
    assert_eq!(harness.find("1").await.analysis.submitted_at, START);
    let started_at = harness.find("1").await.analysis.work.unwrap().started_at;
    assert!(now.since(started_at) < Duration::from_mins(5), "the age of the work stays");
}

pub(crate) async fn a_restart_continues_with_the_stored_time(harness: Harness) {
    let kept = KeptClock::of(&harness);
    kept.set_vendor(START);
    compare(&kept.start(&harness).await).await;
    harness.submit(submission("1")).await;
    harness.clock.set(START + 400 * DAY);
    let next = KeptClock::of(&harness);
    next.set_vendor(START);
    let keeper = next.start(&harness).await;
    compare(&keeper).await;
    assert!(next.shows(START));
    assert!(!next.status.allows_retention(next.clocks.own.now()));
    assert!(harness.store.confirm_clock(START + 400 * DAY).await.unwrap());
    compare(&keeper).await;
    assert!(next.shows(START + 400 * DAY));
    assert!(next.status.allows_retention(next.clocks.own.now()));
    assert_eq!(next.counts(), [1, 1, 0]);
}

pub(crate) async fn a_replica_adopts_the_step_of_another(harness: Harness) {
    assert!(harness.store.record_clock(START, 0, true).await.unwrap());
    let kept = [KeptClock::of(&harness), KeptClock::of(&harness)];
    let keepers = [kept[0].start(&harness).await, kept[1].start(&harness).await];
    let to = before(START, 3 * DAY);
    harness.clock.set(to);
    kept[0].set_vendor(to);
    compare(&keepers[0]).await;
    compare(&keepers[1]).await;
    assert!(kept.iter().all(|kept| kept.shows(to)));
    assert_eq!(kept.each_ref().map(KeptClock::counts), [[1, 0, 0], [0, 0, 0]]);
    assert_eq!(steps_of(&harness).await, 1);
}

pub(crate) async fn a_new_store_follows_a_correction_of_the_clock(harness: Harness) {
    let began = Instant::now();
    harness.clock.set(START + YEARS);
    harness.submit(submission("1")).await;
    assert!(harness.store.record_clock(START + YEARS, 0, false).await.unwrap());
    let kept = KeptClock::of(&harness);
    let keeper = kept.start(&harness).await;
    harness.clock.set(START);
    compare(&keeper).await;
    assert!(kept.shows(START));
    assert_eq!(kept.counts()[0], 1);
    let submitted_at = harness.find("1").await.analysis.submitted_at;
    // The clocks run during the test, so the step differs from the years by at most the time since the start of the test.
    let latest = START + began.elapsed();
    assert!(submitted_at <= latest && submitted_at > before(START, DAY), "{submitted_at}");
    compare(&keeper).await;
    assert_eq!(kept.counts()[0], 1);
    harness.advance(60);
    let claimed = harness.claim_one(Queue::Submits).await;
    assert_eq!(claimed.analysis.tenant, acme());
}
