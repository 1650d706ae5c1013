//! Deliveries and their attempts.

use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::{GenericClient, Transaction};
use tokio_postgres::Row;

use super::super::changes::Changes;
use super::super::deliveries::{MOST_ATTEMPTS, verdict};
use super::super::{
    ClaimBatch, ClaimedDelivery, DeliverySlots, DeliveryStore, FinishedAttempt, Lease, RecordedAttempt,
    RecordedDelivery, Sending, StoreError,
};
use super::connect::Session;
use super::fault::Fault;
use super::rows::{Parameter, from_json, json, number, parsed, time, time_if_any, unreadable};
use super::webhooks::{self, Held, webhook_id};
use super::{PostgresStore, delivery_claims};
use crate::domain::callback_url::CallbackUrl;
use crate::domain::clock::Timestamp;
use crate::domain::deliveries::{Delivery, DeliveryQuery, DeliveryStatus, NewDelivery};
use crate::domain::ids::{CallId, DeliveryId, EventId, TenantId, WebhookId};
use crate::domain::retries::RetryDecision;
use crate::domain::usage::Usage;
use crate::domain::webhooks::DisabledReason;

/// What [`recorded`] expects of a row of deliveries, each with its event and its endpoint.
const RECORDED: &str = "SELECT delivery.seq AS place, delivery.id AS id, webhook, CASE WHEN webhook = '' \
     THEN delivery.url ELSE coalesce(hook.url, '') END AS url, told.id AS event_id, kind, delivery.call_id AS call_id, \
     status, attempts, delivery.created_at AS created_at, due_at, leased, finished_at";

/// The rest of that statement, for the deliveries of another.
fn recorded_sql(deliveries: &str) -> String {
    format!(
        "{RECORDED} FROM ({deliveries}) AS delivery \
         CROSS JOIN LATERAL (SELECT id, kind FROM events WHERE seq = delivery.event LIMIT 1) AS told \
         LEFT JOIN LATERAL (SELECT url FROM webhooks WHERE id = delivery.webhook LIMIT 1) AS hook ON true"
    )
}

#[async_trait]
impl DeliveryStore for PostgresStore {
    async fn claim_deliveries_across_tenants(
        &self,
        slots: DeliverySlots,
        lease: Duration,
    ) -> Result<ClaimBatch<ClaimedDelivery>, StoreError> {
        let turn = (self.surroundings.entropy.fraction() * 1000.0) as usize;
        let (slots, walks) = (&slots, &self.walks);
        let claims = self
            .run(async |session| {
                let mut walks = walks.lock().await;
                delivery_claims::claim(session, slots, &mut walks, turn, self.now(), lease).await
            })
            .await?;
        let now = self.now();
        self.deliveries.add(claims.claimed.iter().map(|claimed| claimed.lease), now, now + lease);
        Ok(claims)
    }

    async fn finish_attempt(
        &self,
        lease: Lease,
        attempt: FinishedAttempt,
    ) -> Result<Option<DisabledReason>, StoreError> {
        let attempt = &attempt;
        let finished = self.run(|session| finish(session, lease, attempt, self.now())).await;
        if !matches!(finished, Err(StoreError::Unavailable(_))) {
            self.deliveries.remove(lease);
        }
        let usage = Usage::attempt(attempt.next.arrived());
        let (tenant, disabled) = finished?;
        self.tally.count(&tenant, self.now(), usage);
        Ok(disabled)
    }

    async fn attempts(
        &self,
        tenant: &TenantId,
        delivery: DeliveryId,
    ) -> Result<Vec<RecordedAttempt>, StoreError> {
        self.run(|session| attempts(session, tenant, delivery)).await
    }

    async fn list_deliveries(
        &self,
        tenant: &TenantId,
        page: DeliveryQuery,
    ) -> Result<Vec<RecordedDelivery>, StoreError> {
        let page = &page;
        self.run(|session| list(session, tenant, page)).await
    }

    async fn find_delivery(
        &self,
        tenant: &TenantId,
        delivery: DeliveryId,
    ) -> Result<Option<RecordedDelivery>, StoreError> {
        self.run(async |mut session| find(&*session.client()?, tenant, delivery).await).await
    }

