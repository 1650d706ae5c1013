//! What is older than the retention goes, in batches small enough to hold nobody up.

use async_trait::async_trait;

use super::super::changes::Changes;
use super::super::{Change, RetentionStore, StoreError};
use super::connect::Session;
use super::fault::Fault;
use super::notices::Address;
use super::rows::parsed;
use super::{PostgresStore, deletion, usage, webhooks};
use crate::domain::clock::Timestamp;
use crate::domain::ids::{CallId, TenantId};
use crate::domain::usage::Day;

/// What waits for an endpoint that is disabled, or for which nothing could be signed all the time, holds nothing up: it
/// may wait for ever. The lock keeps out a submission that makes one of them live again; two replicas divide the work.
const DELETE_ANALYSES: &str = "DELETE FROM analyses WHERE id = ANY (ARRAY(SELECT id FROM analyses \
     WHERE stage IS NULL AND finished_at < $1 AND NOT EXISTS (SELECT 1 FROM deliveries \
     WHERE deliveries.tenant = analyses.tenant AND deliveries.call_id = analyses.call_id \
     AND deliveries.status = 'pending' AND (webhook = '' OR EXISTS \
     (SELECT 1 FROM webhooks WHERE webhooks.id = webhook AND disabled_at IS NULL \
     AND (unsigned_since IS NULL OR unsigned_since >= $1)))) ORDER BY finished_at LIMIT $2 FOR UPDATE SKIP LOCKED)) \
     RETURNING tenant, call_id";
const DELETE_EVENTS: &str = "DELETE FROM events WHERE seq = ANY (ARRAY(SELECT seq FROM events WHERE at < $1 \
     AND NOT EXISTS (SELECT 1 FROM deliveries WHERE deliveries.event = events.seq \
     AND deliveries.status = 'pending' AND (webhook = '' OR EXISTS \
     (SELECT 1 FROM webhooks WHERE webhooks.id = webhook AND disabled_at IS NULL \
     AND (unsigned_since IS NULL OR unsigned_since >= $1)))) ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED))";

const DELETE_REPLAYS: &str = "DELETE FROM replays WHERE id = ANY (ARRAY(SELECT id FROM replays \
     WHERE finished_at IS NOT NULL AND finished_at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))";

#[async_trait]
impl RetentionStore for PostgresStore {
    async fn delete_expired_across_tenants(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let expired = self.change(|session| delete(session, &self.address, before, limit)).await?;
        Ok(expired + self.run(webhooks::purge).await?)
    }

    async fn delete_records_across_tenants(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let records = self.run(|session| deletion::delete_records(session, before, limit)).await?;
        Ok(records + self.run(|session| usage::delete(session, Day::of(before), limit)).await?)
    }
}

/// Results, callbacks, deliveries and attempts go with what they hang on.
pub(super) async fn delete(
    mut session: Session,
    address: &Address,
    before: Timestamp,
    limit: usize,
) -> Result<(usize, Changes), Fault> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let transaction = session.client()?.transaction().await?;
    let analyses = transaction.prepare_cached(DELETE_ANALYSES).await?;
    let events = transaction.prepare_cached(DELETE_EVENTS).await?;
    let mut changes = Changes::default();
    let deleted = transaction.query(&analyses, &[&before.as_millis(), &limit]).await?;
    for row in &deleted {
        let (tenant, call_id) =
            (parsed(row, "tenant", TenantId::parse)?, parsed(row, "call_id", CallId::parse)?);
        changes.invalidate(Change::Analysis(tenant, call_id));
    }
    let events = transaction.execute(&events, &[&before.as_millis(), &limit]).await?;
    let replays = transaction.prepare_cached(DELETE_REPLAYS).await?;
    let others = events + transaction.execute(&replays, &[&before.as_millis(), &limit]).await?;
    changes.tell_within(&transaction, address).await?;
    transaction.commit().await?;
    Ok((deleted.len() + usize::try_from(others).unwrap_or(usize::MAX), changes))
}
