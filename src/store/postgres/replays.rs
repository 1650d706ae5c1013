//! Sending an endpoint again what happened before, batch by batch. Replicas divide the replays.

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use tokio_postgres::Row;

use super::super::replays::{
    REPLAY_BACKLOG, REPLAY_BATCH, REPLAY_PAUSE, REPLAY_PAUSE_WHILE_DISABLED, REPLAY_PAUSE_WHILE_UNREADABLE,
    REPLAY_SCAN,
};
use super::super::{Advanced, ReplayBegin, ReplayStore, StoreError, Surroundings};
use super::PostgresStore;
use super::connect::Session;
use super::fault::Fault;
use super::notices::Changes;
use super::rows::{from_json, json, number, parsed, time, time_if_any, unreadable};
use super::webhooks::{self, Held, filter, webhook_id};
use crate::domain::clock::Timestamp;
use crate::domain::deliveries::DeliveryStatus;
use crate::domain::events::EventKind;
use crate::domain::ids::{DeliveryId, ReplayId, TenantId, WebhookId};
use crate::domain::replays::{Replay, ReplayCount, ReplaySpan};

const COLUMNS: &str =
    "id, webhook, tenant, since, until, events, at, seq, sent, created_at, finished_at, trace";

/// Takes a tenant, a moment, a place at it, the last moment, and how many to look at.
const SCAN: &str = "SELECT at, seq, kind FROM events \
     WHERE tenant = $1 AND (at, seq) > ($2, $3) AND at <= $4 ORDER BY at, seq LIMIT $5";

/// Takes a tenant, the first moment, the last, how many to look at, and the types to count.
const COUNT: &str = "SELECT count(*) FILTER (WHERE kind = ANY ($5)) AS events, count(*) AS looked FROM \
     (SELECT kind FROM events WHERE tenant = $1 AND at >= $2 AND at <= $3 ORDER BY at, seq LIMIT $4) AS looked";

/// Takes events with a new delivery's id for each, the endpoint, the status, the present and the trace. What is on its way
/// already stays as it is.
const SEND: &str = "INSERT INTO deliveries (id, tenant, call_id, event, webhook, url, receiver, status, created_at, \
     due_at, trace) SELECT sent.id, told.tenant, told.call_id, sent.seq, $3, '', $3, $4, $5, $5, $6 \
     FROM unnest($1::bigint[], $2::text[]) AS sent (seq, id) CROSS JOIN LATERAL \
     (SELECT tenant, call_id FROM events WHERE seq = sent.seq LIMIT 1) AS told ORDER BY sent.seq \
     ON CONFLICT (event, webhook, url) DO UPDATE SET status = excluded.status, due_at = excluded.due_at, \
     finished_at = NULL, earlier_attempts = deliveries.attempts WHERE deliveries.status <> 'pending'";

#[async_trait]
impl ReplayStore for PostgresStore {
    async fn count_events(&self, tenant: &TenantId, span: ReplaySpan) -> Result<ReplayCount, StoreError> {
        let span = &span;
        self.run(|session| count(session, tenant, span)).await
    }

    async fn begin_replay(&self, tenant: &TenantId, replay: Replay) -> Result<ReplayBegin, StoreError> {
        let replay = &replay;
        self.change(|session| begin(session, tenant, replay)).await
    }

    async fn find_replay(
        &self,
        tenant: &TenantId,
        webhook: WebhookId,
        replay: ReplayId,
    ) -> Result<Option<Replay>, StoreError> {
        self.run(|session| find(session, tenant, webhook, replay)).await
    }

    async fn advance_replays_across_tenants(&self) -> Result<Advanced, StoreError> {
        let around = &self.surroundings;
        self.change(|session| advance(session, around)).await
    }
}

pub(super) async fn count(
    mut session: Session,
    tenant: &TenantId,
    span: &ReplaySpan,
) -> Result<ReplayCount, Fault> {
    let client = session.client()?;
    let count = client.prepare_cached(COUNT).await?;
    let kinds: Vec<&str> = span.events.kinds().iter().map(|kind| kind.as_str()).collect();
    let (since, until) = (span.since.as_millis(), span.until.as_millis());
    let row = client
        .query_one(&count, &[&tenant.as_str(), &since, &until, &(ReplayCount::LOOKED_AT + 1), &kinds])
        .await?;
    let more = row.try_get::<_, i64>("looked")? > ReplayCount::LOOKED_AT;
    let events: u64 = number(&row, "events")?;
    let most = u64::try_from(ReplayCount::LOOKED_AT).unwrap_or(u64::MAX);
    Ok(ReplayCount { events: events.min(most), more })
}

