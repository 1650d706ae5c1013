//! The steps of replays. Each step creates or restarts a batch of deliveries, and moves the cursor of the replay.

use std::borrow::Cow;
use std::time::Duration;

use super::replay_rows::{COLUMNS, Progress, read, wanted_kind};
use super::rules::{Rule, Transaction};
use super::sql::{Sql, sql};
use super::unreadable::observe;
use super::values::{Value, json, values};
use super::{Change, StoreError, subscriptions, webhook_activity};
use crate::domain::clock::Timestamp;
use crate::domain::deliveries::DeliveryStatus;
use crate::domain::events::event_data;
use crate::domain::filters::FilterData;
use crate::domain::ids::DeliveryId;

/// Maximum number of events that one step of a replay reads.
const REPLAY_SCAN: usize = 1000;
/// Maximum number of deliveries that one step creates. This limit bounds the duration of the step's transaction.
const REPLAY_BATCH: usize = 200;
/// Maximum total size in bytes of the events that one step reads for the filter of the webhook. This limit bounds the duration of
/// the step's transaction.
const REPLAY_FILTERED_BYTES: usize = 4 << 20;
/// Maximum number of pending deliveries of a webhook during a replay. Above this number, the replay waits, so that its deliveries
/// do not delay new events.
const REPLAY_BACKLOG: usize = 400;
/// Pause before a replay checks the backlog again.
const REPLAY_PAUSE: Duration = Duration::from_millis(500);
/// Pause before a replay checks the backlog of a fast webhook again.
const REPLAY_PAUSE_FOR_FAST: Duration = Duration::from_millis(25);
/// A webhook is fast if it finishes at least this number of deliveries between two steps.
const FAST: usize = 25;
/// Pause after a failure to read a replay. A replica of another version may be able to read the replay.
const REPLAY_PAUSE_WHILE_UNREADABLE: Duration = Duration::from_secs(60);
/// Pause of a replay whose webhook is disabled. Enabling the webhook ends the pause.
const REPLAY_PAUSE_WHILE_DISABLED: Duration = Duration::from_secs(60);

/// The outcome of one step of the replays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Advanced {
    /// Number of replays that the step processed: 0 or 1.
    pub replays: usize,
    /// The number of events for which the step created or restarted a delivery.
    pub sent: usize,
    /// Time when the next replay is due.
    pub next_due: Option<Timestamp>,
}

/// Advances one due replay by a batch. The deliveries and the cursor of the batch are written in one commit.
pub(super) struct AdvanceReplay;

