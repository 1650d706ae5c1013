//! Registered endpoints.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

use super::super::deliveries::Verdict;
use super::super::webhooks::{ACTIVITY_ATTEMPTS, ACTIVITY_WINDOW, DELETED_BATCH, PENDING_COUNTED};
use super::super::{Change, Sending, StoreError, Surroundings, WebhookActivity, WebhookStore};
use super::rows::{text_id, time, time_if_any, unreadable};
use super::writer::Done;
use super::{SqliteStore, deliveries};
use crate::domain::callback_url::CallbackUrl;
use crate::domain::clock::Timestamp;
use crate::domain::deliveries::{Destination, NewDelivery};
use crate::domain::events;
use crate::domain::ids::{EventId, TenantId, WebhookId};
use crate::domain::trace::TraceContext;
use crate::domain::webhooks::{
    Disabled, DisabledReason, EventFilter, Health, LastFailure, MAX_WEBHOOKS, SealedSecrets, Webhook,
};

/// What [`read`] expects of a row, in any order.
const COLUMNS: &str = "id, url, events, description, header_names, headers, secret, previous_secret, previous_until, \
     disabled_at, disabled_reason, created_at, updated_at, version, failures, failing_since, paused_until, \
     last_success_at, last_failure_at, last_status, last_error, unsigned_since";

/// Takes a tenant.
pub(super) const SHUT: &str = "SELECT id, disabled_at, paused_until FROM webhooks \
     WHERE tenant = ? AND (disabled_at IS NOT NULL OR paused_until IS NOT NULL)";

/// Takes an endpoint, a number of deliveries, and a number of attempts of each.
pub(super) const ACTIVITY: &str = "SELECT count(nullif(outcome, 'unsigned')), count(iif(outcome = 'delivered', 1, NULL)) \
     FROM (SELECT seq, attempts FROM deliveries WHERE webhook = ? AND webhook <> '' ORDER BY seq DESC LIMIT ?) AS youngest \
     CROSS JOIN attempts ON delivery = youngest.seq AND number > youngest.attempts - ?";

/// Takes a tenant, an endpoint and a number.
pub(super) const PENDING: &str = "SELECT count(*) FROM (SELECT 1 FROM deliveries WHERE status = 'pending' \
     AND tenant = ? AND receiver = ? LIMIT ?)";

/// Takes an endpoint and a number.
pub(super) const DELETE_DELIVERIES: &str = "DELETE FROM deliveries WHERE seq IN (SELECT seq FROM deliveries \
     WHERE webhook = ? AND webhook <> '' LIMIT ?)";

/// What is written of an endpoint besides its names, in the order of the statements below.
fn content(webhook: &Webhook) -> [Value; 12] {
    let Webhook { sealed, disabled, .. } = webhook;
    let previous = sealed.previous_secret.as_ref();
    [
        Value::from(webhook.url.as_str().to_owned()),
        Value::from(webhook.events.to_text()),
        webhook.description.clone().into(),
        Value::from(webhook.header_names.join(" ")),
        sealed.headers.clone().into(),
        Value::from(sealed.secret.clone()),
        previous.map(|(secret, _)| secret.clone()).into(),
        previous.map(|(_, until)| until.as_millis()).into(),
        disabled.map(|disabled| disabled.at.as_millis()).into(),
        disabled.map(|disabled| disabled.reason.as_str().to_owned()).into(),
        Value::from(webhook.created_at.as_millis()),
        Value::from(webhook.updated_at.as_millis()),
    ]
}

#[async_trait]
impl WebhookStore for SqliteStore {
    async fn add_webhook(&self, tenant: &TenantId, webhook: Webhook) -> Result<bool, StoreError> {
        let tenant = tenant.clone();
        self.write(move |connection| add(connection, &tenant, &webhook).map(Done::quiet)).await
    }

