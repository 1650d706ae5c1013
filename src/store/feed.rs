//! The feed of a tenant's events.

use std::ops::ControlFlow;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::de::IgnoredAny;

use super::StoreError;
use super::engine::Engine;
use super::rules::{Rule, Transaction};
use super::sql::{Sql, sql};
use super::unreadable::skip;
use super::values::{Row, values};
use crate::domain::clock::Timestamp;
use crate::domain::feed::{Bisection, FeedEvent, FeedPosition, PageLimits};
use crate::domain::ids::{EventId, TenantId};

/// If two events were written within this time of each other, their order in the feed is not certain. This time is longer than
/// any transaction.
const FEED_DISORDER: Duration = Duration::from_mins(1);

/// Returns whether an event that was written at `at` may come after `event` in the feed.
fn is_younger(event: EventId, at: Timestamp) -> bool {
    at + FEED_DISORDER >= event.generated_at()
}

/// The feed of a tenant's events.
#[async_trait]
pub trait FeedStore: Send + Sync {
    /// Reads the events after a position, oldest first. A reader that continues after `end` reads every event exactly once, even if
    /// transactions that write events overlap. If the first event exceeds the limit of bytes, the result has only its size.
    async fn events_after(
        &self,
        tenant: &TenantId,
        after: FeedPosition,
        limits: PageLimits,
    ) -> Result<FeedRows, StoreError>;

    /// Returns the position after the last event.
    async fn feed_end(&self, tenant: &TenantId) -> Result<FeedPosition, StoreError>;

    /// Returns the position after an event. If the event was deleted, returns a position before all younger events.
    /// Events written within a minute of the deleted event may then be read twice.
    async fn feed_position(&self, tenant: &TenantId, event: EventId) -> Result<FeedPosition, StoreError>;
}

#[async_trait]
impl<E: Engine> FeedStore for E {
    async fn events_after(
        &self,
        tenant: &TenantId,
        after: FeedPosition,
        limits: PageLimits,
    ) -> Result<FeedRows, StoreError> {
        let rule = ReadEvents { tenant: tenant.clone(), after, limits };
        let read = |permit| async move {
            self.number_events(tenant).await?;
            self.read(rule, Some(permit)).await
        };
        self.feed_scans().run(tenant, read).await
    }

    async fn feed_end(&self, tenant: &TenantId) -> Result<FeedPosition, StoreError> {
        // Each batch is one transaction, so no transaction lasts long, even for a feed that was never read before.
        while self.number_events(tenant).await? {}
        self.query(FindEnd { tenant: tenant.clone() }).await
    }

    async fn feed_position(&self, tenant: &TenantId, event: EventId) -> Result<FeedPosition, StoreError> {
        if let Some(position) = self.query(FindPosition { tenant: tenant.clone(), event }).await? {
            return Ok(position);
        }
        let end = self.feed_end(tenant).await?;
        self.query(FindPositionBefore { tenant: tenant.clone(), event, end }).await
    }
}

/// Takes the next position of a tenant's feed on `SQLite`. Parameter: the tenant. PostgreSQL assigns positions when the
/// feed is read ([`Engine::number_events`]).
pub(super) static NEXT_POSITION: Sql = Sql::per_engine(
    &["INSERT INTO feeds (tenant, last) VALUES (?1, 1) \
       ON CONFLICT (tenant) DO UPDATE SET last = last + 1 RETURNING last"],
    &[],
);

/// The events that one read of a feed returns.
#[derive(Debug, PartialEq, Eq)]
pub struct FeedRows {
    /// The events, oldest first.
    pub events: Vec<FeedEvent>,
    /// The ids, as stored, of the events that cannot be read.
    pub unreadable: Vec<String>,
    /// The position after the last event of this read, readable or not. Without an event, the position at which the read began.
    pub end: FeedPosition,
    /// The size of the next event in bytes, if this event alone exceeds the limit. In this case, the read returns no events.
    pub too_large: Option<usize>,
}

struct ReadEvents {
    tenant: TenantId,
    after: FeedPosition,
    limits: PageLimits,
}

