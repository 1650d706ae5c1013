//! Who works on what: claims by lease and fence, fairly over tenants and receivers.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::{
    ClaimedDelivery, ClaimedWork, Claims, DeliverySlots, Lease, Queue, ReceiverKey, Stats, StoreError,
};
use super::deliveries;
use super::rows::{self, unreadable};
use crate::domain::analysis::Status;
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;

/// The condition of each queue's partial index, word for word.
const fn condition(queue: Queue) -> &'static str {
    match queue {
        Queue::Submits => "stage = 'submit'",
        Queue::Polls => "stage <> 'submit'",
    }
}

/// Takes the tenant, the present, the most to claim, and the lease's end. A claimed submit stands as unconfirmed
/// from this commit on: after a crash its outcome is unknown.
pub(super) fn claim_sql(queue: Queue) -> String {
    format!(
        "UPDATE analyses SET stage = CASE stage WHEN 'submit' THEN 'confirm' ELSE stage END, \
         denied_since = CASE stage WHEN 'submit' THEN NULL ELSE denied_since END, \
         fence = fence + 1, leased = 1, due_at = ?4 WHERE id IN (SELECT id FROM analyses \
         WHERE {} AND tenant = ?1 AND due_at <= ?2 ORDER BY due_at LIMIT ?3) RETURNING {}",
        condition(queue),
        rows::COLUMNS
    )
}

/// Takes the tenant and the present.
pub(super) fn next_work_sql(queue: Queue) -> String {
    let condition = condition(queue);
    format!(
        "SELECT due_at FROM analyses WHERE {condition} AND tenant = ? AND due_at > ? ORDER BY due_at LIMIT 1"
    )
}

/// Takes the receiver before.
pub(super) const NEXT_RECEIVER: &str = "SELECT tenant, receiver FROM deliveries \
     WHERE status = 'pending' AND (tenant, receiver) > (?, ?) ORDER BY tenant, receiver LIMIT 1";

/// Takes the receiver, the present, and the most to claim.
pub(super) const DUE_DELIVERIES: &str = "SELECT row FROM deliveries \
     WHERE status = 'pending' AND tenant = ? AND receiver = ? AND due_at <= ? ORDER BY due_at LIMIT ?";

/// Takes the receiver and the present.
pub(super) const NEXT_DELIVERY: &str = "SELECT due_at FROM deliveries \
     WHERE status = 'pending' AND tenant = ? AND receiver = ? AND due_at > ? ORDER BY due_at LIMIT 1";

pub(super) fn work(
    connection: &Connection,
    queue: Queue,
    slots: &[(TenantId, usize)],
    now: Timestamp,
    lease: Duration,
) -> Result<Claims<ClaimedWork>, StoreError> {
    let mut claim = connection.prepare_cached(&claim_sql(queue))?;
    let mut next = connection.prepare_cached(&next_work_sql(queue))?;
    let mut claims = Claims { claimed: Vec::new(), next_due: None };
    for (tenant, free) in slots.iter().filter(|(_, free)| *free > 0) {
        let limit = i64::try_from(*free).unwrap_or(i64::MAX);
        let due = params![tenant.as_str(), now.as_millis(), limit, (now + lease).as_millis()];
        for claimed in claim.query_map(due, claimed_work)? {
            claims.claimed.push(claimed?);
        }
        let due: Option<i64> =
            next.query_row(params![tenant.as_str(), now.as_millis()], |row| row.get(0)).optional()?;
        claims.next_due = earlier(claims.next_due, due);
    }
    Ok(claims)
}

fn claimed_work(row: &Row<'_>) -> Result<ClaimedWork, rusqlite::Error> {
    let lease = Lease { row: row.get("id")?, fence: row.get("fence")? };
    Ok(ClaimedWork { lease, analysis: rows::read(row)? })
}

fn earlier(known: Option<Timestamp>, due: Option<i64>) -> Option<Timestamp> {
    known.into_iter().chain(due.map(Timestamp::from_millis)).min()
}

pub(super) fn deliveries(
    connection: &Connection,
    slots: &DeliverySlots,
    now: Timestamp,
    lease: Duration,
) -> Result<Claims<ClaimedDelivery>, StoreError> {
    let mut claims = Claims { claimed: Vec::new(), next_due: None };
    let (mut left, mut bytes) = (slots.total, slots.bytes);
    let mut of_tenant: HashMap<TenantId, usize> = HashMap::new();
    for ((tenant, _), busy) in &slots.busy {
        *of_tenant.entry(tenant.clone()).or_default() += busy;
    }
    for receiver in pending_receivers(connection)? {
        if left == 0 {
            // Whoever gives a place back asks again.
            break;
        }
        let under_way = of_tenant.entry(receiver.0.clone()).or_default();
        let busy = slots.busy.get(&receiver).copied().unwrap_or(0);
        let of_receiver = slots.per_receiver.saturating_sub(busy);
        let free = of_receiver.min(slots.per_tenant.saturating_sub(*under_way)).min(left);
        for row in due_of(connection, &receiver, now, free)? {
            if bytes == 0 {
                return Ok(claims);
            }
            let claimed = claim_delivery(connection, row, now, lease)?;
            bytes = bytes.saturating_sub(claimed.body.len());
            claims.claimed.push(claimed);
            *under_way += 1;
            left -= 1;
        }
        if free > 0 {
            claims.next_due = earlier(claims.next_due, next_of(connection, &receiver, now)?);
        }
    }
    Ok(claims)
}

