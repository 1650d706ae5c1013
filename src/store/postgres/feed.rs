//! Positions of events in a tenant's feed, in an order that readers can rely on.
//!
//! The number of an event (`seq`) does not give such an order. The number is assigned when the event is written, but the event
//! becomes visible when its transaction commits. A reader that has read event 10 and continues after it would miss event 9 if 9
//! commits later. So an event gets its position when it is first read: under a lock on the tenant's row in `feeds`, the reader
//! numbers all committed events without a position. Events of open transactions get higher positions later.
//!
//! Rejected alternatives:
//!
//! - Show only events that are older than every open transaction (`pg_snapshot_xmin`). This limit covers the whole
//!   cluster, so an import of one hour into another database would delay the feed by an hour. Transaction ids also
//!   restart when a dump is restored, which would invalidate cursors.
//! - Count in the transaction that writes the event. Then the completions of a tenant would wait for each other's
//!   commits.
//!
//! With this solution, a tenant that never reads its feed costs nothing, and a reader costs one small update for the
//! new events.

use deadpool_postgres::Object;

use super::connect::Session;
use super::fault::Fault;
use crate::domain::ids::TenantId;

/// Maximum number of events that one transaction numbers. This number is larger than a page.
const BATCH: i64 = 2000;

const UNNUMBERED: &str = "SELECT EXISTS (SELECT 1 FROM events WHERE tenant = $1 AND position IS NULL)";
const BEGIN: &str = "INSERT INTO feeds (tenant, last) VALUES ($1, 0) ON CONFLICT (tenant) DO NOTHING";

/// Locks the feed against other readers, and returns the last position in use. Parameter: the tenant. The positions of
/// the events count too, because a copied store has no row in `feeds` at first.
const LOCK: &str = "SELECT greatest(last, (SELECT max(position) FROM events WHERE tenant = $1)) FROM feeds \
     WHERE tenant = $1 FOR UPDATE";

/// Assigns positions to events. Parameters: the tenant, the last position in use, and the maximum number of events.
/// Events that are being deleted are skipped.
const NUMBER: &str = "WITH fresh AS MATERIALIZED (SELECT seq FROM events WHERE tenant = $1 AND position IS NULL \
     ORDER BY seq LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED), \
     counted AS (SELECT seq, $2 + row_number() OVER (ORDER BY seq) AS position FROM fresh) \
     UPDATE events SET position = counted.position FROM counted WHERE events.seq = counted.seq";
const SAVE: &str = "UPDATE feeds SET last = $2 WHERE tenant = $1";

/// Assigns positions to a batch of events. Returns whether there may be more events without a position.
pub(super) async fn number_batch(mut session: Session, tenant: &TenantId) -> Result<bool, Fault> {
    number(session.client()?, tenant).await
}

async fn number(client: &mut Object, tenant: &TenantId) -> Result<bool, Fault> {
    let tenant = tenant.as_str();
    let unnumbered = client.prepare_cached(UNNUMBERED).await?;
    if !client.query_one(&unnumbered, &[&tenant]).await?.try_get(0)? {
        return Ok(false);
    }
    let transaction = client.transaction().await?;
    let lock = transaction.prepare_cached(LOCK).await?;
    let mut row = transaction.query_opt(&lock, &[&tenant]).await?;
    if row.is_none() {
        let begin = transaction.prepare_cached(BEGIN).await?;
        transaction.execute(&begin, &[&tenant]).await?;
        row = transaction.query_opt(&lock, &[&tenant]).await?;
    }
    let last: i64 = row.ok_or(Fault::Raced)?.try_get(0)?;
    // This is a separate statement, because its snapshot must be taken after the lock. Only then does it see the positions that
    // earlier readers assigned.
    let number = transaction.prepare_cached(NUMBER).await?;
    let numbered = transaction.execute(&number, &[&tenant, &last, &BATCH]).await?;
    let numbered = i64::try_from(numbered).unwrap_or(BATCH);
    if numbered > 0 {
        let save = transaction.prepare_cached(SAVE).await?;
        transaction.execute(&save, &[&tenant, &(last + numbered)]).await?;
    }
    transaction.commit().await?;
    Ok(numbered == BATCH)
}