impl Rule for AdvanceReplay {
    const NAME: &'static str = "advance_replay";
    type Output = Advanced;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Advanced, StoreError> {
        let now = transaction.env().clock.now();
        let mut advanced = Advanced::default();
        // Locked rows are skipped, so that replicas advance different replays at the same time.
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
                Err(_) => postpone(transaction, &id, now).await?,
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

/// Postpones a replay that cannot be read, so that this replay does not block the other replays.
async fn postpone(transaction: &impl Transaction, id: &str, now: Timestamp) -> Result<(), StoreError> {
    observe(transaction, "replays", id);
    let update = sql!("UPDATE replays SET due_at = ?2 WHERE id = ?1");
    transaction.execute(update, values![id, now + REPLAY_PAUSE_WHILE_UNREADABLE]).await?;
    Ok(())
}

/// Reads the next events of a replay. Parameters: the tenant; the cursor, which is the time and the number of the last
/// event that was read; the inclusive end of the replayed period; and the maximum number of events.
pub(super) static SCAN: Sql = Sql::new(&[
    "SELECT at, seq, kind FROM events WHERE tenant = ?1 AND (at, seq) > (?2, ?3) AND at <= ?4 ORDER BY at, seq LIMIT ?5",
]);

/// Advances a replay by one batch. Returns the number of events for which the batch created or restarted a delivery.
async fn step(
    transaction: &impl Transaction,
    mut progress: Progress,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let (webhook, span) = (progress.replay.webhook, progress.replay.span.clone());
    let enabled = subscriptions::is_enabled(transaction, &progress.tenant, webhook).await? == Some(true);
    let pending = webhook_activity::pending(transaction, &progress.tenant, webhook, REPLAY_BACKLOG).await?;
    let room = REPLAY_BACKLOG.saturating_sub(pending).min(REPLAY_BATCH);
    if !enabled || room == 0 {
        let pause = if enabled { REPLAY_PAUSE } else { REPLAY_PAUSE_WHILE_DISABLED };
        return save(transaction, &progress, 0, now + pause, None).await.map(|()| 0);
    }
    let values = values![&progress.tenant, progress.at, progress.seq, span.until, REPLAY_SCAN];
    let events = transaction
        .query(&SCAN, values, |row| {
            let kind: Cow<'_, str> = row.get("kind")?;
            Ok((row.get("at")?, row.get("seq")?, wanted_kind(&kind, &span)))
        })
        .await?;
    let filter = subscriptions::filter_of(transaction, webhook).await?;
    let (mut unread, mut filtered_bytes, mut wanted) = (events.len(), 0, Vec::new());
    let is_last_scan = unread < REPLAY_SCAN;
    for (at, seq, kind) in events {
        if wanted.len() == room || filtered_bytes >= REPLAY_FILTERED_BYTES {
            break;
        }
        (progress.at, progress.seq) = (at, seq);
        unread -= 1;
        let passes = match (&filter, kind) {
            (Some(filter), Some(kind)) if kind.has_analysis() => {
                let body = body(transaction, seq).await?;
                filtered_bytes += body.len();
                filter.passes(&FilterData::new(event_data(&body)))
            }
            (_, kind) => kind.is_some(),
        };
        if passes {
            wanted.push(seq);
        }
    }
    send(transaction, &progress, &wanted, now).await?;
    let sent = wanted.len();
    let finished_at = (is_last_scan && unread == 0).then_some(now);
    let pause = match pending + sent {
        REPLAY_BACKLOG.. if room >= FAST => REPLAY_PAUSE_FOR_FAST,
        REPLAY_BACKLOG.. => REPLAY_PAUSE,
        _ => Duration::ZERO,
    };
    save(transaction, &progress, sent, now + pause, finished_at).await?;
    Ok(sent)
}

/// Returns the body of an event. If the event was deleted, the body is empty and passes no filter.
async fn body(transaction: &impl Transaction, seq: i64) -> Result<Vec<u8>, StoreError> {
    let select = sql!("SELECT body FROM events WHERE seq = ?1");
    Ok(transaction.find(select, values![seq], |row| row.get("body")).await?.unwrap_or_default())
}

/// Creates or restarts a delivery. Parameters: the id of a new delivery; the webhook; the status; the present time, which
/// becomes the time of creation and the due time; the trace; and the number of the event. A pending delivery of the same
/// event to the same webhook does not change.
static SEND: Sql = Sql::new(&[
    "INSERT INTO deliveries (id, tenant, call_id, event, webhook, url, receiver, status, \
     created_at, due_at, trace) SELECT ?1, tenant, call_id, seq, ?2, '', ?2, ?3, ?4, ?4, ?5 FROM events WHERE seq = ?6 \
     ON CONFLICT (event, webhook, url) DO UPDATE SET status = excluded.status, due_at = excluded.due_at, \
     finished_at = NULL, earlier_attempts = deliveries.attempts WHERE deliveries.status <> 'pending'",
]);

/// Records that a replay awaits the outcome of a delivery. Parameters: the replay, and the event and the webhook of the
/// delivery.
static AWAIT: Sql =
    Sql::new(&["INSERT INTO replay_deliveries (replay, delivery) SELECT ?1, seq FROM deliveries \
     WHERE event = ?2 AND webhook = ?3 AND url = '' ON CONFLICT DO NOTHING"]);

/// Creates or restarts the deliveries of events. The replay awaits the outcomes of all these deliveries.
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
    transaction.execute_each(&SEND, &rows).await?;
    let replay = progress.replay.id.to_string();
    let rows: Vec<_> =
        events.iter().map(|event| [(&replay).into(), (*event).into(), (&webhook).into()]).collect();
    transaction.execute_each(&AWAIT, &rows).await
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
