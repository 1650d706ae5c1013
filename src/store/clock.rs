//! The state of the gateway's clock, which all replicas share. The rule for jumps of the clock is in
//! [`domain::clock_guard`](crate::domain::clock_guard).

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::engine::Engine;
use super::rules::{Rule, Transaction};
use super::sql::sql;
use super::time_corrections::{limit_times, shift_times};
use super::values::{Row, values};
use super::{Change, StoreError};
use crate::domain::clock::{ClockStep, SteadyClock, Timestamp};
use crate::domain::clock_guard::{JumpConfirmation, StoredClock};

/// The clock in the store.
#[async_trait]
pub trait ClockStore: Send + Sync {
    /// Reads the clock. If an earlier version wrote the store and left no clock, returns a clock with the newest stored time.
    /// Returns `None` if the store is new.
    async fn find_clock(&self) -> Result<Option<StoredClock>, StoreError>;

    /// Records the time of a gateway's clock, unless the store has a later time. `is_anchored` says whether the time was ever
    /// confirmed. `steps` is the number of clock steps that the gateway knows. If the store has another number, the method
    /// records nothing and returns `false`.
    async fn record_clock(&self, at: Timestamp, steps: i64, is_anchored: bool) -> Result<bool, StoreError>;

    /// Makes the clock of all replicas jump by `step`: corrects the stored times and sets `clock`, in one transaction. `steps`
    /// is the number of earlier steps. Returns the number of corrected rows, or `None` if another replica has stepped the clock.
    /// If the transaction fails, `clock` may have been set nevertheless.
    async fn step_clock_across_tenants(
        &self,
        clock: Arc<SteadyClock>,
        step: ClockStep,
        confirmation: JumpConfirmation,
        steps: i64,
    ) -> Result<Option<usize>, StoreError>;

    /// Records that an operator confirms the time `at`. Returns `false` if no gateway has used the store yet.
    async fn confirm_clock(&self, at: Timestamp) -> Result<bool, StoreError>;

    /// Corrects the times that were stored while a clock was wrong. If work is due later than its schedule allows, the work
    /// becomes due now. Impossible times become the current time. `longest_retry` is the longest pause between two attempts of a
    /// delivery. Returns the number of corrected rows.
    async fn limit_times_across_tenants(&self, longest_retry: Duration) -> Result<usize, StoreError>;
}

#[async_trait]
impl<E: Engine> ClockStore for E {
    async fn find_clock(&self) -> Result<Option<StoredClock>, StoreError> {
        self.query(FindClock).await
    }

    async fn record_clock(&self, at: Timestamp, steps: i64, is_anchored: bool) -> Result<bool, StoreError> {
        self.transact(RecordClock { at, steps, is_anchored }).await
    }

    async fn step_clock_across_tenants(
        &self,
        clock: Arc<SteadyClock>,
        step: ClockStep,
        confirmation: JumpConfirmation,
        steps: i64,
    ) -> Result<Option<usize>, StoreError> {
        let began = Instant::now();
        self.transact(StepClock { clock, step, confirmation, steps, began }).await
    }

    async fn confirm_clock(&self, at: Timestamp) -> Result<bool, StoreError> {
        self.transact(ConfirmClock { at }).await
    }

    async fn limit_times_across_tenants(&self, longest_retry: Duration) -> Result<usize, StoreError> {
        self.transact(LimitTimes { longest_retry }).await
    }
}

/// Time limit of a step of the clock, and of those operations of the clock keeper that may wait for a step. After an outage, a step
/// changes every unfinished analysis. On PostgreSQL, 1,000,000 changes take about a minute.
const STEP_TIMEOUT: Duration = Duration::from_mins(5);

const COLUMNS: &str = "at, steps, is_anchored, retention_after, confirmed";

fn read(row: &dyn Row) -> Result<StoredClock, StoreError> {
    Ok(StoredClock {
        at: row.get("at")?,
        steps: row.get("steps")?,
        is_anchored: row.get("is_anchored")?,
        retention_after: row.get("retention_after")?,
        confirmed: row.get("confirmed")?,
    })
}

struct FindClock;