    async fn find_webhook(&self, tenant: &TenantId, id: WebhookId) -> Result<Option<Webhook>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| find(connection, &tenant, id)).await
    }

    async fn list_webhooks(&self, tenant: &TenantId) -> Result<Vec<Webhook>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| list(connection, &tenant)).await
    }

    async fn change_webhook(
        &self,
        tenant: &TenantId,
        webhook: Webhook,
        forgive: bool,
    ) -> Result<bool, StoreError> {
        let (tenant, now) = (tenant.clone(), self.surroundings.clock.now());
        self.write(move |connection| change(connection, &tenant, &webhook, forgive, now)).await
    }

    async fn delete_webhook(&self, tenant: &TenantId, id: WebhookId) -> Result<bool, StoreError> {
        let (tenant, now) = (tenant.clone(), self.surroundings.clock.now());
        self.write(move |connection| delete(connection, &tenant, id, now).map(Done::quiet)).await
    }

    async fn webhook_activities(
        &self,
        tenant: &TenantId,
        ids: Vec<WebhookId>,
    ) -> Result<Vec<WebhookActivity>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| ids.iter().map(|id| activity(connection, &tenant, *id)).collect()).await
    }

    async fn test_webhook(
        &self,
        tenant: &TenantId,
        id: WebhookId,
        trace: TraceContext,
    ) -> Result<Sending, StoreError> {
        let (around, tenant) = (Arc::clone(&self.surroundings), tenant.clone());
        self.write(move |connection| test(connection, &around, &tenant, id, trace)).await
    }
}

pub(super) fn add(connection: &Connection, tenant: &TenantId, webhook: &Webhook) -> Result<bool, StoreError> {
    let registered: usize = connection
        .prepare_cached("SELECT count(*) FROM webhooks WHERE tenant = ? AND deleted_at IS NULL")?
        .query_row([tenant.as_str()], |row| row.get(0))?;
    if registered >= MAX_WEBHOOKS {
        return Ok(false);
    }
    let named = [Value::from(webhook.id.to_string()), Value::from(tenant.as_str().to_owned())];
    connection
        .prepare_cached(
            "INSERT INTO webhooks (id, tenant, url, events, description, header_names, headers, secret, previous_secret, \
             previous_until, disabled_at, disabled_reason, created_at, updated_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params_from_iter(named.into_iter().chain(content(webhook))))?;
    Ok(true)
}

pub(super) fn find(
    connection: &Connection,
    tenant: &TenantId,
    id: WebhookId,
) -> Result<Option<Webhook>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM webhooks WHERE id = ? AND tenant = ? AND deleted_at IS NULL");
    let mut select = connection.prepare_cached(&sql)?;
    Ok(select.query_row(params![id.to_string(), tenant.as_str()], read).optional()?)
}

pub(super) fn list(connection: &Connection, tenant: &TenantId) -> Result<Vec<Webhook>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM webhooks WHERE tenant = ? AND deleted_at IS NULL ORDER BY id");
    let mut select = connection.prepare_cached(&sql)?;
    Ok(select.query_map([tenant.as_str()], read)?.collect::<Result<_, _>>()?)
}

pub(super) fn change(
    connection: &Connection,
    tenant: &TenantId,
    webhook: &Webhook,
    forgive: bool,
    now: Timestamp,
) -> Result<Done<bool>, StoreError> {
    let place = [
        Value::from(forgive),
        Value::from(webhook.id.to_string()),
        Value::from(tenant.as_str().to_owned()),
        Value::from(webhook.version),
    ];
    let written = connection
        .prepare_cached(
            "UPDATE webhooks SET version = version + 1, url = ?1, events = ?2, description = ?3, header_names = ?4, \
             headers = ?5, secret = ?6, previous_secret = ?7, previous_until = ?8, disabled_at = ?9, \
             disabled_reason = ?10, created_at = ?11, updated_at = ?12, failures = iif(?13, 0, failures), \
             failing_since = iif(?13, NULL, failing_since), paused_until = iif(?13, NULL, paused_until), \
             unsigned_since = iif(?13, NULL, unsigned_since) \
             WHERE id = ?14 AND tenant = ?15 AND version = ?16 AND deleted_at IS NULL",
        )?
        .execute(params_from_iter(content(webhook).into_iter().chain(place)))?;
    if written == 0 {
        return Ok(Done::quiet(false));
    }
    if webhook.disabled.is_none() {
        connection
            .prepare_cached(
                "UPDATE replays SET due_at = min(due_at, ?) WHERE webhook = ? AND finished_at IS NULL",
            )?
            .execute(params![now.as_millis(), webhook.id.to_string()])?;
    }
    // What waited for it may go on.
    Ok(Done { value: true, changes: vec![Change::Delivery, Change::Replay] })
}

