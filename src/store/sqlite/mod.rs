//! The embedded engine: one file beside the process, write-ahead log, every commit synced.

mod analyses;
mod claims;
mod deadlines;
mod deletion;
mod deliveries;
mod delivery_claims;
mod expiry;
mod feed;
mod file;
mod idempotency;
mod listings;
mod mark;
mod paces;
#[cfg(test)]
mod plans;
mod readers;
mod replays;
mod rows;
mod sealed;
mod source;
mod stats;
mod usage;
mod webhooks;
mod writer;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::broadcast;

use self::delivery_claims::Walks;
pub use self::file::{OpenError, inspect};
use self::file::{lock, migrate, prepare};
pub(super) use self::mark::Mark;
use self::readers::Readers;
pub(super) use self::source::Source;
use self::writer::{Done, Writer};
use super::{
    Activity, Advanced, Applied, CHANGE_BACKLOG, Change, ClaimedDelivery, ClaimedWork, Claims, DeliverySlots,
    Ended, FinishedAttempt, Found, KeyClaim, KeyTerms, Keyed, Lease, Queue, RecordedAttempt,
    RecordedDelivery, ReplayBegin, Resources, SealedAnswer, SealedWebhook, Sending, Stats, Store, StoreError,
    Surroundings, WorkSlots,
};
use crate::domain::analysis::{Obtained, Submission};
use crate::domain::audit::{Actor, AuditRecord};
use crate::domain::clock::Timestamp;
use crate::domain::deliveries::DeliveryPage;
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

/// Readers cost memory for their page caches; more than this gain nothing on one file.
const READERS: usize = 4;

/// A store in one file.
pub struct SqliteStore {
    path: PathBuf,
    writer: Writer,
    readers: Readers,
    changes: broadcast::Sender<Change>,
    surroundings: Arc<Surroundings>,
    walks: Arc<Mutex<Walks>>,
    /// Held for the store's life, and let go by the system however the process ends. Whoever is beside a gateway has none.
    _lock: Option<File>,
}

impl SqliteStore {
    /// Opens or makes the file, brings its schema up to date, and takes back the leases of a process that died.
    ///
    /// # Errors
    /// [`OpenError`] says which of these failed.
    pub fn open(path: &Path, surroundings: Surroundings) -> Result<Self, OpenError> {
        let (mut connection, lock) = take(path)?;
        mark::remove(&connection, path)?;
        settle(&mut connection, path, surroundings.clock.now())?;
        Self::build(path, connection, Some(lock), surroundings)
    }

    /// Opens a file that a gateway may be working on, without taking it from that gateway: for what may be done beside one,
    /// in short transactions, and tells it nothing. The file must be there and have the present schema.
    ///
    /// # Errors
    /// [`OpenError`] says why not.
    pub fn attach(path: &Path, surroundings: Surroundings) -> Result<Self, OpenError> {
        let sqlite = |source| OpenError::Sqlite { path: path.to_owned(), source };
        let existing = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, existing).map_err(sqlite)?;
        prepare(&connection).map_err(sqlite)?;
        file::check_present(&connection, path)?;
        Self::build(path, connection, None, surroundings)
    }

    fn build(
        path: &Path,
        connection: Connection,
        lock: Option<File>,
        surroundings: Surroundings,
    ) -> Result<Self, OpenError> {
        let sqlite = |source| OpenError::Sqlite { path: path.to_owned(), source };
        let read_only = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let readers = (0..READERS)
            .map(|_| {
                let reader = Connection::open_with_flags(path, read_only)?;
                reader.busy_timeout(Duration::from_secs(5))?;
                reader.set_prepared_statement_cache_capacity(32);
                Ok(reader)
            })
            .collect::<Result<_, rusqlite::Error>>()
            .map_err(sqlite)?;
        let (changes, _) = broadcast::channel(CHANGE_BACKLOG);
        let writer = Writer::start(connection, changes.clone())
            .map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        let surroundings = Arc::new(surroundings);
        Ok(Self {
            path: path.to_owned(),
            writer,
            readers: Readers::new(readers),
            changes,
            surroundings,
            walks: Arc::default(),
            _lock: lock,
        })
    }
}

