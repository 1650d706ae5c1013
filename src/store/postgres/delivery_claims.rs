//! Claims of deliveries, by lease and fencing token, with fair shares for tenants and receivers.
//!
//! The tenants are a subquery (`(SELECT $1)`), so that a plan does not depend on their number. Otherwise PostgreSQL would plan the
//! statements again for each claim, which takes longer than their execution.

use std::collections::HashMap;
use std::time::Duration;

use deadpool_postgres::Object;
use futures_util::try_join;

use super::super::attempts::MOST_ATTEMPTS;
use super::super::claims::follows_unknown;
use super::super::delivery_rows;
use super::super::selection::{
    Candidate, RECEIVERS_PER_CLAIM, ReceiverCursors, Selected, Selection, TakenTokens, WINDOW, WebhookLimits,
    is_limited, limits,
};
use super::super::{ClaimBatch, ClaimedDelivery, DeliverySlots, Lease, StoreError};
use super::connect::Session;
use super::fault::Fault;
use super::rows::number;
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;

/// Counts the deliveries in progress on all replicas, by receiver: the leases that end after the present time. Parameters: the
/// tenants and the present time. The limit has no effect, but the planner does not know this, and prefers an index scan to a bitmap
/// scan. A bitmap scan reads the rows of ended leases again in every claim.
const UNDER_WAY: &str = "SELECT tenant, receiver, count(*) AS number FROM unnest((SELECT $1::text[])) AS slot (tenant) \
     CROSS JOIN LATERAL (SELECT receiver, due_at, status FROM deliveries WHERE leased AND deliveries.tenant = slot.tenant \
     LIMIT (SELECT NULL::bigint)) AS held WHERE due_at > $2 AND status = 'pending' GROUP BY tenant, receiver";

/// Reads the webhooks that may have limits. Parameter: the tenants.
const LIMITED_WEBHOOKS: &str = concat!(
    "SELECT tenant, ",
    limits!(),
    " FROM webhooks WHERE tenant = ANY((SELECT $1::text[])::text[]) AND ",
    is_limited!()
);

/// Reads the oldest due deliveries. Parameters: the tenants, the present time, and the maximum number of deliveries of
/// each tenant.
pub(super) const OLDEST: &str = "SELECT slot.tenant, oldest.seq, receiver, \
     (SELECT octet_length(body)::bigint FROM events WHERE seq = oldest.event) AS size \
     FROM unnest((SELECT $1::text[])) AS slot (tenant) CROSS JOIN LATERAL (SELECT seq, receiver, event, due_at \
     FROM deliveries WHERE status = 'pending' AND deliveries.tenant = slot.tenant AND due_at <= $2 \
     ORDER BY due_at LIMIT $3) AS oldest ORDER BY oldest.due_at";

/// Reads the earliest due time of a delivery after the present time. Parameters: the tenants and the present time.
pub(super) const NEXT: &str = "SELECT min(next.due_at) FROM unnest((SELECT $1::text[])) AS slot (tenant) CROSS JOIN LATERAL \
     (SELECT due_at FROM deliveries WHERE status = 'pending' AND deliveries.tenant = slot.tenant AND due_at > $2 \
     ORDER BY due_at LIMIT 1) AS next";

/// Reads the due deliveries of the next receivers. Parameters: the tenant, the receiver to continue after, the present
/// time, the maximum number of receivers, and the maximum number of deliveries of each receiver. The last receiver is
/// returned even if none of its deliveries is due.
pub(super) const BY_RECEIVER: &str = "WITH RECURSIVE receivers (receiver, steps) AS (\
     (SELECT receiver, 1 FROM deliveries WHERE status = 'pending' AND tenant = $1 AND receiver > $2 \
     ORDER BY receiver LIMIT 1) UNION ALL SELECT (SELECT next.receiver FROM deliveries AS next \
     WHERE next.status = 'pending' AND next.tenant = $1 AND next.receiver > receivers.receiver ORDER BY next.receiver LIMIT 1), \
     steps + 1 FROM receivers WHERE receivers.receiver IS NOT NULL AND steps < $4) \
     SELECT receivers.receiver, oldest.seq, (SELECT octet_length(body)::bigint FROM events WHERE seq = oldest.event) \
     AS size FROM receivers LEFT JOIN LATERAL \
     (SELECT seq, event, due_at FROM deliveries WHERE status = 'pending' AND deliveries.tenant = $1 \
     AND deliveries.receiver = receivers.receiver AND due_at <= $3 ORDER BY due_at LIMIT $5) AS oldest ON true \
     WHERE receivers.receiver IS NOT NULL ORDER BY steps, oldest.due_at";