pub(super) fn delete(
    connection: &Connection,
    tenant: &TenantId,
    id: WebhookId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let found = connection
        .prepare_cached(
            "UPDATE webhooks SET deleted_at = ?1, disabled_at = coalesce(disabled_at, ?1), version = version + 1, \
             secret = x'', previous_secret = NULL, headers = NULL WHERE id = ?2 AND tenant = ?3 AND deleted_at IS NULL",
        )?
        .execute(params![now.as_millis(), id.to_string(), tenant.as_str()])?;
    if found > 0 {
        connection.prepare_cached("DELETE FROM replays WHERE webhook = ?")?.execute([id.to_string()])?;
        delete_rest(connection, &id.to_string())?;
    }
    Ok(found > 0)
}

/// Deletes deliveries of endpoints that were deleted. How many rows went.
pub(super) fn purge(connection: &Connection) -> Result<usize, StoreError> {
    let id: Option<String> = connection
        .prepare_cached("SELECT id FROM webhooks WHERE deleted_at IS NOT NULL ORDER BY id LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    id.map_or(Ok(0), |id| delete_rest(connection, &id))
}

/// A batch of the deliveries, and after the last the endpoint itself.
fn delete_rest(connection: &Connection, id: &str) -> Result<usize, StoreError> {
    let gone = connection.prepare_cached(DELETE_DELIVERIES)?.execute(params![id, DELETED_BATCH])?;
    if gone < DELETED_BATCH {
        connection.prepare_cached("DELETE FROM webhooks WHERE id = ?")?.execute([id])?;
        return Ok(gone + 1);
    }
    Ok(gone)
}

pub(super) fn activity(
    connection: &Connection,
    tenant: &TenantId,
    id: WebhookId,
) -> Result<WebhookActivity, StoreError> {
    let id = id.to_string();
    let (attempts, delivered) = connection
        .prepare_cached(ACTIVITY)?
        .query_row(params![id, ACTIVITY_WINDOW, ACTIVITY_ATTEMPTS], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let pending = pending(connection, tenant, &id, PENDING_COUNTED + 1)?;
    let counted = u64::try_from(pending).unwrap_or_default();
    let most = u64::try_from(PENDING_COUNTED).unwrap_or_default();
    Ok(WebhookActivity { attempts, delivered, pending: counted.min(most), more_pending: counted > most })
}

/// Deliveries that wait, counted up to a bound.
pub(super) fn pending(
    connection: &Connection,
    tenant: &TenantId,
    id: &str,
    most: i64,
) -> Result<i64, StoreError> {
    let mut count = connection.prepare_cached(PENDING)?;
    Ok(count.query_row(params![tenant.as_str(), id, most], |row| row.get(0))?)
}

pub(super) fn test(
    connection: &Connection,
    around: &Surroundings,
    tenant: &TenantId,
    id: WebhookId,
    trace: TraceContext,
) -> Result<Done<Sending>, StoreError> {
    let Some(webhook) = find(connection, tenant, id)? else { return Ok(Done::quiet(Sending::NotFound)) };
    if webhook.disabled.is_some() {
        return Ok(Done::quiet(Sending::Disabled));
    }
    let now = around.clock.now();
    let event_id = EventId::generate(now, &*around.entropy);
    let body = events::test_body(id, now).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    connection
        .prepare_cached(
            "INSERT INTO events (id, tenant, call_id, kind, at, body) VALUES (?, ?, '', ?, ?, ?)",
        )?
        .execute(params![
            event_id.to_string(),
            tenant.as_str(),
            events::WEBHOOK_TEST,
            now.as_millis(),
            &body[..]
        ])?;
    let seq = connection.last_insert_rowid();
    // Apart from the feed, also where it is copied to.
    connection.prepare_cached("UPDATE events SET position = -seq WHERE seq = ?")?.execute([seq])?;
    let destination = Destination::Webhook(id);
    let delivery = NewDelivery::begin(tenant, None, destination, trace, now, &*around.entropy);
    deliveries::insert(connection, seq, &delivery)?;
    end_pause(connection, &id.to_string())?;
    Ok(Done { value: Sending::Due(delivery.id), changes: vec![Change::Delivery] })
}

/// Somebody wants to see now whether it works.
pub(super) fn end_pause(connection: &Connection, id: &str) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE webhooks SET failures = 0, paused_until = NULL WHERE id = ? AND paused_until IS NOT NULL",
        )?
        .execute([id])?;
    Ok(())
}

