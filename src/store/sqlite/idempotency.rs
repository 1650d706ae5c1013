//! Requests that came with an `Idempotency-Key`, each done once.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::{IdempotencyKeyStore, KeyClaim, KeyTerms, Keyed, StoreError};
use super::SqliteStore;
use super::writer::Done;
use crate::domain::clock::Timestamp;
use crate::domain::idempotency::{KeyedRequest, StoredAnswer, Subject};
use crate::domain::ids::{CallId, TenantId};

/// The key is free, its time is over, or whoever had the same request did not come to an end with it.
const CLAIM: &str = "INSERT INTO idempotency (tenant, name, fingerprint, concerns, claim, leased_until, expires_at) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (tenant, name) DO UPDATE SET \
     fingerprint = excluded.fingerprint, concerns = excluded.concerns, claim = excluded.claim, \
     leased_until = excluded.leased_until, expires_at = excluded.expires_at, is_sealed = 0, answer = NULL \
     WHERE expires_at <= ?8 OR (leased_until <= ?8 AND fingerprint = excluded.fingerprint)";

pub(super) const DELETE: &str = "DELETE FROM idempotency WHERE rowid IN \
     (SELECT rowid FROM idempotency WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)";

#[async_trait]
impl IdempotencyKeyStore for SqliteStore {
    async fn claim_key(
        &self,
        tenant: &TenantId,
        request: KeyedRequest,
        terms: KeyTerms,
    ) -> Result<Keyed, StoreError> {
        let (claim, now) = (self.surroundings.claim(), self.surroundings.clock.now());
        let tenant = tenant.clone();
        self.write(move |connection| {
            claim_request(connection, &tenant, &request, claim, terms, now).map(Done::quiet)
        })
        .await
    }

    async fn finish_key(
        &self,
        tenant: &TenantId,
        claim: KeyClaim,
        answer: Option<StoredAnswer>,
    ) -> Result<(), StoreError> {
        let tenant = tenant.clone();
        self.write(move |connection| finish(connection, &tenant, &claim, answer.as_ref()).map(Done::quiet))
            .await
    }

    async fn release_key(&self, tenant: &TenantId, claim: KeyClaim) -> Result<(), StoreError> {
        let tenant = tenant.clone();
        self.write(move |connection| release(connection, &tenant, &claim).map(Done::quiet)).await
    }

    async fn delete_keys_across_tenants(&self, limit: usize) -> Result<usize, StoreError> {
        let now = self.surroundings.clock.now();
        self.write(move |connection| delete(connection, now, limit).map(Done::quiet)).await
    }
}

fn claim_request(
    connection: &Connection,
    tenant: &TenantId,
    request: &KeyedRequest,
    claim: i64,
    terms: KeyTerms,
    now: Timestamp,
) -> Result<Keyed, StoreError> {
    let claimed = connection.prepare_cached(CLAIM)?.execute(params![
        tenant.as_str(),
        request.name,
        request.fingerprint,
        request.concerns,
        claim,
        (now + terms.lease).as_millis(),
        (now + terms.kept_for).as_millis(),
        now.as_millis(),
    ])?;
    if claimed > 0 {
        return Ok(Keyed::Claimed(KeyClaim { name: request.name, claim }));
    }
    Ok(connection
        .prepare_cached(
            "SELECT fingerprint, leased_until, is_sealed, answer FROM idempotency WHERE tenant = ? AND name = ?",
        )?
        .query_row(params![tenant.as_str(), request.name], |row| read(row, request))?)
}

fn read(row: &Row<'_>, request: &KeyedRequest) -> Result<Keyed, rusqlite::Error> {
    if row.get::<_, Vec<u8>>("fingerprint")? != request.fingerprint {
        return Ok(Keyed::OfAnother);
    }
    if row.get::<_, Option<i64>>("leased_until")?.is_some() {
        return Ok(Keyed::UnderWay);
    }
    let (is_sealed, bytes) = (row.get("is_sealed")?, row.get::<_, Option<Vec<u8>>>("answer")?);
    Ok(Keyed::Done(bytes.map(|bytes| StoredAnswer { is_sealed, bytes })))
}

pub(super) fn finish(
    connection: &Connection,
    tenant: &TenantId,
    claim: &KeyClaim,
    answer: Option<&StoredAnswer>,
) -> Result<(), StoreError> {
    let written: Option<i64> = connection
        .prepare_cached(
            "UPDATE idempotency SET leased_until = NULL, is_sealed = ?, answer = ? \
             WHERE tenant = ? AND name = ? AND claim = ? RETURNING claim",
        )?
        .query_row(
            params![
                answer.is_some_and(|answer| answer.is_sealed),
                answer.map(|answer| &answer.bytes),
                tenant.as_str(),
                claim.name,
                claim.claim,
            ],
            |row| row.get(0),
        )
        .optional()?;
    written.map(|_| ()).ok_or(StoreError::LeaseLost)
}

pub(super) fn release(
    connection: &Connection,
    tenant: &TenantId,
    claim: &KeyClaim,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("DELETE FROM idempotency WHERE tenant = ? AND name = ? AND claim = ?")?
        .execute(params![tenant.as_str(), claim.name, claim.claim])?;
    Ok(())
}

/// What was under way in a process that is gone may be done again at once.
pub(super) fn release_all(connection: &Connection, now: Timestamp) -> Result<(), rusqlite::Error> {
    connection
        .execute("UPDATE idempotency SET leased_until = ?1 WHERE leased_until > ?1", [now.as_millis()])?;
    Ok(())
}

/// Drops the answers that tell of a call, also those that are just being made. That they were given stays known.
pub(super) fn forget_call(
    connection: &Connection,
    tenant: &TenantId,
    call_id: &CallId,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE idempotency SET leased_until = NULL, is_sealed = 0, answer = NULL, claim = -1 \
             WHERE tenant = ? AND concerns IN (?, ?)",
        )?
        .execute(params![tenant.as_str(), call_id.as_str(), Subject::SEVERAL])?;
    Ok(())
}

/// Forgets up to `limit` whose time is over. How many.
pub(super) fn delete(connection: &Connection, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    Ok(connection.prepare_cached(DELETE)?.execute(params![now.as_millis(), limit])?)
}