/// Claims deliveries and records the attempts that begin with the claim. Parameters: the selected rows, the present time, the end
/// of the lease, and for each webhook with a rate its id, the state of its bucket before and after the claim, and the number of
/// its rows. Rows that another replica has claimed since they were selected are skipped. If this happens to a row of a webhook
/// with a rate, or if the bucket of the webhook has changed, all rows of the webhook are skipped. `buckets` waits for no lock, so
/// claims cannot deadlock.
///
/// The statement looks each row up by its number, even if it was planned while the table had few rows: `|| ''` prevents the planner
/// from using the indexes of pending deliveries, and because of `LIMIT cardinality($1)` it expects few rows.
const CLAIM: &str = concat!(
    "WITH locked AS MATERIALIZED (SELECT found.seq, webhook FROM unnest($1::bigint[]) AS selected (seq) CROSS JOIN LATERAL \
     (SELECT seq, webhook FROM deliveries WHERE deliveries.seq = selected.seq AND status || '' = 'pending' AND due_at <= $2 \
     AND (webhook = '' OR EXISTS (SELECT 1 FROM webhooks WHERE webhooks.id = webhook AND disabled_at IS NULL)) \
     LIMIT 1 FOR UPDATE SKIP LOCKED) AS found), \
     free AS MATERIALIZED (SELECT * FROM unnest($4::text[], $5::bigint[], $6::bigint[], $7::bigint[]) \
     AS bucket (bucket_of, before, after, tokens) WHERE tokens = (SELECT count(*) FROM locked WHERE locked.webhook = bucket_of)), \
     buckets AS MATERIALIZED (SELECT id, after FROM webhooks JOIN free ON id = bucket_of \
     WHERE bucket_full_at IS NOT DISTINCT FROM before FOR NO KEY UPDATE OF webhooks SKIP LOCKED), \
     taken AS (UPDATE webhooks SET bucket_full_at = after FROM buckets WHERE webhooks.id = buckets.id RETURNING webhooks.id), \
     claimed AS (UPDATE deliveries SET fence = fence + 1, leased = true, due_at = $3, attempts = attempts + 1 \
     FROM (SELECT seq AS row FROM locked WHERE webhook <> ALL ($4) OR webhook IN (SELECT id FROM taken) \
     LIMIT cardinality($1)) AS free_row WHERE seq = free_row.row RETURNING deliveries.*), \
     attempt AS (INSERT INTO attempts (delivery, number, started_at) SELECT seq, attempts, $2 FROM claimed) \
     SELECT seq, fence, claimed.id, claimed.tenant, claimed.call_id, source.id AS event_id, webhook, \
     coalesce(present.url, claimed.url) AS url, attempts, earlier_attempts, due_at, trace, \
     CASE WHEN coalesce(present.payload, claimed.payload) = 'thin' \
     AND coalesce(present.transform, claimed.transform) IS NULL THEN coalesce(thin_body, body) ELSE body END AS body, \
     coalesce(present.transform, claimed.transform) AS transform, method, \
     coalesce(present.transform, claimed.transform) IS NOT NULL AND ",
    follows_unknown!("claimed"),
    " AS follows_unknown, \
     version, secret, previous_secret, previous_until, headers FROM claimed \
     CROSS JOIN LATERAL (SELECT id, body, thin_body FROM events WHERE seq = claimed.event LIMIT 1) AS source \
     LEFT JOIN LATERAL (SELECT url, payload, transform, method, version, secret, previous_secret, previous_until, headers \
     FROM webhooks WHERE id = claimed.webhook LIMIT 1) AS present ON true"
);

