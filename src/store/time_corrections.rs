//! Corrections of stored times when the gateway's clock steps.
//!
//! All waiting work keeps its age. For this purpose, the start of each deadline and of each grace period moves by the step. The
//! time since which a webhook has been failing also moves: a webhook is disabled after it has failed for five days. Expiries move
//! in the same way. So no deadline passes because of a step, and a step back undoes a step forward. After a step forward, waiting
//! work becomes due. After a step back, waiting work keeps its pause. Leases keep their remaining time. Times that were written
//! while the clock was wrong are corrected too.

use std::time::{Duration, Instant};

use super::StoreError;
use super::rules::Transaction;
use super::sql::{Sql, sql};
use super::values::values;
use crate::domain::clock::{ClockStep, Timestamp};
use crate::domain::clock_guard::EARLIEST;
use crate::domain::pace::Pace;

/// A time that lies this far in the future is wrong, because the clocks of replicas differ by less than this duration.
const TOLERANCE: Duration = Duration::from_mins(1);
/// Finished analyses and events keep their times after a smaller step, because receivers have got these times already.
const LARGE_STEP: Duration = Duration::from_hours(24);
/// Upper bound for the pause of a replay. Replays of this version pause for a shorter time; later versions may pause longer.
const LONGEST_REPLAY_PAUSE: Duration = Duration::from_hours(1);
/// Upper bound for the pause of a webhook after failures. Later versions may pause a webhook for longer than this version.
const LONGEST_WEBHOOK_PAUSE: Duration = Duration::from_hours(1);

/// Adds `?3` to the columns whose times are after `?1` and not after `?2`.
macro_rules! shifted {
    ($column:literal $(, $more:literal)*) => {
        concat!(
            $column, " = CASE WHEN ", $column, " > ?1 AND ", $column, " <= ?2 THEN ", $column, " + ?3 ELSE ", $column, " END"
            $(, ", ", $more, " = CASE WHEN ", $more, " > ?1 AND ", $more, " <= ?2 THEN ", $more, " + ?3 ELSE ", $more, " END")*
        )
    };
}

/// Sets columns to the time `?1` if their times are later than `?1` or earlier than `?2`.
macro_rules! bounded {
    ($column:literal $(, $more:literal)*) => {
        concat!(
            $column, " = CASE WHEN ", $column, " > ?1 OR ", $column, " < ?2 THEN ?1 ELSE ", $column, " END"
            $(, ", ", $more, " = CASE WHEN ", $more, " > ?1 OR ", $more, " < ?2 THEN ?1 ELSE ", $more, " END")*
        )
    };
}

/// Moves the times at which waiting work began. Parameters: the shift in milliseconds, the exclusive start and the inclusive end of
/// the row numbers. The plus sign prevents a scan of the whole table in the order of the row numbers.
static WORK: Sql = Sql::new(&[
    "UPDATE analyses SET started_at = started_at + ?1, sent_at = sent_at + ?1, accepted_at = accepted_at + ?1, \
     empty_since = empty_since + ?1, missing_since = missing_since + ?1, denied_since = denied_since + ?1 \
     WHERE stage IS NOT NULL AND +id > ?2 AND +id <= ?3",
]);

/// Statements that move the times at which the failures of webhooks began, and the buckets of rates. The only parameter of each
/// statement is the shift in milliseconds.
static AGES: [Sql; 2] = [
    Sql::new(&[
        "UPDATE webhooks SET failing_since = failing_since + ?1, unsigned_since = unsigned_since + ?1 \
         WHERE failing_since IS NOT NULL OR unsigned_since IS NOT NULL",
    ]),
    Sql::new(&[
        "UPDATE webhooks SET bucket_full_at = bucket_full_at + 1000 * CAST(?1 AS bigint) WHERE bucket_full_at IS NOT NULL",
    ]),
];

/// Statements that move the ends of leases and the expiries that have not passed. Parameters of each: the time that the
/// clock showed before the step, and the shift in milliseconds.
static ENDS: [Sql; 6] = [
    Sql::new(&["UPDATE analyses SET due_at = due_at + ?2 WHERE leased AND due_at > ?1"]),
    Sql::new(&[
        "UPDATE deliveries SET due_at = due_at + ?2 WHERE leased AND status = 'pending' AND due_at > ?1",
    ]),
    Sql::new(&["UPDATE learned_answers SET leased_until = leased_until + ?2 WHERE leased_until > ?1"]),
    Sql::new(&["UPDATE idempotency SET leased_until = leased_until + ?2 WHERE leased_until > ?1"]),
    Sql::new(&["UPDATE idempotency SET expires_at = expires_at + ?2 WHERE expires_at > ?1"]),
    Sql::new(&["UPDATE webhooks SET previous_until = previous_until + ?2 WHERE previous_until > ?1"]),
];

/// Creates a statement that corrects the times in a column that are later than `?1`, the time after the step. A time
/// later than `?3`, the time before the step, moves by the shift `?2`. An earlier time becomes `?1`.
macro_rules! waiting {
    ($table:literal, $column:literal, $condition:literal) => {
        Sql::new(&[concat!(
            "UPDATE ",
            $table,
            " SET ",
            $column,
            " = CASE WHEN ",
            $column,
            " > ?3 THEN ",
            $column,
            " + ?2 ELSE ?1 END WHERE ",
            $condition,
            " AND ",
            $column,
            " > ?1"
        )])
    };
}

