//! Keeps the clock of schedules correct, and the stored times after a clock was wrong.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;

use super::{Report, Worker};
use crate::domain::clock::{Clock, ClockStep, SteadyClock};
use crate::domain::retries::RetrySchedule;
use crate::env::Env;
use crate::store::{Store, StoreError};

/// Interval at which the clock of schedules is compared with its reference.
const INTERVAL: Duration = Duration::from_secs(2);
/// The largest gradual correction in one comparison. It is so small that no lease ends early.
const GRADUAL: Duration = Duration::from_millis(200);

/// The worker that keeps the clock of schedules and the stored times correct.
pub struct ClockKeeper {
    /// The clock of schedules and leases.
    pub steady: Arc<SteadyClock>,
    /// The clock that `steady` follows; `None` if the store sets `steady`.
    pub reference: Option<Arc<dyn Clock>>,
    /// Store whose times are corrected.
    pub store: Arc<dyn Store>,
    /// The longest pause between two attempts of a delivery.
    pub longest_retry: Duration,
    /// Environment, for its metrics.
    pub env: Env,
    /// Corrections that the store has not made yet. At the start there is one of unknown size.
    pub pending: Mutex<Vec<Option<ClockStep>>>,
}

impl ClockKeeper {
    /// Creates the worker. Its first step corrects stored times, because the clock may have been wrong before this
    /// start.
    pub fn new(
        steady: Arc<SteadyClock>,
        reference: Option<Arc<dyn Clock>>,
        store: Arc<dyn Store>,
        schedule: &RetrySchedule,
        env: Env,
    ) -> Self {
        let pending = Mutex::new(vec![None]);
        Self { steady, reference, store, longest_retry: schedule.longest_pause(), env, pending }
    }

    fn announce(&self, step: ClockStep) {
        self.env.metrics.clock_steps.with_label_values(&[step.direction()]).inc();
        let seconds = step.shift_millis() / 1000;
        tracing::warn!(from = %step.from, to = %step.to, seconds, "clock corrected: it was wrong");
    }
}

#[async_trait]
impl Worker for ClockKeeper {
    fn name(&self) -> &'static str {
        "clock_keeper"
    }

    async fn run_once(self: Arc<Self>, _tasks: &TaskTracker) -> Result<Report, StoreError> {
        if let Some(reference) = &self.reference {
            self.steady.follow(reference.now(), GRADUAL);
        }
        let mut pending = self.pending.lock().await;
        for step in self.steady.take_steps() {
            self.announce(step);
            pending.push(Some(step));
        }
        // A correction that fails is repeated with the next step of this worker.
        while let Some(step) = pending.first().copied() {
            let rows = self.store.correct_times_across_tenants(step, self.longest_retry).await?;
            pending.remove(0);
            if rows > 0 {
                tracing::warn!(rows, "stored times corrected after a wrong clock");
            }
        }
        Ok(Report { started: 0, next_due: Some(self.env.clock.now() + INTERVAL) })
    }
}
