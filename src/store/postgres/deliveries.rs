//! Deliveries and their attempts.

use std::time::Duration;

use deadpool_postgres::Transaction;
use tokio_postgres::Row;

use super::super::{FinishedAttempt, Lease, RecordedAttempt, RecordedDelivery, StoreError, Surroundings};
use super::connect::Session;
use super::fault::Fault;
use super::rows::{from_json, json, number, parsed, time, unreadable};
use crate::domain::analysis::Analysis;
use crate::domain::callback_url::CallbackUrl;
use crate::domain::clock::Timestamp;
use crate::domain::deliveries::{Delivery, DeliveryStatus};
use crate::domain::events::Event;
use crate::domain::ids::{CallId, DeliveryId, EventId, TenantId};
use crate::domain::retries::Next;
use crate::domain::trace::TraceContext;

/// Notes where an analysis is to be announced; whether the URL is new to it.
pub(super) async fn add_callback(
    transaction: &Transaction<'_>,
    row: i64,
    url: &CallbackUrl,
) -> Result<bool, Fault> {
    let add = transaction
        .prepare_cached("INSERT INTO callbacks (analysis, url) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .await?;
    Ok(transaction.execute(&add, &[&row, &url.as_str()]).await? > 0)
}

/// Puts an event on its way to every URL of its analysis; whether there was one.
pub(super) async fn announce(
    transaction: &Transaction<'_>,
    around: &Surroundings,
    row: i64,
    (seq, event): &(i64, Event),
    trace: TraceContext,
) -> Result<bool, Fault> {
    let urls = transaction.prepare_cached("SELECT url FROM callbacks WHERE analysis = $1").await?;
    let urls = transaction.query(&urls, &[&row]).await?;
    for url in &urls {
        let of = (&event.tenant, &event.call_id, event.id);
        let url = parsed(url, "url", CallbackUrl::parse)?;
        let delivery = Delivery::begin(of, url, trace, event.at, &*around.entropy);
        insert(transaction, *seq, &delivery).await?;
    }
    Ok(!urls.is_empty())
}

/// Puts the newest event of a finished analysis on its way to one more URL.
pub(super) async fn announce_latest(
    transaction: &Transaction<'_>,
    around: &Surroundings,
    analysis: &Analysis,
    url: &CallbackUrl,
) -> Result<(), Fault> {
    let (tenant, call_id) = (&analysis.tenant, &analysis.call_id);
    let latest = transaction
        .prepare_cached(
            "SELECT seq, id FROM events WHERE tenant = $1 AND call_id = $2 ORDER BY seq DESC LIMIT 1",
        )
        .await?;
    if let Some(row) = transaction.query_opt(&latest, &[&tenant.as_str(), &call_id.as_str()]).await? {
        let (seq, id) = (row.try_get("seq")?, event_id(&row, "id")?);
        let now = around.clock.now();
        let delivery =
            Delivery::begin((tenant, call_id, id), url.clone(), analysis.trace, now, &*around.entropy);
        insert(transaction, seq, &delivery).await?;
    }
    Ok(())
}

async fn insert(transaction: &Transaction<'_>, seq: i64, delivery: &Delivery) -> Result<(), Fault> {
    let insert = transaction
        .prepare_cached(
            "INSERT INTO deliveries (id, tenant, call_id, event, url, receiver, status, created_at, due_at, trace) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9)",
        )
        .await?;
    transaction
        .execute(
            &insert,
            &[
                &delivery.id.to_string(),
                &delivery.tenant.as_str(),
                &delivery.call_id.as_str(),
                &seq,
                &delivery.url.as_str(),
                &delivery.url.receiver(),
                &DeliveryStatus::Pending.as_str(),
                &delivery.due_at.as_millis(),
                &json(&delivery.trace)?,
            ],
        )
        .await?;
    Ok(())
}

/// Both rows in one statement: the attempt is only touched if the lease was still ours.
const FINISH: &str = "WITH owned AS (UPDATE deliveries SET status = $3, due_at = coalesce($4, due_at), \
     finished_at = $5, leased = false WHERE \"row\" = $1 AND fence = $2 AND leased RETURNING \"row\", attempts, tenant), \
     ended AS (UPDATE attempts SET outcome = $6, status = $7, latency_ms = $8, detail = $9, response = $10 FROM owned \
     WHERE delivery = owned.\"row\" AND number = owned.attempts) SELECT tenant FROM owned";

/// Whose delivery it was.
pub(super) async fn finish(
    mut session: Session,
    lease: Lease,
    attempt: &FinishedAttempt,
    now: Timestamp,
) -> Result<TenantId, Fault> {
    let client = session.client()?;
    let (status, due_at) = match attempt.next {
        Next::Delivered => (DeliveryStatus::Delivered, None),
        Next::GiveUp(_) => (DeliveryStatus::Failed, None),
        Next::RetryAt(at) => (DeliveryStatus::Pending, Some(at.as_millis())),
    };
    let finished_at = due_at.is_none().then_some(now.as_millis());
    // The server's texts cannot hold NUL.
    let detail = attempt.detail.as_ref().map(|detail| detail.replace('\0', "\u{fffd}"));
    let latency = i64::try_from(attempt.latency.as_millis()).unwrap_or(i64::MAX);
    let finish = client.prepare_cached(FINISH).await?;
    let owner = client
        .query_opt(
            &finish,
            &[
                &lease.row,
                &lease.fence,
                &status.as_str(),
                &due_at,
                &finished_at,
                &attempt.outcome,
                &attempt.status.map(i64::from),
                &latency,
                &detail,
                &attempt.response,
            ],
        )
        .await?
        .ok_or(StoreError::LeaseLost)?;
    parsed(&owner, "tenant", TenantId::parse)
}

pub(super) async fn attempts(
    mut session: Session,
    tenant: &TenantId,
    delivery: DeliveryId,
) -> Result<Vec<RecordedAttempt>, Fault> {
    let client = session.client()?;
    let attempts = client
        .prepare_cached(
            "SELECT number, started_at, outcome, attempts.status, latency_ms, response FROM attempts \
             JOIN deliveries ON \"row\" = delivery WHERE tenant = $1 AND id = $2 ORDER BY number",
        )
        .await?;
    let rows = client.query(&attempts, &[&tenant.as_str(), &delivery.to_string()]).await?;
    let recorded = |row: &Row| {
        let status: Option<i64> = row.try_get("status")?;
        let latency: Option<i64> = row.try_get("latency_ms")?;
        Ok(RecordedAttempt {
            number: number(row, "number")?,
            started_at: time(row, "started_at")?,
            outcome: row.try_get("outcome")?,
            status: status.and_then(|status| u16::try_from(status).ok()),
            latency: latency.and_then(|latency| u64::try_from(latency).ok()).map(Duration::from_millis),
            response: row.try_get::<_, Option<Vec<u8>>>("response")?.unwrap_or_default(),
        })
    };
    rows.iter().map(recorded).collect()
}

pub(super) async fn of_call(
    mut session: Session,
    tenant: &TenantId,
    call_id: &CallId,
) -> Result<Vec<RecordedDelivery>, Fault> {
    let client = session.client()?;
    let deliveries = client
        .prepare_cached(
            "SELECT id, url, status, attempts FROM deliveries WHERE tenant = $1 AND call_id = $2 ORDER BY \"row\"",
        )
        .await?;
    let rows = client.query(&deliveries, &[&tenant.as_str(), &call_id.as_str()]).await?;
    let recorded = |row: &Row| {
        Ok(RecordedDelivery {
            id: delivery_id(row, "id")?,
            url: row.try_get("url")?,
            status: row.try_get("status")?,
            attempts: number(row, "attempts")?,
        })
    };
    rows.iter().map(recorded).collect()
}

/// Reads a row that was joined with its event, whose id is `event_id`.
pub(super) fn read(row: &Row) -> Result<Delivery, Fault> {
    Ok(Delivery {
        id: delivery_id(row, "id")?,
        tenant: parsed(row, "tenant", TenantId::parse)?,
        call_id: parsed(row, "call_id", CallId::parse)?,
        event_id: event_id(row, "event_id")?,
        url: parsed(row, "url", CallbackUrl::parse)?,
        attempts: number(row, "attempts")?,
        due_at: time(row, "due_at")?,
        trace: from_json(row, "trace")?.ok_or_else(|| unreadable("trace", "nothing"))?,
    })
}

fn event_id(row: &Row, column: &str) -> Result<EventId, Fault> {
    parsed(row, column, |text| EventId::parse(text).ok_or(()))
}

fn delivery_id(row: &Row, column: &str) -> Result<DeliveryId, Fault> {
    parsed(row, column, |text| DeliveryId::parse(text).ok_or(()))
}
