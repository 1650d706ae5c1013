//! What is sealed, to be sealed anew.

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::super::{SealedAnswer, SealedStore, SealedWebhook, StoreError};
use super::SqliteStore;
use super::rows::{text_id, time_if_any, unreadable};
use super::webhooks::webhook_id;
use super::writer::Done;
use crate::domain::clock::Timestamp;
use crate::domain::ids::{TenantId, WebhookId};
use crate::domain::webhooks::SealedSecrets;

#[async_trait]
impl SealedStore for SqliteStore {
    async fn sealed_webhooks_across_tenants(
        &self,
        after: Option<WebhookId>,
        limit: usize,
    ) -> Result<Vec<SealedWebhook>, StoreError> {
        self.read(move |connection| webhooks(connection, after, limit)).await
    }

    async fn reseal_webhook(&self, was: SealedWebhook, sealed: SealedSecrets) -> Result<bool, StoreError> {
        self.write(move |connection| reseal_webhook(connection, &was, &sealed).map(Done::quiet)).await
    }

    async fn sealed_answers_across_tenants(
        &self,
        after: Option<(TenantId, [u8; 32])>,
        limit: usize,
    ) -> Result<Vec<SealedAnswer>, StoreError> {
        self.read(move |connection| answers(connection, after.as_ref(), limit)).await
    }

    async fn reseal_answers_across_tenants(
        &self,
        answers: Vec<(SealedAnswer, Vec<u8>)>,
    ) -> Result<usize, StoreError> {
        self.write(move |connection| reseal_answers(connection, &answers).map(Done::quiet)).await
    }
}

pub(super) fn webhooks(
    connection: &Connection,
    after: Option<WebhookId>,
    limit: usize,
) -> Result<Vec<SealedWebhook>, StoreError> {
    let after = after.map_or_else(String::new, |id| id.to_string());
    let mut select = connection.prepare_cached(
        "SELECT id, tenant, secret, previous_secret, previous_until, headers FROM webhooks \
         WHERE deleted_at IS NULL AND id > ? ORDER BY id LIMIT ?",
    )?;
    let rows = select.query_map(params![after, limit], |row| {
        let previous: Option<Vec<u8>> = row.get("previous_secret")?;
        Ok(SealedWebhook {
            tenant: text_id(row, "tenant", TenantId::parse)?,
            id: webhook_id(row, "id")?,
            sealed: SealedSecrets {
                secret: row.get("secret")?,
                previous_secret: previous.zip(time_if_any(row, "previous_until")?),
                headers: row.get("headers")?,
            },
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn reseal_webhook(
    connection: &Connection,
    was: &SealedWebhook,
    sealed: &SealedSecrets,
) -> Result<bool, StoreError> {
    let previous = |sealed: &SealedSecrets| sealed.previous_secret.as_ref().map(|(secret, _)| secret.clone());
    let until = |sealed: &SealedSecrets| {
        sealed.previous_secret.as_ref().map(|(_, until)| Timestamp::as_millis(*until))
    };
    let written = connection
        .prepare_cached(
            "UPDATE webhooks SET version = version + 1, secret = ?1, previous_secret = ?2, headers = ?3 \
             WHERE id = ?4 AND tenant = ?5 AND deleted_at IS NULL AND secret = ?6 AND previous_secret IS ?7 \
             AND previous_until IS ?8 AND headers IS ?9",
        )?
        .execute(params![
            sealed.secret,
            previous(sealed),
            sealed.headers,
            was.id.to_string(),
            was.tenant.as_str(),
            was.sealed.secret,
            previous(&was.sealed),
            until(&was.sealed),
            was.sealed.headers,
        ])?;
    Ok(written > 0)
}

pub(super) fn answers(
    connection: &Connection,
    after: Option<&(TenantId, [u8; 32])>,
    limit: usize,
) -> Result<Vec<SealedAnswer>, StoreError> {
    let (tenant, name) = after.map_or(("", &[][..]), |(tenant, name)| (tenant.as_str(), &name[..]));
    let mut select = connection.prepare_cached(
        "SELECT tenant, name, answer FROM idempotency WHERE is_sealed AND answer IS NOT NULL AND (tenant, name) > (?, ?) \
         ORDER BY tenant, name LIMIT ?",
    )?;
    let rows = select.query_map(params![tenant, name, limit], |row| {
        let name: Vec<u8> = row.get("name")?;
        Ok(SealedAnswer {
            tenant: text_id(row, "tenant", TenantId::parse)?,
            name: name.try_into().map_err(|_| unreadable("name", "a name of another length"))?,
            bytes: row.get("answer")?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn reseal_answers(
    connection: &Connection,
    answers: &[(SealedAnswer, Vec<u8>)],
) -> Result<usize, StoreError> {
    let mut update = connection.prepare_cached(
        "UPDATE idempotency SET answer = ? WHERE tenant = ? AND name = ? AND is_sealed AND answer = ?",
    )?;
    let mut written = 0;
    for (was, sealed) in answers {
        written += update.execute(params![sealed, was.tenant.as_str(), was.name, was.bytes])?;
    }
    Ok(written)
}
