//! Claims of deliveries, by lease and fencing token, with fair shares for tenants and receivers.

use std::collections::HashMap;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::attempts::MOST_ATTEMPTS;
use super::super::claims::{attempts_by_tenant, follows_unknown};
use super::super::delivery_rows::claimed;
use super::super::selection::{
    Candidate, RECEIVERS_PER_CLAIM, ReceiverCursors, Selected, Selection, WINDOW, WebhookLimits, is_limited,
    limits,
};
use super::super::{ClaimBatch, ClaimedDelivery, DeliverySlots, Lease, StoreError};
use super::claims::earlier;
use super::transaction::SqliteRow;
use super::usage;
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;
use crate::domain::usage::Day;

/// Counts the deliveries in progress by receiver: the leases that end after the present time. Parameters: the tenant
/// and the present time. The unary plus prevents the planner from using the indexes on `due_at`.
pub(super) const UNDER_WAY: &str = "SELECT receiver, count(*) FROM deliveries \
     WHERE leased AND tenant = ? AND +due_at > ? AND status = 'pending' GROUP BY receiver";

/// Reads the oldest due deliveries. Parameters: the tenant, the present time, and the maximum number of deliveries.
pub(super) const OLDEST: &str = "SELECT deliveries.seq, receiver, length(body) FROM deliveries JOIN events ON events.seq = event \
     WHERE status = 'pending' AND deliveries.tenant = ? AND due_at <= ? ORDER BY due_at LIMIT ?";

/// Reads the earliest due time of a delivery after the present time. Parameters: the tenant and the present time.
pub(super) const NEXT: &str = "SELECT due_at FROM deliveries \
     WHERE status = 'pending' AND tenant = ? AND due_at > ? ORDER BY due_at LIMIT 1";

/// Reads the next receiver with pending deliveries. Parameters: the tenant and the receiver to continue after.
pub(super) const NEXT_RECEIVER: &str = "SELECT receiver FROM deliveries \
     WHERE status = 'pending' AND tenant = ? AND receiver > ? ORDER BY receiver LIMIT 1";

/// Reads the oldest due deliveries to one receiver. Parameters: the tenant, the receiver, the present time, and the
/// maximum number of deliveries.
pub(super) const OLDEST_OF_RECEIVER: &str = "SELECT deliveries.seq, receiver, length(body) FROM deliveries \
     JOIN events ON events.seq = event WHERE status = 'pending' AND deliveries.tenant = ? AND receiver = ? AND due_at <= ? \
     ORDER BY due_at LIMIT ?";

/// Reads the webhooks that may have limits. Parameter: the tenant.
pub(super) const LIMITED_WEBHOOKS: &str =
    concat!("SELECT ", limits!(), " FROM webhooks WHERE tenant = ? AND ", is_limited!());

pub(super) fn claim(
    connection: &Connection,
    slots: &DeliverySlots,
    cursors: &mut ReceiverCursors,
    now: Timestamp,
    lease: Duration,
) -> Result<ClaimBatch<ClaimedDelivery>, StoreError> {
    let mut next_due = None;
    let mut selection = Selection::new(slots, now);
    for tenant in rotated(connection, &slots.tenants)? {
        next_due = earlier(next_due, next(connection, tenant, now)?);
        if selection.is_full_for(tenant) {
            continue;
        }
        let mut oldest = connection.prepare_cached(OLDEST)?;
        let mut oldest = oldest.query(params![tenant.as_str(), now.as_millis(), WINDOW])?;
        let Some(first) = oldest.next()? else { continue };
        let first = candidate(first)?;
        let limits = webhook_limits(connection, tenant, now)?;
        next_due = limits.next_end.into_iter().chain(next_due).min();
        let mut share = selection.tenant(tenant, under_way(connection, tenant, now)?, limits.limits);
        share.offer(first);
        let mut offered = 1;
        while share.has_free_slots()
            && let Some(row) = oldest.next()?
        {
            share.offer(candidate(row)?);
            offered += 1;
        }
        let more_due = offered >= WINDOW;
        if more_due && share.has_free_slots() {
            let began = cursors.remove(tenant).unwrap_or_default();
            let (found, last) = by_receiver(connection, tenant, &began.last, now, slots.per_receiver)?;
            found.into_iter().for_each(|candidate| share.offer(candidate));
            next_due = share.end_scan(&began, last, cursors).into_iter().chain(next_due).min();
        }
    }
    let Selected { rows, tokens, next_token } = selection.into_selected();
    next_due = next_token.into_iter().chain(next_due).min();
    for (webhook, tokens) in &tokens {
        // No other process changes the bucket, so its state is the one that the claim has read.
        let mut update = connection.prepare_cached("UPDATE webhooks SET bucket_full_at = ? WHERE id = ?")?;
        update.execute(params![tokens.after, webhook])?;
    }
    let (claimed, unreadable) = take(connection, &rows, now, lease)?;
    for (tenant, usage) in attempts_by_tenant(&claimed) {
        usage::count(connection, tenant, Day::of(now), usage)?;
    }
    Ok(ClaimBatch { claimed, unreadable, next_due })
}

/// Returns the tenants, starting with a random one, so that no tenant is always the first to take slots.
fn rotated<'a>(
    connection: &Connection,
    tenants: &'a [TenantId],
) -> Result<impl Iterator<Item = &'a TenantId>, StoreError> {
    let turn: i64 = connection.prepare_cached("SELECT abs(random() / 2)")?.query_row([], |row| row.get(0))?;
    let middle = usize::try_from(turn).unwrap_or(0) % tenants.len().max(1);
    let (after, first) = tenants.split_at(middle);
    Ok(first.iter().chain(after))
}