/// Opens or makes the file for this process alone.
fn take(path: &Path) -> Result<(Connection, File), OpenError> {
    let lock = lock(path)?;
    let sqlite = |source| OpenError::Sqlite { path: path.to_owned(), source };
    file::private(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    let connection = Connection::open(path).map_err(sqlite)?;
    prepare(&connection).map_err(sqlite)?;
    Ok((connection, lock))
}

/// Brings the file's schema up to date, and ends the leases: the file is ours, so whoever held one is gone.
fn settle(connection: &mut Connection, path: &Path, now: Timestamp) -> Result<(), OpenError> {
    migrate(connection, path)?;
    let released =
        claims::release_all(connection, now).and_then(|()| idempotency::release_all(connection, now));
    released.map_err(|source| OpenError::Sqlite { path: path.to_owned(), source })
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error {
            rusqlite::Error::FromSqlConversionFailure(_, _, source) => Self::Corrupt(source.to_string()),
            rusqlite::Error::IntegralValueOutOfRange(..) | rusqlite::Error::InvalidColumnType(..) => {
                Self::Corrupt(error.to_string())
            }
            other => Self::Unavailable(Box::new(other)),
        }
    }
}

impl SqliteStore {
    async fn write<T, F>(&self, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<Done<T>, StoreError> + Send + 'static,
    {
        self.writer.run(job).await.inspect_err(|error| self.count(error))
    }

    async fn read<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        self.readers.run(query).await.inspect_err(|error| self.count(error))
    }

    fn count(&self, error: &StoreError) {
        match error {
            // A worker's misfortune, not the store's.
            StoreError::LeaseLost => {}
            StoreError::Unavailable(_) | StoreError::Corrupt(_) => {
                self.surroundings.metrics.store_errors.inc();
            }
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn submit(&self, tenant: &TenantId, submission: Submission) -> Result<Found, StoreError> {
        let (around, tenant) = (Arc::clone(&self.surroundings), tenant.clone());
        self.write(move |connection| analyses::submit(connection, &around, tenant, &submission)).await
    }

    async fn submit_all(
        &self,
        tenant: &TenantId,
        submissions: Vec<Submission>,
    ) -> Result<Vec<Found>, StoreError> {
        let (around, tenant) = (Arc::clone(&self.surroundings), tenant.clone());
        self.write(move |connection| analyses::submit_all(connection, &around, &tenant, &submissions)).await
    }

    async fn adopt(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
        trace: TraceContext,
        obtained: Box<Obtained>,
    ) -> Result<bool, StoreError> {
        let (around, tenant, call_id) = (Arc::clone(&self.surroundings), tenant.clone(), call_id.clone());
        self.write(move |connection| analyses::adopt(connection, &around, tenant, call_id, trace, obtained))
            .await
    }

    async fn find_analysis(&self, tenant: &TenantId, call_id: &CallId) -> Result<Option<Found>, StoreError> {
        let (tenant, call_id) = (tenant.clone(), call_id.clone());
        self.read(move |connection| analyses::find(connection, &tenant, &call_id)).await
    }

    async fn list_analyses(&self, tenant: &TenantId, page: Page) -> Result<Vec<Listed>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| listings::list(connection, &tenant, &page)).await
    }

    async fn delete_analysis(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
        actor: Actor,
    ) -> Result<bool, StoreError> {
        let (tenant, call_id, now) = (tenant.clone(), call_id.clone(), self.surroundings.clock.now());
        self.write(move |connection| deletion::delete(connection, tenant, call_id, &actor, now)).await
    }

