//! Deliveries and their attempts.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::super::deliveries::{MOST_ATTEMPTS, verdict};
use super::super::{
    Change, ClaimBatch, ClaimedDelivery, DeliverySlots, DeliveryStore, FinishedAttempt, Lease,
    RecordedAttempt, RecordedDelivery, Sending, StoreError,
};
use super::rows::{text, text_id, time, time_if_any, unreadable};
use super::writer::Done;
use super::{SqliteStore, delivery_claims, usage, webhooks};
use crate::domain::callback_url::CallbackUrl;
use crate::domain::clock::Timestamp;
use crate::domain::deliveries::{Delivery, DeliveryQuery, DeliveryStatus, NewDelivery};
use crate::domain::ids::{CallId, DeliveryId, EventId, TenantId, WebhookId};
use crate::domain::retries::RetryDecision;
use crate::domain::usage::Usage;
use crate::domain::webhooks::DisabledReason;

/// What [`recorded`] expects of a row.
const RECORDED: &str = "SELECT deliveries.seq AS place, deliveries.id AS id, webhook, iif(webhook = '', deliveries.url, \
     coalesce(webhooks.url, '')) AS url, events.id AS event_id, kind, deliveries.call_id AS call_id, status, attempts, \
     deliveries.created_at AS created_at, due_at, leased, finished_at FROM deliveries JOIN events ON events.seq = event \
     LEFT JOIN webhooks ON webhooks.id = webhook";

#[async_trait]
impl DeliveryStore for SqliteStore {
    async fn claim_deliveries_across_tenants(
        &self,
        slots: DeliverySlots,
        lease: Duration,
    ) -> Result<ClaimBatch<ClaimedDelivery>, StoreError> {
        let now = self.surroundings.clock.now();
        let walks = Arc::clone(&self.walks);
        self.write(move |connection| {
            let mut walks = walks.lock().unwrap_or_else(PoisonError::into_inner);
            delivery_claims::claim(connection, &slots, &mut walks, now, lease).map(Done::quiet)
        })
        .await
    }

    async fn finish_attempt(
        &self,
        lease: Lease,
        attempt: FinishedAttempt,
    ) -> Result<Option<DisabledReason>, StoreError> {
        let now = self.surroundings.clock.now();
        self.write(move |connection| finish(connection, lease, &attempt, now).map(Done::quiet)).await
    }

    async fn attempts(
        &self,
        tenant: &TenantId,
        delivery: DeliveryId,
    ) -> Result<Vec<RecordedAttempt>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| attempts(connection, &tenant, delivery)).await
    }

    async fn list_deliveries(
        &self,
        tenant: &TenantId,
        page: DeliveryQuery,
    ) -> Result<Vec<RecordedDelivery>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| list(connection, &tenant, &page)).await
    }

    async fn find_delivery(
        &self,
        tenant: &TenantId,
        delivery: DeliveryId,
    ) -> Result<Option<RecordedDelivery>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| find(connection, &tenant, delivery)).await
    }

    async fn redeliver(&self, tenant: &TenantId, delivery: DeliveryId) -> Result<Sending, StoreError> {
        let (tenant, now) = (tenant.clone(), self.surroundings.clock.now());
        self.write(move |connection| send_again(connection, &tenant, delivery, now)).await
    }
}