    async fn redeliver(&self, tenant: &TenantId, delivery: DeliveryId) -> Result<Sending, StoreError> {
        self.change(|session| send_again(session, tenant, delivery, self.now())).await
    }
}

pub(super) async fn insert(
    transaction: &Transaction<'_>,
    seq: i64,
    delivery: &NewDelivery,
) -> Result<(), Fault> {
    let insert = transaction
        .prepare_cached(
            "INSERT INTO deliveries (id, tenant, call_id, event, webhook, url, receiver, status, created_at, due_at, \
             trace) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10)",
        )
        .await?;
    transaction
        .execute(
            &insert,
            &[
                &delivery.id.to_string(),
                &delivery.tenant.as_str(),
                &delivery.call_id.as_ref().map_or("", CallId::as_str),
                &seq,
                &delivery.destination.endpoint(),
                &delivery.destination.url(),
                &delivery.destination.receiver(),
                &DeliveryStatus::Pending.as_str(),
                &delivery.due_at.as_millis(),
                &json(&delivery.trace)?,
            ],
        )
        .await?;
    Ok(())
}

/// Both rows in one statement: the attempt is only touched if the lease was still ours.
fn finish_sql(condition: &str) -> String {
    format!(
        "WITH owned AS (UPDATE deliveries SET status = $3, due_at = coalesce($4, due_at), finished_at = $5, \
         leased = false, earlier_attempts = earlier_attempts + $11 WHERE seq = $1 AND fence = $2 AND leased AND {condition} \
         RETURNING seq, attempts, tenant, webhook), \
         ended AS (UPDATE attempts SET outcome = $6, status = $7, latency_ms = $8, detail = $9, response = $10 \
         FROM owned WHERE delivery = owned.seq AND number = owned.attempts) SELECT tenant, webhook FROM owned"
    )
}

/// Whose delivery it was, and why its endpoint is disabled with that, if it is.
pub(super) async fn finish(
    mut session: Session,
    lease: Lease,
    attempt: &FinishedAttempt,
    now: Timestamp,
) -> Result<(TenantId, Option<DisabledReason>), Fault> {
    let client = session.client()?;
    let (status, due_at) = match attempt.next {
        RetryDecision::Delivered => (DeliveryStatus::Delivered, None),
        RetryDecision::GiveUp(_) => (DeliveryStatus::Failed, None),
        RetryDecision::RetryAt(at) | RetryDecision::WaitUntil(at) => {
            (DeliveryStatus::Pending, Some(at.as_millis()))
        }
        RetryDecision::Hold => (DeliveryStatus::Pending, Some(now.as_millis())),
    };
    let finished_at = due_at.is_none().then_some(now.as_millis());
    // The server's texts cannot hold NUL.
    let detail = attempt.detail.as_ref().map(|detail| detail.replace('\0', "\u{fffd}"));
    let latency = i64::try_from(attempt.latency.as_millis()).unwrap_or(i64::MAX);
    let (status, response_status) = (status.as_str(), attempt.status.map(i64::from));
    let uncounted = i64::from(matches!(attempt.next, RetryDecision::WaitUntil(_)));
    let parameters: [Parameter<'_>; 11] = [
        &lease.row,
        &lease.fence,
        &status,
        &due_at,
        &finished_at,
        &attempt.outcome,
        &response_status,
        &latency,
        &detail,
        &attempt.response,
        &uncounted,
    ];
    // Most are of callbacks, which are done with one statement.
    let of_callback = client.prepare_cached(&finish_sql("webhook = ''")).await?;
    if let Some(owner) = client.query_opt(&of_callback, &parameters).await? {
        return Ok((parsed(&owner, "tenant", TenantId::parse)?, None));
    }
    let transaction = client.transaction().await?;
    let of_endpoint = transaction.prepare_cached(&finish_sql("webhook <> ''")).await?;
    let owner = transaction.query_opt(&of_endpoint, &parameters).await?.ok_or(StoreError::LeaseLost)?;
    let disabled = match verdict(attempt) {
        Some(verdict) => webhooks::attempted(&transaction, owner.try_get("webhook")?, &verdict, now).await?,
        None => None,
    };
    let owner = parsed(&owner, "tenant", TenantId::parse)?;
    transaction.commit().await?;
    Ok((owner, disabled))
}