    async fn was_deleted(&self, tenant: &TenantId, call_id: &CallId) -> Result<bool, StoreError> {
        let (tenant, call_id) = (tenant.clone(), call_id.clone());
        self.read(move |connection| deletion::was_deleted(connection, &tenant, &call_id)).await
    }

    async fn audit_of_call(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        let (tenant, call_id) = (tenant.clone(), call_id.clone());
        self.read(move |connection| deletion::audit(connection, &tenant, &call_id)).await
    }

    async fn find_vendor_answer(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
    ) -> Result<Option<Bytes>, StoreError> {
        let (tenant, call_id) = (tenant.clone(), call_id.clone());
        self.read(move |connection| analyses::vendor_answer(connection, &tenant, &call_id)).await
    }

    async fn claim_work_across_tenants(
        &self,
        queue: Queue,
        slots: Vec<WorkSlots>,
        lease: Duration,
    ) -> Result<Claims<ClaimedWork>, StoreError> {
        let now = self.surroundings.clock.now();
        self.write(move |connection| claims::work(connection, queue, &slots, now, lease).map(Done::quiet))
            .await
    }

    async fn apply(&self, lease: Lease, step: Step) -> Result<Applied, StoreError> {
        let around = Arc::clone(&self.surroundings);
        self.write(move |connection| analyses::apply(connection, &around, lease, step)).await
    }

    async fn end_overdue_across_tenants(
        &self,
        tenants: Vec<TenantId>,
        limit: usize,
    ) -> Result<Ended, StoreError> {
        let around = Arc::clone(&self.surroundings);
        self.write(move |connection| deadlines::end_overdue(connection, &around, &tenants, limit)).await
    }

    async fn claim_deliveries_across_tenants(
        &self,
        slots: DeliverySlots,
        lease: Duration,
    ) -> Result<Claims<ClaimedDelivery>, StoreError> {
        let now = self.surroundings.clock.now();
        let walks = Arc::clone(&self.walks);
        self.write(move |connection| {
            let mut walks = walks.lock().unwrap_or_else(PoisonError::into_inner);
            delivery_claims::claim(connection, &slots, &mut walks, now, lease).map(Done::quiet)
        })
        .await
    }

    async fn finish_attempt(
        &self,
        lease: Lease,
        attempt: FinishedAttempt,
    ) -> Result<Option<DisabledReason>, StoreError> {
        let now = self.surroundings.clock.now();
        self.write(move |connection| deliveries::finish(connection, lease, &attempt, now).map(Done::quiet))
            .await
    }

    async fn delete_expired_across_tenants(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        self.write(move |connection| expiry::delete(connection, before, limit)).await
    }