pub(super) async fn claim(
    mut session: Session,
    slots: &DeliverySlots,
    cursors: &mut ReceiverCursors,
    turn: usize,
    now: Timestamp,
    lease: Duration,
) -> Result<ClaimBatch<ClaimedDelivery>, Fault> {
    let client = session.client()?;
    let mut tenants = slots.tenants.clone();
    if !tenants.is_empty() {
        // Each claim starts with another tenant, so that the first tenant does not take all slots.
        let first = turn % tenants.len();
        tenants.rotate_left(first);
    }
    let names: Vec<&str> = tenants.iter().map(TenantId::as_str).collect();
    let now_ms = now.as_millis();
    // The statements need not see the same snapshot, so they are sent together. This takes one round trip instead of four. The
    // buckets are read before the deliveries. If another replica takes tokens between the two reads, this claim takes no
    // deliveries of the webhook, instead of some deliveries that the other replica has claimed.
    let (mut limits, mut under_way, mut oldest, next_due) = try_join!(
        webhook_limits(client, &names, now),
        under_way(client, &names, now_ms),
        oldest(client, &names, now_ms),
        next(client, &names, now_ms),
    )?;
    let mut next_due = limits.values().filter_map(|limits| limits.next_end).chain(next_due).min();

    let mut selection = Selection::new(slots, now);
    for tenant in &tenants {
        let Some(heads) = oldest.remove(tenant.as_str()) else { continue };
        let more_due = heads.len() >= WINDOW;
        let limits = limits.remove(tenant.as_str()).unwrap_or_default().limits;
        let busy = under_way.remove(tenant.as_str()).unwrap_or_default();
        let mut share = selection.tenant(tenant, busy, limits);
        heads.into_iter().for_each(|candidate| share.offer(candidate));
        if more_due && share.has_free_slots() {
            let began = cursors.remove(tenant).unwrap_or_default();
            let (candidates, last) =
                by_receiver(client, tenant, &began.last, now_ms, slots.per_receiver).await?;
            candidates.into_iter().for_each(|candidate| share.offer(candidate));
            next_due = share.end_scan(&began, last, cursors).into_iter().chain(next_due).min();
        }
    }
    let selected = selection.into_selected();
    next_due = selected.next_token.into_iter().chain(next_due).min();
    let (claimed, unreadable) = if selected.rows.is_empty() {
        Default::default()
    } else {
        take(client, &selected, now, lease).await?
    };
    if claimed.len() + unreadable.len() < selected.rows.len() {
        // Another replica has claimed the other rows or taken the tokens, and there may be more due deliveries.
        let took_nothing = claimed.is_empty() && unreadable.is_empty();
        let pause = if took_nothing { conflict_pause(turn) } else { Duration::ZERO };
        next_due = next_due.into_iter().chain([now + pause]).min();
    }
    Ok(ClaimBatch { claimed, unreadable, next_due })
}

/// Returns the pause after a claim that got nothing because of another replica. Without the pause, replicas that conflict would
/// repeat their claims in a busy loop. `turn` is random, so the replicas do not conflict again.
const fn conflict_pause(turn: usize) -> Duration {
    Duration::from_millis(10 + turn as u64 % 41)
}

async fn under_way(
    client: &Object,
    tenants: &[&str],
    now: i64,
) -> Result<HashMap<String, HashMap<String, usize>>, Fault> {
    let statement = client.prepare_cached(UNDER_WAY).await?;
    let mut found: HashMap<String, HashMap<String, usize>> = HashMap::new();
    for row in client.query(&statement, &[&tenants, &now]).await? {
        let of_tenant = found.entry(row.try_get("tenant")?).or_default();
        of_tenant.insert(row.try_get("receiver")?, number(&row, "number")?);
    }
    Ok(found)
}

async fn webhook_limits(
    client: &Object,
    tenants: &[&str],
    now: Timestamp,
) -> Result<HashMap<String, WebhookLimits>, Fault> {
    let statement = client.prepare_cached(LIMITED_WEBHOOKS).await?;
    let mut found: HashMap<String, WebhookLimits> = HashMap::new();
    for row in client.query(&statement, &[&tenants]).await? {
        found.entry(row.try_get("tenant")?).or_default().add(&row, now)?;
    }
    Ok(found)
}

