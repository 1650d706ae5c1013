//! The feed of a tenant's events, in an order that readers can rely on.
//!
//! `seq` is no such order: it is given when an event is written, and seen when its transaction is committed. Who has seen
//! 10 and goes on after it would miss a 9 that is committed later. So an event gets its place when it is first *read*:
//! readers number what was committed since, one after another, under a lock on the tenant's row in `feeds`. What is in a
//! transaction still under way is numbered later, after everything that anybody has seen.
//!
//! What else was thought of:
//!
//! - Showing only what is older than every transaction under way (`pg_snapshot_xmin`): that is the oldest of the whole
//!   cluster's, so an hour-long import into any other database holds the feed back for an hour; and transaction ids
//!   begin anew where a dump is restored, so cursors would not survive that.
//! - Counting in the transaction that writes the event: a tenant's completions would wait for each other's commits.
//!
//! Here whoever never reads the feed pays nothing, and who does pays one small update for what has come since.

use async_trait::async_trait;
use bytes::Bytes;
use deadpool_postgres::Object;
use tokio_postgres::Row;

use super::super::feed::is_younger;
use super::super::{FeedStore, StoreError};
use super::PostgresStore;
use super::connect::Session;
use super::fault::Fault;
use super::rows::unreadable;
use crate::domain::clock::Timestamp;
use crate::domain::feed::{Bisection, FeedEvent, FeedPosition, PageLimits};
use crate::domain::ids::{EventId, TenantId};

/// The most events that are numbered in one transaction: more than a page has.
const BATCH: i64 = 2000;

const WITHOUT_PLACE: &str = "SELECT EXISTS (SELECT 1 FROM events WHERE tenant = $1 AND position IS NULL)";
const BEGIN: &str = "INSERT INTO feeds (tenant, last) VALUES ($1, 0) ON CONFLICT (tenant) DO NOTHING";

/// Keeps other readers out. Counts on also where events came from another store without the row.
const LOCK: &str = "SELECT greatest(last, (SELECT max(position) FROM events WHERE tenant = $1)) FROM feeds \
     WHERE tenant = $1 FOR UPDATE";

/// Takes the tenant, the last place given away, and the most events. What is just being deleted is left out.
const NUMBER: &str = "WITH fresh AS MATERIALIZED (SELECT seq FROM events WHERE tenant = $1 AND position IS NULL \
     ORDER BY seq LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED), \
     counted AS (SELECT seq, $2 + row_number() OVER (ORDER BY seq) AS position FROM fresh) \
     UPDATE events SET position = counted.position FROM counted WHERE events.seq = counted.seq";
const KEEP: &str = "UPDATE feeds SET last = $2 WHERE tenant = $1";

/// Takes the tenant, the place to go on after, the most events and the bytes. Lengths are told without reading the bodies.
const EVENTS_AFTER: &str = "SELECT position, id, kind, body FROM (SELECT position, id, kind, body, \
     sum(octet_length(body)) OVER (ORDER BY position) - octet_length(body) AS bytes_before FROM \
     (SELECT position, id, kind, body FROM events WHERE tenant = $1 AND position > $2 ORDER BY position LIMIT $3) AS page) \
     AS measured WHERE bytes_before < $4 ORDER BY position";

#[async_trait]
impl FeedStore for PostgresStore {
    async fn events_after(
        &self,
        tenant: &TenantId,
        after: FeedPosition,
        limits: PageLimits,
    ) -> Result<Vec<FeedEvent>, StoreError> {
        self.run(|session| events_after(session, tenant, after, limits)).await
    }

    async fn feed_end(&self, tenant: &TenantId) -> Result<FeedPosition, StoreError> {
        // One batch for each piece of work: none lasts long, however much was never read before.
        while self.run(|session| number_batch(session, tenant)).await? {}
        self.run(|session| end(session, tenant)).await
    }

    async fn feed_position(&self, tenant: &TenantId, event: EventId) -> Result<FeedPosition, StoreError> {
        if let Some(position) = self.run(|session| position(session, tenant, event)).await? {
            return Ok(position);
        }
        let end = self.feed_end(tenant).await?;
        self.run(|session| position_before_younger(session, tenant, event, end)).await
    }
}

