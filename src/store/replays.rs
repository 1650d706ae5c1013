//! Replays of past events to a webhook.

use std::borrow::Cow;
use std::time::Duration;

use async_trait::async_trait;

use super::rules::{Engine, Rule, Transaction};
use super::sql::{Sql, sql};
use super::values::{Row, Value, json, values};
use super::{Change, StoreError, webhooks};
use crate::domain::clock::Timestamp;
use crate::domain::deliveries::DeliveryStatus;
use crate::domain::events::EventKind;
use crate::domain::ids::{DeliveryId, ReplayId, TenantId, WebhookId};
use crate::domain::replays::{Replay, ReplayCount, ReplaySpan};
use crate::domain::webhooks::EventFilter;

/// The most events that one step of a replay reads.
const REPLAY_SCAN: usize = 1000;
/// The most deliveries that one step creates; bounds how long the step's transaction lasts.
const REPLAY_BATCH: usize = 200;
/// A replay adds no deliveries while its webhook has so many pending: new events do not wait behind all past ones.
const REPLAY_BACKLOG: usize = 400;
/// The pause before a replay checks the backlog again.
const REPLAY_PAUSE: Duration = Duration::from_millis(500);
/// The pause before a replay that cannot be read is tried again; another version of this program may read it.
const REPLAY_PAUSE_WHILE_UNREADABLE: Duration = Duration::from_secs(60);
/// The pause while the webhook is disabled. Enabling the webhook ends it.
const REPLAY_PAUSE_WHILE_DISABLED: Duration = Duration::from_secs(60);

/// The outcome of a request to begin a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayBegin {
    /// The replay has begun.
    Begun,
    /// The webhook does not exist.
    NotFound,
    /// The webhook is disabled.
    Disabled,
    /// Another replay to the same webhook is not finished.
    UnderWay,
}

/// The outcome of one step of the replays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Advanced {
    /// The number of replays that the step looked at: 0 or 1.
    pub replays: usize,
    /// The number of events for which the step created or restarted a delivery.
    pub sent: usize,
    /// When the next replay is due.
    pub next_due: Option<Timestamp>,
}

/// Replays of past events.
#[async_trait]
pub trait ReplayStore: Send + Sync {
    /// Counts the events that a replay would send.
    async fn count_events(&self, tenant: &TenantId, span: ReplaySpan) -> Result<ReplayCount, StoreError>;

    /// Begins a replay. An event whose delivery is pending is not sent twice; an event that was delivered or given up is
    /// sent again, under the same id.
    async fn begin_replay(&self, tenant: &TenantId, replay: Replay) -> Result<ReplayBegin, StoreError>;

    /// Reads a replay to a webhook.
    async fn find_replay(
        &self,
        tenant: &TenantId,
        webhook: WebhookId,
        replay: ReplayId,
    ) -> Result<Option<Replay>, StoreError>;

    /// Advances one due replay by a batch: its deliveries and its cursor in one commit.
    async fn advance_replays_across_tenants(&self) -> Result<Advanced, StoreError>;
}

#[async_trait]
impl<E: Engine> ReplayStore for E {
    async fn count_events(&self, tenant: &TenantId, span: ReplaySpan) -> Result<ReplayCount, StoreError> {
        self.query(CountEvents { tenant: tenant.clone(), span }).await
    }

    async fn begin_replay(&self, tenant: &TenantId, replay: Replay) -> Result<ReplayBegin, StoreError> {
        self.transact(BeginReplay { tenant: tenant.clone(), replay }).await
    }

    async fn find_replay(
        &self,
        tenant: &TenantId,
        webhook: WebhookId,
        id: ReplayId,
    ) -> Result<Option<Replay>, StoreError> {
        self.query(FindReplay { tenant: tenant.clone(), webhook, id }).await
    }

    async fn advance_replays_across_tenants(&self) -> Result<Advanced, StoreError> {
        self.transact(AdvanceReplay).await
    }
}

struct CountEvents {
    tenant: TenantId,
    span: ReplaySpan,
}

/// Takes the tenant, the first and the last moment, and the most events to read.
pub(super) static COUNT: Sql = Sql::new(&["SELECT kind, count(*) AS events FROM (SELECT kind FROM events \
     WHERE tenant = ?1 AND at >= ?2 AND at <= ?3 ORDER BY at, seq LIMIT ?4) AS span GROUP BY kind"]);

impl Rule for CountEvents {
    const NAME: &'static str = "count_events";
    type Output = ReplayCount;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<ReplayCount, StoreError> {
        let Self { tenant, span } = self;
        let (mut read, mut wanted) = (0, 0);
        let values = values![tenant, span.since, span.until, ReplayCount::LOOKED_AT + 1];
        transaction
            .for_each(&COUNT, values, |row| {
                let events: u64 = row.get("events")?;
                read += events;
                if is_wanted(&row.get::<Cow<'_, str>>("kind")?, span) {
                    wanted += events;
                }
                Ok(())
            })
            .await?;
        let most = u64::try_from(ReplayCount::LOOKED_AT).unwrap_or(u64::MAX);
        Ok(ReplayCount { events: wanted.min(most), more: read > most })
    }
}

