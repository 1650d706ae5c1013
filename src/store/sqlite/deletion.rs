//! Deleting a call, and the record that this was done.

use rusqlite::{Connection, OptionalExtension, params};

use super::super::{Change, StoreError};
use super::idempotency;
use super::writer::Done;
use crate::domain::audit::{Actor, AuditedAction};
use crate::domain::clock::Timestamp;
use crate::domain::ids::{CallId, TenantId};

/// Deletes a call with all that hangs on it, whatever is under way. Whether there was anything.
pub(super) fn delete(
    connection: &Connection,
    tenant: TenantId,
    call_id: CallId,
    actor: &Actor,
    now: Timestamp,
) -> Result<Done<bool>, StoreError> {
    let call = params![tenant.as_str(), call_id.as_str()];
    // Deliveries and attempts go with their events; results and what they are found by with the analysis.
    let events =
        connection.prepare_cached("DELETE FROM events WHERE tenant = ? AND call_id = ?")?.execute(call)?;
    let analyses =
        connection.prepare_cached("DELETE FROM analyses WHERE tenant = ? AND call_id = ?")?.execute(call)?;
    if events + analyses == 0 {
        return Ok(Done::quiet(false));
    }
    idempotency::forget_call(connection, &tenant, &call_id)?;
    connection
        .prepare_cached(
            "INSERT INTO audit (at, tenant, subject, request_id, action, call_id) VALUES (?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            now.as_millis(),
            tenant.as_str(),
            actor.subject,
            actor.request_id,
            AuditedAction::AnalysisDeleted.as_str(),
            call_id.as_str(),
        ])?;
    Ok(Done { value: true, changes: vec![Change::Analysis(tenant, call_id)] })
}

/// Whether a call was deleted.
pub(super) fn was_deleted(
    connection: &Connection,
    tenant: &TenantId,
    call_id: &CallId,
) -> Result<bool, StoreError> {
    let found: Option<i64> = connection
        .prepare_cached("SELECT 1 FROM audit WHERE tenant = ? AND call_id = ? AND action = ? LIMIT 1")?
        .query_row(
            params![tenant.as_str(), call_id.as_str(), AuditedAction::AnalysisDeleted.as_str()],
            |row| row.get(0),
        )
        .optional()?;
    Ok(found.is_some())
}

/// Deletes old records, up to `limit`. How many.
pub(super) fn delete_records(
    connection: &Connection,
    before: Timestamp,
    limit: usize,
) -> Result<usize, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    Ok(connection
        .prepare_cached(
            "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < ? ORDER BY at LIMIT ?)",
        )?
        .execute(params![before.as_millis(), limit])?)
}
