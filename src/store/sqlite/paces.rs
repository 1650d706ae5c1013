//! What was learned of each tenant's processing times.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::StoreError;
use super::rows::time;
use crate::domain::ids::TenantId;
use crate::domain::pace::Pace;

pub(super) fn find(connection: &Connection, tenant: &TenantId) -> Result<Option<Pace>, StoreError> {
    Ok(connection
        .prepare_cached("SELECT first_look_ms, samples, learned_at FROM paces WHERE tenant = ?")?
        .query_row([tenant.as_str()], read)
        .optional()?)
}

pub(super) fn keep(connection: &Connection, tenant: &TenantId, pace: Pace) -> Result<(), StoreError> {
    let first_look = i64::try_from(pace.first_look.as_millis()).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "INSERT INTO paces (tenant, first_look_ms, samples, learned_at) VALUES (?, ?, ?, ?) \
             ON CONFLICT (tenant) DO UPDATE SET first_look_ms = excluded.first_look_ms, \
             samples = excluded.samples, learned_at = excluded.learned_at",
        )?
        .execute(params![tenant.as_str(), first_look, pace.samples, pace.learned_at.as_millis()])?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<Pace, rusqlite::Error> {
    Ok(Pace {
        first_look: Duration::from_millis(row.get("first_look_ms")?),
        samples: row.get("samples")?,
        learned_at: time(row, "learned_at")?,
    })
}