/// Takes note of an attempt's end, unless the endpoint is another by now; why it is disabled with that, if it is.
pub(super) fn attempted(
    connection: &Connection,
    id: &str,
    Verdict { version, ended }: &Verdict,
    now: Timestamp,
) -> Result<Option<DisabledReason>, StoreError> {
    let found = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM webhooks WHERE id = ?"))?
        .query_row([id], read)
        .optional()?;
    let counts = |webhook: &Webhook| webhook.version == *version && webhook.health.learns_from(ended, now);
    let Some(mut webhook) = found.filter(counts) else {
        return Ok(None);
    };
    let newly = webhook.health.attempted(ended, now).filter(|_| webhook.disabled.is_none());
    if let Some(reason) = newly {
        webhook.disable(reason, now);
    }
    let Health { failures, failing_since, paused_until, last_success_at, last_failure, unsigned_since } =
        webhook.health;
    let at = |moment: Option<Timestamp>| moment.map(Timestamp::as_millis);
    connection
        .prepare_cached(
            "UPDATE webhooks SET failures = ?, failing_since = ?, paused_until = ?, last_success_at = ?, \
             last_failure_at = ?, last_status = ?, last_error = ?, disabled_at = ?, disabled_reason = ?, \
             unsigned_since = ?, version = version + ? WHERE id = ?",
        )?
        .execute(params![
            failures,
            at(failing_since),
            at(paused_until),
            at(last_success_at),
            last_failure.as_ref().map(|last| last.at.as_millis()),
            last_failure.as_ref().and_then(|last| last.status),
            last_failure.as_ref().map(|last| last.error.as_str()),
            webhook.disabled.map(|disabled| disabled.at.as_millis()),
            webhook.disabled.map(|disabled| disabled.reason.as_str()),
            at(unsigned_since),
            u32::from(newly.is_some()),
            id,
        ])?;
    Ok(newly)
}

/// Reads a row of [`COLUMNS`].
fn read(row: &Row<'_>) -> Result<Webhook, rusqlite::Error> {
    let names: String = row.get("header_names")?;
    let previous: Option<Vec<u8>> = row.get("previous_secret")?;
    let disabled_at = time_if_any(row, "disabled_at")?;
    let last_failure_at = time_if_any(row, "last_failure_at")?;
    Ok(Webhook {
        id: webhook_id(row, "id")?,
        url: text_id(row, "url", CallbackUrl::parse)?,
        events: filter(row)?,
        description: row.get("description")?,
        header_names: names.split_whitespace().map(str::to_owned).collect(),
        sealed: SealedSecrets {
            secret: row.get("secret")?,
            previous_secret: previous.zip(time_if_any(row, "previous_until")?),
            headers: row.get("headers")?,
        },
        disabled: disabled_at
            .map(|at| Ok::<_, rusqlite::Error>(Disabled { reason: reason(row)?, at }))
            .transpose()?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        version: row.get("version")?,
        health: Health {
            failures: row.get("failures")?,
            failing_since: time_if_any(row, "failing_since")?,
            paused_until: time_if_any(row, "paused_until")?,
            last_success_at: time_if_any(row, "last_success_at")?,
            last_failure: last_failure_at
                .map(|at| {
                    let error: Option<String> = row.get("last_error")?;
                    let status = row.get("last_status")?;
                    Ok::<_, rusqlite::Error>(LastFailure { at, status, error: error.unwrap_or_default() })
                })
                .transpose()?,
            unsigned_since: time_if_any(row, "unsigned_since")?,
        },
    })
}

/// Of a deleted one there is none.
fn reason(row: &Row<'_>) -> Result<DisabledReason, rusqlite::Error> {
    let reason: Option<String> = row.get("disabled_reason")?;
    let reason = reason.unwrap_or_else(|| DisabledReason::Requested.as_str().to_owned());
    DisabledReason::from_word(&reason).ok_or_else(|| unreadable("disabled_reason", &reason))
}

pub(super) fn filter(row: &Row<'_>) -> Result<EventFilter, rusqlite::Error> {
    text_id(row, "events", |text| EventFilter::from_text(text).ok_or(()))
}

pub(super) fn webhook_id(row: &Row<'_>, column: &str) -> Result<WebhookId, rusqlite::Error> {
    text_id(row, column, |text| WebhookId::parse(text).ok_or(()))
}
