//! Encrypted values in the store. The command `store reseal` encrypts them with a new key.

use async_trait::async_trait;

use super::StoreError;
use super::engine::Engine;
use super::rules::{Rule, Transaction};
use super::sealed_urls::{ResealUrls, StoredUrl, StoredUrls, UrlTable};
use super::sql::sql;
use super::values::values;
use super::webhook_rows::read_sealed;
use crate::domain::ids::{TenantId, WebhookId};
use crate::domain::webhooks::SealedSecrets;

/// The encrypted values of a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedWebhook {
    /// The webhook's tenant.
    pub tenant: TenantId,
    /// The webhook's id.
    pub id: WebhookId,
    /// The encrypted secrets and headers as stored.
    pub sealed: SealedSecrets,
    /// The text of the URL as stored, which is encrypted if the URL has a secret.
    pub url: String,
}

/// The encrypted answer to a request with an `Idempotency-Key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedAnswer {
    /// The request's tenant.
    pub tenant: TenantId,
    /// Hash that identifies the request: [`KeyedRequest::name`](crate::domain::idempotency::KeyedRequest::name).
    pub name: [u8; 32],
    /// The encrypted answer as stored.
    pub bytes: Vec<u8>,
}

/// Encrypted values of all tenants.
#[async_trait]
pub trait SealedStore: Send + Sync {
    /// Reads the encrypted values of up to `limit` webhooks whose ids follow `after`, in the order of the ids.
    async fn sealed_webhooks_across_tenants(
        &self,
        after: Option<WebhookId>,
        limit: usize,
    ) -> Result<Vec<SealedWebhook>, StoreError>;

    /// Replaces the encrypted values of a webhook. Returns `false` if the webhook was changed or deleted since it was
    /// read. The replacement increments the version, so a caller that has read the old values cannot write them back.
    async fn reseal_webhook(&self, was: SealedWebhook, sealed: SealedWebhook) -> Result<bool, StoreError>;

    /// Reads the callback URLs, encrypted or not, of up to `limit` rows of `table` that follow the row `after`. `after` is the
    /// number of an analysis or of a delivery.
    async fn callback_urls_across_tenants(
        &self,
        table: UrlTable,
        after: i64,
        limit: usize,
    ) -> Result<Vec<StoredUrl>, StoreError>;

    /// Replaces URLs of callbacks in one commit, except those that were changed or deleted since they were read. Returns the number
    /// of replaced URLs.
    async fn reseal_urls_across_tenants(
        &self,
        table: UrlTable,
        urls: Vec<(StoredUrl, String)>,
    ) -> Result<usize, StoreError>;

    /// Reads up to `limit` encrypted answers that follow `after`, in the order of tenant and name.
    async fn sealed_answers_across_tenants(
        &self,
        after: Option<(TenantId, [u8; 32])>,
        limit: usize,
    ) -> Result<Vec<SealedAnswer>, StoreError>;

    /// Replaces encrypted answers in one commit, except answers that were changed or deleted since they were read. Returns the
    /// number of replaced answers.
    async fn reseal_answers_across_tenants(
        &self,
        answers: Vec<(SealedAnswer, Vec<u8>)>,
    ) -> Result<usize, StoreError>;
}

#[async_trait]
impl<E: Engine> SealedStore for E {
    async fn sealed_webhooks_across_tenants(
        &self,
        after: Option<WebhookId>,
        limit: usize,
    ) -> Result<Vec<SealedWebhook>, StoreError> {
        self.query(SealedWebhooks { after, limit }).await
    }

    async fn reseal_webhook(&self, was: SealedWebhook, sealed: SealedWebhook) -> Result<bool, StoreError> {
        self.transact(ResealWebhook { was, sealed }).await
    }

    async fn callback_urls_across_tenants(
        &self,
        table: UrlTable,
        after: i64,
        limit: usize,
    ) -> Result<Vec<StoredUrl>, StoreError> {
        self.query(StoredUrls { table, after, limit }).await
    }

    async fn reseal_urls_across_tenants(
        &self,
        table: UrlTable,
        urls: Vec<(StoredUrl, String)>,
    ) -> Result<usize, StoreError> {
        self.transact(ResealUrls { table, urls }).await
    }

    async fn sealed_answers_across_tenants(
        &self,
        after: Option<(TenantId, [u8; 32])>,
        limit: usize,
    ) -> Result<Vec<SealedAnswer>, StoreError> {
        self.query(SealedAnswers { after, limit }).await
    }