/// Reads a page of events. Parameters: the tenant, the position after which the page begins, the maximum number of
/// events, and the maximum number of bytes of their bodies. On PostgreSQL, at most the last row exceeds the number of
/// bytes, and this row has no body. PostgreSQL measures bodies without reading them. `SQLite` reads only the bodies that
/// the caller consumes.
pub(super) static EVENTS_AFTER: Sql = Sql::per_engine(
    &[PAGE, " AND ?4 > 0 ORDER BY position LIMIT ?3"],
    &[
        "SELECT position, id, kind, bytes, CASE WHEN total <= ?4 THEN body END AS body FROM \
         (SELECT position, id, kind, bytes, body, (sum(bytes) OVER (ORDER BY position))::bigint AS total FROM (",
        PAGE,
        " ORDER BY position LIMIT ?3) AS page) AS measured WHERE total - bytes < ?4 ORDER BY position",
    ],
);
const PAGE: &str = "SELECT position, id, kind, CAST(octet_length(body) AS bigint) AS bytes, body FROM events \
                    WHERE tenant = ?1 AND position > ?2";

impl Rule for ReadEvents {
    const NAME: &'static str = "events_after";
    type Output = FeedRows;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<FeedRows, StoreError> {
        let Self { tenant, after, limits } = self;
        let values = values![tenant, after.number(), limits.events, limits.bytes];
        let mut rows = FeedRows { events: Vec::new(), unreadable: Vec::new(), end: *after, too_large: None };
        let mut left = limits.bytes;
        transaction
            .for_each(&EVENTS_AFTER, values, |row| {
                let bytes: usize = row.get("bytes").unwrap_or_default();
                if bytes > left {
                    rows.too_large = (rows.end == *after).then_some(bytes);
                    return Ok(ControlFlow::Break(()));
                }
                left -= bytes;
                rows.end = position(row)?;
                let id: String = row.get("id").unwrap_or_default();
                match skip(transaction, "events", &id, event(row))? {
                    Some(event) => rows.events.push(event),
                    None => rows.unreadable.push(id),
                }
                Ok(ControlFlow::Continue(()))
            })
            .await?;
        Ok(rows)
    }
}

fn event(row: &dyn Row) -> Result<FeedEvent, StoreError> {
    let body: Vec<u8> = row.get("body")?;
    // The body becomes a part of a page or of a stream without being parsed again.
    let is_object = body.starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(&body).is_ok();
    if !is_object || body.contains(&b'\n') || body.contains(&b'\r') {
        return Err(StoreError::Corrupt("column body holds no JSON object on one line".to_owned()));
    }
    Ok(FeedEvent {
        position: position(row)?,
        id: row.get("id")?,
        kind: row.get("kind")?,
        body: Bytes::from(body),
    })
}

fn position(row: &dyn Row) -> Result<FeedPosition, StoreError> {
    row.get("position").map(FeedPosition::new)
}

struct FindEnd {
    tenant: TenantId,
}

impl Rule for FindEnd {
    const NAME: &'static str = "feed_end";
    type Output = FeedPosition;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<FeedPosition, StoreError> {
        let select = sql!("SELECT last AS position FROM feeds WHERE tenant = ?1");
        let end = transaction.find(select, values![&self.tenant], position).await?;
        Ok(end.unwrap_or(FeedPosition::BEGINNING))
    }
}

struct FindPosition {
    tenant: TenantId,
    event: EventId,
}

impl Rule for FindPosition {
    const NAME: &'static str = "feed_position";
    type Output = Option<FeedPosition>;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Option<FeedPosition>, StoreError> {
        let select = sql!("SELECT position FROM events WHERE id = ?1 AND tenant = ?2 AND position > 0");
        transaction.find(select, values![self.event, &self.tenant], position).await
    }
}

/// Finds a position that precedes every event younger than a deleted event. All events up to `end` must have a position.
struct FindPositionBefore {
    tenant: TenantId,
    event: EventId,
    end: FeedPosition,
}

/// Reads the first event after a position. Parameters: the tenant and the position.
pub(super) static NEXT_EVENT: Sql = Sql::new(&[
    "SELECT position, at FROM events WHERE tenant = ?1 AND position > ?2 ORDER BY position LIMIT 1",
]);

impl Rule for FindPositionBefore {
    const NAME: &'static str = "feed_position_before";
    type Output = FeedPosition;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<FeedPosition, StoreError> {
        let mut bisection = Bisection::new(self.end);
        loop {
            let after = match bisection.next() {
                Ok(after) => after,
                Err(found) => return Ok(found),
            };
            let next = |row: &dyn Row| Ok((position(row)?, is_younger(self.event, row.get("at")?)));
            let found = transaction.find(&NEXT_EVENT, values![&self.tenant, after.number()], next).await?;
            bisection.learn(after, found);
        }
    }
}