pub(super) fn insert(connection: &Connection, seq: i64, delivery: &NewDelivery) -> Result<(), StoreError> {
    let trace = serde_json::to_string(&delivery.trace).map_err(|e| StoreError::Corrupt(e.to_string()))?;
    connection
        .prepare_cached(
            "INSERT INTO deliveries (id, tenant, call_id, event, webhook, url, receiver, status, created_at, \
             due_at, trace) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            delivery.id.to_string(),
            delivery.tenant.as_str(),
            delivery.call_id.as_ref().map_or("", CallId::as_str),
            seq,
            delivery.destination.endpoint(),
            delivery.destination.url(),
            delivery.destination.receiver(),
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
) -> Result<Option<DisabledReason>, StoreError> {
    let (status, due_at) = match attempt.next {
        RetryDecision::Delivered => (DeliveryStatus::Delivered, None),
        RetryDecision::GiveUp(_) => (DeliveryStatus::Failed, None),
        RetryDecision::RetryAt(at) | RetryDecision::WaitUntil(at) => {
            (DeliveryStatus::Pending, Some(at.as_millis()))
        }
        RetryDecision::Hold => (DeliveryStatus::Pending, Some(now.as_millis())),
    };
    let finished_at = due_at.is_none().then_some(now.as_millis());
    let uncounted = u32::from(matches!(attempt.next, RetryDecision::WaitUntil(_)));
    let (owner, endpoint) = connection
        .prepare_cached(
            "UPDATE deliveries SET status = ?, due_at = coalesce(?, due_at), finished_at = ?, leased = false, \
             earlier_attempts = earlier_attempts + ? WHERE seq = ? AND fence = ? AND leased \
             RETURNING tenant, webhook",
        )?
        .query_row(params![status.as_str(), due_at, finished_at, uncounted, lease.row, lease.fence], |row| {
            Ok((text_id(row, "tenant", TenantId::parse)?, row.get::<_, String>("webhook")?))
        })
        .optional()?
        .ok_or(StoreError::LeaseLost)?;
    let disabled = match verdict(attempt).filter(|_| !endpoint.is_empty()) {
        Some(verdict) => webhooks::attempted(connection, &endpoint, &verdict, now)?,
        None => None,
    };
    usage::count(connection, &owner, now, Usage::attempt(attempt.next.arrived()))?;
    connection
        .prepare_cached(
            "UPDATE attempts SET outcome = ?, status = ?, latency_ms = ?, detail = ?, response = ? \
             WHERE delivery = ? AND number = (SELECT attempts FROM deliveries WHERE seq = ?)",
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
    Ok(disabled)
}

pub(super) fn attempts(
    connection: &Connection,
    tenant: &TenantId,
    delivery: DeliveryId,
) -> Result<Vec<RecordedAttempt>, StoreError> {
    let mut attempts = connection.prepare_cached(
        "SELECT * FROM (SELECT attempts.number, attempts.started_at, attempts.outcome, attempts.status, latency_ms, \
             response, detail FROM attempts JOIN deliveries ON seq = delivery WHERE tenant = ? AND id = ? \
             ORDER BY number DESC LIMIT ?) ORDER BY number",
    )?;
    let most = i64::from(MOST_ATTEMPTS);
    let rows = attempts.query_map(params![tenant.as_str(), delivery.to_string(), most], |row| {
        Ok(RecordedAttempt {
            number: row.get(0)?,
            started_at: time(row, "started_at")?,
            outcome: row.get(2)?,
            status: row.get(3)?,
            latency: row.get::<_, Option<u64>>(4)?.map(Duration::from_millis),
            detail: row.get("detail")?,
            response: row.get::<_, Option<Vec<u8>>>(5)?.unwrap_or_default(),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn list(
    connection: &Connection,
    tenant: &TenantId,
    page: &DeliveryQuery,
) -> Result<Vec<RecordedDelivery>, StoreError> {
    let (sql, values) = list_sql(tenant, page);
    let mut deliveries = connection.prepare_cached(&sql)?;
    let rows = deliveries.query_map(params_from_iter(values), recorded)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The statement for a page, and what it is given.
pub(super) fn list_sql(tenant: &TenantId, page: &DeliveryQuery) -> (String, Vec<Value>) {
    let filter = &page.filter;
    let (mut conditions, mut values) = (Vec::new(), Vec::new());
    // The call's index first, then an endpoint's own; a unary plus keeps the query off the others.
    match filter.webhook {
        Some(webhook) => {
            let of_call = ["+webhook = ?", "deliveries.tenant = ?"];
            let of_endpoint = ["webhook = ?", "webhook <> '' AND +deliveries.tenant = ?"];
            conditions.extend(if filter.call_id.is_some() { of_call } else { of_endpoint });
            values.push(text(&webhook.to_string()));
        }
        None => conditions.push("deliveries.tenant = ?"),
    }
    values.push(text(tenant.as_str()));
    if let Some(call_id) = &filter.call_id {
        conditions.push("deliveries.call_id = ?");
        values.push(text(call_id.as_str()));
    }
    // The conditions of the indexes, word for word.
    match filter.status {
        Some(DeliveryStatus::Delivered) => conditions.push("status = 'delivered'"),
        Some(status) => {
            conditions.push("status = ? AND status <> 'delivered'");
            values.push(text(status.as_str()));
        }
        None => {}
    }
    if let Some(after) = page.after {
        conditions.push("deliveries.seq < ?");
        values.push(Value::from(after));
    }
    values.push(Value::from(i64::try_from(page.limit).unwrap_or(i64::MAX)));
    let conditions = conditions.join(" AND ");
    (format!("{RECORDED} WHERE {conditions} ORDER BY deliveries.seq DESC LIMIT ?"), values)
}

pub(super) fn find(
    connection: &Connection,
    tenant: &TenantId,
    id: DeliveryId,
) -> Result<Option<RecordedDelivery>, StoreError> {
    let mut delivery = connection
        .prepare_cached(&format!("{RECORDED} WHERE deliveries.id = ? AND deliveries.tenant = ?"))?;
    Ok(delivery.query_row(params![id.to_string(), tenant.as_str()], recorded).optional()?)
}

/// Makes a delivery due, unless it is under way.
pub(super) fn send_again(
    connection: &Connection,
    tenant: &TenantId,
    id: DeliveryId,
    now: Timestamp,
) -> Result<Done<Sending>, StoreError> {
    let Some(found) = find(connection, tenant, id)? else { return Ok(Done::quiet(Sending::NotFound)) };
    if let Some(webhook) = found.webhook {
        match webhooks::find(connection, tenant, webhook)? {
            None => return Ok(Done::quiet(Sending::NotFound)),
            Some(webhook) if webhook.disabled.is_some() => return Ok(Done::quiet(Sending::Disabled)),
            Some(_) => webhooks::end_pause(connection, &webhook.to_string())?,
        }
    }
    connection
        .prepare_cached(
            "UPDATE deliveries SET status = 'pending', due_at = ?, finished_at = NULL, earlier_attempts = attempts \
             WHERE seq = ? AND NOT (leased AND status = 'pending')",
        )?
        .execute(params![now.as_millis(), found.place])?;
    Ok(Done { value: Sending::Due(id), changes: vec![Change::Delivery] })
}

fn recorded(row: &Row<'_>) -> Result<RecordedDelivery, rusqlite::Error> {
    Ok(RecordedDelivery {
        place: row.get("place")?,
        id: delivery_id(row, "id")?,
        webhook: endpoint(row)?,
        url: row.get("url")?,
        event_id: event_id(row, "event_id")?,
        kind: row.get("kind")?,
        call_id: call_id(row)?,
        status: row.get("status")?,
        attempts: row.get("attempts")?,
        created_at: time(row, "created_at")?,
        due_at: time(row, "due_at")?,
        leased: row.get("leased")?,
        finished_at: time_if_any(row, "finished_at")?,
    })
}

/// Reads a row that was joined with its event, whose id is `event_id`.
pub(super) fn read(row: &Row<'_>) -> Result<Delivery, rusqlite::Error> {
    let trace: String = row.get("trace")?;
    Ok(Delivery {
        id: delivery_id(row, "id")?,
        tenant: text_id(row, "tenant", TenantId::parse)?,
        call_id: call_id(row)?,
        webhook: endpoint(row)?,
        event_id: event_id(row, "event_id")?,
        url: text_id(row, "url", CallbackUrl::parse)?,
        attempts: row.get("attempts")?,
        earlier_attempts: row.get("earlier_attempts")?,
        due_at: time(row, "due_at")?,
        trace: serde_json::from_str(&trace).map_err(|_| unreadable("trace", &trace))?,
    })
}

/// A test's is empty.
fn call_id(row: &Row<'_>) -> Result<Option<CallId>, rusqlite::Error> {
    let text: String = row.get("call_id")?;
    if text.is_empty() { Ok(None) } else { text_id(row, "call_id", CallId::parse).map(Some) }
}

/// That of a submission's own callback is empty.
fn endpoint(row: &Row<'_>) -> Result<Option<WebhookId>, rusqlite::Error> {
    let text: String = row.get("webhook")?;
    if text.is_empty() { Ok(None) } else { webhooks::webhook_id(row, "webhook").map(Some) }
}

fn event_id(row: &Row<'_>, column: &str) -> Result<EventId, rusqlite::Error> {
    text_id(row, column, |text| EventId::parse(text).ok_or(()))
}

fn delivery_id(row: &Row<'_>, column: &str) -> Result<DeliveryId, rusqlite::Error> {
    text_id(row, column, |text| DeliveryId::parse(text).ok_or(()))
}
