//! Sending an endpoint again what happened before, batch by batch.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::replays::{
    REPLAY_BACKLOG, REPLAY_BATCH, REPLAY_PAUSE, REPLAY_PAUSE_WHILE_DISABLED, REPLAY_PAUSE_WHILE_UNREADABLE,
    REPLAY_SCAN,
};
use super::super::{Advanced, Change, ReplayBegin, ReplayStore, StoreError, Surroundings};
use super::SqliteStore;
use super::rows::{json, text_id, time, time_if_any, unreadable};
use super::webhooks::{self, filter, webhook_id};
use super::writer::Done;
use crate::domain::clock::Timestamp;
use crate::domain::deliveries::DeliveryStatus;
use crate::domain::events::EventKind;
use crate::domain::ids::{DeliveryId, ReplayId, TenantId, WebhookId};
use crate::domain::replays::{Replay, ReplayCount, ReplaySpan};

const COLUMNS: &str =
    "id, webhook, tenant, since, until, events, at, seq, sent, created_at, finished_at, trace";

/// Takes a tenant, a moment, a place at it, the last moment, and how many to look at.
pub(super) const SCAN: &str = "SELECT at, seq, kind FROM events \
     WHERE tenant = ? AND (at, seq) > (?, ?) AND at <= ? ORDER BY at, seq LIMIT ?";

/// Takes a tenant, the first moment, the last, and how many to look at.
pub(super) const COUNT: &str =
    "SELECT kind FROM events WHERE tenant = ? AND at >= ? AND at <= ? ORDER BY at, seq LIMIT ?";

#[async_trait]
impl ReplayStore for SqliteStore {
    async fn count_events(&self, tenant: &TenantId, span: ReplaySpan) -> Result<ReplayCount, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| count(connection, &tenant, &span)).await
    }

    async fn begin_replay(&self, tenant: &TenantId, replay: Replay) -> Result<ReplayBegin, StoreError> {
        let tenant = tenant.clone();
        self.write(move |connection| begin(connection, &tenant, &replay)).await
    }

    async fn find_replay(
        &self,
        tenant: &TenantId,
        webhook: WebhookId,
        replay: ReplayId,
    ) -> Result<Option<Replay>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| find(connection, &tenant, webhook, replay)).await
    }

    async fn advance_replays_across_tenants(&self) -> Result<Advanced, StoreError> {
        let around = Arc::clone(&self.surroundings);
        self.write(move |connection| advance(connection, &around)).await
    }
}

pub(super) fn count(
    connection: &Connection,
    tenant: &TenantId,
    span: &ReplaySpan,
) -> Result<ReplayCount, StoreError> {
    let mut looked = connection.prepare_cached(COUNT)?;
    let most = ReplayCount::LOOKED_AT;
    let kinds = looked.query_map(
        params![tenant.as_str(), span.since.as_millis(), span.until.as_millis(), most + 1],
        |row| row.get::<_, String>(0),
    )?;
    let mut count = ReplayCount { events: 0, more: false };
    for (index, kind) in (0_i64..).zip(kinds) {
        if index == most {
            count.more = true;
        } else if wanted(&kind?, span) {
            count.events += 1;
        }
    }
    Ok(count)
}

fn wanted(kind: &str, span: &ReplaySpan) -> bool {
    EventKind::from_word(kind).is_some_and(|kind| span.events.wants(kind))
}

pub(super) fn begin(
    connection: &Connection,
    tenant: &TenantId,
    replay: &Replay,
) -> Result<Done<ReplayBegin>, StoreError> {
    let Some(webhook) = webhooks::find(connection, tenant, replay.webhook)? else {
        return Ok(Done::quiet(ReplayBegin::NotFound));
    };
    if webhook.disabled.is_some() {
        return Ok(Done::quiet(ReplayBegin::Disabled));
    }
    let under_way: bool = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM replays WHERE webhook = ? AND finished_at IS NULL)")?
        .query_row([replay.webhook.to_string()], |row| row.get(0))?;
    if under_way {
        return Ok(Done::quiet(ReplayBegin::UnderWay));
    }
    let now = replay.created_at.as_millis();
    connection
        .prepare_cached(
            "INSERT INTO replays (id, webhook, tenant, since, until, events, at, seq, due_at, created_at, trace) \
             VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?)",
        )?
        .execute(params![
            replay.id.to_string(),
            replay.webhook.to_string(),
            tenant.as_str(),
            replay.span.since.as_millis(),
            replay.span.until.as_millis(),
            replay.span.events.to_text(),
            replay.span.since.as_millis(),
            now,
            now,
            json(&replay.trace)?,
        ])?;
    Ok(Done { value: ReplayBegin::Begun, changes: vec![Change::Replay] })
}

pub(super) fn find(
    connection: &Connection,
    tenant: &TenantId,
    webhook: WebhookId,
    id: ReplayId,
) -> Result<Option<Replay>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM replays WHERE id = ? AND tenant = ? AND webhook = ?");
    let mut select = connection.prepare_cached(&sql)?;
    let found = select.query_row(params![id.to_string(), tenant.as_str(), webhook.to_string()], read);
    Ok(found.optional()?.map(|under_way| under_way.replay))
}

/// Makes an endpoint's replay due.
pub(super) fn wake(connection: &Connection, webhook: WebhookId, now: Timestamp) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE replays SET due_at = min(due_at, ?) WHERE webhook = ? AND finished_at IS NULL",
        )?
        .execute(params![now.as_millis(), webhook.to_string()])?;
    Ok(())
}

/// A replay with where it is.
struct UnderWay {
    replay: Replay,
    tenant: TenantId,
    at: i64,
    seq: i64,
}