    async fn delete_records_across_tenants(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError> {
        self.write(move |connection| {
            let records = deletion::delete_records(connection, before, limit)?;
            let days = usage::delete(connection, Day::of(before), limit)?;
            Ok(Done::quiet(records + days))
        })
        .await
    }

    async fn claim_key(
        &self,
        tenant: &TenantId,
        request: KeyedRequest,
        terms: KeyTerms,
    ) -> Result<Keyed, StoreError> {
        let (claim, now) = (self.surroundings.claim(), self.surroundings.clock.now());
        let tenant = tenant.clone();
        self.write(move |connection| {
            idempotency::claim(connection, &tenant, &request, claim, terms, now).map(Done::quiet)
        })
        .await
    }

    async fn finish_key(
        &self,
        tenant: &TenantId,
        claim: KeyClaim,
        answer: Option<KeptAnswer>,
    ) -> Result<(), StoreError> {
        let tenant = tenant.clone();
        self.write(move |connection| {
            idempotency::finish(connection, &tenant, &claim, answer.as_ref()).map(Done::quiet)
        })
        .await
    }

    async fn release_key(&self, tenant: &TenantId, claim: KeyClaim) -> Result<(), StoreError> {
        let tenant = tenant.clone();
        self.write(move |connection| idempotency::release(connection, &tenant, &claim).map(Done::quiet)).await
    }

    async fn delete_keys_across_tenants(&self, limit: usize) -> Result<usize, StoreError> {
        let now = self.surroundings.clock.now();
        self.write(move |connection| idempotency::delete(connection, now, limit).map(Done::quiet)).await
    }

    async fn sealed_webhooks_across_tenants(
        &self,
        after: Option<WebhookId>,
        limit: usize,
    ) -> Result<Vec<SealedWebhook>, StoreError> {
        self.read(move |connection| sealed::webhooks(connection, after, limit)).await
    }

    async fn reseal_webhook(&self, was: SealedWebhook, sealed: Sealed) -> Result<bool, StoreError> {
        self.write(move |connection| sealed::reseal_webhook(connection, &was, &sealed).map(Done::quiet)).await
    }

    async fn sealed_answers_across_tenants(
        &self,
        after: Option<(TenantId, [u8; 32])>,
        limit: usize,
    ) -> Result<Vec<SealedAnswer>, StoreError> {
        self.read(move |connection| sealed::answers(connection, after.as_ref(), limit)).await
    }

    async fn reseal_answers_across_tenants(
        &self,
        answers: Vec<(SealedAnswer, Vec<u8>)>,
    ) -> Result<usize, StoreError> {
        self.write(move |connection| sealed::reseal_answers(connection, &answers).map(Done::quiet)).await
    }

    async fn list_earlier_results_across_tenants(&self, limit: usize) -> Result<usize, StoreError> {
        self.write(move |connection| listings::catch_up(connection, limit).map(Done::quiet)).await
    }

    async fn release_across_tenants(&self) -> Result<(), StoreError> {
        let now = self.surroundings.clock.now();
        self.write(move |connection| Ok(Done::quiet(claims::release_all(connection, now)?))).await
    }

    async fn stats_across_tenants(
        &self,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, Stats>, StoreError> {
        let (tenants, now) = (tenants.to_vec(), self.surroundings.clock.now());
        self.read(move |connection| stats::of(connection, tenants, now)).await
    }

    async fn resources(&self) -> Result<Resources, StoreError> {
        let path = self.path.clone();
        // The disk may hang.
        let look = tokio::task::spawn_blocking(move || file::sizes(&path)).await;
        let sizes = look.map_err(std::io::Error::other).and_then(|sizes| sizes);
        let (database, log) = sizes.map_err(|error| StoreError::Unavailable(Box::new(error)))?;
        Ok(Resources::File { database, log })
    }

    async fn attempts(
        &self,
        tenant: &TenantId,
        delivery: DeliveryId,
    ) -> Result<Vec<RecordedAttempt>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| deliveries::attempts(connection, &tenant, delivery)).await
    }

    async fn deliveries_of_call(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
    ) -> Result<Vec<RecordedDelivery>, StoreError> {
        let (tenant, call_id) = (tenant.clone(), call_id.clone());
        self.read(move |connection| deliveries::of_call(connection, &tenant, &call_id)).await
    }

