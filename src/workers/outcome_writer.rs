//! Writes the outcomes of requests to the store, and repeats a write while the store is unavailable.
//!
//! A request cannot be undone. If the outcome is not stored, a callback is delivered again although the receiver accepted it, and
//! the outcome of a submit counts as unknown. A full disk or a failover of the database must not cause this, so a failed write is
//! repeated until the lease ends.
//!
//! A write can succeed although its confirmation is lost. The fencing token makes the repetition safe: the first write has ended
//! the lease, so the next write fails with [`StoreError::LeaseLost`] and changes nothing.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::clock::Timestamp;
use crate::env::Env;
use crate::store::StoreError;
use crate::telemetry::spans;

/// Maximum pause before the first repetition. The maximum doubles with each repetition, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause between two writes of one outcome. This limit bounds the delay after the store is available again.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Writes outcomes. Clones share the cancellation token.
#[derive(Clone)]
pub struct OutcomeWriter {
    env: Env,
    grace_over: CancellationToken,
}

impl OutcomeWriter {
    /// Creates the writer. The writer repeats no write after `grace_over` is cancelled, so that work does not outlive the grace
    /// period of a shutdown.
    pub const fn new(env: Env, grace_over: CancellationToken) -> Self {
        Self { env, grace_over }
    }

    /// Writes an outcome with `write`. `transaction` and `table` name the transaction and its table in logs and spans. After a
    /// temporary failure, repeats the write until `lease_end`. Returns `None` if the outcome is discarded, or if no write was
    /// confirmed. The reason is in the log.
    pub(super) async fn write<T, F>(
        &self,
        (transaction, table): (&'static str, &'static str),
        lease_end: Timestamp,
        write: impl Fn() -> F,
    ) -> Option<T>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let write = || spans::run(spans::store(transaction, table), StoreError::label, write());
        let error = match write().await {
            Ok(stored) => return Some(stored),
            Err(StoreError::LeaseLost) => {
                tracing::warn!(transaction, "outcome discarded: the lease was lost");
                return None;
            }
            Err(error) => error,
        };
        if !error.is_temporary() {
            tracing::error!(transaction, %error, "failed to store the outcome");
            return None;
        }
        tracing::warn!(transaction, %error, retry_until = %lease_end, "failed to store the outcome: the write is repeated");
        match self.repeat(transaction, lease_end, error, write).await {
            Ok(stored) => {
                tracing::info!(transaction, "outcome stored after repeated writes");
                return Some(stored);
            }
            // An earlier write was committed, or the lease expired and another replica claimed the work. After the grace period
            // there is a third cause: the shutdown has released the lease.
            Err(StoreError::LeaseLost) if !self.grace_over.is_cancelled() => {
                tracing::info!(
                    transaction,
                    "outcome probably stored: the lease has ended, probably because an earlier write succeeded without a confirmation"
                );
            }
            Err(error) => {
                tracing::error!(transaction, %error, "outcome lost: the work is repeated when the lease ends");
            }
        }
        None
    }

    /// Repeats a write that has failed with `error`. Returns the last error when the lease or the grace period ends.
    async fn repeat<T, F>(
        &self,
        transaction: &'static str,
        lease_end: Timestamp,
        mut error: StoreError,
        write: impl Fn() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut longest = FIRST_PAUSE;
        loop {
            // The jitter spreads the writes of all work that failed at the same moment.
            let pause = longest.mul_f64(f64::midpoint(1.0, self.env.entropy.fraction()));
            if self.env.clock.now() + pause >= lease_end || !self.pause(pause).await {
                return Err(error);
            }
            self.env.metrics.store_retries.with_label_values(&[transaction]).inc();
            match write().await {
                Err(next) if next.is_temporary() => error = next,
                outcome => return outcome,
            }
            longest = LONGEST_PAUSE.min(longest * 2);
        }
    }

    /// Waits for the pause. Returns `false` if the grace period ended during the pause.
    async fn pause(&self, pause: Duration) -> bool {
        tokio::time::timeout(pause, self.grace_over.cancelled()).await.is_err()
    }
}

#[cfg(test)]
mod tests;