impl Rule for FindClock {
    const NAME: &'static str = "find_clock";
    type Output = Option<StoredClock>;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Option<StoredClock>, StoreError> {
        let select = sql!("SELECT ", COLUMNS, " FROM clock");
        if let Some(stored) = transaction.find(select, &[], read).await? {
            return Ok(Some(stored));
        }
        Ok(newest(transaction).await?.map(|at| StoredClock {
            at,
            steps: 0,
            is_anchored: true,
            retention_after: at,
            confirmed: None,
        }))
    }
}

/// Returns the newest stored time of an event, or of the start of work on an analysis.
async fn newest(transaction: &impl Transaction) -> Result<Option<Timestamp>, StoreError> {
    let mut newest = None;
    for select in [
        sql!("SELECT max(at) AS newest FROM events"),
        sql!("SELECT max(started_at) AS newest FROM analyses WHERE stage = 'submit'"),
        sql!("SELECT max(started_at) AS newest FROM analyses WHERE stage <> 'submit'"),
    ] {
        let found = transaction.find(select, &[], |row| row.get::<Option<Timestamp>>("newest")).await?;
        newest = newest.max(found.flatten());
    }
    Ok(newest)
}

struct RecordClock {
    at: Timestamp,
    steps: i64,
    is_anchored: bool,
}

impl Rule for RecordClock {
    const NAME: &'static str = "record_clock";
    const NOTIFIES: bool = false;
    const TIME_LIMIT: Option<Duration> = Some(STEP_TIMEOUT);
    type Output = bool;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<bool, StoreError> {
        let upsert = sql!(
            "INSERT INTO clock (id, at, steps, is_anchored, retention_after) VALUES (1, ?1, ?2, ?3, ?1) \
             ON CONFLICT (id) DO UPDATE SET at = CASE WHEN excluded.at > clock.at THEN excluded.at ELSE clock.at END, \
             is_anchored = clock.is_anchored OR excluded.is_anchored WHERE clock.steps = excluded.steps"
        );
        let values = values![self.at, self.steps, self.is_anchored];
        Ok(transaction.execute(upsert, values).await? > 0)
    }
}

struct StepClock {
    clock: Arc<SteadyClock>,
    step: ClockStep,
    confirmation: JumpConfirmation,
    steps: i64,
    /// Moment at which the clock shows the time [`ClockStep::to`].
    began: Instant,
}

impl Rule for StepClock {
    const NAME: &'static str = "step_clock";
    const TIME_LIMIT: Option<Duration> = Some(STEP_TIMEOUT);
    type Output = Option<usize>;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Option<usize>, StoreError> {
        let select = sql!("SELECT ", COLUMNS, " FROM clock WHERE steps = ?1 FOR UPDATE");
        let Some(stored) = transaction.find(select, values![self.steps], read).await? else {
            return Ok(None);
        };
        let StoredClock { at: _, steps, is_anchored, retention_after, confirmed } =
            stored.stepped(self.step, self.confirmation);
        let shifted = shift_times(transaction, self.step, self.began).await?;
        // The correction of the times may take minutes, and the clock advances meanwhile.
        let at = self.step.to + self.began.elapsed();
        let update = sql!(
            "UPDATE clock SET at = ?1, steps = ?2, is_anchored = ?3, retention_after = ?4, confirmed = ?5 WHERE id = 1"
        );
        transaction.execute(update, values![at, steps, is_anchored, retention_after, confirmed]).await?;
        // The clock changes inside the transaction, so that the next transaction of this process finds corrected times and the
        // corrected clock.
        self.clock.set(at);
        transaction.invalidate(Change::Everything);
        Ok(Some(shifted))
    }
}

struct ConfirmClock {
    at: Timestamp,
}

impl Rule for ConfirmClock {
    const NAME: &'static str = "confirm_clock";
    const NOTIFIES: bool = false;
    type Output = bool;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<bool, StoreError> {
        let update = sql!("UPDATE clock SET confirmed = ?1");
        Ok(transaction.execute(update, values![self.at]).await? > 0)
    }
}

struct LimitTimes {
    longest_retry: Duration,
}

impl Rule for LimitTimes {
    const NAME: &'static str = "limit_times";
    const TIME_LIMIT: Option<Duration> = Some(STEP_TIMEOUT);
    type Output = usize;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<usize, StoreError> {
        let limited = limit_times(transaction, self.longest_retry).await?;
        if limited > 0 {
            transaction.invalidate(Change::Everything);
        }
        Ok(limited)
    }
}
