//! The engine for many: any number of equal replicas on one PostgreSQL database (15 or newer).
//!
//! - Statements that lock rows take them one analysis at a time, or pass over what is locked (`SKIP LOCKED`): there is
//!   no order in which two could wait for each other.
//! - What a lost connection interrupted is tried again for a while. That is safe: a submission, an adoption and a
//!   claim may be repeated, and a step whose commit went through unnoticed finds its lease gone.
//! - Nothing waits for ever: neither for the server, nor for a connection to it.

mod batches;
mod claims;
mod connect;
mod copies;
mod deliveries;
mod delivery_claims;
mod fault;
mod feed;
mod held;
mod listings;
mod migrations;
mod notices;
mod rows;
mod stats;
mod target;
mod tls;
mod transaction;
mod usage;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::Pool;
use tokio::sync::{Mutex, broadcast};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::connect::{Connector, PATIENCE, Session};
use self::delivery_claims::Walks;
use self::fault::Fault;
use self::held::Held;
use self::notices::{Address, Announcer, Currency, Listener};
use self::usage::Tally;
use super::changes::Changes;
use super::rules::{Engine, Rule, measure};
use super::work::Leased;
use super::{
    CHANGE_BACKLOG, Change, ClaimBatch, ClaimedDelivery, ClaimedWork, DeliverySlots, Queue, RecordedDelivery,
    Resources, Store, StoreError, Surroundings, WorkSlots,
};
use crate::config::{PostgresUrl, StoreSettings};
use crate::domain::clock::Timestamp;
use crate::domain::deliveries::DeliveryQuery;
use crate::domain::ids::TenantId;
use crate::domain::listing::{AnalysisQuery, ListedAnalysis};

pub(super) use self::target::Target;

/// How long what was interrupted is tried again: a database that restarts is a pause and not an error.
const PERSEVERANCE: Duration = Duration::from_secs(8);
/// How long bringing the schema up to date may take: an index on a large table is not made in seconds, and the replicas
/// that start meanwhile wait for it.
const MIGRATION_PATIENCE: Duration = Duration::from_hours(6);
/// The longest pause between two tries; each is a random share of it.
const PAUSE: Duration = Duration::from_millis(500);

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The settings make no sense.
    #[error("store.url: {0}")]
    Settings(String),
    /// It holds a part of a file, and perhaps the wrong one.
    #[error(
        "a copy of a file into the database is not finished: begin `alovoice-gateway store copy` again, \
         which goes on where it was"
    )]
    UnfinishedCopy,
    /// Gateways of this version never worked on it.
    #[error("the database is of a version before this one: start a gateway of this version first")]
    TooOld,
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A store on a server.
pub struct PostgresStore {
    pool: Pool,
    address: Address,
    announcer: Announcer,
    listeners: broadcast::Sender<Change>,
    currency: Arc<Currency>,
    work: Held,
    deliveries: Held,
    walks: Mutex<Walks>,
    tally: Arc<Tally>,
    surroundings: Surroundings,
    /// Ends what goes on beside the calls.
    _stop: DropGuard,
}

impl PostgresStore {
    /// Connects, brings the schema up to date, and listens to the other replicas. `on_server_time` hears the server's time
    /// then and every few seconds: leases are kept by the server's clock, so [`Surroundings::clock`] should follow it.
    ///
    /// # Errors
    /// [`OpenError`] says which of these failed.
    pub async fn open(
        url: &PostgresUrl,
        settings: &StoreSettings,
        surroundings: Surroundings,
        on_server_time: impl Fn(Timestamp) + Send + Sync + 'static,
    ) -> Result<Self, OpenError> {
        let connector =
            Connector::new(url, settings.password_file.as_deref()).map_err(OpenError::Settings)?;
        let pool = connector.pool(settings.max_connections).map_err(OpenError::Settings)?;
        let origin =
            repeated(&surroundings, &pool, MIGRATION_PATIENCE, "migrate", |mut session| async move {
                let client = session.client()?;
                migrations::migrate(client).await?;
                let origin = client
                    .query_one(
                        "SELECT current_schema()::text, replace(gen_random_uuid()::text, '-', '')",
                        &[],
                    )
                    .await?;
                Ok((origin.try_get::<_, String>(0)?, origin.try_get::<_, String>(1)?))
            });
        let (schema, origin) = origin.await?;
        // The most bytes that a channel's name may have are 63.
        let channel = format!(
            "alovoice_gateway.{}",
            schema.chars().filter(char::is_ascii).take(40).collect::<String>()
        );
        let address = Address { channel, origin };
        let (listeners, _) = broadcast::channel(CHANGE_BACKLOG);
        let (currency, stop) = (Arc::new(Currency::new()), CancellationToken::new());
        let listener = Listener {
            connector,
            address: address.clone(),
            listeners: listeners.clone(),
            currency: currency.clone(),
            on_server_time: Box::new(on_server_time),
        };
        let subscription = listener.connect().await.map_err(StoreError::from)?;
        listener.beat(&subscription).await.map_err(StoreError::from)?;
        // Not before: from now on no copy begins.
        check_copy(&surroundings, &pool).await?;
        tokio::spawn(listener.run(subscription, stop.clone()));
        let announcer = Announcer::start(pool.clone(), address.clone(), listeners.clone(), stop.clone());
        let tally = Arc::new(Tally::default());
        tally.start(pool.clone(), stop.clone());
        Ok(Self {
            pool,
            address,
            announcer,
            listeners,
            currency,
            work: Held::default(),
            deliveries: Held::default(),
            walks: Mutex::default(),
            tally,
            surroundings,
            _stop: stop.drop_guard(),
        })
    }
}