pub(super) async fn events_after(
    mut session: Session,
    tenant: &TenantId,
    after: FeedPosition,
    limits: PageLimits,
) -> Result<Vec<FeedEvent>, Fault> {
    let client = session.client()?;
    number(client, tenant).await?;
    let select = client.prepare_cached(EVENTS_AFTER).await?;
    let most = i64::try_from(limits.events).unwrap_or(i64::MAX);
    let bytes = i64::try_from(limits.bytes).unwrap_or(i64::MAX);
    let rows = client.query(&select, &[&tenant.as_str(), &after.number(), &most, &bytes]).await?;
    rows.iter().map(event).collect()
}

/// Gives places to what has none. Whether there may be more.
pub(super) async fn number_batch(mut session: Session, tenant: &TenantId) -> Result<bool, Fault> {
    number(session.client()?, tenant).await
}

/// Where the feed ends, as far as it is numbered.
pub(super) async fn end(mut session: Session, tenant: &TenantId) -> Result<FeedPosition, Fault> {
    let client = session.client()?;
    let select = client.prepare_cached("SELECT last FROM feeds WHERE tenant = $1").await?;
    let row = client.query_opt(&select, &[&tenant.as_str()]).await?;
    Ok(FeedPosition::new(row.map_or(Ok(0), |row| row.try_get(0))?))
}

/// The place after an event, if it is there and has one.
pub(super) async fn position(
    mut session: Session,
    tenant: &TenantId,
    event: EventId,
) -> Result<Option<FeedPosition>, Fault> {
    let client = session.client()?;
    let select = client
        .prepare_cached("SELECT position FROM events WHERE id = $1 AND tenant = $2 AND position > 0")
        .await?;
    let row = client.query_opt(&select, &[&event.to_string(), &tenant.as_str()]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.map(FeedPosition::new))
}

/// The place of an event that is gone: before everything that came later. To be asked when everything is numbered, up to `end`.
pub(super) async fn position_before_younger(
    mut session: Session,
    tenant: &TenantId,
    event: EventId,
    end: FeedPosition,
) -> Result<FeedPosition, Fault> {
    let client = session.client()?;
    let next = client
        .prepare_cached(
            "SELECT position, at FROM events WHERE tenant = $1 AND position > $2 ORDER BY position LIMIT 1",
        )
        .await?;
    let mut bisection = Bisection::new(end);
    loop {
        let place = match bisection.next() {
            Ok(place) => place,
            Err(found) => return Ok(found),
        };
        let row = client.query_opt(&next, &[&tenant.as_str(), &place.number()]).await?;
        let read = |row: Row| {
            let at = Timestamp::from_millis(row.try_get("at")?);
            Ok::<_, Fault>((FeedPosition::new(row.try_get("position")?), is_younger(event, at)))
        };
        bisection.learn(place, row.map(read).transpose()?);
    }
}

async fn number(client: &mut Object, tenant: &TenantId) -> Result<bool, Fault> {
    let tenant = tenant.as_str();
    let without_place = client.prepare_cached(WITHOUT_PLACE).await?;
    if !client.query_one(&without_place, &[&tenant]).await?.try_get(0)? {
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
    // A statement of its own: it sees what those before it in the lock's queue have numbered.
    let number = transaction.prepare_cached(NUMBER).await?;
    let numbered = transaction.execute(&number, &[&tenant, &last, &BATCH]).await?;
    let numbered = i64::try_from(numbered).unwrap_or(BATCH);
    if numbered > 0 {
        let keep = transaction.prepare_cached(KEEP).await?;
        transaction.execute(&keep, &[&tenant, &(last + numbered)]).await?;
    }
    transaction.commit().await?;
    Ok(numbered == BATCH)
}

fn event(row: &Row) -> Result<FeedEvent, Fault> {
    let id: &str = row.try_get("id")?;
    Ok(FeedEvent {
        position: FeedPosition::new(row.try_get("position")?),
        id: EventId::parse(id).ok_or_else(|| unreadable("id", id))?,
        kind: row.try_get("kind")?,
        body: Bytes::from(row.try_get::<_, Vec<u8>>("body")?),
    })
}