/// The receivers with anything pending, each found by one step along the index however much it has waiting.
/// In a changing order, lest the first take all when there is less room than work.
fn pending_receivers(connection: &Connection) -> Result<Vec<ReceiverKey>, StoreError> {
    let mut step = connection.prepare_cached(NEXT_RECEIVER)?;
    let mut found: Vec<(String, String)> = Vec::new();
    let mut last = (String::new(), String::new());
    while let Some(next) =
        step.query_row(params![last.0, last.1], |row| Ok((row.get(0)?, row.get(1)?))).optional()?
    {
        found.push(next);
        last.clone_from(&found[found.len() - 1]);
    }
    if !found.is_empty() {
        let turn: i64 =
            connection.prepare_cached("SELECT abs(random() / 2)")?.query_row([], |row| row.get(0))?;
        let middle = usize::try_from(turn).unwrap_or(0) % found.len();
        found.rotate_left(middle);
    }
    let parse = |(tenant, receiver): (String, String)| match TenantId::parse(&tenant) {
        Ok(tenant) => Ok((tenant, receiver)),
        Err(_) => Err(unreadable("tenant", &tenant).into()),
    };
    found.into_iter().map(parse).collect()
}

fn due_of(
    connection: &Connection,
    (tenant, receiver): &ReceiverKey,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<i64>, StoreError> {
    let mut due = connection.prepare_cached(DUE_DELIVERIES)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = due.query_map(params![tenant.as_str(), receiver, now.as_millis(), limit], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn next_of(
    connection: &Connection,
    (tenant, receiver): &ReceiverKey,
    now: Timestamp,
) -> Result<Option<i64>, StoreError> {
    Ok(connection
        .prepare_cached(NEXT_DELIVERY)?
        .query_row(params![tenant.as_str(), receiver, now.as_millis()], |row| row.get(0))
        .optional()?)
}

/// Leases one delivery, and writes its attempt down before it is made.
fn claim_delivery(
    connection: &Connection,
    row: i64,
    now: Timestamp,
    lease: Duration,
) -> Result<ClaimedDelivery, StoreError> {
    connection
        .prepare_cached(
            "UPDATE deliveries SET fence = fence + 1, leased = 1, due_at = ?, attempts = attempts + 1 WHERE row = ?",
        )?
        .execute(params![(now + lease).as_millis(), row])?;
    connection
        .prepare_cached(
            "INSERT INTO attempts (delivery, number, started_at) SELECT row, attempts, ? FROM deliveries WHERE row = ?",
        )?
        .execute(params![now.as_millis(), row])?;
    let claimed = connection
        .prepare_cached(
            "SELECT row, fence, deliveries.id, deliveries.tenant, deliveries.call_id, events.id AS event_id, \
             url, attempts, due_at, trace, body FROM deliveries JOIN events ON seq = event WHERE row = ?",
        )?
        .query_row([row], |row| {
            let lease = Lease { row: row.get("row")?, fence: row.get("fence")? };
            let body: Vec<u8> = row.get("body")?;
            Ok(ClaimedDelivery { lease, delivery: deliveries::read(row)?, body: Bytes::from(body) })
        })?;
    Ok(claimed)
}

/// Makes everything that is leased due at once. Only for when no other process can hold a lease.
pub(super) fn release_all(connection: &Connection, now: Timestamp) -> Result<(), rusqlite::Error> {
    connection.execute(
        "UPDATE analyses SET leased = 0, due_at = ? WHERE leased = 1 AND stage IS NOT NULL",
        [now.as_millis()],
    )?;
    connection.execute(
        "UPDATE deliveries SET leased = 0, due_at = ? WHERE leased = 1 AND status = 'pending'",
        [now.as_millis()],
    )?;
    Ok(())
}

pub(super) fn stats(connection: &Connection, now: Timestamp) -> Result<Stats, StoreError> {
    let mut stats = Stats::default();
    let mut by_status = connection.prepare_cached("SELECT status, count(*) FROM analyses GROUP BY status")?;
    let rows = by_status.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?)))?;
    let counted: HashMap<String, u64> = rows.collect::<Result<_, _>>()?;
    for status in Status::ALL {
        stats.analyses.insert(status, counted.get(status.as_str()).copied().unwrap_or(0));
    }
    let oldest = |sql: &str| -> Result<Duration, rusqlite::Error> {
        let due: Option<i64> = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        Ok(due.map_or(Duration::ZERO, |due| now.since(Timestamp::from_millis(due))))
    };
    for queue in [Queue::Submits, Queue::Polls] {
        let sql = format!("SELECT min(due_at) FROM analyses WHERE {}", condition(queue));
        stats.work_lag.insert(queue, oldest(&sql)?);
    }
    stats.delivery_lag = oldest("SELECT min(due_at) FROM deliveries WHERE status = 'pending'")?;
    stats.pending_deliveries = connection
        .prepare_cached("SELECT count(*) FROM deliveries WHERE status = 'pending'")?
        .query_row([], |row| row.get(0))?;
    Ok(stats)
}