    async fn reseal_answers_across_tenants(
        &self,
        answers: Vec<(SealedAnswer, Vec<u8>)>,
    ) -> Result<usize, StoreError> {
        self.transact(ResealAnswers { answers }).await
    }
}

struct SealedWebhooks {
    after: Option<WebhookId>,
    limit: usize,
}

impl Rule for SealedWebhooks {
    const NAME: &'static str = "sealed_webhooks";
    type Output = Vec<SealedWebhook>;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Vec<SealedWebhook>, StoreError> {
        let select = sql!(
            "SELECT id, tenant, url, secret, previous_secret, previous_until, headers FROM webhooks \
             WHERE deleted_at IS NULL AND id > ?1 ORDER BY id LIMIT ?2"
        );
        let after = self.after.map_or_else(String::new, |id| id.to_string());
        transaction
            .query(select, values![after, self.limit], |row| {
                Ok(SealedWebhook {
                    tenant: row.get("tenant")?,
                    id: row.get("id")?,
                    sealed: read_sealed(row)?,
                    url: row.get("url")?,
                })
            })
            .await
    }
}

struct ResealWebhook {
    was: SealedWebhook,
    sealed: SealedWebhook,
}

impl Rule for ResealWebhook {
    const NAME: &'static str = "reseal_webhook";
    const NOTIFIES: bool = false;
    type Output = bool;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<bool, StoreError> {
        let Self { was, sealed: SealedWebhook { sealed, url, .. } } = self;
        let update = sql!(
            "UPDATE webhooks SET version = version + 1, secret = ?1, previous_secret = ?2, headers = ?3, url = ?10 \
             WHERE id = ?4 AND tenant = ?5 AND deleted_at IS NULL AND secret = ?6 \
             AND previous_secret IS NOT DISTINCT FROM ?7 AND previous_until IS NOT DISTINCT FROM ?8 \
             AND headers IS NOT DISTINCT FROM ?9 AND url = ?11"
        );
        let previous = was.sealed.previous_secret.as_ref();
        let values = values![
            &sealed.secret,
            sealed.previous_secret.as_ref().map(|(secret, _)| secret),
            sealed.headers.as_ref(),
            was.id,
            &was.tenant,
            &was.sealed.secret,
            previous.map(|(secret, _)| secret),
            previous.map(|(_, until)| *until),
            was.sealed.headers.as_ref(),
            url,
            &was.url,
        ];
        Ok(transaction.execute(update, values).await? > 0)
    }
}

struct SealedAnswers {
    after: Option<(TenantId, [u8; 32])>,
    limit: usize,
}

impl Rule for SealedAnswers {
    const NAME: &'static str = "sealed_answers";
    type Output = Vec<SealedAnswer>;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Vec<SealedAnswer>, StoreError> {
        let select = sql!(
            "SELECT tenant, name, answer FROM idempotency \
             WHERE is_sealed AND answer IS NOT NULL AND (tenant, name) > (?1, ?2) ORDER BY tenant, name LIMIT ?3"
        );
        let after = self.after.as_ref();
        let (tenant, name) = after.map_or(("", &[][..]), |(tenant, name)| (tenant.as_str(), &name[..]));
        transaction
            .query(select, values![tenant, name, self.limit], |row| {
                let name = row.get::<Vec<u8>>("name")?.try_into();
                let name =
                    name.map_err(|_| StoreError::Corrupt("column name has another length".to_owned()))?;
                Ok(SealedAnswer { tenant: row.get("tenant")?, name, bytes: row.get("answer")? })
            })
            .await
    }
}

struct ResealAnswers {
    answers: Vec<(SealedAnswer, Vec<u8>)>,
}

impl Rule for ResealAnswers {
    const NAME: &'static str = "reseal_answers";
    const NOTIFIES: bool = false;
    type Output = usize;

    /// Locks the rows in the order of their keys, as the deletion of a call does, so that these two transactions cannot deadlock.
    async fn run<T: Transaction>(&self, transaction: &T) -> Result<usize, StoreError> {
        let update = sql!(
            "UPDATE idempotency SET answer = ?1 WHERE tenant = ?2 AND name = ?3 AND is_sealed AND answer = ?4"
        );
        let mut written = 0;
        for (was, sealed) in &self.answers {
            let values = values![sealed, &was.tenant, &was.name, &was.bytes];
            written += transaction.execute(update, values).await?;
        }
        Ok(written)
    }
}