pub(super) async fn begin(
    mut session: Session,
    tenant: &TenantId,
    replay: &Replay,
) -> Result<(ReplayBegin, Changes), Fault> {
    let transaction = session.client()?.transaction().await?;
    // What is being written by what the endpoint says now is committed before the first step looks; and the endpoint stays
    // until then.
    webhooks::hold(&transaction, tenant).await?;
    let webhook = replay.webhook.to_string();
    match webhooks::is_enabled(&transaction, tenant, &webhook, Held::No).await? {
        None => return Ok((ReplayBegin::NotFound, Changes::default())),
        Some(false) => return Ok((ReplayBegin::Disabled, Changes::default())),
        Some(true) => {}
    }
    // A second try after a commit that was not heard finds its own row.
    let insert = transaction
        .prepare_cached(
            "INSERT INTO replays (id, webhook, tenant, since, until, events, at, seq, due_at, created_at, trace) \
             VALUES ($1, $2, $3, $4, $5, $6, $4, 0, $7, $7, $8) ON CONFLICT DO NOTHING",
        )
        .await?;
    let id = replay.id.to_string();
    transaction
        .execute(
            &insert,
            &[
                &id,
                &webhook,
                &tenant.as_str(),
                &replay.span.since.as_millis(),
                &replay.span.until.as_millis(),
                &replay.span.events.to_text(),
                &replay.created_at.as_millis(),
                &json(&replay.trace)?,
            ],
        )
        .await?;
    let stands = transaction.prepare_cached("SELECT 1 FROM replays WHERE id = $1").await?;
    if transaction.query_opt(&stands, &[&id]).await?.is_none() {
        return Ok((ReplayBegin::UnderWay, Changes::default()));
    }
    transaction.commit().await?;
    let mut changes = Changes::default();
    changes.add_replay();
    Ok((ReplayBegin::Begun, changes))
}

pub(super) async fn find(
    mut session: Session,
    tenant: &TenantId,
    webhook: WebhookId,
    id: ReplayId,
) -> Result<Option<Replay>, Fault> {
    let client = session.client()?;
    let sql = format!("SELECT {COLUMNS} FROM replays WHERE id = $1 AND tenant = $2 AND webhook = $3");
    let select = client.prepare_cached(&sql).await?;
    let row = client.query_opt(&select, &[&id.to_string(), &tenant.as_str(), &webhook.to_string()]).await?;
    Ok(row.as_ref().map(read).transpose()?.map(|under_way| under_way.replay))
}

/// Makes an endpoint's replay due.
pub(super) async fn wake(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    webhook: &str,
    now: Timestamp,
) -> Result<(), Fault> {
    let update = transaction
        .prepare_cached(
            "UPDATE replays SET due_at = least(due_at, $3) \
             WHERE webhook = $1 AND tenant = $2 AND finished_at IS NULL",
        )
        .await?;
    transaction.execute(&update, &[&webhook, &tenant.as_str(), &now.as_millis()]).await?;
    Ok(())
}

/// A replay with where it is.
struct UnderWay {
    replay: Replay,
    tenant: TenantId,
    at: i64,
    seq: i64,
}

pub(super) async fn advance(
    mut session: Session,
    around: &Surroundings,
) -> Result<(Advanced, Changes), Fault> {
    let now = around.clock.now();
    let client = session.client()?;
    let transaction = client.transaction().await?;
    let select = transaction
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM replays WHERE finished_at IS NULL AND due_at <= $1 ORDER BY due_at LIMIT 1 \
             FOR UPDATE SKIP LOCKED"
        ))
        .await?;
    let due = transaction.query_opt(&select, &[&now.as_millis()]).await?;
    let (mut advanced, mut changes) = (Advanced::default(), Changes::default());
    if let Some(row) = due {
        advanced.replays = 1;
        match read(&row) {
            Ok(under_way) => advanced.sent = step(&transaction, around, under_way, now).await?,
            Err(fault) => put_off(&transaction, &row, &fault, now).await?,
        }
        if advanced.sent > 0 {
            changes.add_delivery();
        }
    }
    transaction.commit().await?;
    let next = client.prepare_cached("SELECT min(due_at) FROM replays WHERE finished_at IS NULL").await?;
    let next: Option<i64> = client.query_one(&next, &[]).await?.try_get(0)?;
    advanced.next_due = next.map(Timestamp::from_millis);
    Ok((advanced, changes))
}

/// One that cannot be read keeps nobody from the others.
async fn put_off(
    transaction: &Transaction<'_>,
    row: &Row,
    fault: &Fault,
    now: Timestamp,
) -> Result<(), Fault> {
    let id: &str = row.try_get("id")?;
    tracing::error!(replay = id, ?fault, "a replay cannot be read");
    let update = transaction.prepare_cached("UPDATE replays SET due_at = $2 WHERE id = $1").await?;
    let later = now + REPLAY_PAUSE_WHILE_UNREADABLE;
    transaction.execute(&update, &[&id, &later.as_millis()]).await?;
    Ok(())
}

