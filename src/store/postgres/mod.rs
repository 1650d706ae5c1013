//! The engine for several replicas on one PostgreSQL database, version 15 or newer.
//!
//! - **Transaction rules** (`store::rules`) run in transactions with prepared, pipelined statements (`transaction`).
//! - **Leases.** A claim sets the end of the lease (`due_at`) and raises the fencing token of the row in one statement.
//!   Rows that another replica is claiming are skipped (`SKIP LOCKED`), so claims never wait for each other. Transactions
//!   that lock several rows lock them in one order, so they cannot deadlock. Groups (`groups`) wait at most 200 ms for a lock.
//! - **Retries.** An operation that a lost connection or a conflict interrupted is retried for some seconds (`retries`). A retry
//!   is safe even if the first attempt was committed: transaction rules tolerate their own earlier rows, and a step whose first
//!   attempt was committed finds that its lease has ended.
//! - **Notices.** Replicas announce their changes to each other with `NOTIFY` (`notices`, `listener`).
//! - **Time limits.** Every wait for a connection, a lock, a statement or the network has a limit (`connect`).

mod batches;
mod cancellation;
mod claims;
mod connect;
mod copy_record;
mod deliveries;
mod delivery_claims;
mod fault;
mod feed;
mod groups;
mod indexes;
mod leases;
mod list_reader;
mod list_statement;
mod listener;
mod listings;
mod migrations;
mod notices;
mod open;
mod operations;
mod parameters;
mod requirements;
mod retries;
mod rows;
mod stats;
mod target;
mod tls;
mod transaction;
mod unsuitable;
mod usage;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::Pool;
use tokio::sync::{Mutex, broadcast};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::DropGuard;

use self::groups::GroupsByRule;
use self::leases::HeldLeases;
use self::listener::Freshness;
use self::notices::{Announcer, NoticeChannel};
use self::retries::with_retries;
use self::usage::UsageBuffer;
use super::changes::Changes;
use super::claims::Leased;
use super::claims::attempts_by_tenant;
use super::engine::Engine;
use super::observations::Observation;
use super::rules::{Grouped, Rule};
use super::scan_limits::{ScanLimits, ScanPermit};
use super::selection::ReceiverCursors;
use super::{
    Change, ClaimBatch, ClaimedDelivery, ClaimedWork, DeliverySlots, Queue, RecordedDelivery, Resources,
    Store, StoreContext, StoreError, UnreadableDelivery, WorkSlots,
};
use crate::domain::clock::Timestamp;
use crate::domain::deliveries::DeliveryQuery;
use crate::domain::ids::TenantId;
use crate::domain::listing::{AnalysisPage, AnalysisQuery};
use crate::env::Env;

pub use self::indexes::{ConcurrentIndex, INDEXES};
pub use self::migrations::{MIGRATIONS, Migration, migrate};
pub use self::open::{PostgresOpenError, inspect};
pub(super) use self::target::Target;
pub use self::unsuitable::UnsuitableDatabase;

/// A store in a PostgreSQL database.
pub struct PostgresStore {
    pool: Pool,
    channel: NoticeChannel,
    announcer: Announcer,
    listeners: broadcast::Sender<Change>,
    freshness: Arc<Freshness>,
    /// The leases of this process on analyses.
    work: HeldLeases,
    /// The leases of this process on deliveries.
    deliveries: HeldLeases,
    cursors: Mutex<ReceiverCursors>,
    groups: GroupsByRule,
    usage: Arc<UsageBuffer>,
    scans: ScanLimits,
    feed_scans: ScanLimits,
    /// TLS settings of cancel requests.
    tls: MakeRustlsConnect,
    context: StoreContext,
    /// Stops the background tasks when the store is dropped.
    _stop: DropGuard,
}

impl PostgresStore {
    /// Adds the observations of a transaction rule to the metrics and the log.
    fn report(&self, observations: &[Observation]) {
        observations.iter().for_each(|observation| observation.report(&self.context.env.metrics));
    }

    fn now(&self) -> Timestamp {
        self.context.env.clock.now()
    }
}

impl Engine for PostgresStore {
    async fn transact<R: Rule>(&self, rule: R) -> Result<R::Output, StoreError> {
        let (context, rule, began) = ((&self.context, &self.channel), &rule, AtomicBool::new(false));
        let attempt = async |session| {
            let is_repeated = began.swap(true, Ordering::Relaxed);
            match transaction::write(session, context, rule, is_repeated).await {
                Ok((output, mut effects)) => {
                    let changes = std::mem::take(&mut effects.changes);
                    Ok((Ok((output, effects)), changes))
                }
                Err(fault) if R::IS_GROUP && fault.stops_group() => Ok((Err(fault), Changes::default())),
                Err(fault) => Err(fault),
            }
        };
        let timeout = R::TIME_LIMIT.unwrap_or(self.context.operation_timeout);
        let written = if R::NOTIFIES {
            self.change(R::NAME, timeout, attempt).await?
        } else {
            with_retries(&self.context, &self.pool, timeout, R::NAME, attempt).await?.0
        };
        let (output, effects) = written?;
        for (tenant, usage) in effects.usage {
            self.usage.count(&tenant, self.now(), usage);
        }
        for (tenant, fact, usage) in effects.fact_usage {
            self.usage.count_fact(tenant, fact, self.now(), usage);
        }
        self.report(&effects.observations);
        for (leased, lease) in effects.ended {
            match leased {
                Leased::Analysis => self.work.remove(lease),
                Leased::Delivery => self.deliveries.remove(lease),
            }
        }
        Ok(output)
    }

