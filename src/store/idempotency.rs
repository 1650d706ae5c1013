//! Claims the keys of requests with an `Idempotency-Key`, and stores their answers.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use super::engine::Engine;
use super::rules::{Raced, Rule, Transaction};
use super::sql::{Sql, sql};
use super::values::{Row, values};
use crate::domain::clock::Entropy;
use crate::domain::idempotency::{KeyedRequest, StoredAnswer, Subject};
use crate::domain::ids::{CallId, TenantId};

/// Right to process a request with a key and to write its answer. The right ends when another caller claims the key,
/// or when a call that the request may be about is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyClaim {
    pub(crate) name: [u8; 32],
    /// The fencing token.
    pub(crate) claim: i64,
}

/// Durations of a claim and of a stored answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyTerms {
    /// Duration of a claim. After this time, another caller may claim the key of an unfinished request.
    pub lease: Duration,
    /// Time for which the answer is stored, counted from the claim.
    pub kept_for: Duration,
}

/// The state of a request with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keyed {
    /// The key is new: the caller must process the request now.
    Claimed(KeyClaim),
    /// Another caller is processing the same request.
    UnderWay,
    /// The key belongs to a different request.
    OfAnother,
    /// The request is done. The value is the answer; `None` if the answer could not be stored.
    Done(Option<StoredAnswer>),
}

/// Idempotency keys of one tenant.
#[async_trait]
pub trait IdempotencyKeyStore: Send + Sync {
    /// Claims the key of a request, unless the key is claimed or used. If two callers claim a key at the same time,
    /// one of them gets it.
    async fn claim_key(
        &self,
        tenant: &TenantId,
        request: KeyedRequest,
        terms: KeyTerms,
    ) -> Result<Keyed, StoreError>;

    /// Marks a request as done and stores its answer, if there is one. Fails with [`StoreError::LeaseLost`] if the claim
    /// has ended, because another caller claimed the key or a call that the request may be about was deleted.
    async fn finish_key(
        &self,
        tenant: &TenantId,
        claim: KeyClaim,
        answer: Option<StoredAnswer>,
    ) -> Result<(), StoreError>;

    /// Releases the key of a request that had no effect. The key is then new again. Does nothing if the claim has ended.
    async fn release_key(&self, tenant: &TenantId, claim: KeyClaim) -> Result<(), StoreError>;

    /// Deletes up to `limit` expired keys. Returns their number.
    async fn delete_keys_across_tenants(&self, limit: usize) -> Result<usize, StoreError>;
}

#[async_trait]
impl<E: Engine> IdempotencyKeyStore for E {
    async fn claim_key(
        &self,
        tenant: &TenantId,
        request: KeyedRequest,
        terms: KeyTerms,
    ) -> Result<Keyed, StoreError> {
        // All attempts of this rule use one fencing token, so a repeated attempt recognizes its own claim.
        let claim = token(&*self.env().entropy);
        self.transact(ClaimKey { tenant: tenant.clone(), request, terms, claim }).await
    }

    async fn finish_key(
        &self,
        tenant: &TenantId,
        claim: KeyClaim,
        answer: Option<StoredAnswer>,
    ) -> Result<(), StoreError> {
        self.transact(FinishKey { tenant: tenant.clone(), claim, answer }).await
    }

    async fn release_key(&self, tenant: &TenantId, claim: KeyClaim) -> Result<(), StoreError> {
        self.transact(ReleaseKey { tenant: tenant.clone(), claim }).await
    }

    async fn delete_keys_across_tenants(&self, limit: usize) -> Result<usize, StoreError> {
        self.transact(DeleteKeys { limit }).await
    }
}

/// Returns a random fencing token. The token is never negative, because -1 means that no caller holds the claim.
fn token(entropy: &dyn Entropy) -> i64 {
    let mut bytes = [0; 8];
    entropy.fill(&mut bytes);
    i64::from_be_bytes(bytes) & i64::MAX
}

struct ClaimKey {
    tenant: TenantId,
    request: KeyedRequest,
    terms: KeyTerms,
    claim: i64,
}

