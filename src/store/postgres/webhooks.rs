//! Registered endpoints.
//!
//! Whoever writes an event shares an advisory lock of its tenant's until the transaction ends, and whoever changes what
//! events are sent by holds it alone. So when a change is answered, every event that was written by what stood before is
//! committed: a replay that is asked for after it finds it.
//!
//! Whoever locks more than one row takes them in one order, lest two wait for each other: the tenant's advisory lock, then
//! `replays`, `deliveries`, and `webhooks` last. New rows are nobody's to wait for and may come at any place.

use async_trait::async_trait;
use deadpool_postgres::{Object, Transaction};
use tokio_postgres::Row;

use super::super::changes::Changes;
use super::super::deliveries::Verdict;
use super::super::webhooks::{ACTIVITY_ATTEMPTS, ACTIVITY_WINDOW, DELETED_BATCH, PENDING_COUNTED};
use super::super::{Change, Sending, StoreError, Surroundings, WebhookActivity, WebhookStore};
use super::connect::Session;
use super::fault::Fault;
use super::rows::{Parameter, number, parsed, time, time_if_any, unreadable};
use super::{PostgresStore, deliveries};
use crate::domain::callback_url::CallbackUrl;
use crate::domain::clock::Timestamp;
use crate::domain::deliveries::{Destination, NewDelivery};
use crate::domain::events;
use crate::domain::ids::{EventId, TenantId, WebhookId};
use crate::domain::trace::TraceContext;
use crate::domain::webhooks::{
    Disabled, DisabledReason, EndpointOutcome, EventFilter, Health, LastFailure, MAX_WEBHOOKS, SealedSecrets,
    Webhook,
};

/// What [`read`] expects of a row, in any order.
const COLUMNS: &str = "id, url, events, description, header_names, headers, secret, previous_secret, previous_until, \
     disabled_at, disabled_reason, created_at, updated_at, version, failures, failing_since, paused_until, \
     last_success_at, last_failure_at, last_status, last_error, unsigned_since";

const HOLD: &str = "SELECT pg_advisory_xact_lock(hashtext('alovoice-gateway webhooks'), \
     hashtext(current_schema() || ' ' || $1))";

/// A batch of an endpoint's deliveries; those that somebody is at come with the next.
const DELETE_DELIVERIES: &str = "DELETE FROM deliveries WHERE seq = ANY (ARRAY(SELECT seq FROM deliveries \
     WHERE webhook = $1 AND webhook <> '' LIMIT $2 FOR UPDATE SKIP LOCKED))";

/// After the last of them.
const DELETE_WEBHOOK: &str = "DELETE FROM webhooks WHERE id = $1 AND deleted_at IS NOT NULL \
     AND NOT EXISTS (SELECT 1 FROM deliveries WHERE webhook = $1 AND webhook <> '')";

/// What is written of an endpoint besides its names.
struct Content<'a> {
    url: &'a str,
    events: String,
    description: Option<&'a str>,
    header_names: String,
    headers: Option<&'a [u8]>,
    secret: &'a [u8],
    previous_secret: Option<&'a [u8]>,
    previous_until: Option<i64>,
    disabled_at: Option<i64>,
    disabled_reason: Option<&'static str>,
    created_at: i64,
    updated_at: i64,
}

impl<'a> Content<'a> {
    fn new(webhook: &'a Webhook) -> Self {
        let Webhook { sealed, disabled, .. } = webhook;
        let previous = sealed.previous_secret.as_ref();
        Self {
            url: webhook.url.as_str(),
            events: webhook.events.to_text(),
            description: webhook.description.as_deref(),
            header_names: webhook.header_names.join(" "),
            headers: sealed.headers.as_deref(),
            secret: &sealed.secret,
            previous_secret: previous.map(|(secret, _)| secret.as_slice()),
            previous_until: previous.map(|(_, until)| until.as_millis()),
            disabled_at: disabled.map(|disabled| disabled.at.as_millis()),
            disabled_reason: disabled.map(|disabled| disabled.reason.as_str()),
            created_at: webhook.created_at.as_millis(),
            updated_at: webhook.updated_at.as_millis(),
        }
    }

