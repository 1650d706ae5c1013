//! What is sealed, to be sealed anew.

use async_trait::async_trait;
use tokio_postgres::Row;

use super::super::{SealedAnswer, SealedStore, SealedWebhook, StoreError};
use super::PostgresStore;
use super::connect::Session;
use super::fault::Fault;
use super::rows::{parsed, time_if_any, unreadable};
use crate::domain::clock::Timestamp;
use crate::domain::ids::{TenantId, WebhookId};
use crate::domain::webhooks::SealedSecrets;

#[async_trait]
impl SealedStore for PostgresStore {
    async fn sealed_webhooks_across_tenants(
        &self,
        after: Option<WebhookId>,
        limit: usize,
    ) -> Result<Vec<SealedWebhook>, StoreError> {
        self.run(|session| webhooks(session, after, limit)).await
    }

    async fn reseal_webhook(&self, was: SealedWebhook, sealed: SealedSecrets) -> Result<bool, StoreError> {
        let (was, sealed) = (&was, &sealed);
        self.run(|session| reseal_webhook(session, was, sealed)).await
    }

    async fn sealed_answers_across_tenants(
        &self,
        after: Option<(TenantId, [u8; 32])>,
        limit: usize,
    ) -> Result<Vec<SealedAnswer>, StoreError> {
        let after = after.as_ref();
        self.run(|session| answers(session, after, limit)).await
    }

    async fn reseal_answers_across_tenants(
        &self,
        answers: Vec<(SealedAnswer, Vec<u8>)>,
    ) -> Result<usize, StoreError> {
        let answers = &answers[..];
        self.run(|session| reseal_answers(session, answers)).await
    }
}

pub(super) async fn webhooks(
    mut session: Session,
    after: Option<WebhookId>,
    limit: usize,
) -> Result<Vec<SealedWebhook>, Fault> {
    let client = session.client()?;
    let after = after.map_or_else(String::new, |id| id.to_string());
    let select = client
        .prepare_cached(
            "SELECT id, tenant, secret, previous_secret, previous_until, headers FROM webhooks \
             WHERE deleted_at IS NULL AND id > $1 ORDER BY id LIMIT $2",
        )
        .await?;
    client.query(&select, &[&after, &bound(limit)]).await?.iter().map(webhook).collect()
}

fn webhook(row: &Row) -> Result<SealedWebhook, Fault> {
    let previous: Option<Vec<u8>> = row.try_get("previous_secret")?;
    Ok(SealedWebhook {
        tenant: parsed(row, "tenant", TenantId::parse)?,
        id: parsed(row, "id", |text| WebhookId::parse(text).ok_or(()))?,
        sealed: SealedSecrets {
            secret: row.try_get("secret")?,
            previous_secret: previous.zip(time_if_any(row, "previous_until")?),
            headers: row.try_get("headers")?,
        },
    })
}

pub(super) async fn reseal_webhook(
    mut session: Session,
    was: &SealedWebhook,
    sealed: &SealedSecrets,
) -> Result<bool, Fault> {
    let client = session.client()?;
    let update = client
        .prepare_cached(
            "UPDATE webhooks SET version = version + 1, secret = $1, previous_secret = $2, headers = $3 \
             WHERE id = $4 AND tenant = $5 AND deleted_at IS NULL AND secret = $6 \
             AND previous_secret IS NOT DISTINCT FROM $7 AND previous_until IS NOT DISTINCT FROM $8 \
             AND headers IS NOT DISTINCT FROM $9",
        )
        .await?;
    let previous = |sealed: &SealedSecrets| sealed.previous_secret.as_ref().map(|(secret, _)| secret.clone());
    let until = was.sealed.previous_secret.as_ref().map(|(_, until)| Timestamp::as_millis(*until));
    let written = client
        .execute(
            &update,
            &[
                &sealed.secret,
                &previous(sealed),
                &sealed.headers,
                &was.id.to_string(),
                &was.tenant.as_str(),
                &was.sealed.secret,
                &previous(&was.sealed),
                &until,
                &was.sealed.headers,
            ],
        )
        .await?;
    Ok(written > 0)
}

pub(super) async fn answers(
    mut session: Session,
    after: Option<&(TenantId, [u8; 32])>,
    limit: usize,
) -> Result<Vec<SealedAnswer>, Fault> {
    let client = session.client()?;
    let (tenant, name) = after.map_or(("", &[][..]), |(tenant, name)| (tenant.as_str(), &name[..]));
    let select = client
        .prepare_cached(
            "SELECT tenant, name, answer FROM idempotency \
             WHERE is_sealed AND answer IS NOT NULL AND (tenant, name) > ($1, $2) ORDER BY tenant, name LIMIT $3",
        )
        .await?;
    client.query(&select, &[&tenant, &name, &bound(limit)]).await?.iter().map(answer).collect()
}

fn answer(row: &Row) -> Result<SealedAnswer, Fault> {
    let name: &[u8] = row.try_get("name")?;
    Ok(SealedAnswer {
        tenant: parsed(row, "tenant", TenantId::parse)?,
        name: name.try_into().map_err(|_| unreadable("name", "a name of another length"))?,
        bytes: row.try_get("answer")?,
    })
}

/// In the order of the key, as whoever deletes calls takes them.
pub(super) async fn reseal_answers(
    mut session: Session,
    answers: &[(SealedAnswer, Vec<u8>)],
) -> Result<usize, Fault> {
    let transaction = session.client()?.transaction().await?;
    let update = transaction
        .prepare_cached("UPDATE idempotency SET answer = $1 WHERE tenant = $2 AND name = $3 AND is_sealed AND answer = $4")
        .await?;
    let mut written = 0;
    for (was, sealed) in answers {
        written +=
            transaction.execute(&update, &[sealed, &was.tenant.as_str(), &&was.name[..], &was.bytes]).await?;
    }
    transaction.commit().await?;
    Ok(usize::try_from(written).unwrap_or(usize::MAX))
}

fn bound(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