/// Takes a replay a step further. How many events are on their way with it.
async fn step(
    transaction: &Transaction<'_>,
    around: &Surroundings,
    mut under_way: UnderWay,
    now: Timestamp,
) -> Result<usize, Fault> {
    let (id, tenant) = (under_way.replay.webhook.to_string(), under_way.tenant.clone());
    let enabled = webhooks::is_enabled(transaction, &tenant, &id, Held::No).await? == Some(true);
    let most = i64::try_from(REPLAY_BACKLOG).unwrap_or(i64::MAX);
    let waiting = transaction.prepare_cached(webhooks::PENDING).await?;
    let waiting = transaction.query_one(&waiting, &[&tenant.as_str(), &id, &most]).await?;
    let waiting: usize = number(&waiting, "number")?;
    let room = REPLAY_BACKLOG.saturating_sub(waiting).min(REPLAY_BATCH);
    if !enabled || room == 0 {
        let pause = if enabled { REPLAY_PAUSE } else { REPLAY_PAUSE_WHILE_DISABLED };
        return keep(transaction, &under_way, 0, now + pause, None).await.map(|()| 0);
    }
    let span = under_way.replay.span.clone();
    let scan = transaction.prepare_cached(SCAN).await?;
    let (until, most) = (span.until.as_millis(), i64::try_from(REPLAY_SCAN).unwrap_or(i64::MAX));
    let found =
        transaction.query(&scan, &[&tenant.as_str(), &under_way.at, &under_way.seq, &until, &most]).await?;
    let (mut looked, mut seqs) = (0, Vec::new());
    for row in &found {
        (under_way.at, under_way.seq) = (row.try_get("at")?, row.try_get("seq")?);
        looked += 1;
        if EventKind::from_word(row.try_get("kind")?).is_some_and(|kind| span.events.wants(kind)) {
            seqs.push(under_way.seq);
            if seqs.len() == room {
                break;
            }
        }
    }
    send(transaction, around, &under_way, &seqs, now).await?;
    let sent = seqs.len();
    let finished_at = (looked < REPLAY_SCAN && sent < room).then_some(now);
    keep(transaction, &under_way, sent, now, finished_at).await?;
    Ok(sent)
}

/// Puts events on their way.
async fn send(
    transaction: &Transaction<'_>,
    around: &Surroundings,
    under_way: &UnderWay,
    seqs: &[i64],
    now: Timestamp,
) -> Result<(), Fault> {
    let ids: Vec<String> =
        seqs.iter().map(|_| DeliveryId::generate(now, &*around.entropy).to_string()).collect();
    let send = transaction.prepare_cached(SEND).await?;
    transaction
        .execute(
            &send,
            &[
                &seqs,
                &ids,
                &under_way.replay.webhook.to_string(),
                &DeliveryStatus::Pending.as_str(),
                &now.as_millis(),
                &json(&under_way.replay.trace)?,
            ],
        )
        .await?;
    Ok(())
}

async fn keep(
    transaction: &Transaction<'_>,
    under_way: &UnderWay,
    sent: usize,
    due_at: Timestamp,
    finished_at: Option<Timestamp>,
) -> Result<(), Fault> {
    let update = transaction
        .prepare_cached(
            "UPDATE replays SET at = $1, seq = $2, sent = sent + $3, due_at = $4, finished_at = $5 WHERE id = $6",
        )
        .await?;
    transaction
        .execute(
            &update,
            &[
                &under_way.at,
                &under_way.seq,
                &i64::try_from(sent).unwrap_or(i64::MAX),
                &due_at.as_millis(),
                &finished_at.map(Timestamp::as_millis),
                &under_way.replay.id.to_string(),
            ],
        )
        .await?;
    Ok(())
}

fn read(row: &Row) -> Result<UnderWay, Fault> {
    Ok(UnderWay {
        replay: Replay {
            id: parsed(row, "id", |text| ReplayId::parse(text).ok_or(()))?,
            webhook: webhook_id(row, "webhook")?,
            span: ReplaySpan { since: time(row, "since")?, until: time(row, "until")?, events: filter(row)? },
            created_at: time(row, "created_at")?,
            finished_at: time_if_any(row, "finished_at")?,
            sent: number(row, "sent")?,
            trace: from_json(row, "trace")?.ok_or_else(|| unreadable("trace", "nothing"))?,
        },
        tenant: parsed(row, "tenant", TenantId::parse)?,
        at: row.try_get("at")?,
        seq: row.try_get("seq")?,
    })
}