    /// In the order of the statements below.
    fn parameters(&self) -> [Parameter<'_>; 12] {
        [
            &self.url,
            &self.events,
            &self.description,
            &self.header_names,
            &self.headers,
            &self.secret,
            &self.previous_secret,
            &self.previous_until,
            &self.disabled_at,
            &self.disabled_reason,
            &self.created_at,
            &self.updated_at,
        ]
    }
}

#[async_trait]
impl WebhookStore for PostgresStore {
    async fn add_webhook(&self, tenant: &TenantId, webhook: Webhook) -> Result<bool, StoreError> {
        let webhook = &webhook;
        self.change(|session| add(session, tenant, webhook)).await
    }

    async fn find_webhook(&self, tenant: &TenantId, id: WebhookId) -> Result<Option<Webhook>, StoreError> {
        self.run(|session| find(session, tenant, id)).await
    }

    async fn list_webhooks(&self, tenant: &TenantId) -> Result<Vec<Webhook>, StoreError> {
        self.run(|session| list(session, tenant)).await
    }

    async fn change_webhook(
        &self,
        tenant: &TenantId,
        webhook: Webhook,
        forgive: bool,
    ) -> Result<bool, StoreError> {
        let webhook = &webhook;
        self.change(|session| change(session, tenant, webhook, forgive, self.now())).await
    }

    async fn delete_webhook(&self, tenant: &TenantId, id: WebhookId) -> Result<bool, StoreError> {
        self.change(|session| delete(session, tenant, id, self.now())).await
    }

    async fn webhook_activities(
        &self,
        tenant: &TenantId,
        ids: Vec<WebhookId>,
    ) -> Result<Vec<WebhookActivity>, StoreError> {
        let ids = &ids;
        self.run(|session| activities(session, tenant, ids)).await
    }

    async fn test_webhook(
        &self,
        tenant: &TenantId,
        id: WebhookId,
        trace: TraceContext,
    ) -> Result<Sending, StoreError> {
        let around = &self.surroundings;
        self.change(|session| test(session, around, tenant, id, trace)).await
    }
}

/// Waits until what is being written of the tenant's events is committed, and keeps others from it.
pub(super) async fn hold(transaction: &Transaction<'_>, tenant: &TenantId) -> Result<(), Fault> {
    let lock = transaction.prepare_cached(HOLD).await?;
    transaction.execute(&lock, &[&tenant.as_str()]).await?;
    Ok(())
}

pub(super) async fn add(
    mut session: Session,
    tenant: &TenantId,
    webhook: &Webhook,
) -> Result<(bool, Changes), Fault> {
    let transaction = session.client()?.transaction().await?;
    hold(&transaction, tenant).await?;
    let count = transaction
        .prepare_cached("SELECT count(*) AS number FROM webhooks WHERE tenant = $1 AND deleted_at IS NULL")
        .await?;
    let registered: usize = number(&transaction.query_one(&count, &[&tenant.as_str()]).await?, "number")?;
    if registered >= MAX_WEBHOOKS {
        return Ok((false, Changes::default()));
    }
    // A second try after a commit that was not heard finds its own row.
    let insert = transaction
        .prepare_cached(
            "INSERT INTO webhooks (id, tenant, url, events, description, header_names, headers, secret, previous_secret, \
             previous_until, disabled_at, disabled_reason, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT (id) DO NOTHING",
        )
        .await?;
    let (id, tenant, content) = (webhook.id.to_string(), tenant.as_str(), Content::new(webhook));
    let named = [&id as Parameter<'_>, &tenant];
    transaction.execute(&insert, &named.into_iter().chain(content.parameters()).collect::<Vec<_>>()).await?;
    transaction.commit().await?;
    Ok((true, Changes::default()))
}

pub(super) async fn find(
    mut session: Session,
    tenant: &TenantId,
    id: WebhookId,
) -> Result<Option<Webhook>, Fault> {
    let client = session.client()?;
    let sql = format!("SELECT {COLUMNS} FROM webhooks WHERE id = $1 AND tenant = $2 AND deleted_at IS NULL");
    let select = client.prepare_cached(&sql).await?;
    let row = client.query_opt(&select, &[&id.to_string(), &tenant.as_str()]).await?;
    row.as_ref().map(read).transpose()
}

/// How an endpoint's row is held while it is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Held {
    /// Not at all.
    No,
    /// It is about to be changed.
    Alone,
}

