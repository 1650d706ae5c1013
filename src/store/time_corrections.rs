//! Corrections of stored times after a clock was wrong.
//!
//! A clock that was ahead leaves times in the future: work waits until then, and deadlines come too late. A
//! clock that was behind, such as one that started in 1970, leaves times in the past: deadlines and retention periods
//! seem to be over. The rule repairs both, as far as it knows by how much the clock was wrong.

use std::time::Duration;

use async_trait::async_trait;

use super::rules::{Engine, Rule, Transaction};
use super::sql::{Sql, sql};
use super::values::values;
use super::{Change, StoreError};
use crate::domain::clock::{ClockStep, Timestamp};
use crate::domain::pace::Pace;

/// A time that lies this far in the future is wrong. Clocks of replicas differ by less.
const TOLERANCE: Duration = Duration::from_mins(1);
/// 2024-01-01. No gateway ran earlier, so an earlier time comes from a clock that had lost its time.
const EARLIEST: Timestamp = Timestamp::from_millis(1_704_067_200_000);
/// Finished analyses and events keep their times after a smaller correction. The clock of a machine that was suspended
/// makes the same step as a wrong clock, but the times of its finished work are right.
const LARGE_STEP: Duration = Duration::from_hours(24);
/// The longest time for which the key of a request is remembered.
const KEY_RETENTION: Duration = Duration::from_hours(24);
/// The longest pause of a replay.
const LONGEST_REPLAY_PAUSE: Duration = Duration::from_hours(1);
/// The longest pause of a webhook after failures, with a margin.
const LONGEST_WEBHOOK_PAUSE: Duration = Duration::from_hours(1);

/// Corrections of stored times.
#[async_trait]
pub trait TimeStore: Send + Sync {
    /// Corrects stored times after a step of the clock, or after a start, when it is unknown whether the clock was wrong before.
    /// Work that lies further in the future than its schedule allows becomes due now. `longest_retry` is the longest pause
    /// between two attempts of a delivery. Returns the number of corrected rows.
    async fn correct_times_across_tenants(
        &self,
        step: Option<ClockStep>,
        longest_retry: Duration,
    ) -> Result<usize, StoreError>;
}

#[async_trait]
impl<E: Engine> TimeStore for E {
    async fn correct_times_across_tenants(
        &self,
        step: Option<ClockStep>,
        longest_retry: Duration,
    ) -> Result<usize, StoreError> {
        self.transact(CorrectTimes { step, longest_retry }).await
    }
}

struct CorrectTimes {
    step: Option<ClockStep>,
    longest_retry: Duration,
}

/// Adds `?3` to the columns whose times are from `?1` to `?2`.
macro_rules! shifted {
    ($column:literal $(, $more:literal)*) => {
        concat!(
            $column, " = CASE WHEN ", $column, " BETWEEN ?1 AND ?2 THEN ", $column, " + ?3 ELSE ", $column, " END"
            $(, ", ", $more, " = CASE WHEN ", $more, " BETWEEN ?1 AND ?2 THEN ", $more, " + ?3 ELSE ", $more, " END")*
        )
    };
}

/// Sets columns to the time `?1` if their times are later, or earlier than `?2`.
macro_rules! bounded {
    ($column:literal $(, $more:literal)*) => {
        concat!(
            $column, " = CASE WHEN ", $column, " > ?1 OR ", $column, " < ?2 THEN ?1 ELSE ", $column, " END"
            $(, ", ", $more, " = CASE WHEN ", $more, " > ?1 OR ", $more, " < ?2 THEN ?1 ELSE ", $more, " END")*
        )
    };
}

/// Times from which the age of unfinished work is measured. Parameters: the first time, the last time and the shift.
static AGES: Sql = Sql::new(&[
    "UPDATE analyses SET ",
    shifted!("started_at", "accepted_at", "empty_since", "missing_since", "denied_since"),
    " WHERE stage IS NOT NULL AND (started_at BETWEEN ?1 AND ?2 OR accepted_at BETWEEN ?1 AND ?2)",
]);

