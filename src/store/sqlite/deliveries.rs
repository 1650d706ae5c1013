//! Deliveries and their attempts.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::{FinishedAttempt, Lease, RecordedAttempt, RecordedDelivery, StoreError, Surroundings};
use super::rows::{text_id, time, unreadable};
use super::usage;
use crate::domain::analysis::Analysis;
use crate::domain::callback_url::CallbackUrl;
use crate::domain::clock::Timestamp;
use crate::domain::deliveries::{Delivery, DeliveryStatus};
use crate::domain::events::Event;
use crate::domain::ids::{CallId, DeliveryId, EventId, TenantId};
use crate::domain::retries::Next;
use crate::domain::trace::TraceContext;
use crate::domain::usage::Usage;

/// Notes where an analysis is to be announced; whether the URL is new to it.
pub(super) fn add_callback(connection: &Connection, row: i64, url: &CallbackUrl) -> Result<bool, StoreError> {
    let added = connection
        .prepare_cached("INSERT OR IGNORE INTO callbacks (analysis, url) VALUES (?, ?)")?
        .execute(params![row, url.as_str()])?;
    Ok(added > 0)
}

/// Puts an event on its way to every URL of its analysis; whether there was one.
pub(super) fn announce(
    connection: &Connection,
    around: &Surroundings,
    row: i64,
    (seq, event): &(i64, Event),
    trace: TraceContext,
) -> Result<bool, StoreError> {
    let mut urls = connection.prepare_cached("SELECT url FROM callbacks WHERE analysis = ?")?;
    let urls = urls.query_map([row], |row| text_id(row, "url", CallbackUrl::parse))?;
    let mut any = false;
    for url in urls {
        let of = (&event.tenant, &event.call_id, event.id);
        let delivery = Delivery::begin(of, url?, trace, event.at, &*around.entropy);
        insert(connection, *seq, &delivery)?;
        any = true;
    }
    Ok(any)
}

/// Puts the newest event of a finished analysis on its way to one more URL.
pub(super) fn announce_latest(
    connection: &Connection,
    around: &Surroundings,
    analysis: &Analysis,
    url: &CallbackUrl,
) -> Result<(), StoreError> {
    let (tenant, call_id) = (&analysis.tenant, &analysis.call_id);
    let latest = connection
        .prepare_cached(
            "SELECT seq, id FROM events WHERE tenant = ? AND call_id = ? ORDER BY seq DESC LIMIT 1",
        )?
        .query_row(params![tenant.as_str(), call_id.as_str()], |row| {
            Ok((row.get("seq")?, event_id(row, "id")?))
        })
        .optional()?;
    if let Some((seq, id)) = latest {
        let now = around.clock.now();
        let delivery =
            Delivery::begin((tenant, call_id, id), url.clone(), analysis.trace, now, &*around.entropy);
        insert(connection, seq, &delivery)?;
    }
    Ok(())
}

fn insert(connection: &Connection, seq: i64, delivery: &Delivery) -> Result<(), StoreError> {
    let trace = serde_json::to_string(&delivery.trace).map_err(|e| StoreError::Corrupt(e.to_string()))?;
    connection
        .prepare_cached(
            "INSERT INTO deliveries (row, id, tenant, call_id, event, url, receiver, status, created_at, due_at, trace) \
             VALUES ((SELECT 1 + max(floor, coalesce((SELECT max(row) FROM deliveries), 0)) FROM row_floors \
             WHERE name = 'deliveries'), ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            delivery.id.to_string(),
            delivery.tenant.as_str(),
            delivery.call_id.as_str(),
            seq,
            delivery.url.as_str(),
            delivery.url.receiver(),
            DeliveryStatus::Pending.as_str(),
            delivery.due_at.as_millis(),
            delivery.due_at.as_millis(),
            trace,
        ])?;
    Ok(())
}

