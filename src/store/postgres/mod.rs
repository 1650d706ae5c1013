//! The engine for many: any number of equal replicas on one PostgreSQL database (15 or newer).
//!
//! - Statements that lock rows take them one analysis at a time, or pass over what is locked (`SKIP LOCKED`): there is
//!   no order in which two could wait for each other.
//! - What a lost connection interrupted is tried again for a while. That is safe: a submission, an adoption and a
//!   claim may be repeated, and a step whose commit went through unnoticed finds its lease gone.
//! - Nothing waits for ever: neither for the server, nor for a connection to it.

mod analyses;
mod batches;
mod claims;
mod connect;
mod copies;
mod deadlines;
mod deletion;
mod deliveries;
mod delivery_claims;
mod expiry;
mod fault;
mod feed;
mod held;
mod idempotency;
mod listings;
mod migrations;
mod notices;
mod paces;
mod replays;
mod rows;
mod sealed;
mod stats;
mod target;
mod tls;
mod usage;
mod webhooks;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use deadpool_postgres::Pool;
use tokio::sync::{Mutex, broadcast};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::connect::{PATIENCE, Session, Way};
use self::delivery_claims::Walks;
use self::fault::Fault;
use self::held::Held;
use self::notices::{Address, Changes, Currency, Listener, Teller};
pub(super) use self::target::Target;
use self::usage::Tally;
use super::{
    Activity, Advanced, Applied, CHANGE_BACKLOG, Change, ClaimedDelivery, ClaimedWork, Claims, DeliverySlots,
    Ended, FinishedAttempt, Found, KeyClaim, KeyTerms, Keyed, Lease, Queue, RecordedAttempt,
    RecordedDelivery, ReplayBegin, Resources, SealedAnswer, SealedWebhook, Sending, Stats, Store, StoreError,
    Surroundings, WorkSlots,
};
use crate::config::{PostgresUrl, StoreSettings};
use crate::domain::analysis::{Obtained, Submission};
use crate::domain::audit::{Actor, AuditRecord};
use crate::domain::clock::Timestamp;
use crate::domain::deliveries::DeliveryPage;
use crate::domain::events::EventKind;
use crate::domain::feed::{FeedEvent, FeedPosition, PageLimits};
use crate::domain::idempotency::{KeptAnswer, KeyedRequest};
use crate::domain::ids::{CallId, DeliveryId, EventId, ReplayId, TenantId, WebhookId};
use crate::domain::lifecycle::Step;
use crate::domain::listing::{Listed, Page};
use crate::domain::pace::Pace;
use crate::domain::replays::{Replay, ReplayCount, ReplaySpan};
use crate::domain::trace::TraceContext;
use crate::domain::usage::{Day, Usage};
use crate::domain::webhooks::{DisabledReason, Sealed, Webhook};

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
    teller: Teller,
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
    /// Connects, brings the schema up to date, and listens to the other replicas. `told_time` hears the server's time
    /// then and every few seconds: leases are kept by the server's clock, so [`Surroundings::clock`] should follow it.
    ///
    /// # Errors
    /// [`OpenError`] says which of these failed.
    pub async fn open(
        url: &PostgresUrl,
        settings: &StoreSettings,
        surroundings: Surroundings,
        told_time: impl Fn(Timestamp) + Send + Sync + 'static,
    ) -> Result<Self, OpenError> {
        let way = Way::new(url, settings.password_file.as_deref()).map_err(OpenError::Settings)?;
        let pool = way.pool(settings.max_connections).map_err(OpenError::Settings)?;
        let origin = repeated(&surroundings, &pool, MIGRATION_PATIENCE, |mut session| async move {
            let client = session.client()?;
            migrations::migrate(client).await?;
            let origin = client
                .query_one("SELECT current_schema()::text, replace(gen_random_uuid()::text, '-', '')", &[])
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
            way,
            address: address.clone(),
            listeners: listeners.clone(),
            currency: currency.clone(),
            told_time: Box::new(told_time),
        };
        let ears = listener.connect().await.map_err(StoreError::from)?;
        listener.beat(&ears).await.map_err(StoreError::from)?;
        // Not before: from now on no copy begins.
        check_copy(&surroundings, &pool).await?;
        tokio::spawn(listener.run(ears, stop.clone()));
        let teller = Teller::start(pool.clone(), address.clone(), listeners.clone(), stop.clone());
        let tally = Arc::new(Tally::default());
        tally.start(pool.clone(), stop.clone());
        Ok(Self {
            pool,
            address,
            teller,
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
    let note =
        repeated(around, pool, PATIENCE, async |mut session| copies::note(session.client()?).await).await?;
    if note.is_some_and(|note| !note.is_finished) { Err(OpenError::UnfinishedCopy) } else { Ok(()) }
}

/// Whether [`PostgresStore::open`] would work, without changing anything; and whether the schema is this version's already.
///
/// # Errors
/// [`OpenError`] says why it would not.
pub async fn inspect(url: &PostgresUrl, settings: &StoreSettings) -> Result<bool, OpenError> {
    let way = Way::new(url, settings.password_file.as_deref()).map_err(OpenError::Settings)?;
    let pool = way.pool(1).map_err(OpenError::Settings)?;
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

/// Does a piece of work on a connection, again if it was interrupted.
async fn repeated<T, F>(
    around: &Surroundings,
    pool: &Pool,
    patience: Duration,
    work: impl Fn(Session) -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, Fault>>,
{
    let end = Instant::now() + PERSEVERANCE;
    loop {
        let deadline = Instant::now() + patience;
        let once = async { work(Session::take(pool, deadline).await?).await };
        let fault = match timeout_at(deadline, once).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(fault)) => fault,
            Err(_) => Fault::TimedOut,
        };
        let pause = PAUSE.mul_f64(around.entropy.fraction());
        if !fault.is_passing() || Instant::now() + pause >= end {
            let error = StoreError::from(fault);
            if !matches!(error, StoreError::LeaseLost) {
                around.metrics.store_errors.inc();
            }
            return Err(error);
        }
        tracing::warn!(?fault, "the database was lost; trying again");
        sleep(pause).await;
    }
}

/// Tries whose end was not heard, or whose caller went away meanwhile: they may have changed something all the same, so
/// that when this is dropped, everything counts as changed.
struct Unheard<'a> {
    teller: &'a Teller,
    tries: AtomicU32,
}

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        if *self.tries.get_mut() > 0 {
            self.teller.tell(Changes::everything());
        }
    }
}