/// Submission times of calls that have no result yet. Parameters: as for [`AGES`].
static SUBMISSIONS: Sql = Sql::new(&[
    "UPDATE analyses SET ",
    shifted!("submitted_at"),
    " WHERE stage IS NOT NULL AND finished_at IS NULL AND submitted_at BETWEEN ?1 AND ?2",
]);

/// Times in the past. Parameters: as for [`AGES`].
static HISTORY: [Sql; 6] = [
    Sql::new(&[
        "UPDATE analyses SET ",
        shifted!("submitted_at", "finished_at"),
        " WHERE submitted_at BETWEEN ?1 AND ?2 OR finished_at BETWEEN ?1 AND ?2",
    ]),
    Sql::new(&["UPDATE events SET ", shifted!("at"), " WHERE at BETWEEN ?1 AND ?2"]),
    Sql::new(&[
        "UPDATE deliveries SET ",
        shifted!("created_at", "finished_at"),
        " WHERE created_at BETWEEN ?1 AND ?2 OR finished_at BETWEEN ?1 AND ?2",
    ]),
    Sql::new(&["UPDATE attempts SET ", shifted!("started_at"), " WHERE started_at BETWEEN ?1 AND ?2"]),
    Sql::new(&["UPDATE audit SET ", shifted!("at"), " WHERE at BETWEEN ?1 AND ?2"]),
    Sql::new(&[
        "UPDATE webhooks SET ",
        shifted!(
            "created_at",
            "updated_at",
            "disabled_at",
            "failing_since",
            "unsigned_since",
            "last_success_at",
            "last_failure_at"
        ),
        " WHERE TRUE",
    ]),
];

/// Times until which keys of requests are remembered. Parameters: as for [`AGES`].
static KEYS: Sql =
    Sql::new(&["UPDATE idempotency SET ", shifted!("expires_at"), " WHERE expires_at BETWEEN ?1 AND ?2"]);

/// Times at which waiting work continues. Parameters: the current time, and the time by which the clock was ahead.
static WAITING: [Sql; 4] = [
    Sql::new(&["UPDATE analyses SET due_at = due_at - ?2 WHERE stage IS NOT NULL AND due_at > ?1"]),
    Sql::new(&["UPDATE deliveries SET due_at = due_at - ?2 WHERE status = 'pending' AND due_at > ?1"]),
    Sql::new(&["UPDATE replays SET due_at = due_at - ?2 WHERE finished_at IS NULL AND due_at > ?1"]),
    Sql::new(&["UPDATE webhooks SET paused_until = paused_until - ?2 WHERE paused_until > ?1"]),
];

/// Parameters: the current time, the earliest possible time, the latest time that is not in the future, the latest
/// time at which the work may be due, and the latest time that finished work keeps, because receivers already have it.
static SUBMITS: Sql = Sql::new(&[BOUND_WORK, "stage = 'submit'", IMPOSSIBLE]);
static POLLS: Sql = Sql::new(&[BOUND_WORK, "stage <> 'submit'", IMPOSSIBLE]);
const BOUND_WORK: &str = concat!(
    "UPDATE analyses SET due_at = CASE WHEN due_at > ?4 THEN ?1 ELSE due_at END, ",
    "submitted_at = CASE WHEN submitted_at > ?5 OR submitted_at < ?2 OR (submitted_at > ?1 AND finished_at IS NULL) \
     THEN ?1 ELSE submitted_at END, \
     finished_at = CASE WHEN finished_at > ?5 OR finished_at < ?2 THEN ?1 ELSE finished_at END, ",
    bounded!("started_at", "accepted_at", "empty_since", "missing_since", "denied_since"),
    " WHERE "
);
const IMPOSSIBLE: &str = " AND (due_at > ?4 OR started_at > ?3 OR started_at < ?2 OR accepted_at > ?3 OR accepted_at < ?2 \
     OR submitted_at > ?5 OR submitted_at < ?2 OR (submitted_at > ?3 AND finished_at IS NULL) OR finished_at > ?5 OR finished_at < ?2)";