pub(super) async fn attempts(
    mut session: Session,
    tenant: &TenantId,
    delivery: DeliveryId,
) -> Result<Vec<RecordedAttempt>, Fault> {
    let client = session.client()?;
    let attempts = client
        .prepare_cached(
            "SELECT * FROM (SELECT number, started_at, outcome, attempts.status, latency_ms, detail, response FROM attempts \
             JOIN deliveries ON seq = delivery WHERE tenant = $1 AND id = $2 ORDER BY number DESC LIMIT $3) AS last \
             ORDER BY number",
        )
        .await?;
    let most = i64::from(MOST_ATTEMPTS);
    let rows = client.query(&attempts, &[&tenant.as_str(), &delivery.to_string(), &most]).await?;
    let recorded = |row: &Row| {
        let status: Option<i64> = row.try_get("status")?;
        let latency: Option<i64> = row.try_get("latency_ms")?;
        Ok(RecordedAttempt {
            number: number(row, "number")?,
            started_at: time(row, "started_at")?,
            outcome: row.try_get("outcome")?,
            status: status.and_then(|status| u16::try_from(status).ok()),
            latency: latency.and_then(|latency| u64::try_from(latency).ok()).map(Duration::from_millis),
            detail: row.try_get("detail")?,
            response: row.try_get::<_, Option<Vec<u8>>>("response")?.unwrap_or_default(),
        })
    };
    rows.iter().map(recorded).collect()
}

pub(super) async fn list(
    mut session: Session,
    tenant: &TenantId,
    page: &DeliveryQuery,
) -> Result<Vec<RecordedDelivery>, Fault> {
    let client = session.client()?;
    let filter = &page.filter;
    let webhook = filter.webhook.map(|webhook| webhook.to_string()).unwrap_or_default();
    let call_id = filter.call_id.as_ref().map_or("", CallId::as_str);
    let (after, limit) = (page.after.unwrap_or(i64::MAX), i64::try_from(page.limit).unwrap_or(i64::MAX));
    let tenant = tenant.as_str();
    let mut parameters: Vec<Parameter<'_>> = vec![&tenant, &after, &limit];
    // Which index is walked is not left to chance: what is joined to an empty text or added to 0 can be walked along none.
    let (mut of_tenant, mut order) = ("tenant = $1", "seq");
    let mut conditions = vec!["seq < $2".to_owned()];
    if filter.webhook.is_some() {
        parameters.push(&webhook);
        let number = parameters.len();
        conditions.push(if filter.call_id.is_some() {
            format!("webhook || '' = ${number}")
        } else {
            of_tenant = "tenant || '' = $1";
            format!("webhook = ${number} AND webhook <> ''")
        });
    }
    if filter.call_id.is_some() {
        parameters.push(&call_id);
        order = "(seq + 0)";
        conditions.push(format!("call_id = ${}", parameters.len()));
    }
    // Written out, one of three words of ours: the indexes' condition, and how many rows to expect, depend on it.
    match filter.status {
        Some(DeliveryStatus::Delivered) => conditions.push("status = 'delivered'".to_owned()),
        Some(DeliveryStatus::Pending) => {
            conditions.push("status = 'pending' AND status <> 'delivered'".to_owned());
        }
        Some(DeliveryStatus::Failed) => {
            conditions.push("status = 'failed' AND status <> 'delivered'".to_owned());
        }
        None => {}
    }
    let conditions = conditions.join(" AND ");
    let page =
        format!("SELECT * FROM deliveries WHERE {of_tenant} AND {conditions} ORDER BY {order} DESC LIMIT $3");
    let sql = format!("{} ORDER BY delivery.seq DESC", recorded_sql(&page));
    let select = client.prepare_cached(&sql).await?;
    client.query(&select, &parameters).await?.iter().map(recorded).collect()
}