fn is_wanted(kind: &str, span: &ReplaySpan) -> bool {
    EventKind::from_word(kind).is_some_and(|kind| span.events.wants(kind))
}

struct BeginReplay {
    tenant: TenantId,
    replay: Replay,
}

impl Rule for BeginReplay {
    const NAME: &'static str = "begin_replay";
    type Output = ReplayBegin;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<ReplayBegin, StoreError> {
        let Self { tenant, replay } = self;
        // Events that are being written by the webhook's present filter are committed before the first step reads.
        webhooks::lock_subscriptions(transaction, tenant).await?;
        match webhooks::is_enabled(transaction, tenant, replay.webhook).await? {
            None => return Ok(ReplayBegin::NotFound),
            Some(false) => return Ok(ReplayBegin::Disabled),
            Some(true) => {}
        }
        // A webhook has at most one unfinished replay. A repeated attempt finds its own row.
        let insert = sql!(
            "INSERT INTO replays (id, webhook, tenant, since, until, events, at, seq, due_at, created_at, trace) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?4, 0, ?7, ?7, ?8) ON CONFLICT DO NOTHING"
        );
        let (events, trace) = (replay.span.events.to_text(), json(&replay.trace)?);
        let values = values![
            replay.id,
            replay.webhook,
            tenant,
            replay.span.since,
            replay.span.until,
            events,
            replay.created_at,
            trace,
        ];
        transaction.execute(insert, values).await?;
        let own = sql!("SELECT id FROM replays WHERE id = ?1");
        if transaction.find(own, values![replay.id], |_| Ok(())).await?.is_none() {
            return Ok(ReplayBegin::UnderWay);
        }
        transaction.notify(Change::Replay);
        Ok(ReplayBegin::Begun)
    }
}

struct FindReplay {
    tenant: TenantId,
    webhook: WebhookId,
    id: ReplayId,
}

impl Rule for FindReplay {
    const NAME: &'static str = "find_replay";
    type Output = Option<Replay>;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Option<Replay>, StoreError> {
        let select = sql!("SELECT ", COLUMNS, " FROM replays WHERE id = ?1 AND tenant = ?2 AND webhook = ?3");
        let values = values![self.id, &self.tenant, self.webhook];
        transaction.find(select, values, |row| Ok(read(row)?.replay)).await
    }
}

/// Makes the unfinished replay to a webhook due now. Waits for a step that is postponing it.
pub(super) async fn wake(
    transaction: &impl Transaction,
    tenant: &TenantId,
    webhook: WebhookId,
) -> Result<(), StoreError> {
    let update = sql!(
        "UPDATE replays SET due_at = CASE WHEN due_at > ?3 THEN ?3 ELSE due_at END \
         WHERE webhook = ?1 AND tenant = ?2 AND finished_at IS NULL"
    );
    let now = transaction.env().clock.now();
    transaction.execute(update, values![webhook, tenant, now]).await?;
    Ok(())
}

/// A replay with its cursor: the time and the number of the last event that was read.
struct Progress {
    replay: Replay,
    tenant: TenantId,
    at: i64,
    seq: i64,
}

struct AdvanceReplay;

impl Rule for AdvanceReplay {
    const NAME: &'static str = "advance_replay";
    type Output = Advanced;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Advanced, StoreError> {
        let now = transaction.env().clock.now();
        let mut advanced = Advanced::default();
        // Replicas advance different replays at the same time.
        let select = sql!(
            "SELECT ",
            COLUMNS,
            " FROM replays WHERE finished_at IS NULL AND due_at <= ?1 ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED",
        );
        let due =
            transaction.find(select, values![now], |row| Ok((row.get::<String>("id")?, read(row)))).await?;
        if let Some((id, progress)) = due {
            advanced.replays = 1;
            match progress {
                Ok(progress) => advanced.sent = step(transaction, progress, now).await?,
                Err(error) => postpone(transaction, &id, &error, now).await?,
            }
            if advanced.sent > 0 {
                transaction.notify(Change::Delivery);
            }
        }
        let next = sql!("SELECT min(due_at) AS due_at FROM replays WHERE finished_at IS NULL");
        advanced.next_due = transaction.find(next, &[], |row| row.get("due_at")).await?.flatten();
        Ok(advanced)
    }
}

/// Postpones a replay that cannot be read, so that it does not block the others.
async fn postpone(
    transaction: &impl Transaction,
    id: &str,
    error: &StoreError,
    now: Timestamp,
) -> Result<(), StoreError> {
    tracing::error!(replay = id, %error, "failed to read a replay");
    let update = sql!("UPDATE replays SET due_at = ?2 WHERE id = ?1");
    transaction.execute(update, values![id, now + REPLAY_PAUSE_WHILE_UNREADABLE]).await?;
    Ok(())
}