/// Statements that move the times at which waiting work continues, after a step back. Parameters of each: the time that
/// the clock shows after the step, the shift in milliseconds, and the time that the clock showed before the step.
static WAITING: [Sql; 5] = [
    waiting!("analyses", "due_at", "stage IS NOT NULL AND NOT leased"),
    waiting!("analyses", "refreshed_at", "refreshed_at IS NOT NULL"),
    waiting!("deliveries", "due_at", "status = 'pending' AND NOT leased"),
    waiting!("replays", "due_at", "finished_at IS NULL"),
    waiting!("webhooks", "paused_until", "paused_until IS NOT NULL"),
];

/// Moves the times of submission of calls without a result, after a small step. Parameters: the exclusive start and the
/// inclusive end of the period whose times are moved, and the shift in milliseconds.
static SUBMISSIONS: Sql = Sql::new(&[
    "UPDATE analyses SET ",
    shifted!("submitted_at"),
    " WHERE stage IS NOT NULL AND finished_at IS NULL AND submitted_at > ?1 AND submitted_at <= ?2",
]);

/// Statements that move the times of past events, after a large step. Parameters of each: the exclusive start and the
/// inclusive end of the period whose times are moved, and the shift in milliseconds.
static HISTORY: [Sql; 7] = [
    Sql::new(&[
        "UPDATE analyses SET ",
        shifted!("submitted_at", "finished_at"),
        " WHERE submitted_at > ?1 AND submitted_at <= ?2 OR finished_at > ?1 AND finished_at <= ?2",
    ]),
    Sql::new(&["UPDATE events SET ", shifted!("at"), " WHERE at > ?1 AND at <= ?2"]),
    Sql::new(&[
        "UPDATE deliveries SET ",
        shifted!("created_at", "finished_at"),
        " WHERE created_at > ?1 AND created_at <= ?2 OR finished_at > ?1 AND finished_at <= ?2",
    ]),
    Sql::new(&[
        "UPDATE attempts SET ",
        shifted!("started_at"),
        " WHERE started_at > ?1 AND started_at <= ?2",
    ]),
    Sql::new(&["UPDATE audit SET ", shifted!("at"), " WHERE at > ?1 AND at <= ?2"]),
    Sql::new(&[
        "UPDATE replays SET ",
        shifted!("since", "until", "at", "created_at", "finished_at"),
        " WHERE TRUE",
    ]),
    Sql::new(&[
        "UPDATE webhooks SET ",
        shifted!("created_at", "updated_at", "disabled_at", "last_success_at", "last_failure_at"),
        " WHERE TRUE",
    ]),
];

/// Replaces impossible times of work by the present time. Parameters: the present time; the earliest possible time; the
/// latest time that does not count as future; the latest possible due time; and the latest possible time of finished
/// work. The last parameter is later than the third one, because receivers already have the times of finished work.
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

/// Moves stored times by a step of the clock. `began` is the moment at which the clock shows the time [`ClockStep::to`]. Returns the
/// number of changed rows.
pub(super) async fn shift_times(
    transaction: &impl Transaction,
    step: ClockStep,
    began: Instant,
) -> Result<usize, StoreError> {
    let ClockStep { since, from, to } = step;
    let shift = step.shift_millis();
    let newest = sql!("SELECT max(id) AS newest FROM analyses");
    let newest =
        transaction.find(newest, &[], |row| row.get::<Option<i64>>("newest")).await?.flatten().unwrap_or(0);
    let mut shifted = transaction.execute(&WORK, values![shift, 0_i64, newest]).await?;
    for statement in &AGES {
        shifted += transaction.execute(statement, values![shift]).await?;
    }
    for statement in &ENDS {
        shifted += transaction.execute(statement, values![from, shift]).await?;
    }
    if shift < 0 {
        for statement in &WAITING {
            shifted += transaction.execute(statement, values![to, shift, from]).await?;
        }
    }
    // The clock has been wrong since this time. Times after `to` lie in the future, so they are wrong in any case.
    let since = since.map_or(Timestamp::from_millis(0), |since| since.min(to));
    // When the gateway starts, `from` is the stored time, which may be a little older than the newest rows. The tolerance covers
    // these rows.
    let wrong = values![since, from + began.elapsed() + TOLERANCE, shift];
    let history = if step.size() >= LARGE_STEP { &HISTORY[..] } else { std::slice::from_ref(&SUBMISSIONS) };
    for statement in history {
        shifted += transaction.execute(statement, wrong).await?;
    }
    // On PostgreSQL, other transactions submit calls while this one corrects the times. Their times come from the wrong clock.
    Ok(shifted + transaction.execute(&WORK, values![shift, newest, i64::MAX]).await?)
}

/// Replaces impossible times by the current time: times too far in the future, and times before any gateway ran. A replica that
/// adopts a step late writes such times.
pub(super) async fn limit_times(
    transaction: &impl Transaction,
    longest_retry: Duration,
) -> Result<usize, StoreError> {
    let now = transaction.env().clock.now();
    let (soon, far) = (now + TOLERANCE, now + LARGE_STEP);
    // If the clock itself is behind, early times may be right.
    let earliest = if now > EARLIEST { EARLIEST } else { Timestamp::from_millis(i64::MIN) };
    let latest_poll = soon + Pace::longest_pause(transaction.policy());
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
    limited += transaction.execute(deliveries, values![now, soon + longest_retry]).await?;
    let replays = sql!("UPDATE replays SET due_at = ?1 WHERE finished_at IS NULL AND due_at > ?2");
    limited += transaction.execute(replays, values![now, soon + LONGEST_REPLAY_PAUSE]).await?;
    let webhooks = sql!("UPDATE webhooks SET paused_until = ?1 WHERE paused_until > ?2");
    Ok(limited + transaction.execute(webhooks, values![now, soon + LONGEST_WEBHOOK_PAUSE]).await?)
}
