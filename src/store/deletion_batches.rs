//! Deletion in short transactions.

use std::time::Duration;

use super::StoreError;
use super::engine::Engine;
use super::rules::Rule;

/// The outcome of a transaction that deletes a batch.
pub(super) struct DeletedBatch {
    /// Number of deleted rows.
    pub(super) rows: usize,
    /// Duration of the deletion, without the commit.
    pub(super) took: Duration,
}

/// Number of rows of each kind in the first batch. The sizes of the later batches adapt.
const FIRST_BATCH: usize = 4;
/// If a batch takes longer than this duration, the next batch is smaller. On `SQLite` all other writes wait for a batch.
const LONG_BATCH: Duration = Duration::from_millis(20);

/// Deletes up to `limit` rows of each kind, and returns the number of deleted rows. The deletion of a row takes from
/// microseconds to many milliseconds, so the size of the batches adapts. Other transactions run between the batches.
pub(super) async fn delete_in_batches<R: Rule<Output = DeletedBatch>>(
    engine: &impl Engine,
    limit: usize,
    batch: impl Fn(usize) -> R + Send,
) -> Result<usize, StoreError> {
    let (mut deleted, mut size) = (0, FIRST_BATCH);
    while deleted < limit {
        size = size.min(limit - deleted);
        let DeletedBatch { rows, took } = engine.transact(batch(size)).await?;
        deleted += rows;
        if rows < size {
            break;
        }
        size = if took > LONG_BATCH { (size / 2).max(1) } else { size * 2 };
    }
    Ok(deleted)
}
