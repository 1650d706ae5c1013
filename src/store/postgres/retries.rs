//! Retries of operations after transient failures.

use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::time::{Instant, sleep, timeout_at};

use super::super::engine::measure;
use super::super::{StoreContext, StoreError};
use super::connect::Session;
use super::fault::Fault;

/// Maximum pause before a retry. Each pause is a random fraction of this maximum.
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// Runs an operation with [`retry`] on a connection from the pool, and measures the operation under its name.
pub(super) async fn with_retries<T, F>(
    context: &StoreContext,
    pool: &Pool,
    timeout: Duration,
    name: &'static str,
    operation: impl Fn(Session) -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, Fault>>,
{
    let began = Instant::now();
    let attempt = async |deadline| {
        let outcome = operation(Session::take(pool, deadline).await?).await;
        if outcome.as_ref().is_err_and(Fault::is_read_only) {
            // The other connections of the pool lead to the same server, so they are closed too.
            pool.retain(|_, _| false);
        }
        outcome
    };
    let outcome = retry(context, timeout, name, attempt).await.map_err(StoreError::from);
    measure(&context.env.metrics, name, began.into_std(), &outcome);
    outcome
}

/// Runs an operation, and repeats it after transient failures. `timeout` limits each attempt, and `operation` gets the deadline
/// of its attempt. The retries end after four fifths of the store's `operation_timeout`. In production, a restart of the database
/// takes less time than these retries.
pub(super) async fn retry<T, F>(
    context: &StoreContext,
    timeout: Duration,
    name: &'static str,
    operation: impl Fn(Instant) -> F,
) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    let StoreContext { env, operation_timeout, .. } = context;
    let end = Instant::now() + *operation_timeout * 4 / 5;
    let mut is_logged = false;
    loop {
        let deadline = Instant::now() + timeout;
        let fault = match timeout_at(deadline, operation(deadline)).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(fault)) => fault,
            Err(_) => Fault::TimedOut,
        };
        let pause = MAX_PAUSE.mul_f64(env.entropy.fraction());
        if !fault.is_transient() || Instant::now() + pause >= end {
            return Err(fault);
        }
        // During an outage many operations wait. One log line for each of them is enough.
        if !is_logged {
            tracing::warn!(transaction = name, error = %fault, "transaction failed and is retried");
            is_logged = true;
        }
        env.metrics.store_retries.with_label_values(&[name]).inc();
        sleep(pause).await;
    }
}