    async fn list_deliveries(
        &self,
        tenant: &TenantId,
        page: DeliveryPage,
    ) -> Result<Vec<RecordedDelivery>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| deliveries::list(connection, &tenant, &page)).await
    }

    async fn find_delivery(
        &self,
        tenant: &TenantId,
        delivery: DeliveryId,
    ) -> Result<Option<RecordedDelivery>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| deliveries::find(connection, &tenant, delivery)).await
    }

    async fn redeliver(&self, tenant: &TenantId, delivery: DeliveryId) -> Result<Sending, StoreError> {
        let (tenant, now) = (tenant.clone(), self.surroundings.clock.now());
        self.write(move |connection| deliveries::send_again(connection, &tenant, delivery, now)).await
    }

    async fn add_webhook(&self, tenant: &TenantId, webhook: Webhook) -> Result<bool, StoreError> {
        let tenant = tenant.clone();
        self.write(move |connection| webhooks::add(connection, &tenant, &webhook).map(Done::quiet)).await
    }

    async fn find_webhook(&self, tenant: &TenantId, id: WebhookId) -> Result<Option<Webhook>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| webhooks::find(connection, &tenant, id)).await
    }

    async fn list_webhooks(&self, tenant: &TenantId) -> Result<Vec<Webhook>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| webhooks::list(connection, &tenant)).await
    }

    async fn change_webhook(
        &self,
        tenant: &TenantId,
        webhook: Webhook,
        forgive: bool,
    ) -> Result<bool, StoreError> {
        let (tenant, now) = (tenant.clone(), self.surroundings.clock.now());
        self.write(move |connection| webhooks::change(connection, &tenant, &webhook, forgive, now)).await
    }

    async fn delete_webhook(&self, tenant: &TenantId, id: WebhookId) -> Result<bool, StoreError> {
        let (tenant, now) = (tenant.clone(), self.surroundings.clock.now());
        self.write(move |connection| webhooks::delete(connection, &tenant, id, now).map(Done::quiet)).await
    }

    async fn webhook_activities(
        &self,
        tenant: &TenantId,
        ids: Vec<WebhookId>,
    ) -> Result<Vec<Activity>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| {
            ids.iter().map(|id| webhooks::activity(connection, &tenant, *id)).collect()
        })
        .await
    }

    async fn test_webhook(
        &self,
        tenant: &TenantId,
        id: WebhookId,
        trace: TraceContext,
    ) -> Result<Sending, StoreError> {
        let (around, tenant) = (Arc::clone(&self.surroundings), tenant.clone());
        self.write(move |connection| webhooks::test(connection, &around, &tenant, id, trace)).await
    }

    async fn count_events(&self, tenant: &TenantId, span: ReplaySpan) -> Result<ReplayCount, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| replays::count(connection, &tenant, &span)).await
    }

    async fn begin_replay(&self, tenant: &TenantId, replay: Replay) -> Result<ReplayBegin, StoreError> {
        let tenant = tenant.clone();
        self.write(move |connection| replays::begin(connection, &tenant, &replay)).await
    }

    async fn find_replay(
        &self,
        tenant: &TenantId,
        webhook: WebhookId,
        replay: ReplayId,
    ) -> Result<Option<Replay>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| replays::find(connection, &tenant, webhook, replay)).await
    }

    async fn advance_replays_across_tenants(&self) -> Result<Advanced, StoreError> {
        let around = Arc::clone(&self.surroundings);
        self.write(move |connection| replays::advance(connection, &around)).await
    }

    async fn events_after(
        &self,
        tenant: &TenantId,
        after: FeedPosition,
        limits: PageLimits,
    ) -> Result<Vec<FeedEvent>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| feed::events_after(connection, &tenant, after, limits)).await
    }

    async fn feed_end(&self, tenant: &TenantId) -> Result<FeedPosition, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| feed::end(connection, &tenant)).await
    }

    async fn feed_position(&self, tenant: &TenantId, event: EventId) -> Result<FeedPosition, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| feed::position(connection, &tenant, event)).await
    }

    async fn pace(&self, tenant: &TenantId) -> Result<Option<Pace>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| paces::find(connection, &tenant)).await
    }

    async fn usage(&self, tenant: &TenantId, from: Day, to: Day) -> Result<Vec<(Day, Usage)>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |connection| usage::between(connection, &tenant, from, to)).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        // A write that changes nothing and yet has to reach the disk: a dead or full one must show.
        self.write(|connection| {
            connection.pragma_update(None, "user_version", file::MIGRATIONS.len())?;
            Ok(Done::quiet(()))
        })
        .await
    }

    fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Nobody else has the file.
    fn is_current(&self) -> bool {
        true
    }
}
