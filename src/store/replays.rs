//! Replays of past events to a webhook. [`replay_steps`](super::replay_steps) sends the events in batches.

use std::borrow::Cow;
use std::ops::ControlFlow;

use async_trait::async_trait;

use super::engine::Engine;
use super::replay_rows::{COLUMNS, read, wanted_kind};
use super::replay_steps::{AdvanceReplay, Advanced};
use super::rules::{Rule, Transaction};
use super::sql::{Sql, sql};
use super::values::{Row, json, values};
use super::{Change, StoreError, subscriptions};
use crate::domain::ids::{ReplayId, TenantId, WebhookId};
use crate::domain::replays::{Replay, ReplayCount, ReplaySpan};

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

/// Replays of past events.
#[async_trait]
pub trait ReplayStore: Send + Sync {
    /// Counts the events of a replay, including events that the filter of the webhook would drop.
    async fn count_events(&self, tenant: &TenantId, span: ReplaySpan) -> Result<ReplayCount, StoreError>;

    /// Begins a replay. An event whose delivery is pending is not sent twice. A delivery that succeeded or failed is
    /// restarted with the same id.
    async fn begin_replay(&self, tenant: &TenantId, replay: Replay) -> Result<ReplayBegin, StoreError>;

    /// Reads a replay to a webhook.
    async fn find_replay(
        &self,
        tenant: &TenantId,
        webhook: WebhookId,
        replay: ReplayId,
    ) -> Result<Option<Replay>, StoreError>;

    /// Advances one due replay by a batch. The deliveries and the cursor of the batch are written in one commit.
    async fn advance_replays_across_tenants(&self) -> Result<Advanced, StoreError>;
}

#[async_trait]
impl<E: Engine> ReplayStore for E {
    async fn count_events(&self, tenant: &TenantId, span: ReplaySpan) -> Result<ReplayCount, StoreError> {
        self.scan(tenant, CountEvents { tenant: tenant.clone(), span }).await
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

/// Counts the events of each type in a period. Parameters: the tenant, the inclusive start and end of the period, and
/// the maximum number of events to read.
pub(super) static COUNT: Sql = Sql::new(&["SELECT kind, count(*) AS events FROM (SELECT kind FROM events \
     WHERE tenant = ?1 AND at >= ?2 AND at <= ?3 ORDER BY at, seq LIMIT ?4) AS span GROUP BY kind"]);

impl Rule for CountEvents {
    const NAME: &'static str = "count_events";
    type Output = ReplayCount;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<ReplayCount, StoreError> {
        let Self { tenant, span } = self;
        let (mut read, mut wanted) = (0, 0);
        let values = values![tenant, span.since, span.until, ReplayCount::MAX_COUNTED + 1];
        transaction
            .for_each(&COUNT, values, |row| {
                let events: u64 = row.get("events")?;
                read += events;
                if wanted_kind(&row.get::<Cow<'_, str>>("kind")?, span).is_some() {
                    wanted += events;
                }
                Ok(ControlFlow::Continue(()))
            })
            .await?;
        let most = u64::try_from(ReplayCount::MAX_COUNTED).unwrap_or(u64::MAX);
        Ok(ReplayCount { events: wanted.min(most), more: read > most })
    }
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
        // The lock waits until events that are being written are committed. So the first step finds all events that were
        // fanned out before the replay.
        subscriptions::lock(transaction, tenant).await?;
        match subscriptions::is_enabled(transaction, tenant, replay.webhook).await? {
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
        let outcomes = sql!("INSERT INTO replay_outcomes (replay) VALUES (?1) ON CONFLICT DO NOTHING");
        transaction.execute(outcomes, values![replay.id]).await?;
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
        let select = sql!(
            "SELECT ",
            COLUMNS,
            ", coalesce(delivered, 0) AS delivered, coalesce(failed, 0) AS failed FROM replays \
             LEFT JOIN replay_outcomes ON replay = id WHERE id = ?1 AND tenant = ?2 AND webhook = ?3"
        );
        let values = values![self.id, &self.tenant, self.webhook];
        let with_outcomes = |row: &dyn Row| {
            let (delivered, failed) = (row.get("delivered")?, row.get("failed")?);
            Ok(Replay { delivered, failed, ..read(row)?.replay })
        };
        transaction.find(select, values, with_outcomes).await
    }
}

/// Makes the unfinished replay to a webhook due now. If a step is postponing the replay at this moment, the function waits for
/// that step.
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