/// Takes the tenant, the cursor, the last moment, and the most events to read.
pub(super) static SCAN: Sql = Sql::new(&[
    "SELECT at, seq, kind FROM events WHERE tenant = ?1 AND (at, seq) > (?2, ?3) AND at <= ?4 ORDER BY at, seq LIMIT ?5",
]);

/// Advances a replay by one batch. Returns the number of events for which it created or restarted a delivery.
async fn step(
    transaction: &impl Transaction,
    mut progress: Progress,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let (webhook, span) = (progress.replay.webhook, progress.replay.span.clone());
    let enabled = webhooks::is_enabled(transaction, &progress.tenant, webhook).await? == Some(true);
    let pending = webhooks::pending(transaction, &progress.tenant, webhook, REPLAY_BACKLOG).await?;
    let room = REPLAY_BACKLOG.saturating_sub(pending).min(REPLAY_BATCH);
    if !enabled || room == 0 {
        let pause = if enabled { REPLAY_PAUSE } else { REPLAY_PAUSE_WHILE_DISABLED };
        return save(transaction, &progress, 0, now + pause, None).await.map(|()| 0);
    }
    let values = values![&progress.tenant, progress.at, progress.seq, span.until, REPLAY_SCAN];
    let events = transaction
        .query(&SCAN, values, |row| {
            let kind: Cow<'_, str> = row.get("kind")?;
            Ok((row.get("at")?, row.get("seq")?, is_wanted(&kind, &span)))
        })
        .await?;
    let (mut read, mut wanted) = (0, Vec::new());
    for (at, seq, is_wanted) in events {
        (progress.at, progress.seq) = (at, seq);
        read += 1;
        if is_wanted {
            wanted.push(seq);
            if wanted.len() == room {
                break;
            }
        }
    }
    send(transaction, &progress, &wanted, now).await?;
    let sent = wanted.len();
    let finished_at = (read < REPLAY_SCAN && sent < room).then_some(now);
    save(transaction, &progress, sent, now, finished_at).await?;
    Ok(sent)
}

/// Takes the new delivery's id, the webhook, the status, the time, the trace and the event. A pending delivery of the same
/// event to the same webhook stays as it is.
static SEND: Sql = Sql::new(&[
    "INSERT INTO deliveries (id, tenant, call_id, event, webhook, url, receiver, status, \
     created_at, due_at, trace) SELECT ?1, tenant, call_id, seq, ?2, '', ?2, ?3, ?4, ?4, ?5 FROM events WHERE seq = ?6 \
     ON CONFLICT (event, webhook, url) DO UPDATE SET status = excluded.status, due_at = excluded.due_at, \
     finished_at = NULL, earlier_attempts = deliveries.attempts WHERE deliveries.status <> 'pending'",
]);

/// Creates or restarts the deliveries of events.
async fn send(
    transaction: &impl Transaction,
    progress: &Progress,
    events: &[i64],
    now: Timestamp,
) -> Result<(), StoreError> {
    let (webhook, trace) = (progress.replay.webhook.to_string(), json(&progress.replay.trace)?);
    let entropy = &*transaction.env().entropy;
    let row = |event: &i64| {
        let id = Value::from(DeliveryId::generate(now, entropy));
        let status = Value::from(DeliveryStatus::Pending.as_str());
        [id, (&webhook).into(), status, now.into(), (&trace).into(), (*event).into()]
    };
    let rows: Vec<_> = events.iter().map(row).collect();
    transaction.execute_each(&SEND, &rows).await
}

async fn save(
    transaction: &impl Transaction,
    progress: &Progress,
    sent: usize,
    due_at: Timestamp,
    finished_at: Option<Timestamp>,
) -> Result<(), StoreError> {
    let update = sql!(
        "UPDATE replays SET at = ?1, seq = ?2, sent = sent + ?3, due_at = ?4, finished_at = ?5 WHERE id = ?6"
    );
    let values = values![progress.at, progress.seq, sent, due_at, finished_at, progress.replay.id];
    transaction.execute(update, values).await?;
    Ok(())
}

/// The columns that [`read`] reads.
const COLUMNS: &str =
    "id, webhook, tenant, since, until, events, at, seq, sent, created_at, finished_at, trace";

fn read(row: &dyn Row) -> Result<Progress, StoreError> {
    let events = row.parse("events", |text| EventFilter::from_text(text).ok_or(()))?;
    Ok(Progress {
        replay: Replay {
            id: row.get("id")?,
            webhook: row.get("webhook")?,
            span: ReplaySpan { since: row.get("since")?, until: row.get("until")?, events },
            created_at: row.get("created_at")?,
            finished_at: row.get("finished_at")?,
            sent: row.get("sent")?,
            trace: row.json("trace")?,
        },
        tenant: row.get("tenant")?,
        at: row.get("at")?,
        seq: row.get("seq")?,
    })
}
