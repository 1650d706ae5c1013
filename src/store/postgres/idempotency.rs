//! Requests that came with an `Idempotency-Key`, each done once, whichever replica it is sent to.

use async_trait::async_trait;
use deadpool_postgres::GenericClient;
use tokio_postgres::Row;

use super::super::{IdempotencyKeyStore, KeyClaim, KeyTerms, Keyed, StoreError};
use super::PostgresStore;
use super::connect::Session;
use super::fault::Fault;
use crate::domain::clock::Timestamp;
use crate::domain::idempotency::{KeyedRequest, StoredAnswer, Subject};
use crate::domain::ids::{CallId, TenantId};

/// The key is free, its time is over, or whoever had the same request did not come to an end with it; or it is the
/// caller's already, who did not hear so.
const CLAIM: &str = "INSERT INTO idempotency AS kept \
     (tenant, name, fingerprint, concerns, claim, leased_until, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7) \
     ON CONFLICT (tenant, name) DO UPDATE SET \
     fingerprint = excluded.fingerprint, concerns = excluded.concerns, claim = excluded.claim, \
     leased_until = excluded.leased_until, expires_at = excluded.expires_at, is_sealed = false, answer = NULL \
     WHERE kept.expires_at <= $8 OR (kept.leased_until <= $8 AND kept.fingerprint = excluded.fingerprint) \
     OR (kept.claim = excluded.claim AND kept.leased_until IS NOT NULL)";

const FIND: &str =
    "SELECT fingerprint, leased_until, is_sealed, answer FROM idempotency WHERE tenant = $1 AND name = $2";

const FINISH: &str = "UPDATE idempotency SET leased_until = NULL, is_sealed = $4, answer = $5 \
     WHERE tenant = $1 AND name = $2 AND claim = $3";

/// In the order of the key, so that two who delete calls do not wait for each other.
const FORGET: &str = "WITH told AS MATERIALIZED (SELECT name FROM idempotency \
     WHERE tenant = $1 AND concerns IN ($2, $3) ORDER BY name FOR UPDATE) \
     UPDATE idempotency SET leased_until = NULL, is_sealed = false, answer = NULL, claim = -1 \
     WHERE tenant = $1 AND name IN (SELECT name FROM told)";

const DELETE: &str = "DELETE FROM idempotency WHERE (tenant, name) IN (SELECT tenant, name FROM idempotency \
     WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)";

#[async_trait]
impl IdempotencyKeyStore for PostgresStore {
    async fn claim_key(
        &self,
        tenant: &TenantId,
        request: KeyedRequest,
        terms: KeyTerms,
    ) -> Result<Keyed, StoreError> {
        // One number for all tries: whoever did not hear that the first went well finds it to be so.
        let (claim, request) = (self.surroundings.claim(), &request);
        self.run(|session| claim_request(session, tenant, request, claim, terms, self.now())).await
    }

    async fn finish_key(
        &self,
        tenant: &TenantId,
        claim: KeyClaim,
        answer: Option<StoredAnswer>,
    ) -> Result<(), StoreError> {
        let (claim, answer) = (&claim, answer.as_ref());
        self.run(|session| finish(session, tenant, claim, answer)).await
    }

    async fn release_key(&self, tenant: &TenantId, claim: KeyClaim) -> Result<(), StoreError> {
        let claim = &claim;
        self.run(|session| release(session, tenant, claim)).await
    }

    async fn delete_keys_across_tenants(&self, limit: usize) -> Result<usize, StoreError> {
        self.run(|session| delete(session, self.now(), limit)).await
    }
}

async fn claim_request(
    mut session: Session,
    tenant: &TenantId,
    request: &KeyedRequest,
    claim: i64,
    terms: KeyTerms,
    now: Timestamp,
) -> Result<Keyed, Fault> {
    let client = session.client()?;
    let (insert, find) = (client.prepare_cached(CLAIM).await?, client.prepare_cached(FIND).await?);
    let (name, fingerprint) = (&request.name[..], &request.fingerprint[..]);
    let (leased_until, expires_at) = ((now + terms.lease).as_millis(), (now + terms.kept_for).as_millis());
    let claimed = client
        .execute(
            &insert,
            &[
                &tenant.as_str(),
                &name,
                &fingerprint,
                &request.concerns,
                &claim,
                &leased_until,
                &expires_at,
                &now.as_millis(),
            ],
        )
        .await?;
    if claimed > 0 {
        return Ok(Keyed::Claimed(KeyClaim { name: request.name, claim }));
    }
    match client.query_opt(&find, &[&tenant.as_str(), &name]).await? {
        Some(row) => read(&row, request),
        // It came to nothing in between: whoever asks again gets it.
        None => Err(Fault::Raced),
    }
}

fn read(row: &Row, request: &KeyedRequest) -> Result<Keyed, Fault> {
    if row.try_get::<_, &[u8]>("fingerprint")? != request.fingerprint {
        return Ok(Keyed::OfAnother);
    }
    if row.try_get::<_, Option<i64>>("leased_until")?.is_some() {
        return Ok(Keyed::UnderWay);
    }
    let (is_sealed, bytes) = (row.try_get("is_sealed")?, row.try_get::<_, Option<Vec<u8>>>("answer")?);
    Ok(Keyed::Done(bytes.map(|bytes| StoredAnswer { is_sealed, bytes })))
}

pub(super) async fn finish(
    mut session: Session,
    tenant: &TenantId,
    claim: &KeyClaim,
    answer: Option<&StoredAnswer>,
) -> Result<(), Fault> {
    let client = session.client()?;
    let finish = client.prepare_cached(FINISH).await?;
    let is_sealed = answer.is_some_and(|answer| answer.is_sealed);
    let bytes = answer.map(|answer| &answer.bytes[..]);
    let name = &claim.name[..];
    match client.execute(&finish, &[&tenant.as_str(), &name, &claim.claim, &is_sealed, &bytes]).await? {
        0 => Err(StoreError::LeaseLost.into()),
        _ => Ok(()),
    }
}

pub(super) async fn release(mut session: Session, tenant: &TenantId, claim: &KeyClaim) -> Result<(), Fault> {
    let client = session.client()?;
    let delete = client
        .prepare_cached("DELETE FROM idempotency WHERE tenant = $1 AND name = $2 AND claim = $3")
        .await?;
    client.execute(&delete, &[&tenant.as_str(), &&claim.name[..], &claim.claim]).await?;
    Ok(())
}

/// Drops the answers that tell of a call, also those that are just being made. That they were given stays known.
pub(super) async fn forget_call(
    client: &impl GenericClient,
    tenant: &TenantId,
    call_id: &CallId,
) -> Result<(), Fault> {
    let forget = client.prepare_cached(FORGET).await?;
    client.execute(&forget, &[&tenant.as_str(), &call_id.as_str(), &Subject::SEVERAL]).await?;
    Ok(())
}

/// Forgets up to `limit` whose time is over. How many.
pub(super) async fn delete(mut session: Session, now: Timestamp, limit: usize) -> Result<usize, Fault> {
    let client = session.client()?;
    let delete = client.prepare_cached(DELETE).await?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let deleted = client.execute(&delete, &[&now.as_millis(), &limit]).await?;
    Ok(usize::try_from(deleted).unwrap_or(usize::MAX))
}
