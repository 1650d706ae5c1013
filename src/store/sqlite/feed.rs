//! The feed of a tenant's events. There is one writer, so an event gets its place as it is written.

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::feed::is_younger;
use super::super::{FeedStore, StoreError};
use super::SqliteStore;
use super::rows::unreadable;
use crate::domain::clock::Timestamp;
use crate::domain::feed::{Bisection, FeedEvent, FeedPosition, PageLimits};
use crate::domain::ids::{EventId, TenantId};

/// Takes the tenant, the place to go on after, and the most events.
pub(super) const EVENTS_AFTER: &str = "SELECT position, id, kind, body FROM events \
     WHERE tenant = ? AND position > ? ORDER BY position LIMIT ?";

/// Takes the tenant and a place.
pub(super) const NEXT_EVENT: &str =
    "SELECT position, at FROM events WHERE tenant = ? AND position > ? ORDER BY position LIMIT 1";

#[async_trait]
impl FeedStore for SqliteStore {
    async fn events_after(
        &self,
        tenant: &TenantId,
        after: FeedPosition,
        limits: PageLimits,
    ) -> Result<Vec<FeedEvent>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| events_after(connection, &tenant, after, limits)).await
    }

    async fn feed_end(&self, tenant: &TenantId) -> Result<FeedPosition, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| end(connection, &tenant)).await
    }

    async fn feed_position(&self, tenant: &TenantId, event: EventId) -> Result<FeedPosition, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| position(connection, &tenant, event)).await
    }
}

/// Takes the tenant. Returns the position of the event that is about to be written.
pub(in crate::store) const NEXT_POSITION: &str = "INSERT INTO feeds (tenant, last) VALUES (?1, 1) \
     ON CONFLICT (tenant) DO UPDATE SET last = last + 1 RETURNING last";

pub(super) fn events_after(
    connection: &Connection,
    tenant: &TenantId,
    after: FeedPosition,
    limits: PageLimits,
) -> Result<Vec<FeedEvent>, StoreError> {
    let mut statement = connection.prepare_cached(EVENTS_AFTER)?;
    let most = i64::try_from(limits.events).unwrap_or(i64::MAX);
    let found = statement.query_map(params![tenant.as_str(), after.number(), most], event)?;
    let (mut events, mut bytes) = (Vec::new(), 0);
    for event in found {
        let event = event?;
        bytes += event.body.len();
        events.push(event);
        if bytes >= limits.bytes {
            break;
        }
    }
    Ok(events)
}

pub(super) fn end(connection: &Connection, tenant: &TenantId) -> Result<FeedPosition, StoreError> {
    let last: Option<i64> = connection
        .prepare_cached("SELECT last FROM feeds WHERE tenant = ?")?
        .query_row([tenant.as_str()], |row| row.get(0))
        .optional()?;
    Ok(last.map_or(FeedPosition::BEGINNING, FeedPosition::new))
}

pub(super) fn position(
    connection: &Connection,
    tenant: &TenantId,
    event: EventId,
) -> Result<FeedPosition, StoreError> {
    let known: Option<i64> = connection
        .prepare_cached("SELECT position FROM events WHERE id = ? AND tenant = ? AND position > 0")?
        .query_row(params![event.to_string(), tenant.as_str()], |row| row.get(0))
        .optional()?;
    if let Some(known) = known {
        return Ok(FeedPosition::new(known));
    }
    let mut next = connection.prepare_cached(NEXT_EVENT)?;
    let mut bisection = Bisection::new(end(connection, tenant)?);
    loop {
        let place = match bisection.next() {
            Ok(place) => place,
            Err(found) => return Ok(found),
        };
        let read = |row: &Row<'_>| {
            let at = Timestamp::from_millis(row.get("at")?);
            Ok((FeedPosition::new(row.get("position")?), is_younger(event, at)))
        };
        let found = next.query_row(params![tenant.as_str(), place.number()], read).optional()?;
        bisection.learn(place, found);
    }
}

fn event(row: &Row<'_>) -> Result<FeedEvent, rusqlite::Error> {
    let id: String = row.get("id")?;
    Ok(FeedEvent {
        position: FeedPosition::new(row.get("position")?),
        id: EventId::parse(&id).ok_or_else(|| unreadable("id", &id))?,
        kind: row.get("kind")?,
        body: Bytes::from(row.get::<_, Vec<u8>>("body")?),
    })
}
