//! The learned processing times of tenants.

use super::StoreError;
use super::rules::Transaction;
use super::sql::sql;
use super::unreadable::skip;
use super::values::{Row, values};
use crate::domain::ids::TenantId;
use crate::domain::pace::Pace;

/// Reads the learned estimate of a tenant's processing times. The row is not locked, so two simultaneous results may
/// update the same estimate.
pub(super) async fn find_pace(
    transaction: &impl Transaction,
    tenant: &TenantId,
) -> Result<Option<Pace>, StoreError> {
    let select =
        sql!("SELECT first_poll_after_ms, slowest_ms, samples, learned_at FROM paces WHERE tenant = ?1");
    let read = |row: &dyn Row| {
        Ok(Pace {
            first_poll_after: row.get("first_poll_after_ms")?,
            slowest: row.get("slowest_ms")?,
            samples: row.get("samples")?,
            learned_at: row.get("learned_at")?,
        })
    };
    let pace = transaction
        .find(select, values![tenant], |row| skip(transaction, "paces", tenant, read(row)))
        .await?;
    Ok(pace.flatten())
}

/// Writes the learned estimate. `is_first` says whether the tenant has no estimate yet. If another transaction is writing the
/// same row, skips the write. A missing sample does little harm, and a wait would delay the transaction.
pub(super) async fn save_pace(
    transaction: &impl Transaction,
    tenant: &TenantId,
    pace: Pace,
    is_first: bool,
) -> Result<(), StoreError> {
    let save = if is_first {
        sql!(
            "INSERT INTO paces (tenant, first_poll_after_ms, slowest_ms, samples, learned_at) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT (tenant) DO NOTHING"
        )
    } else {
        sql!(
            "WITH free AS MATERIALIZED (SELECT tenant FROM paces WHERE tenant = ?1 FOR UPDATE SKIP LOCKED) \
             UPDATE paces SET first_poll_after_ms = ?2, slowest_ms = ?3, samples = ?4, learned_at = ?5 \
             WHERE tenant IN (SELECT tenant FROM free)"
        )
    };
    let Pace { first_poll_after, slowest, samples, learned_at } = pace;
    transaction.execute(save, values![tenant, first_poll_after, slowest, samples, learned_at]).await?;
    Ok(())
}