/// Whether what the database holds is whole.
async fn check_copy(around: &Surroundings, pool: &Pool) -> Result<(), OpenError> {
    let note = repeated(around, pool, PATIENCE, "check_copy", async |mut session| {
        copies::note(session.client()?).await
    })
    .await?;
    if note.is_some_and(|note| !note.is_finished) { Err(OpenError::UnfinishedCopy) } else { Ok(()) }
}

/// Whether [`PostgresStore::open`] would work, without changing anything; and whether the schema is this version's already.
///
/// # Errors
/// [`OpenError`] says why it would not.
pub async fn inspect(url: &PostgresUrl, settings: &StoreSettings) -> Result<bool, OpenError> {
    let connector = Connector::new(url, settings.password_file.as_deref()).map_err(OpenError::Settings)?;
    let pool = connector.pool(1).map_err(OpenError::Settings)?;
    let deadline = Instant::now() + PATIENCE;
    let look = async {
        let mut session = Session::take(&pool, deadline).await?;
        let client = session.client()?;
        let is_current = migrations::inspect(client).await?;
        Ok((is_current, copies::note(client).await?))
    };
    let (is_current, note) =
        timeout_at(deadline, look).await.unwrap_or(Err(Fault::TimedOut)).map_err(StoreError::from)?;
    if note.is_some_and(|note| !note.is_finished) { Err(OpenError::UnfinishedCopy) } else { Ok(is_current) }
}

/// Runs an operation on a connection, and again after a transient failure. Measures the operation under its name.
async fn repeated<T, F>(
    around: &Surroundings,
    pool: &Pool,
    patience: Duration,
    name: &'static str,
    work: impl Fn(Session) -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, Fault>>,
{
    let began = Instant::now();
    let end = began + PERSEVERANCE;
    let outcome = loop {
        let deadline = Instant::now() + patience;
        let once = async { work(Session::take(pool, deadline).await?).await };
        let fault = match timeout_at(deadline, once).await {
            Ok(Ok(value)) => break Ok(value),
            Ok(Err(fault)) => fault,
            Err(_) => Fault::TimedOut,
        };
        let pause = PAUSE.mul_f64(around.entropy.fraction());
        if !fault.is_transient() || Instant::now() + pause >= end {
            break Err(StoreError::from(fault));
        }
        tracing::warn!(transaction = name, error = %fault, "transaction failed and is retried");
        around.metrics.store_retries.with_label_values(&[name]).inc();
        sleep(pause).await;
    };
    measure(&around.metrics, name, began.into_std(), &outcome);
    outcome
}

/// Tries whose end was not heard, or whose caller went away meanwhile: they may have changed something all the same, so
/// that when this is dropped, everything counts as changed.
struct Unheard<'a> {
    announcer: &'a Announcer,
    tries: AtomicU32,
}

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        if *self.tries.get_mut() > 0 {
            self.announcer.announce(Changes::everything());
        }
    }
}

impl PostgresStore {
    /// Runs an operation, which is measured under its name.
    async fn run<T, F>(&self, name: &'static str, work: impl Fn(Session) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        repeated(&self.surroundings, &self.pool, PATIENCE, name, work).await
    }