pub(super) fn finish(
    connection: &Connection,
    lease: Lease,
    attempt: &FinishedAttempt,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (status, due_at) = match attempt.next {
        Next::Delivered => (DeliveryStatus::Delivered, None),
        Next::GiveUp(_) => (DeliveryStatus::Failed, None),
        Next::RetryAt(at) => (DeliveryStatus::Pending, Some(at.as_millis())),
    };
    let finished_at = due_at.is_none().then_some(now.as_millis());
    let owner = connection
        .prepare_cached(
            "UPDATE deliveries SET status = ?, due_at = coalesce(?, due_at), finished_at = ?, leased = 0 \
             WHERE row = ? AND fence = ? AND leased = 1 RETURNING tenant",
        )?
        .query_row(params![status.as_str(), due_at, finished_at, lease.row, lease.fence], |row| {
            text_id(row, "tenant", TenantId::parse)
        })
        .optional()?
        .ok_or(StoreError::LeaseLost)?;
    usage::count(connection, &owner, now, Usage::attempt(attempt.next.arrived()))?;
    connection
        .prepare_cached(
            "UPDATE attempts SET outcome = ?, status = ?, latency_ms = ?, detail = ?, response = ? \
             WHERE delivery = ? AND number = (SELECT attempts FROM deliveries WHERE row = ?)",
        )?
        .execute(params![
            attempt.outcome,
            attempt.status,
            i64::try_from(attempt.latency.as_millis()).unwrap_or(i64::MAX),
            attempt.detail,
            attempt.response,
            lease.row,
            lease.row,
        ])?;
    Ok(())
}

pub(super) fn attempts(
    connection: &Connection,
    tenant: &TenantId,
    delivery: DeliveryId,
) -> Result<Vec<RecordedAttempt>, StoreError> {
    let mut attempts = connection.prepare_cached(
        "SELECT attempts.number, attempts.started_at, attempts.outcome, attempts.status, latency_ms, response \
         FROM attempts JOIN deliveries ON row = delivery WHERE tenant = ? AND id = ? ORDER BY number",
    )?;
    let rows = attempts.query_map(params![tenant.as_str(), delivery.to_string()], |row| {
        Ok(RecordedAttempt {
            number: row.get(0)?,
            started_at: time(row, "started_at")?,
            outcome: row.get(2)?,
            status: row.get(3)?,
            latency: row.get::<_, Option<u64>>(4)?.map(Duration::from_millis),
            response: row.get::<_, Option<Vec<u8>>>(5)?.unwrap_or_default(),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn of_call(
    connection: &Connection,
    tenant: &TenantId,
    call_id: &CallId,
) -> Result<Vec<RecordedDelivery>, StoreError> {
    let mut deliveries = connection.prepare_cached(
        "SELECT id, url, status, attempts FROM deliveries WHERE tenant = ? AND call_id = ? ORDER BY row",
    )?;
    let rows = deliveries.query_map(params![tenant.as_str(), call_id.as_str()], |row| {
        Ok(RecordedDelivery {
            id: delivery_id(row, "id")?,
            url: row.get("url")?,
            status: row.get("status")?,
            attempts: row.get("attempts")?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Reads a row that was joined with its event, whose id is `event_id`.
pub(super) fn read(row: &Row<'_>) -> Result<Delivery, rusqlite::Error> {
    let trace: String = row.get("trace")?;
    Ok(Delivery {
        id: delivery_id(row, "id")?,
        tenant: text_id(row, "tenant", TenantId::parse)?,
        call_id: text_id(row, "call_id", CallId::parse)?,
        event_id: event_id(row, "event_id")?,
        url: text_id(row, "url", CallbackUrl::parse)?,
        attempts: row.get("attempts")?,
        due_at: time(row, "due_at")?,
        trace: serde_json::from_str(&trace).map_err(|_| unreadable("trace", &trace))?,
    })
}

fn event_id(row: &Row<'_>, column: &str) -> Result<EventId, rusqlite::Error> {
    text_id(row, column, |text| EventId::parse(text).ok_or(()))
}

fn delivery_id(row: &Row<'_>, column: &str) -> Result<DeliveryId, rusqlite::Error> {
    text_id(row, column, |text| DeliveryId::parse(text).ok_or(()))
}