pub(super) async fn find(
    client: &impl GenericClient,
    tenant: &TenantId,
    id: DeliveryId,
) -> Result<Option<RecordedDelivery>, Fault> {
    let sql = recorded_sql("SELECT * FROM deliveries WHERE id = $1 AND tenant = $2");
    let select = client.prepare_cached(&sql).await?;
    let row = client.query_opt(&select, &[&id.to_string(), &tenant.as_str()]).await?;
    row.as_ref().map(recorded).transpose()
}

/// Makes a delivery due, unless it is under way.
pub(super) async fn send_again(
    mut session: Session,
    tenant: &TenantId,
    id: DeliveryId,
    now: Timestamp,
) -> Result<(Sending, Changes), Fault> {
    let transaction = session.client()?.transaction().await?;
    let Some(found) = find(&transaction, tenant, id).await? else {
        return Ok((Sending::NotFound, Changes::default()));
    };
    let webhook = found.webhook.map(|webhook| webhook.to_string());
    if let Some(webhook) = &webhook {
        match webhooks::is_enabled(&transaction, tenant, webhook, Held::No).await? {
            None => return Ok((Sending::NotFound, Changes::default())),
            Some(false) => return Ok((Sending::Disabled, Changes::default())),
            Some(true) => {}
        }
    }
    let update = transaction
        .prepare_cached(
            "UPDATE deliveries SET status = 'pending', due_at = $2, finished_at = NULL, earlier_attempts = attempts \
             WHERE seq = $1 AND NOT (leased AND status = 'pending')",
        )
        .await?;
    transaction.execute(&update, &[&found.place, &now.as_millis()]).await?;
    // The delivery's row first, as whoever ends an attempt does.
    if let Some(webhook) = &webhook {
        webhooks::end_pause(&transaction, webhook).await?;
    }
    transaction.commit().await?;
    let mut changes = Changes::default();
    changes.add_delivery();
    Ok((Sending::Due(id), changes))
}

fn recorded(row: &Row) -> Result<RecordedDelivery, Fault> {
    Ok(RecordedDelivery {
        place: row.try_get("place")?,
        id: delivery_id(row, "id")?,
        webhook: endpoint(row)?,
        url: row.try_get("url")?,
        event_id: event_id(row, "event_id")?,
        kind: row.try_get("kind")?,
        call_id: call_id(row)?,
        status: row.try_get("status")?,
        attempts: number(row, "attempts")?,
        created_at: time(row, "created_at")?,
        due_at: time(row, "due_at")?,
        leased: row.try_get("leased")?,
        finished_at: time_if_any(row, "finished_at")?,
    })
}

/// Reads a row that was joined with its event, whose id is `event_id`.
pub(super) fn read(row: &Row) -> Result<Delivery, Fault> {
    Ok(Delivery {
        id: delivery_id(row, "id")?,
        tenant: parsed(row, "tenant", TenantId::parse)?,
        call_id: call_id(row)?,
        webhook: endpoint(row)?,
        event_id: event_id(row, "event_id")?,
        url: parsed(row, "url", CallbackUrl::parse)?,
        attempts: number(row, "attempts")?,
        earlier_attempts: number(row, "earlier_attempts")?,
        due_at: time(row, "due_at")?,
        trace: from_json(row, "trace")?.ok_or_else(|| unreadable("trace", "nothing"))?,
    })
}

/// A test's is empty.
fn call_id(row: &Row) -> Result<Option<CallId>, Fault> {
    let text: &str = row.try_get("call_id")?;
    if text.is_empty() { Ok(None) } else { parsed(row, "call_id", CallId::parse).map(Some) }
}

/// That of a submission's own callback is empty.
fn endpoint(row: &Row) -> Result<Option<WebhookId>, Fault> {
    let text: &str = row.try_get("webhook")?;
    if text.is_empty() { Ok(None) } else { webhook_id(row, "webhook").map(Some) }
}

fn event_id(row: &Row, column: &str) -> Result<EventId, Fault> {
    parsed(row, column, |text| EventId::parse(text).ok_or(()))
}

fn delivery_id(row: &Row, column: &str) -> Result<DeliveryId, Fault> {
    parsed(row, column, |text| DeliveryId::parse(text).ok_or(()))
}