impl PostgresStore {
    async fn run<T, F>(&self, work: impl Fn(Session) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        repeated(&self.surroundings, &self.pool, PATIENCE, work).await
    }

    /// The same for work that changes something, which is told afterwards.
    async fn change<T, F>(&self, work: impl Fn(Session) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<(T, Changes), Fault>>,
    {
        let mut unheard = Unheard { teller: &self.teller, tries: AtomicU32::new(0) };
        let outcome = self
            .run(|session| {
                unheard.tries.fetch_add(1, Ordering::Relaxed);
                work(session)
            })
            .await;
        if *unheard.tries.get_mut() == 1 && !matches!(outcome, Err(StoreError::Unavailable(_))) {
            *unheard.tries.get_mut() = 0;
        }
        drop(unheard);
        let (value, changes) = outcome?;
        self.teller.tell(changes);
        Ok(value)
    }

    fn now(&self) -> Timestamp {
        self.surroundings.clock.now()
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn submit(&self, tenant: &TenantId, submission: Submission) -> Result<Found, StoreError> {
        let (around, submission) = (&self.surroundings, &submission);
        let found = self
            .change(|session| analyses::submit(session, around, &self.address, tenant, submission))
            .await?;
        self.tally.count(tenant, self.now(), Usage::submission());
        Ok(found)
    }

    async fn submit_all(
        &self,
        tenant: &TenantId,
        submissions: Vec<Submission>,
    ) -> Result<Vec<Found>, StoreError> {
        let (around, submissions) = (&self.surroundings, &submissions);
        let found = self
            .change(|session| batches::submit(session, around, &self.address, tenant, submissions))
            .await?;
        found.iter().for_each(|_| self.tally.count(tenant, self.now(), Usage::submission()));
        Ok(found)
    }

    async fn adopt(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
        trace: TraceContext,
        obtained: Box<Obtained>,
    ) -> Result<bool, StoreError> {
        let (around, obtained) = (&self.surroundings, &obtained);
        let taken = self
            .change(|session| analyses::adopt(session, around, tenant, call_id, trace, obtained.clone()))
            .await?;
        if taken {
            let usage = Usage::step(1, Some(EventKind::AnalysisCompleted));
            self.tally.count(tenant, self.now(), usage);
        }
        Ok(taken)
    }

    async fn find_analysis(&self, tenant: &TenantId, call_id: &CallId) -> Result<Option<Found>, StoreError> {
        self.run(|session| analyses::find(session, tenant, call_id)).await
    }

    async fn list_analyses(&self, tenant: &TenantId, page: Page) -> Result<Vec<Listed>, StoreError> {
        let page = &page;
        self.run(|session| listings::list(session, tenant, page)).await
    }

    async fn delete_analysis(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
        actor: Actor,
    ) -> Result<bool, StoreError> {
        let (actor, tried) = (&actor, AtomicBool::new(false));
        self.change(|session| {
            let is_repeat = tried.swap(true, Ordering::Relaxed);
            deletion::delete(session, &self.address, tenant, call_id, (actor, is_repeat), self.now())
        })
        .await
    }

    async fn was_deleted(&self, tenant: &TenantId, call_id: &CallId) -> Result<bool, StoreError> {
        self.run(async |mut session| deletion::was_deleted(&*session.client()?, tenant, call_id).await).await
    }

    async fn audit_of_call(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        self.run(|session| deletion::audit(session, tenant, call_id)).await
    }

    async fn find_vendor_answer(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
    ) -> Result<Option<Bytes>, StoreError> {
        self.run(|session| analyses::vendor_answer(session, tenant, call_id)).await
    }

    async fn claim_work_across_tenants(
        &self,
        queue: Queue,
        slots: Vec<WorkSlots>,
        lease: Duration,
    ) -> Result<Claims<ClaimedWork>, StoreError> {
        let slots = &slots;
        let claims = self.run(|session| claims::work(session, queue, slots, self.now(), lease)).await?;
        let now = self.now();
        self.work.add(claims.claimed.iter().map(|claimed| claimed.lease), now, now + lease);
        Ok(claims)
    }

    async fn apply(&self, lease: Lease, step: Step) -> Result<Applied, StoreError> {
        let (around, step) = (&self.surroundings, &step);
        let applied =
            self.change(|session| analyses::apply(session, around, &self.address, lease, step.clone())).await;
        if !matches!(applied, Err(StoreError::Unavailable(_))) {
            self.work.remove(lease);
        }
        if let Ok(applied) = &applied {
            let polls = u64::from(matches!(step, Step::Polled(_)));
            let usage = Usage::step(polls, applied.event);
            self.tally.count(&applied.analysis.tenant, self.now(), usage);
        }
        applied
    }

    async fn end_overdue_across_tenants(
        &self,
        tenants: Vec<TenantId>,
        limit: usize,
    ) -> Result<Ended, StoreError> {
        let (around, tenants) = (&self.surroundings, &tenants);
        let ended = self
            .change(|session| deadlines::end_overdue(session, around, &self.address, tenants, limit))
            .await?;
        for applied in &ended.applied {
            self.tally.count(&applied.analysis.tenant, self.now(), Usage::step(0, applied.event));
        }
        Ok(ended)
    }

    async fn claim_deliveries_across_tenants(
        &self,
        slots: DeliverySlots,
        lease: Duration,
    ) -> Result<Claims<ClaimedDelivery>, StoreError> {
        let turn = (self.surroundings.entropy.fraction() * 1000.0) as usize;
        let (slots, walks) = (&slots, &self.walks);
        let claims = self
            .run(async |session| {
                let mut walks = walks.lock().await;
                delivery_claims::claim(session, slots, &mut walks, turn, self.now(), lease).await
            })
            .await?;
        let now = self.now();
        self.deliveries.add(claims.claimed.iter().map(|claimed| claimed.lease), now, now + lease);
        Ok(claims)
    }

    async fn finish_attempt(
        &self,
        lease: Lease,
        attempt: FinishedAttempt,
    ) -> Result<Option<DisabledReason>, StoreError> {
        let attempt = &attempt;
        let finished = self.run(|session| deliveries::finish(session, lease, attempt, self.now())).await;
        if !matches!(finished, Err(StoreError::Unavailable(_))) {
            self.deliveries.remove(lease);
        }
        let usage = Usage::attempt(attempt.next.arrived());
        let (tenant, disabled) = finished?;
        self.tally.count(&tenant, self.now(), usage);
        Ok(disabled)
    }

    async fn delete_expired_across_tenants(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let expired = self.change(|session| expiry::delete(session, &self.address, before, limit)).await?;
        Ok(expired + self.run(webhooks::purge).await?)
    }

    async fn delete_records_across_tenants(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let records = self.run(|session| deletion::delete_records(session, before, limit)).await?;
        Ok(records + self.run(|session| usage::delete(session, Day::of(before), limit)).await?)
    }

    async fn claim_key(
        &self,
        tenant: &TenantId,
        request: KeyedRequest,
        terms: KeyTerms,
    ) -> Result<Keyed, StoreError> {
        // One number for all tries: whoever did not hear that the first went well finds it to be so.
        let (claim, request) = (self.surroundings.claim(), &request);
        self.run(|session| idempotency::claim(session, tenant, request, claim, terms, self.now())).await
    }

    async fn finish_key(
        &self,
        tenant: &TenantId,
        claim: KeyClaim,
        answer: Option<KeptAnswer>,
    ) -> Result<(), StoreError> {
        let (claim, answer) = (&claim, answer.as_ref());
        self.run(|session| idempotency::finish(session, tenant, claim, answer)).await
    }

    async fn release_key(&self, tenant: &TenantId, claim: KeyClaim) -> Result<(), StoreError> {
        let claim = &claim;
        self.run(|session| idempotency::release(session, tenant, claim)).await
    }

    async fn delete_keys_across_tenants(&self, limit: usize) -> Result<usize, StoreError> {
        self.run(|session| idempotency::delete(session, self.now(), limit)).await
    }

    async fn sealed_webhooks_across_tenants(
        &self,
        after: Option<WebhookId>,
        limit: usize,
    ) -> Result<Vec<SealedWebhook>, StoreError> {
        self.run(|session| sealed::webhooks(session, after, limit)).await
    }

    async fn reseal_webhook(&self, was: SealedWebhook, sealed: Sealed) -> Result<bool, StoreError> {
        let (was, sealed) = (&was, &sealed);
        self.run(|session| sealed::reseal_webhook(session, was, sealed)).await
    }

    async fn sealed_answers_across_tenants(
        &self,
        after: Option<(TenantId, [u8; 32])>,
        limit: usize,
    ) -> Result<Vec<SealedAnswer>, StoreError> {
        let after = after.as_ref();
        self.run(|session| sealed::answers(session, after, limit)).await
    }

    async fn reseal_answers_across_tenants(
        &self,
        answers: Vec<(SealedAnswer, Vec<u8>)>,
    ) -> Result<usize, StoreError> {
        let answers = &answers[..];
        self.run(|session| sealed::reseal_answers(session, answers)).await
    }

    async fn list_earlier_results_across_tenants(&self, limit: usize) -> Result<usize, StoreError> {
        self.run(|session| listings::catch_up(session, limit)).await
    }

    async fn release_across_tenants(&self) -> Result<(), StoreError> {
        if let Err(fault) = self.tally.add_up(&self.pool).await {
            tracing::warn!(?fault, "usage cannot be added up; what was counted last is lost");
        }
        self.run(|session| held::release_work(session, &self.work, self.now())).await?;
        self.run(|session| held::release_deliveries(session, &self.deliveries, self.now())).await?;
        let mut changes = Changes::work(Queue::Submits);
        changes.add_work(Queue::Polls);
        changes.add_delivery();
        changes.add_replay();
        // At once: the process may be over before the next batch.
        let told = self.run(|session| notices::tell_now(session, &self.address, &changes)).await;
        told.or(Ok(()))
    }

    async fn stats_across_tenants(
        &self,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, Stats>, StoreError> {
        self.run(|session| stats::of(session, tenants, self.now())).await
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

    async fn attempts(
        &self,
        tenant: &TenantId,
        delivery: DeliveryId,
    ) -> Result<Vec<RecordedAttempt>, StoreError> {
        self.run(|session| deliveries::attempts(session, tenant, delivery)).await
    }

    async fn deliveries_of_call(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
    ) -> Result<Vec<RecordedDelivery>, StoreError> {
        self.run(|session| deliveries::of_call(session, tenant, call_id)).await
    }

    async fn list_deliveries(
        &self,
        tenant: &TenantId,
        page: DeliveryPage,
    ) -> Result<Vec<RecordedDelivery>, StoreError> {
        let page = &page;
        self.run(|session| deliveries::list(session, tenant, page)).await
    }

    async fn find_delivery(
        &self,
        tenant: &TenantId,
        delivery: DeliveryId,
    ) -> Result<Option<RecordedDelivery>, StoreError> {
        self.run(async |mut session| deliveries::find(&*session.client()?, tenant, delivery).await).await
    }

    async fn redeliver(&self, tenant: &TenantId, delivery: DeliveryId) -> Result<Sending, StoreError> {
        self.change(|session| deliveries::send_again(session, tenant, delivery, self.now())).await
    }

    async fn add_webhook(&self, tenant: &TenantId, webhook: Webhook) -> Result<bool, StoreError> {
        let webhook = &webhook;
        self.change(|session| webhooks::add(session, tenant, webhook)).await
    }

    async fn find_webhook(&self, tenant: &TenantId, id: WebhookId) -> Result<Option<Webhook>, StoreError> {
        self.run(|session| webhooks::find(session, tenant, id)).await
    }

    async fn list_webhooks(&self, tenant: &TenantId) -> Result<Vec<Webhook>, StoreError> {
        self.run(|session| webhooks::list(session, tenant)).await
    }

    async fn change_webhook(
        &self,
        tenant: &TenantId,
        webhook: Webhook,
        forgive: bool,
    ) -> Result<bool, StoreError> {
        let webhook = &webhook;
        self.change(|session| webhooks::change(session, tenant, webhook, forgive, self.now())).await
    }

    async fn delete_webhook(&self, tenant: &TenantId, id: WebhookId) -> Result<bool, StoreError> {
        self.change(|session| webhooks::delete(session, tenant, id, self.now())).await
    }

    async fn webhook_activities(
        &self,
        tenant: &TenantId,
        ids: Vec<WebhookId>,
    ) -> Result<Vec<Activity>, StoreError> {
        let ids = &ids;
        self.run(|session| webhooks::activities(session, tenant, ids)).await
    }

    async fn test_webhook(
        &self,
        tenant: &TenantId,
        id: WebhookId,
        trace: TraceContext,
    ) -> Result<Sending, StoreError> {
        let around = &self.surroundings;
        self.change(|session| webhooks::test(session, around, tenant, id, trace)).await
    }

    async fn count_events(&self, tenant: &TenantId, span: ReplaySpan) -> Result<ReplayCount, StoreError> {
        let span = &span;
        self.run(|session| replays::count(session, tenant, span)).await
    }

    async fn begin_replay(&self, tenant: &TenantId, replay: Replay) -> Result<ReplayBegin, StoreError> {
        let replay = &replay;
        self.change(|session| replays::begin(session, tenant, replay)).await
    }

    async fn find_replay(
        &self,
        tenant: &TenantId,
        webhook: WebhookId,
        replay: ReplayId,
    ) -> Result<Option<Replay>, StoreError> {
        self.run(|session| replays::find(session, tenant, webhook, replay)).await
    }

    async fn advance_replays_across_tenants(&self) -> Result<Advanced, StoreError> {
        let around = &self.surroundings;
        self.change(|session| replays::advance(session, around)).await
    }

    async fn events_after(
        &self,
        tenant: &TenantId,
        after: FeedPosition,
        limits: PageLimits,
    ) -> Result<Vec<FeedEvent>, StoreError> {
        self.run(|session| feed::events_after(session, tenant, after, limits)).await
    }

    async fn feed_end(&self, tenant: &TenantId) -> Result<FeedPosition, StoreError> {
        // One batch for each piece of work: none lasts long, however much was never read before.
        while self.run(|session| feed::number_batch(session, tenant)).await? {}
        self.run(|session| feed::end(session, tenant)).await
    }

    async fn feed_position(&self, tenant: &TenantId, event: EventId) -> Result<FeedPosition, StoreError> {
        if let Some(position) = self.run(|session| feed::position(session, tenant, event)).await? {
            return Ok(position);
        }
        let end = self.feed_end(tenant).await?;
        self.run(|session| feed::position_before_younger(session, tenant, event, end)).await
    }

    async fn pace(&self, tenant: &TenantId) -> Result<Option<Pace>, StoreError> {
        self.run(async |mut session| paces::find(&*session.client()?, tenant).await).await
    }

    async fn usage(&self, tenant: &TenantId, from: Day, to: Day) -> Result<Vec<(Day, Usage)>, StoreError> {
        // What this replica did is seen at once. If it cannot be written, it cannot be read either.
        self.tally.add_up(&self.pool).await?;
        self.run(|session| usage::between(session, tenant, from, to)).await
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