impl Rule for CorrectTimes {
    const NAME: &'static str = "correct_times";
    type Output = usize;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<usize, StoreError> {
        let now = transaction.env().clock.now();
        let mut corrected = 0;
        if let Some(step) = self.step {
            corrected += shift(transaction, step).await?;
        }
        let ahead = match self.step {
            Some(step) => step.from.since(step.to),
            None => newest(transaction).await?.map_or(Duration::ZERO, |newest| newest.since(now)),
        };
        if ahead > TOLERANCE {
            for statement in &WAITING {
                corrected += transaction.execute(statement, values![now, millis(ahead)]).await?;
            }
        }
        corrected += self.limit(transaction, now).await?;
        if corrected > 0 {
            transaction.invalidate(Change::Everything);
        }
        Ok(corrected)
    }
}

impl CorrectTimes {
    /// Replaces impossible times by the current time: times too far in the future, and times before the first gateway
    /// existed.
    async fn limit(&self, transaction: &impl Transaction, now: Timestamp) -> Result<usize, StoreError> {
        let (soon, far) = (now + TOLERANCE, now + LARGE_STEP);
        // If the clock is behind, an earlier time may be right.
        let earliest = if now > EARLIEST { EARLIEST } else { Timestamp::from_millis(i64::MIN) };
        let latest_poll = now + Pace::longest_pause(transaction.policy());
        let mut limited = 0;
        for statement in [&SUBMITS, &POLLS] {
            limited += transaction.execute(statement, values![now, earliest, soon, latest_poll, far]).await?;
        }
        let finished = sql!(
            "UPDATE analyses SET ",
            bounded!("submitted_at", "finished_at"),
            " WHERE stage IS NULL AND (finished_at > ?3 OR finished_at < ?2)"
        );
        limited += transaction.execute(finished, values![now, earliest, far]).await?;
        let events = sql!("UPDATE events SET at = ?1 WHERE at > ?3 OR at < ?2");
        limited += transaction.execute(events, values![now, earliest, far]).await?;
        let deliveries = sql!("UPDATE deliveries SET due_at = ?1 WHERE status = 'pending' AND due_at > ?2");
        limited += transaction.execute(deliveries, values![now, now + self.longest_retry]).await?;
        let replays = sql!("UPDATE replays SET due_at = ?1 WHERE finished_at IS NULL AND due_at > ?2");
        limited += transaction.execute(replays, values![now, now + LONGEST_REPLAY_PAUSE]).await?;
        let webhooks = sql!("UPDATE webhooks SET paused_until = ?1 WHERE paused_until > ?2");
        Ok(limited + transaction.execute(webhooks, values![now, now + LONGEST_WEBHOOK_PAUSE]).await?)
    }
}

/// Shifts the times that the wrong clock wrote by the correction.
async fn shift(transaction: &impl Transaction, step: ClockStep) -> Result<usize, StoreError> {
    let values = values![step.since, step.from, step.shift_millis()];
    let mut shifted = transaction.execute(&AGES, values).await?;
    shifted += transaction.execute(&SUBMISSIONS, values).await?;
    // Only after such a step do the times of the wrong clock not overlap with right times.
    if step.size() >= LARGE_STEP && step.size() > step.from.since(step.since) {
        for statement in &HISTORY {
            shifted += transaction.execute(statement, values).await?;
        }
        let expiries = values![step.since, step.from + KEY_RETENTION, step.shift_millis()];
        shifted += transaction.execute(&KEYS, expiries).await?;
    }
    Ok(shifted)
}

/// Returns the latest time of an event or of a start of work in the store.
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

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