    async fn transact_in_group<R: Grouped>(&self, rule: R) -> Result<R::Output, StoreError> {
        self.groups.of::<R>().run(self, rule).await
    }

    async fn read<R: Rule>(&self, rule: R, permit: Option<ScanPermit>) -> Result<R::Output, StoreError> {
        let (context, rule) = (&self.context, &rule);
        let read = |session| transaction::read(session, context, rule);
        let (output, effects) = match permit {
            Some(permit) => self.run_scan(R::NAME, permit, read).await?,
            None => self.run(R::NAME, read).await?,
        };
        self.report(&effects.observations);
        Ok(output)
    }

    fn scans(&self) -> &ScanLimits {
        &self.scans
    }

    fn feed_scans(&self) -> &ScanLimits {
        &self.feed_scans
    }

    fn env(&self) -> &Env {
        &self.context.env
    }

    async fn list(
        &self,
        tenant: &TenantId,
        query: AnalysisQuery,
        permit: ScanPermit,
    ) -> Result<AnalysisPage, StoreError> {
        let query = &query;
        self.run_scan("list_analyses", permit, |session| list_reader::list(session, tenant, query)).await
    }

    async fn claim_work(
        &self,
        queue: Queue,
        slots: Vec<WorkSlots>,
        lease: Duration,
    ) -> Result<ClaimBatch<ClaimedWork>, StoreError> {
        let slots = &slots;
        let claims =
            self.run("claim_work", |session| claims::work(session, queue, slots, self.now(), lease)).await?;
        let now = self.now();
        self.work.add(claims.claimed.iter().map(|claimed| claimed.lease), now, now + lease);
        Ok(claims)
    }

    async fn claim_deliveries(
        &self,
        slots: DeliverySlots,
        lease: Duration,
    ) -> Result<ClaimBatch<ClaimedDelivery>, StoreError> {
        let turn = (self.context.env.entropy.fraction() * 1000.0) as usize;
        let (slots, cursors) = (&slots, &self.cursors);
        let claims = self
            .run("claim_deliveries", async |session| {
                let mut cursors = cursors.lock().await;
                delivery_claims::claim(session, slots, &mut cursors, turn, self.now(), lease).await
            })
            .await?;
        let now = self.now();
        self.deliveries.add(claims.claimed.iter().map(|claimed| claimed.lease), now, now + lease);
        for (tenant, usage) in attempts_by_tenant(&claims.claimed) {
            self.usage.count(tenant, now, usage);
        }
        Ok(claims)
    }

    async fn deliveries(
        &self,
        tenant: &TenantId,
        query: DeliveryQuery,
        permit: ScanPermit,
    ) -> Result<Vec<Result<RecordedDelivery, UnreadableDelivery>>, StoreError> {
        let query = &query;
        self.run_scan("list_deliveries", permit, |session| deliveries::list(session, tenant, query)).await
    }

    async fn number_events(&self, tenant: &TenantId) -> Result<bool, StoreError> {
        self.run("number_events", |session| feed::number_batch(session, tenant)).await
    }

    async fn flush_usage(&self) -> Result<(), StoreError> {
        let (usage, pool) = (Arc::clone(&self.usage), self.pool.clone());
        let timeout = self.context.operation_timeout;
        let flush = tokio::spawn(async move { usage.flush(&pool, timeout).await });
        Ok(flush.await.map_err(|error| StoreError::Unavailable(Box::new(error)))??)
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn release_across_tenants(&self) -> Result<(), StoreError> {
        // The leases are released first, and a failure stops no other step, because the time for a shutdown is short.
        let work =
            self.run("release_work", |session| leases::release_work(session, &self.work, self.now())).await;
        let deliveries = self
            .run("release_deliveries", |session| {
                leases::release_deliveries(session, &self.deliveries, self.now())
            })
            .await;
        let changes =
            [Change::Work(Queue::Submits), Change::Work(Queue::Polls), Change::Delivery, Change::Replay];
        // The announcement is not queued, because the process may end before the next batch. The announcement may be lost without
        // harm.
        let _ = self.run("announce", |session| self.channel.announce_now(session, &changes)).await;
        if let Err(fault) = self.usage.flush(&self.pool, self.context.operation_timeout).await {
            tracing::warn!(?fault, "failed to write usage before shutdown: the last counts are lost");
        }
        work.and(deliveries)
    }

    async fn resources(&self) -> Result<Resources, StoreError> {
        let pool = self.pool.status();
        Ok(Resources::Server {
            in_use: pool.size.saturating_sub(pool.available),
            idle: pool.available,
            most: pool.max_size,
            waiting: pool.waiting,
        })
    }

    /// Always succeeds. An outage of the database affects every replica, so removing one replica from service does
    /// not help. Replicas answer from their caches, and answer other requests with `503`.
    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.listeners.subscribe()
    }

    fn is_current(&self) -> bool {
        self.freshness.is_fresh()
    }
}