pub(super) fn advance(connection: &Connection, around: &Surroundings) -> Result<Done<Advanced>, StoreError> {
    let now = around.clock.now();
    let due = connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM replays WHERE finished_at IS NULL AND due_at <= ? ORDER BY due_at LIMIT 1"
        ))?
        .query_row([now.as_millis()], |row| Ok((row.get::<_, String>("id")?, read(row))))
        .optional()?;
    let mut done = Done::quiet(Advanced::default());
    if let Some((id, found)) = due {
        done.value.replays = 1;
        match found {
            Ok(under_way) => done.value.sent = step(connection, around, under_way, now)?,
            Err(error) => put_off(connection, &id, &error, now)?,
        }
        if done.value.sent > 0 {
            done.changes.push(Change::Delivery);
        }
    }
    let next: Option<i64> = connection
        .prepare_cached("SELECT min(due_at) FROM replays WHERE finished_at IS NULL")?
        .query_row([], |row| row.get(0))?;
    done.value.next_due = next.map(Timestamp::from_millis);
    Ok(done)
}

/// One that cannot be read keeps nobody from the others.
fn put_off(
    connection: &Connection,
    id: &str,
    error: &rusqlite::Error,
    now: Timestamp,
) -> Result<(), StoreError> {
    tracing::error!(replay = id, %error, "a replay cannot be read");
    let later = now + REPLAY_PAUSE_WHILE_UNREADABLE;
    connection
        .prepare_cached("UPDATE replays SET due_at = ? WHERE id = ?")?
        .execute(params![later.as_millis(), id])?;
    Ok(())
}

/// Takes a replay a step further. How many events are on their way with it.
fn step(
    connection: &Connection,
    around: &Surroundings,
    mut under_way: UnderWay,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let (webhook, tenant) = (under_way.replay.webhook, under_way.tenant.clone());
    let id = webhook.to_string();
    let enabled = webhooks::is_enabled(connection, &tenant, webhook)?;
    let most = i64::try_from(REPLAY_BACKLOG).unwrap_or(i64::MAX);
    let waiting = webhooks::pending(connection, &tenant, &id, most)?;
    let room = usize::try_from(most - waiting).unwrap_or(0).min(REPLAY_BATCH);
    if !enabled || room == 0 {
        let pause = if enabled { REPLAY_PAUSE } else { REPLAY_PAUSE_WHILE_DISABLED };
        return keep(connection, &under_way, 0, now + pause, None).map(|()| 0);
    }
    let span = under_way.replay.span.clone();
    let mut scan = connection.prepare_cached(SCAN)?;
    let place = params![tenant.as_str(), under_way.at, under_way.seq, span.until.as_millis(), REPLAY_SCAN];
    let found = scan.query_map(place, |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?))
    })?;
    let (mut looked, mut sent) = (0, 0);
    for event in found {
        let (at, seq, kind) = event?;
        (under_way.at, under_way.seq) = (at, seq);
        looked += 1;
        if wanted(&kind, &span) {
            send(connection, around, &under_way, now)?;
            sent += 1;
            if sent == room {
                break;
            }
        }
    }
    let finished_at = (looked < REPLAY_SCAN && sent < room).then_some(now);
    keep(connection, &under_way, sent, now, finished_at)?;
    Ok(sent)
}

/// Puts the event that a replay is at on its way, unless it is.
fn send(
    connection: &Connection,
    around: &Surroundings,
    under_way: &UnderWay,
    now: Timestamp,
) -> Result<(), StoreError> {
    let webhook = under_way.replay.webhook.to_string();
    connection
        .prepare_cached(
            "INSERT INTO deliveries (id, tenant, call_id, event, webhook, url, receiver, status, created_at, \
             due_at, trace) SELECT ?1, tenant, call_id, seq, ?2, '', ?2, ?3, ?4, ?4, ?5 \
             FROM events WHERE seq = ?6 ON CONFLICT (event, webhook, url) DO UPDATE SET status = excluded.status, \
             due_at = excluded.due_at, finished_at = NULL, earlier_attempts = attempts WHERE status <> 'pending'",
        )?
        .execute(params![
            DeliveryId::generate(now, &*around.entropy).to_string(),
            webhook,
            DeliveryStatus::Pending.as_str(),
            now.as_millis(),
            json(&under_way.replay.trace)?,
            under_way.seq,
        ])?;
    Ok(())
}

fn keep(
    connection: &Connection,
    under_way: &UnderWay,
    sent: usize,
    due_at: Timestamp,
    finished_at: Option<Timestamp>,
) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "UPDATE replays SET at = ?, seq = ?, sent = sent + ?, due_at = ?, finished_at = ? WHERE id = ?",
        )?
        .execute(params![
            under_way.at,
            under_way.seq,
            sent,
            due_at.as_millis(),
            finished_at.map(Timestamp::as_millis),
            under_way.replay.id.to_string(),
        ])?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<UnderWay, rusqlite::Error> {
    let trace: String = row.get("trace")?;
    Ok(UnderWay {
        replay: Replay {
            id: text_id(row, "id", |text| ReplayId::parse(text).ok_or(()))?,
            webhook: webhook_id(row, "webhook")?,
            span: ReplaySpan { since: time(row, "since")?, until: time(row, "until")?, events: filter(row)? },
            created_at: time(row, "created_at")?,
            finished_at: time_if_any(row, "finished_at")?,
            sent: row.get("sent")?,
            trace: serde_json::from_str(&trace).map_err(|_| unreadable("trace", &trace))?,
        },
        tenant: text_id(row, "tenant", TenantId::parse)?,
        at: row.get("at")?,
        seq: row.get("seq")?,
    })
}