fn under_way(
    connection: &Connection,
    tenant: &TenantId,
    now: Timestamp,
) -> Result<HashMap<String, usize>, StoreError> {
    let mut counted = connection.prepare_cached(UNDER_WAY)?;
    let rows =
        counted.query_map(params![tenant.as_str(), now.as_millis()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn webhook_limits(
    connection: &Connection,
    tenant: &TenantId,
    now: Timestamp,
) -> Result<WebhookLimits, StoreError> {
    let mut limited = connection.prepare_cached(LIMITED_WEBHOOKS)?;
    let mut rows = limited.query([tenant.as_str()])?;
    let mut limits = WebhookLimits::default();
    while let Some(row) = rows.next()? {
        limits.add(&SqliteRow::new(row), now)?;
    }
    Ok(limits)
}

fn candidates(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<Candidate>, StoreError> {
    let mut found = connection.prepare_cached(sql)?;
    let rows = found.query_map(parameters, candidate)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn candidate(row: &Row<'_>) -> Result<Candidate, rusqlite::Error> {
    Ok(Candidate { row: row.get(0)?, receiver: row.get(1)?, size: row.get(2)? })
}

fn next(connection: &Connection, tenant: &TenantId, now: Timestamp) -> Result<Option<i64>, StoreError> {
    Ok(connection
        .prepare_cached(NEXT)?
        .query_row(params![tenant.as_str(), now.as_millis()], |row| row.get(0))
        .optional()?)
}

/// Reads the due deliveries of the next receivers. Also returns the last of these receivers if more may follow. Each
/// receiver costs one step along the index, however many deliveries it has.
fn by_receiver(
    connection: &Connection,
    tenant: &TenantId,
    after: &str,
    now: Timestamp,
    per_receiver: usize,
) -> Result<(Vec<Candidate>, Option<String>), StoreError> {
    let mut next_receiver = connection.prepare_cached(NEXT_RECEIVER)?;
    let (mut found, mut last) = (Vec::new(), after.to_owned());
    for _ in 0..RECEIVERS_PER_CLAIM {
        let next: Option<String> =
            next_receiver.query_row(params![tenant.as_str(), last], |row| row.get(0)).optional()?;
        let Some(receiver) = next else { return Ok((found, None)) };
        let of = params![tenant.as_str(), receiver, now.as_millis(), per_receiver];
        found.extend(candidates(connection, OLDEST_OF_RECEIVER, of)?);
        last = receiver;
    }
    Ok((found, Some(last)))
}

/// Claims deliveries and records the attempts that begin with the claim. Returns the claimed deliveries, and the leases of the
/// deliveries that this version cannot read.
fn take(
    connection: &Connection,
    rows: &[i64],
    now: Timestamp,
    lease: Duration,
) -> Result<(Vec<ClaimedDelivery>, Vec<Lease>), StoreError> {
    let mut update = connection.prepare_cached(
        "UPDATE deliveries SET fence = fence + 1, leased = true, due_at = ?, attempts = attempts + 1 WHERE seq = ?",
    )?;
    let mut select = connection.prepare_cached(concat!(
        "SELECT deliveries.seq AS seq, fence, deliveries.id, deliveries.tenant, deliveries.call_id, events.id AS event_id, webhook, \
         coalesce(webhooks.url, deliveries.url) AS url, attempts, earlier_attempts, due_at, trace, \
         CASE WHEN coalesce(webhooks.payload, deliveries.payload) = 'thin' \
         AND coalesce(webhooks.transform, deliveries.transform) IS NULL THEN coalesce(thin_body, body) ELSE body END AS body, \
         coalesce(webhooks.transform, deliveries.transform) AS transform, method, \
         coalesce(webhooks.transform, deliveries.transform) IS NOT NULL AND ",
        follows_unknown!("deliveries"),
        " AS follows_unknown, \
         version, secret, previous_secret, previous_until, headers FROM deliveries JOIN events ON events.seq = event \
         LEFT JOIN webhooks ON webhooks.id = webhook WHERE deliveries.seq = ?"
    ))?;
    let mut insert =
        connection.prepare_cached("INSERT INTO attempts (delivery, number, started_at) VALUES (?, ?, ?)")?;
    let (mut readable, mut unreadable) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        update.execute(params![(now + lease).as_millis(), row])?;
        let (lease, attempt, delivery) = select.query_row([row], |row| {
            let lease = Lease { row: row.get("seq")?, fence: row.get("fence")? };
            Ok((lease, row.get::<_, i64>("attempts")?, claimed(&SqliteRow::new(row))))
        })?;
        insert.execute(params![row, attempt, now.as_millis()])?;
        match delivery {
            Ok(delivery) => readable.push(delivery),
            Err(StoreError::Corrupt(_)) => unreadable.push(lease),
            Err(error) => return Err(error),
        }
        let earlier = attempt - i64::from(MOST_ATTEMPTS);
        if earlier > 0 {
            connection
                .prepare_cached("DELETE FROM attempts WHERE delivery = ? AND number <= ?")?
                .execute(params![row, earlier])?;
        }
    }
    Ok((readable, unreadable))
}
