//! Repeats operations that a busy machine could not finish in time.
//!
//! Test binaries share this source with `#[path = "../support/patience.rs"] mod patience;`.

use std::time::{Duration, Instant};

use alovoice_gateway::store::StoreError;

/// Time for which a test repeats such an operation. It only ends a test that would never end.
pub(crate) const PATIENCE: Duration = Duration::from_mins(5);

/// Calls the store until a busy database answers in time.
pub(crate) async fn patiently<T, F: Future<Output = Result<T, StoreError>>>(call: impl Fn() -> F) -> T {
    let began = Instant::now();
    loop {
        match call().await {
            Err(StoreError::Unavailable(_) | StoreError::Refused(_)) if began.elapsed() < PATIENCE => {}
            outcome => return outcome.unwrap(),
        }
    }
}
