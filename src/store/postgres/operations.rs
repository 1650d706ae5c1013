//! Runs operations on a session, with retries, cancellation and the announcement of changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::super::StoreError;
use super::super::changes::Changes;
use super::super::scan_limits::ScanPermit;
use super::PostgresStore;
use super::cancellation::cancel_on_drop;
use super::connect::Session;
use super::fault::Fault;
use super::notices::Announcer;
use super::retries::with_retries;

/// Counts the attempts whose outcome is unknown, because the answer was lost or the caller was cancelled. Such an attempt may
/// have been committed. If the count is not zero, dropping this value announces that anything may have changed.
struct UnknownOutcomes<'a> {
    announcer: &'a Announcer,
    attempts: AtomicU32,
}

impl Drop for UnknownOutcomes<'_> {
    fn drop(&mut self) {
        if *self.attempts.get_mut() > 0 {
            self.announcer.announce(Changes::everything());
        }
    }
}

impl PostgresStore {
    /// Runs an operation and measures it under its name.
    pub(super) async fn run<T, F>(
        &self,
        name: &'static str,
        operation: impl Fn(Session) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        with_retries(&self.context, &self.pool, self.context.operation_timeout, name, operation).await
    }

    /// Runs a scan. The scan is cancelled if its caller no longer waits.
    pub(super) async fn run_scan<T, F>(
        &self,
        name: &'static str,
        permit: ScanPermit,
        scan: impl Fn(Session) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let (permit, scan) = (Arc::new(permit), &scan);
        let attempt = |session| cancel_on_drop(session, self.tls.clone(), Arc::clone(&permit), scan);
        self.run(name, attempt).await
    }

    /// Runs an operation whose commit announces changes. `timeout` limits each attempt.
    pub(super) async fn change<T, F>(
        &self,
        name: &'static str,
        timeout: Duration,
        operation: impl Fn(Session) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<(T, Changes), Fault>>,
    {
        let mut unknown = UnknownOutcomes { announcer: &self.announcer, attempts: AtomicU32::new(0) };
        let attempt = |session| {
            unknown.attempts.fetch_add(1, Ordering::Relaxed);
            operation(session)
        };
        let outcome = with_retries(&self.context, &self.pool, timeout, name, attempt).await;
        // The outcome is known if there was a single attempt and its connection was not lost.
        if *unknown.attempts.get_mut() == 1 && !matches!(outcome, Err(StoreError::Unavailable(_))) {
            *unknown.attempts.get_mut() = 0;
        }
        drop(unknown);
        let (value, changes) = outcome?;
        self.announcer.announce(changes);
        Ok(value)
    }
}