async fn oldest(
    client: &Object,
    tenants: &[&str],
    now: i64,
) -> Result<HashMap<String, Vec<Candidate>>, Fault> {
    let statement = client.prepare_cached(OLDEST).await?;
    let window = i64::try_from(WINDOW).unwrap_or(i64::MAX);
    let mut found: HashMap<String, Vec<Candidate>> = HashMap::new();
    for row in client.query(&statement, &[&tenants, &now, &window]).await? {
        let candidate = Candidate {
            row: row.try_get("seq")?,
            receiver: row.try_get("receiver")?,
            size: number(&row, "size")?,
        };
        found.entry(row.try_get("tenant")?).or_default().push(candidate);
    }
    Ok(found)
}

async fn next(client: &Object, tenants: &[&str], now: i64) -> Result<Option<Timestamp>, Fault> {
    let statement = client.prepare_cached(NEXT).await?;
    let due: Option<i64> = client.query_one(&statement, &[&tenants, &now]).await?.try_get(0)?;
    Ok(due.map(Timestamp::from_millis))
}

/// Reads the due deliveries of the next receivers. Also returns the last of these receivers if more may follow.
async fn by_receiver(
    client: &Object,
    tenant: &TenantId,
    after: &str,
    now: i64,
    per_receiver: usize,
) -> Result<(Vec<Candidate>, Option<String>), Fault> {
    let statement = client.prepare_cached(BY_RECEIVER).await?;
    let (most_receivers, each) = (
        i32::try_from(RECEIVERS_PER_CLAIM).unwrap_or(i32::MAX),
        i64::try_from(per_receiver).unwrap_or(i64::MAX),
    );
    let rows = client.query(&statement, &[&tenant.as_str(), &after, &now, &most_receivers, &each]).await?;
    let (mut candidates, mut receivers, mut last) = (Vec::new(), 0, None::<String>);
    for row in &rows {
        let receiver: String = row.try_get("receiver")?;
        if last.as_ref() != Some(&receiver) {
            receivers += 1;
            last = Some(receiver.clone());
        }
        if let Some(found) = row.try_get::<_, Option<i64>>("seq")? {
            candidates.push(Candidate { row: found, receiver, size: number(row, "size")? });
        }
    }
    Ok((candidates, last.filter(|_| receivers >= RECEIVERS_PER_CLAIM)))
}

async fn take(
    client: &Object,
    Selected { rows, tokens, .. }: &Selected,
    now: Timestamp,
    lease: Duration,
) -> Result<(Vec<ClaimedDelivery>, Vec<Lease>), Fault> {
    let claim = client.prepare_cached(CLAIM).await?;
    let webhooks: Vec<&String> = tokens.keys().collect();
    let column = |value: fn(&TakenTokens) -> Option<i64>| tokens.values().map(value).collect::<Vec<_>>();
    let (before, after) = (column(|tokens| tokens.before), column(|tokens| tokens.after));
    let counts = column(|tokens| Some(tokens.count));
    let (now, end) = (now.as_millis(), (now + lease).as_millis());
    let rows = client.query(&claim, &[rows, &now, &end, &webhooks, &before, &after, &counts]).await?;
    let (mut claimed, mut unreadable) = (Vec::new(), Vec::new());
    for row in &rows {
        match delivery_rows::claimed(row) {
            Ok(delivery) => claimed.push(delivery),
            Err(StoreError::Corrupt(_)) => {
                unreadable.push(Lease { row: row.try_get("seq")?, fence: row.try_get("fence")? });
            }
            Err(error) => return Err(error.into()),
        }
    }
    // A failure here does not affect the claim. The next claim of the same delivery tries again.
    if let Err(fault) = drop_earlier_attempts(client, &claimed).await {
        tracing::warn!(?fault, "failed to delete old delivery attempts");
    }
    Ok((claimed, unreadable))
}

/// Deletes the oldest attempts of deliveries that have more than [`MOST_ATTEMPTS`].
async fn drop_earlier_attempts(client: &Object, claimed: &[ClaimedDelivery]) -> Result<(), Fault> {
    for ClaimedDelivery { lease, delivery, .. } in claimed {
        if let Some(earlier) = delivery.attempts.checked_sub(MOST_ATTEMPTS).filter(|number| *number > 0) {
            let delete =
                client.prepare_cached("DELETE FROM attempts WHERE delivery = $1 AND number <= $2").await?;
            client.execute(&delete, &[&lease.row, &i64::from(earlier)]).await?;
        }
    }
    Ok(())
}