    /// Runs an operation that announces changes.
    async fn change<T, F>(&self, name: &'static str, work: impl Fn(Session) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<(T, Changes), Fault>>,
    {
        let mut unheard = Unheard { announcer: &self.announcer, tries: AtomicU32::new(0) };
        let outcome = self
            .run(name, |session| {
                unheard.tries.fetch_add(1, Ordering::Relaxed);
                work(session)
            })
            .await;
        if *unheard.tries.get_mut() == 1 && !matches!(outcome, Err(StoreError::Unavailable(_))) {
            *unheard.tries.get_mut() = 0;
        }
        drop(unheard);
        let (value, changes) = outcome?;
        self.announcer.announce(changes);
        Ok(value)
    }

    fn now(&self) -> Timestamp {
        self.surroundings.clock.now()
    }
}

impl Engine for PostgresStore {
    async fn transact<R: Rule>(&self, rule: R) -> Result<R::Output, StoreError> {
        let (context, rule, began) = ((&self.surroundings, &self.address), &rule, AtomicBool::new(false));
        let attempt = async |session| {
            let is_repeated = began.swap(true, Ordering::Relaxed);
            let (output, mut effects) = transaction::write(session, context, rule, is_repeated).await?;
            let changes = std::mem::take(&mut effects.changes);
            Ok(((output, effects), changes))
        };
        let (output, effects) = if R::NOTIFIES {
            self.change(R::NAME, attempt).await?
        } else {
            self.run(R::NAME, attempt).await?.0
        };
        for (tenant, usage) in effects.usage {
            self.tally.count(&tenant, self.now(), usage);
        }
        for (leased, lease) in effects.ended {
            match leased {
                Leased::Analysis => self.work.remove(lease),
                Leased::Delivery => self.deliveries.remove(lease),
            }
        }
        Ok(output)
    }

    async fn query<R: Rule>(&self, rule: R) -> Result<R::Output, StoreError> {
        let (env, rule) = (&self.surroundings, &rule);
        self.run(R::NAME, |session| transaction::read(session, env, rule)).await
    }

    fn env(&self) -> &Surroundings {
        &self.surroundings
    }

    async fn list(&self, tenant: &TenantId, page: AnalysisQuery) -> Result<Vec<ListedAnalysis>, StoreError> {
        let page = &page;
        self.run("list_analyses", |session| listings::list(session, tenant, page)).await
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
        let turn = (self.surroundings.entropy.fraction() * 1000.0) as usize;
        let (slots, walks) = (&slots, &self.walks);
        let claims = self
            .run("claim_deliveries", async |session| {
                let mut walks = walks.lock().await;
                delivery_claims::claim(session, slots, &mut walks, turn, self.now(), lease).await
            })
            .await?;
        let now = self.now();
        self.deliveries.add(claims.claimed.iter().map(|claimed| claimed.lease), now, now + lease);
        Ok(claims)
    }

    async fn deliveries(
        &self,
        tenant: &TenantId,
        query: DeliveryQuery,
    ) -> Result<Vec<RecordedDelivery>, StoreError> {
        let query = &query;
        self.run("list_deliveries", |session| deliveries::list(session, tenant, query)).await
    }

    async fn number_events(&self, tenant: &TenantId) -> Result<bool, StoreError> {
        self.run("number_events", |session| feed::number_batch(session, tenant)).await
    }

    async fn flush_usage(&self) -> Result<(), StoreError> {
        Ok(self.tally.add_up(&self.pool).await?)
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn release_across_tenants(&self) -> Result<(), StoreError> {
        if let Err(fault) = self.tally.add_up(&self.pool).await {
            tracing::warn!(?fault, "failed to aggregate usage before shutdown, the last counts are lost");
        }
        self.run("release_work", |session| held::release_work(session, &self.work, self.now())).await?;
        self.run("release_deliveries", |session| {
            held::release_deliveries(session, &self.deliveries, self.now())
        })
        .await?;
        let changes =
            [Change::Work(Queue::Submits), Change::Work(Queue::Polls), Change::Delivery, Change::Replay];
        // At once: the process may be over before the next batch.
        let told =
            self.run("announce", |session| notices::announce_now(session, &self.address, &changes)).await;
        told.or(Ok(()))
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

    /// Always: a database that is away is away for every replica, and none could do better; those that stay in the
    /// service answer from their caches and say `503` to the rest.
    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.listeners.subscribe()
    }

    fn is_current(&self) -> bool {
        self.currency.holds()
    }
}
