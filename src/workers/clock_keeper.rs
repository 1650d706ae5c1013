//! Compares the gateway's clock with other clocks. When [`domain::clock_guard`](crate::domain::clock_guard) accepts a jump of the
//! reference clock, the worker steps the gateway's clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;

use super::{Report, Worker};
use crate::alovoice::VendorClient;
use crate::domain::clock::{Clock, ClockStep, SteadyClock, Timestamp, direction};
use crate::domain::clock_guard::{ClockGuard, ClockVerdict, Doubt, JumpConfirmation, Readings, StoredClock};
use crate::domain::clock_status::ClockStatus;
use crate::domain::retries::RetrySchedule;
use crate::env::Env;
use crate::store::{Store, StoreError};

/// Interval between two comparisons of the clocks.
const INTERVAL: Duration = Duration::from_secs(2);
/// Interval between two writes of the time to the store.
const RECORD_INTERVAL: Duration = Duration::from_secs(10);
/// Interval between two requests for the vendor's time.
const ASK_INTERVAL: Duration = Duration::from_mins(1);
/// Maximum time after a step until every replica has adopted the step.
const STEP_LAG: Duration = Duration::from_secs(10);

/// The clock of another organization, read from the answers of that organization.
#[async_trait]
pub trait RemoteClock: Send + Sync {
    /// Returns the current time of this clock, from the latest answer. Returns `None` if no answer has arrived at `since` or
    /// later.
    fn now_if_read_since(&self, since: Instant) -> Option<Timestamp>;

    /// Sends a request whose answer shows the time of this clock.
    async fn ask(&self);
}

#[async_trait]
impl RemoteClock for VendorClient {
    fn now_if_read_since(&self, since: Instant) -> Option<Timestamp> {
        self.vendor_time(since)
    }

    async fn ask(&self) {
        self.ask_time().await;
    }
}

/// The clocks of a process.
#[derive(Clone)]
pub struct Clocks {
    /// The gateway's clock: schedules, leases, deadlines and retention use it.
    pub own: Arc<SteadyClock>,
    /// The clock that `own` follows.
    pub reference: Arc<dyn Clock>,
    /// Maximum gradual correction of `own` per comparison.
    pub gradual: Duration,
    /// The machine's clock, if it is not the reference.
    pub machine: Option<Arc<dyn Clock>>,
    /// The vendor's clock.
    pub vendor: Arc<dyn RemoteClock>,
}

/// The worker that compares the gateway's clock with other clocks and corrects the gateway's clock.
pub struct ClockKeeper {
    clocks: Clocks,
    store: Arc<dyn Store>,
    longest_retry: Duration,
    env: Env,
    status: Arc<ClockStatus>,
    state: Mutex<State>,
}

struct State {
    guard: ClockGuard,
    /// The number of steps that this process knows.
    steps: i64,
    /// Moment of the latest jump of the reference clock or of the latest step of the gateway's clock, whichever is later. Earlier
    /// readings of the vendor's clock are outdated.
    jumped_at: Instant,
    /// Moment at which this worker started.
    started_at: Instant,
    /// Moment of the latest request for the vendor's time.
    asked_at: Option<Instant>,
    /// Moment at which this worker corrects stored times that lie too far in the future. The worker does so after its start and
    /// after each step that this process makes. `None` if no correction is planned.
    limit_at: Option<Instant>,
    /// The doubt at the latest comparison, which is already logged and counted; `None` if there was no doubt.
    announced: Option<Doubt>,
}

