//! What is older than the retention goes, in batches small enough to hold nobody up.

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::super::{Change, RetentionStore, StoreError};
use super::rows::text_id;
use super::writer::Done;
use super::{SqliteStore, deletion, usage, webhooks};
use crate::domain::clock::Timestamp;
use crate::domain::ids::{CallId, TenantId};
use crate::domain::usage::Day;

/// What waits for an endpoint that is disabled, or for which nothing could be signed all the time, holds nothing up: it
/// may wait for ever.
pub(super) const DELETE_ANALYSES: &str = "DELETE FROM analyses WHERE id IN (SELECT id FROM analyses \
     WHERE stage IS NULL AND finished_at < ?1 AND NOT EXISTS (SELECT 1 FROM deliveries \
     WHERE deliveries.tenant = analyses.tenant AND deliveries.call_id = analyses.call_id \
     AND deliveries.status = 'pending' AND (webhook = '' OR EXISTS \
     (SELECT 1 FROM webhooks WHERE webhooks.id = webhook AND disabled_at IS NULL \
     AND (unsigned_since IS NULL OR unsigned_since >= ?1)))) ORDER BY finished_at LIMIT ?2) RETURNING tenant, call_id";
pub(super) const DELETE_EVENTS: &str = "DELETE FROM events WHERE seq IN (SELECT seq FROM events WHERE at < ?1 \
     AND NOT EXISTS (SELECT 1 FROM deliveries WHERE deliveries.event = events.seq \
     AND deliveries.status = 'pending' AND (webhook = '' OR EXISTS \
     (SELECT 1 FROM webhooks WHERE webhooks.id = webhook AND disabled_at IS NULL \
     AND (unsigned_since IS NULL OR unsigned_since >= ?1)))) ORDER BY at LIMIT ?2)";

pub(super) const DELETE_REPLAYS: &str = "DELETE FROM replays WHERE id IN \
     (SELECT id FROM replays WHERE finished_at IS NOT NULL AND finished_at < ? LIMIT ?)";

#[async_trait]
impl RetentionStore for SqliteStore {
    async fn delete_expired_across_tenants(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        self.write(move |connection| delete(connection, before, limit)).await
    }

    async fn delete_records_across_tenants(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        self.write(move |connection| {
            let records = deletion::delete_records(connection, before, limit)?;
            let days = usage::delete(connection, Day::of(before), limit)?;
            Ok(Done::quiet(records + days))
        })
        .await
    }
}

/// Results, callbacks, deliveries and attempts go with what they hang on.
pub(super) fn delete(
    connection: &Connection,
    before: Timestamp,
    limit: usize,
) -> Result<Done<usize>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut analyses = connection.prepare_cached(DELETE_ANALYSES)?;
    let deleted = analyses.query_map(params![before.as_millis(), limit], |row| {
        Ok(Change::Analysis(
            text_id(row, "tenant", TenantId::parse)?,
            text_id(row, "call_id", CallId::parse)?,
        ))
    })?;
    let changes: Vec<Change> = deleted.collect::<Result<_, _>>()?;
    let events = connection.prepare_cached(DELETE_EVENTS)?.execute(params![before.as_millis(), limit])?;
    let replays = connection.prepare_cached(DELETE_REPLAYS)?.execute(params![before.as_millis(), limit])?;
    let of_endpoints = webhooks::purge(connection)?;
    Ok(Done { value: changes.len() + events + replays + of_endpoints, changes })
}