impl Rule for ClaimKey {
    const NAME: &'static str = "claim_key";
    const NOTIFIES: bool = false;
    type Output = Keyed;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Keyed, StoreError> {
        let Self { tenant, request, terms, claim } = self;
        let now = transaction.env().clock.now();
        // The key can be claimed if it is free or expired, if the same request did not finish within its lease, or if
        // an earlier attempt of this rule claimed it.
        let insert = sql!(
            "INSERT INTO idempotency AS kept (tenant, name, fingerprint, concerns, claim, leased_until, expires_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (tenant, name) DO UPDATE SET \
             fingerprint = excluded.fingerprint, concerns = excluded.concerns, claim = excluded.claim, \
             leased_until = excluded.leased_until, expires_at = excluded.expires_at, is_sealed = FALSE, answer = NULL \
             WHERE kept.expires_at <= ?8 OR (kept.leased_until <= ?8 AND kept.fingerprint = excluded.fingerprint) \
             OR (kept.claim = excluded.claim AND kept.leased_until IS NOT NULL)"
        );
        let values = values![
            tenant,
            &request.name,
            &request.fingerprint,
            request.concerns.as_deref(),
            *claim,
            now + terms.lease,
            now + terms.kept_for,
            now,
        ];
        if transaction.execute(insert, values).await? > 0 {
            return Ok(Keyed::Claimed(KeyClaim { name: request.name, claim: *claim }));
        }
        let find = sql!(
            "SELECT fingerprint, leased_until, is_sealed, answer FROM idempotency WHERE tenant = ?1 AND name = ?2"
        );
        let found = transaction.find(find, values![tenant, &request.name], |row| read(row, request)).await?;
        // The other request ended between the two statements and released the key.
        Ok(found.ok_or(Raced)?)
    }
}

fn read(row: &dyn Row, request: &KeyedRequest) -> Result<Keyed, StoreError> {
    if row.get::<Vec<u8>>("fingerprint")? != request.fingerprint {
        return Ok(Keyed::OfAnother);
    }
    if row.get::<Option<i64>>("leased_until")?.is_some() {
        return Ok(Keyed::UnderWay);
    }
    let (is_sealed, bytes) = (row.get("is_sealed")?, row.get::<Option<Vec<u8>>>("answer")?);
    Ok(Keyed::Done(bytes.map(|bytes| StoredAnswer { is_sealed, bytes })))
}

struct FinishKey {
    tenant: TenantId,
    claim: KeyClaim,
    answer: Option<StoredAnswer>,
}

impl Rule for FinishKey {
    const NAME: &'static str = "finish_key";
    const NOTIFIES: bool = false;
    type Output = ();

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<(), StoreError> {
        let Self { tenant, claim, answer } = self;
        let update = sql!(
            "UPDATE idempotency SET leased_until = NULL, is_sealed = ?4, answer = ?5 \
             WHERE tenant = ?1 AND name = ?2 AND claim = ?3"
        );
        let is_sealed = answer.as_ref().is_some_and(|answer| answer.is_sealed);
        let bytes = answer.as_ref().map(|answer| &answer.bytes);
        match transaction.execute(update, values![tenant, &claim.name, claim.claim, is_sealed, bytes]).await?
        {
            0 => Err(StoreError::LeaseLost),
            _ => Ok(()),
        }
    }
}

struct ReleaseKey {
    tenant: TenantId,
    claim: KeyClaim,
}

impl Rule for ReleaseKey {
    const NAME: &'static str = "release_key";
    const NOTIFIES: bool = false;
    type Output = ();

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<(), StoreError> {
        let delete = sql!("DELETE FROM idempotency WHERE tenant = ?1 AND name = ?2 AND claim = ?3");
        transaction.execute(delete, values![&self.tenant, &self.claim.name, self.claim.claim]).await?;
        Ok(())
    }
}

struct DeleteKeys {
    limit: usize,
}

/// Deletes expired keys. Parameters: the present time and the maximum number of rows.
pub(super) static DELETE: Sql =
    Sql::new(&["DELETE FROM idempotency WHERE (tenant, name) IN (SELECT tenant, name FROM idempotency \
     WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2 FOR UPDATE SKIP LOCKED)"]);

impl Rule for DeleteKeys {
    const NAME: &'static str = "delete_keys";
    const NOTIFIES: bool = false;
    type Output = usize;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<usize, StoreError> {
        let now = transaction.env().clock.now();
        transaction.execute(&DELETE, values![now, self.limit]).await
    }
}

/// Deletes the answers that contain a call, and ends the claims of unfinished requests about the call. The keys count as used
/// afterwards.
pub(super) async fn forget_call(
    transaction: &impl Transaction,
    tenant: &TenantId,
    call_id: &CallId,
) -> Result<(), StoreError> {
    // The rows are locked in the order of their keys, so two deletions cannot deadlock.
    let update = sql!(
        "WITH affected AS MATERIALIZED (SELECT name FROM idempotency \
         WHERE tenant = ?1 AND concerns IN (?2, ?3) ORDER BY name FOR UPDATE) \
         UPDATE idempotency SET leased_until = NULL, is_sealed = FALSE, answer = NULL, claim = -1 \
         WHERE tenant = ?1 AND name IN (SELECT name FROM affected)"
    );
    transaction.execute(update, values![tenant, call_id, Subject::SEVERAL]).await?;
    Ok(())
}