impl ClockKeeper {
    /// Sets the gateway's clock to its initial time, and makes the first comparison. Call this function before any
    /// worker starts.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub async fn start(
        clocks: Clocks,
        store: Arc<dyn Store>,
        schedule: &RetrySchedule,
        env: Env,
        status: Arc<ClockStatus>,
    ) -> Result<Self, StoreError> {
        let stored = store.find_clock().await?;
        let (guard, own) = ClockGuard::start(stored, clocks.reference.now());
        clocks.own.set(own);
        let steps = stored.map_or(0, |stored| stored.steps);
        store.record_clock(own, steps, guard.is_anchored()).await?;
        let now = Instant::now();
        let state = State {
            guard,
            steps,
            jumped_at: now,
            started_at: now,
            asked_at: None,
            limit_at: Some(now),
            announced: None,
        };
        let longest_retry = schedule.longest_pause();
        let keeper = Self { clocks, store, longest_retry, env, status, state: Mutex::new(state) };
        keeper.compare(&mut *keeper.state.lock().await).await?;
        Ok(keeper)
    }

    /// Compares the clocks once, and steps or corrects the gateway's clock accordingly.
    async fn compare(&self, state: &mut State) -> Result<(), StoreError> {
        let Some(mut stored) = self.store.find_clock().await? else {
            self.store.record_clock(self.clocks.own.now(), state.steps, state.guard.is_anchored()).await?;
            return Ok(());
        };
        if stored.steps != state.steps {
            self.adopt(state, stored);
        }
        let was_anchored = state.guard.is_anchored();
        let readings = self.read(state, stored.confirmed);
        let verdict = state.guard.observe(&readings);
        let doubt = match verdict {
            ClockVerdict::Agreement => {
                self.clocks.own.follow(readings.reference, self.clocks.gradual);
                None
            }
            ClockVerdict::Doubt(doubt) => Some(doubt),
            ClockVerdict::Step(step, confirmation) => {
                if !self.step(state, step, confirmation).await? {
                    // Another replica was faster; the next comparison adopts its step.
                    return Ok(());
                }
                stored = stored.stepped(step, confirmation);
                None
            }
        };
        if state.guard.is_anchored() && !was_anchored {
            tracing::info!(now = %self.clocks.own.now(), "clock confirmed for the first time");
        }
        self.announce(state, doubt);
        self.publish(doubt, stored);
        let (own, is_anchored) = (self.clocks.own.now(), state.guard.is_anchored());
        if own.since(stored.at) >= RECORD_INTERVAL || is_anchored != was_anchored {
            self.store.record_clock(own, state.steps, is_anchored).await?;
        }
        Ok(())
    }

    /// Sets the gateway's clock to the time of a step that another replica made.
    fn adopt(&self, state: &mut State, stored: StoredClock) {
        self.clocks.own.set(stored.at);
        state.guard.reset(stored.at, stored.is_anchored);
        state.steps = stored.steps;
        state.jumped_at = Instant::now();
        tracing::warn!(to = %stored.at, "clock corrected: it follows the correction of another replica");
    }

    fn read(&self, state: &mut State, confirmed: Option<Timestamp>) -> Readings {
        let (own, reference) = (self.clocks.own.now(), self.clocks.reference.now());
        if state.guard.is_new_jump(own, reference) {
            state.jumped_at = Instant::now();
        }
        let vendor = self.clocks.vendor.now_if_read_since(state.jumped_at);
        let machine = self.clocks.machine.as_ref().map(|machine| machine.now());
        Readings { own, reference, vendor, machine, confirmed }
    }

    /// Steps the clock of all replicas. Returns `false` if another replica has made the step.
    async fn step(
        &self,
        state: &mut State,
        step: ClockStep,
        confirmation: JumpConfirmation,
    ) -> Result<bool, StoreError> {
        let (began, own) = (Instant::now(), self.clocks.own.clone());
        let outcome = self.store.step_clock_across_tenants(own, step, confirmation, state.steps).await;
        match outcome {
            Ok(Some(rows)) => {
                state.steps += 1;
                state.guard.reset(self.clocks.own.now(), confirmation != JumpConfirmation::NewStore);
                state.jumped_at = Instant::now();
                state.limit_at = Some(Instant::now() + STEP_LAG);
                let (seconds, confirmed_by) = (step.shift_millis() / 1000, confirmation.as_str());
                let ClockStep { from, to, .. } = step;
                if confirmation == JumpConfirmation::ShortOutage {
                    tracing::info!(%from, %to, seconds, rows, "deadlines extended: no gateway ran for a while");
                } else {
                    self.env.metrics.clock_steps.with_label_values(&[step.direction()]).inc();
                    tracing::warn!(%from, %to, seconds, confirmed_by, rows, "clock corrected");
                }
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) => {
                // If the step was committed after all, the next comparison adopts it.
                self.clocks.own.set(step.from + began.elapsed());
                Err(error)
            }
        }
    }

    /// Logs and counts the beginning and the end of a doubt.
    fn announce(&self, state: &mut State, doubt: Option<Doubt>) {
        let known = std::mem::replace(&mut state.announced, doubt);
        match (known, doubt) {
            (None, None) => {}
            (Some(_), None) => tracing::warn!("clock no longer in doubt"),
            (Some(known), Some(doubt)) if !doubt.differs_from(&known) => {}
            (_, Some(doubt)) => {
                let millis = doubt.difference_millis;
                self.env.metrics.clock_jumps.with_label_values(&[direction(millis)]).inc();
                let (own, seconds) = (self.clocks.own.now(), millis / 1000);
                tracing::error!(
                    %own,
                    other = %own.plus_millis(millis),
                    seconds,
                    "clock in doubt: another clock shows a different time; the gateway keeps its own time and pauses retention"
                );
            }
        }
    }

    fn publish(&self, doubt: Option<Doubt>, stored: StoredClock) {
        self.status.set(doubt, stored.retention_after);
        let is_in_doubt =
            doubt.is_some() || !stored.is_anchored && self.clocks.own.now() < stored.retention_after;
        self.env.metrics.clock_in_doubt.set(is_in_doubt.into());
    }

    /// Asks the vendor for its time, at most once per [`ASK_INTERVAL`]. While the clock is in doubt, the first request is sent at
    /// once. Otherwise the first request is sent one interval after the start, and requests end when the store is anchored
    /// ([`domain::clock_guard`](crate::domain::clock_guard)).
    fn ask(&self, state: &mut State, tasks: &TaskTracker) {
        let is_in_doubt = state.announced.is_some();
        let latest = if is_in_doubt { state.asked_at } else { state.asked_at.max(Some(state.started_at)) };
        let is_recent = latest.is_some_and(|latest| latest.elapsed() < ASK_INTERVAL);
        if is_recent || !is_in_doubt && state.guard.is_anchored() {
            return;
        }
        state.asked_at = Some(Instant::now());
        let vendor = self.clocks.vendor.clone();
        tasks.spawn(async move { vendor.ask().await });
    }
}

#[async_trait]
impl Worker for ClockKeeper {
    fn name(&self) -> &'static str {
        "clock_keeper"
    }

    async fn run_once(self: Arc<Self>, tasks: &TaskTracker) -> Result<Report, StoreError> {
        let state = &mut *self.state.lock().await;
        self.compare(state).await?;
        self.ask(state, tasks);
        if state.limit_at.is_some_and(|limit_at| limit_at <= Instant::now()) {
            let rows = self.store.limit_times_across_tenants(self.longest_retry).await?;
            state.limit_at = None;
            if rows > 0 {
                tracing::warn!(
                    rows,
                    "stored times corrected: a wrong clock had set them too far in the future"
                );
            }
        }
        Ok(Report { has_more: false, next_due: Some(self.clocks.own.now() + INTERVAL) })
    }
}
