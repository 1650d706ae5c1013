//! Tests of repeated writes.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::*;
use crate::domain::clock::{Clock, SystemEntropy};
use crate::domain::public_url::PublicUrl;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::tests::logged;

const LEASE: Duration = Duration::from_secs(100);

/// A clock that the test advances.
#[derive(Default)]
struct ManualClock(AtomicI64);

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// The result of a sequence of writes.
struct Written {
    stored: Option<&'static str>,
    /// Number of writes.
    writes: usize,
    log: String,
}

impl Written {
    fn logged(&self, text: &str) -> usize {
        self.log.matches(text).count()
    }
}

fn unavailable() -> Result<&'static str, StoreError> {
    Err(StoreError::Unavailable("the disk is full".into()))
}

/// Writes an outcome. Each write takes `duration` and gets the next answer. The store is unavailable after the last answer.
fn write(
    duration: Duration,
    grace_over: &CancellationToken,
    answers: impl IntoIterator<Item = Result<&'static str, StoreError>>,
) -> Written {
    let clock = Arc::new(ManualClock::default());
    let env = Env {
        clock: clock.clone(),
        wall_clock: clock.clone(),
        entropy: Arc::new(SystemEntropy),
        encryption: Arc::default(),
        metrics: Arc::new(Metrics::new().unwrap()),
        public_url: PublicUrl::new(None),
    };
    let (answers, writes) = (RefCell::new(answers.into_iter()), Cell::new(0));
    let write = || {
        writes.set(writes.get() + 1);
        clock.0.fetch_add(i64::try_from(duration.as_millis()).unwrap(), Ordering::Relaxed);
        std::future::ready(answers.borrow_mut().next().unwrap_or_else(unavailable))
    };
    let outcomes = OutcomeWriter::new(env.clone(), grace_over.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (stored, log) = logged(|| {
        runtime.block_on(outcomes.write(("apply", "analyses"), Timestamp::from_millis(0) + LEASE, write))
    });
    let retries = env.metrics.store_retries.with_label_values(&["apply"]).get();
    assert_eq!(usize::try_from(retries).unwrap() + 1, writes.get());
    Written { stored, writes: writes.get(), log }
}

#[test]
fn a_failed_write_is_repeated_and_logged_once() {
    let answers = [unavailable(), unavailable(), unavailable(), Ok("stored")];
    let written = write(Duration::ZERO, &CancellationToken::new(), answers);
    assert_eq!((written.stored, written.writes), (Some("stored"), 4));
    assert_eq!(written.logged("failed to store the outcome"), 1, "{}", written.log);
    assert_eq!(written.logged("retry_until=1970-01-01T00:01:40Z"), 1, "{}", written.log);
    assert_eq!((written.logged("ERROR"), written.logged("outcome stored")), (0, 1), "{}", written.log);
}

/// The first write was committed, and its confirmation was lost.
#[test]
fn a_lease_that_ends_between_two_writes_is_no_error() {
    let answers = [unavailable(), Err(StoreError::LeaseLost)];
    let written = write(Duration::ZERO, &CancellationToken::new(), answers);
    assert_eq!((written.stored, written.writes), (None, 2));
    assert_eq!((written.logged("ERROR"), written.logged("probably stored")), (0, 1), "{}", written.log);
}

#[test]
fn no_write_follows_the_end_of_the_lease() {
    let written = write(LEASE * 2 / 5, &CancellationToken::new(), []);
    assert_eq!((written.stored, written.writes), (None, 3));
    assert_eq!((written.logged("ERROR"), written.logged("outcome lost")), (1, 1), "{}", written.log);
}

#[test]
fn no_write_follows_the_end_of_the_grace_period() {
    let grace_over = CancellationToken::new();
    grace_over.cancel();
    let written = write(Duration::ZERO, &grace_over, []);
    assert_eq!((written.stored, written.writes, written.logged("outcome lost")), (None, 1, 1));
}

#[test]
fn a_permanent_failure_and_a_lost_lease_are_not_repeated() {
    for (error, level) in [
        (StoreError::LeaseLost, "WARN"),
        (StoreError::FileLost("the file was removed".to_owned()), "ERROR"),
        (StoreError::Corrupt("analyses.trace".to_owned()), "ERROR"),
    ] {
        let written = write(Duration::ZERO, &CancellationToken::new(), [Err(error)]);
        assert_eq!((written.stored, written.writes, written.logged(level)), (None, 1, 1), "{}", written.log);
    }
}