/// Whether an endpoint is enabled; `None` if there is none.
pub(super) async fn is_enabled(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    id: &str,
    held: Held,
) -> Result<Option<bool>, Fault> {
    let lock = match held {
        Held::No => "",
        Held::Alone => "FOR NO KEY UPDATE",
    };
    let sql = format!(
        "SELECT disabled_at IS NULL FROM webhooks WHERE id = $1 AND tenant = $2 AND deleted_at IS NULL {lock}"
    );
    let select = transaction.prepare_cached(&sql).await?;
    let row = transaction.query_opt(&select, &[&id, &tenant.as_str()]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

pub(super) async fn list(mut session: Session, tenant: &TenantId) -> Result<Vec<Webhook>, Fault> {
    let client = session.client()?;
    let sql = format!("SELECT {COLUMNS} FROM webhooks WHERE tenant = $1 AND deleted_at IS NULL ORDER BY id");
    let select = client.prepare_cached(&sql).await?;
    client.query(&select, &[&tenant.as_str()]).await?.iter().map(read).collect()
}

pub(super) async fn change(
    mut session: Session,
    tenant: &TenantId,
    webhook: &Webhook,
    forgive: bool,
    now: Timestamp,
) -> Result<(bool, Changes), Fault> {
    let transaction = session.client()?.transaction().await?;
    hold(&transaction, tenant).await?;
    let id = webhook.id.to_string();
    if webhook.disabled.is_none() {
        wake_replay(&transaction, tenant, &id, now).await?;
    }
    let update = transaction
        .prepare_cached(
            "UPDATE webhooks SET version = version + 1, url = $1, events = $2, description = $3, header_names = $4, \
             headers = $5, secret = $6, previous_secret = $7, previous_until = $8, disabled_at = $9, \
             disabled_reason = $10, created_at = $11, updated_at = $12, \
             failures = CASE WHEN $13 THEN 0 ELSE failures END, \
             failing_since = CASE WHEN $13 THEN NULL ELSE failing_since END, \
             paused_until = CASE WHEN $13 THEN NULL ELSE paused_until END, \
             unsigned_since = CASE WHEN $13 THEN NULL ELSE unsigned_since END \
             WHERE id = $14 AND tenant = $15 AND version = $16 AND deleted_at IS NULL",
        )
        .await?;
    let (of, version, content) = (tenant.as_str(), i64::from(webhook.version), Content::new(webhook));
    let place = [&forgive as Parameter<'_>, &id, &of, &version];
    let parameters = content.parameters().into_iter().chain(place).collect::<Vec<_>>();
    if transaction.execute(&update, &parameters).await? == 0 {
        return Ok((false, Changes::default()));
    }
    transaction.commit().await?;
    // What waited for it may go on.
    let mut changes = Changes::default();
    changes.add_delivery();
    changes.notify(Change::Replay);
    Ok((true, changes))
}

pub(super) async fn delete(
    mut session: Session,
    tenant: &TenantId,
    id: WebhookId,
    now: Timestamp,
) -> Result<(bool, Changes), Fault> {
    let (id, client) = (id.to_string(), session.client()?);
    let transaction = client.transaction().await?;
    hold(&transaction, tenant).await?;
    let replays =
        transaction.prepare_cached("DELETE FROM replays WHERE webhook = $1 AND tenant = $2").await?;
    transaction.execute(&replays, &[&id, &tenant.as_str()]).await?;
    let mark = transaction
        .prepare_cached(
            "UPDATE webhooks SET deleted_at = $1, disabled_at = coalesce(disabled_at, $1), version = version + 1, \
             secret = '', previous_secret = NULL, headers = NULL \
             WHERE id = $2 AND tenant = $3 AND deleted_at IS NULL",
        )
        .await?;
    if transaction.execute(&mark, &[&now.as_millis(), &id, &tenant.as_str()]).await? == 0 {
        return Ok((false, Changes::default()));
    }
    transaction.commit().await?;
    // Apart: whoever is at a delivery may wait for the endpoint's row. What is left goes with the next purge.
    delete_rest(client, &id).await?;
    Ok((true, Changes::default()))
}

/// Makes the unfinished replay of a webhook due now.
async fn wake_replay(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    webhook: &str,
    now: Timestamp,
) -> Result<(), Fault> {
    let update = transaction
        .prepare_cached(
            "UPDATE replays SET due_at = least(due_at, $3) \
             WHERE webhook = $1 AND tenant = $2 AND finished_at IS NULL",
        )
        .await?;
    transaction.execute(&update, &[&webhook, &tenant.as_str(), &now.as_millis()]).await?;
    Ok(())
}

/// Deletes deliveries of endpoints that were deleted. How many rows went.
pub(super) async fn purge(mut session: Session) -> Result<usize, Fault> {
    let client = session.client()?;
    let select = client
        .prepare_cached("SELECT id FROM webhooks WHERE deleted_at IS NOT NULL ORDER BY id LIMIT 1")
        .await?;
    match client.query_opt(&select, &[]).await? {
        Some(row) => delete_rest(client, row.try_get(0)?).await,
        None => Ok(0),
    }
}

async fn delete_rest(client: &Object, id: &str) -> Result<usize, Fault> {
    let batch = i64::try_from(DELETED_BATCH).unwrap_or(i64::MAX);
    let deliveries = client.prepare_cached(DELETE_DELIVERIES).await?;
    let gone = client.execute(&deliveries, &[&id, &batch]).await?;
    let webhook = client.prepare_cached(DELETE_WEBHOOK).await?;
    let gone = gone + client.execute(&webhook, &[&id]).await?;
    Ok(usize::try_from(gone).unwrap_or(usize::MAX))
}

/// In the order of the ids.
pub(super) async fn activities(
    mut session: Session,
    tenant: &TenantId,
    ids: &[WebhookId],
) -> Result<Vec<WebhookActivity>, Fault> {
    let client = session.client()?;
    let ids: Vec<String> = ids.iter().map(WebhookId::to_string).collect();
    let pending = PENDING_COUNTED + 1;
    let select = client.prepare_cached(ACTIVITIES).await?;
    let parameters: [Parameter<'_>; 5] =
        [&tenant.as_str(), &ids, &ACTIVITY_WINDOW, &ACTIVITY_ATTEMPTS, &pending];
    client.query(&select, &parameters).await?.iter().map(activity).collect()
}

fn activity(row: &Row) -> Result<WebhookActivity, Fault> {
    let (counted, most): (u64, u64) =
        (number(row, "pending")?, u64::try_from(PENDING_COUNTED).unwrap_or_default());
    Ok(WebhookActivity {
        attempts: number(row, "attempts")?,
        delivered: number(row, "delivered")?,
        pending: counted.min(most),
        more_pending: counted > most,
    })
}

/// Takes a tenant, endpoints, a number of deliveries, a number of attempts of each, and how far to count what waits.
const ACTIVITIES: &str = "SELECT went.attempts, went.delivered, waits.pending \
     FROM unnest($2::text[]) WITH ORDINALITY AS hook (id, place) CROSS JOIN LATERAL \
     (SELECT coalesce(sum(ended), 0)::bigint AS attempts, coalesce(sum(taken), 0)::bigint AS delivered \
     FROM (SELECT seq, attempts FROM deliveries WHERE webhook = hook.id AND webhook <> '' \
     ORDER BY seq DESC LIMIT $3) AS youngest CROSS JOIN LATERAL \
     (SELECT count(nullif(outcome, 'unsigned')) AS ended, count(*) FILTER (WHERE outcome = 'delivered') AS taken \
     FROM attempts WHERE delivery = youngest.seq AND number > youngest.attempts - $4) AS counted) AS went \
     CROSS JOIN LATERAL (SELECT count(*) AS pending FROM (SELECT 1 FROM deliveries WHERE status = 'pending' \
     AND tenant = $1 AND receiver = hook.id LIMIT $5) AS waiting) AS waits ORDER BY place";

pub(super) async fn test(
    mut session: Session,
    around: &Surroundings,
    tenant: &TenantId,
    id: WebhookId,
    trace: TraceContext,
) -> Result<(Sending, Changes), Fault> {
    let transaction = session.client()?.transaction().await?;
    match is_enabled(&transaction, tenant, &id.to_string(), Held::Alone).await? {
        None => return Ok((Sending::NotFound, Changes::default())),
        Some(false) => return Ok((Sending::Disabled, Changes::default())),
        Some(true) => {}
    }
    let now = around.clock.now();
    let event_id = EventId::generate(now, &*around.entropy);
    let body = events::test_body(id, now).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    // Its place is apart from the feed. Two statements, as the number is not known before.
    let insert = transaction
        .prepare_cached(
            "WITH place AS (SELECT nextval(pg_get_serial_sequence('events', 'seq')) AS seq) \
             INSERT INTO events (seq, id, tenant, call_id, kind, at, body, position) \
             SELECT seq, $1, $2, '', $3, $4, $5, -seq FROM place RETURNING seq",
        )
        .await?;
    let row = transaction
        .query_one(
            &insert,
            &[&event_id.to_string(), &tenant.as_str(), &events::WEBHOOK_TEST, &now.as_millis(), &&body[..]],
        )
        .await?;
    let destination = Destination::Webhook(id);
    let delivery = NewDelivery::begin(tenant, None, destination, trace, now, &*around.entropy);
    deliveries::insert(&transaction, row.try_get(0)?, &delivery).await?;
    end_pause(&transaction, &id.to_string()).await?;
    transaction.commit().await?;
    let mut changes = Changes::default();
    changes.add_delivery();
    Ok((Sending::Due(delivery.id), changes))
}

/// Somebody wants to see now whether it works.
pub(super) async fn end_pause(transaction: &Transaction<'_>, id: &str) -> Result<(), Fault> {
    let update = transaction
        .prepare_cached(
            "UPDATE webhooks SET failures = 0, paused_until = NULL WHERE id = $1 AND paused_until IS NOT NULL",
        )
        .await?;
    transaction.execute(&update, &[&id]).await?;
    Ok(())
}

/// Takes note of an attempt's end, unless the endpoint is another by now; why it is disabled with that, if it is.
pub(super) async fn attempted(
    transaction: &Transaction<'_>,
    id: &str,
    verdict: &Verdict,
    now: Timestamp,
) -> Result<Option<DisabledReason>, Fault> {
    // Without a lock first: the record of one that is well is seldom written.
    for lock in ["", " FOR NO KEY UPDATE"] {
        let sql = format!("SELECT {COLUMNS} FROM webhooks WHERE id = $1 AND deleted_at IS NULL{lock}");
        let select = transaction.prepare_cached(&sql).await?;
        let Some(row) = transaction.query_opt(&select, &[&id]).await? else { return Ok(None) };
        let webhook = read(&row)?;
        if webhook.version != verdict.version || !webhook.health.learns_from(&verdict.ended, now) {
            return Ok(None);
        }
        if !lock.is_empty() {
            return keep_attempted(transaction, webhook, &verdict.ended, now).await;
        }
    }
    Ok(None)
}

async fn keep_attempted(
    transaction: &Transaction<'_>,
    mut webhook: Webhook,
    ended: &EndpointOutcome,
    now: Timestamp,
) -> Result<Option<DisabledReason>, Fault> {
    let newly = webhook.health.attempted(ended, now).filter(|_| webhook.disabled.is_none());
    if let Some(reason) = newly {
        webhook.disable(reason, now);
    }
    let Health { failures, failing_since, paused_until, last_success_at, last_failure, unsigned_since } =
        webhook.health;
    let at = |moment: Option<Timestamp>| moment.map(Timestamp::as_millis);
    let update = transaction
        .prepare_cached(
            "UPDATE webhooks SET failures = $2, failing_since = $3, paused_until = $4, last_success_at = $5, \
             last_failure_at = $6, last_status = $7, last_error = $8, disabled_at = $9, disabled_reason = $10, \
             version = version + $11, unsigned_since = $12 WHERE id = $1",
        )
        .await?;
    // The server's texts cannot hold NUL.
    let error = last_failure.as_ref().map(|last| last.error.replace('\0', "\u{fffd}"));
    transaction
        .execute(
            &update,
            &[
                &webhook.id.to_string(),
                &i64::from(failures),
                &at(failing_since),
                &at(paused_until),
                &at(last_success_at),
                &last_failure.as_ref().map(|last| last.at.as_millis()),
                &last_failure.as_ref().and_then(|last| last.status).map(i64::from),
                &error,
                &webhook.disabled.map(|disabled| disabled.at.as_millis()),
                &webhook.disabled.map(|disabled| disabled.reason.as_str()),
                &i64::from(newly.is_some()),
                &at(unsigned_since),
            ],
        )
        .await?;
    Ok(newly)
}

/// Reads a row of [`COLUMNS`].
fn read(row: &Row) -> Result<Webhook, Fault> {
    let names: &str = row.try_get("header_names")?;
    let last_status: Option<i64> = row.try_get("last_status")?;
    let last_error: Option<String> = row.try_get("last_error")?;
    let disabled = match time_if_any(row, "disabled_at")? {
        Some(at) => Some(Disabled { reason: reason(row)?, at }),
        None => None,
    };
    Ok(Webhook {
        id: webhook_id(row, "id")?,
        url: parsed(row, "url", CallbackUrl::parse)?,
        events: filter(row)?,
        description: row.try_get("description")?,
        header_names: names.split_whitespace().map(str::to_owned).collect(),
        sealed: sealed(row)?,
        disabled,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        version: number(row, "version")?,
        health: Health {
            failures: number(row, "failures")?,
            failing_since: time_if_any(row, "failing_since")?,
            paused_until: time_if_any(row, "paused_until")?,
            last_success_at: time_if_any(row, "last_success_at")?,
            last_failure: time_if_any(row, "last_failure_at")?.map(|at| LastFailure {
                at,
                status: last_status.and_then(|status| u16::try_from(status).ok()),
                error: last_error.unwrap_or_default(),
            }),
            unsigned_since: time_if_any(row, "unsigned_since")?,
        },
    })
}

/// Also of a claimed delivery that was joined with its endpoint.
pub(super) fn sealed(row: &Row) -> Result<SealedSecrets, Fault> {
    let previous: Option<Vec<u8>> = row.try_get("previous_secret")?;
    Ok(SealedSecrets {
        secret: row.try_get("secret")?,
        previous_secret: previous.zip(time_if_any(row, "previous_until")?),
        headers: row.try_get("headers")?,
    })
}

/// Of a deleted one there is none.
fn reason(row: &Row) -> Result<DisabledReason, Fault> {
    let reason: Option<&str> = row.try_get("disabled_reason")?;
    let reason = reason.unwrap_or(DisabledReason::Requested.as_str());
    DisabledReason::from_word(reason).ok_or_else(|| unreadable("disabled_reason", reason))
}

pub(super) fn filter(row: &Row) -> Result<EventFilter, Fault> {
    parsed(row, "events", |text| EventFilter::from_text(text).ok_or(()))
}

pub(super) fn webhook_id(row: &Row, column: &str) -> Result<WebhookId, Fault> {
    parsed(row, column, |text| WebhookId::parse(text).ok_or(()))
}
