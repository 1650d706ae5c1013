//! The use cases. [`Analyses`] submits, reads, lists and deletes analyses. [`Feed`] reads events. [`Webhooks`] manages webhooks
//! and their deliveries.
//!
//! An analysis is read from the cache, else from the store, else from the vendor. Commits of any replica invalidate the cache.

mod batch;
mod cache;
mod compression;
mod cursor;
mod deletion;
mod error;
mod feed;
mod listing;
mod lookup;
mod memory_budget;
mod prober;
mod refresh;
mod renderings;
mod representation;
mod results;
mod submission;
mod usage;
mod waiters;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

pub use self::batch::BatchItem;
use self::cache::{Key, RepresentationCache};
pub use self::cursor::InvalidCursor;
pub use self::error::AnalysesError;
pub use self::feed::{EventStream, Feed, FeedPage, Start, StreamItem, TooManyStreams};
pub use self::listing::Listing;
use self::lookup::Lookups;
pub use self::memory_budget::{MemoryBudget, MemoryPermit, MemoryUsedUp};
pub use self::prober::Prober;
pub use self::renderings::{RENDERING, RENDERINGS};
pub use self::representation::{Representation, entity_tag};
use self::waiters::Waiters;
pub use self::webhooks::{
    DeliveryPage, HeaderChanges, Preview, PreviewSubject, Registration, ReplayRequest, WebhookChange,
    WebhookState, Webhooks, WebhooksError,
};
use crate::alovoice::{VendorClient, VendorPermits};
use crate::callbacks::Guard;
use crate::config::Settings;
use crate::domain::ids::CallId;
use crate::domain::trace::TraceContext;
use crate::env::Env;
use crate::store::{Change, Store, StoreError, StoredAnalysis};
use crate::telemetry::spans;
use crate::tenants::Tenant;

/// Maximum time that a read waits for the store while this replica may miss changes by other replicas. After this time, the cache
/// answers the read. At other times the cache answers first.
const CUT_OFF_PATIENCE: Duration = Duration::from_secs(1);

/// Number of copies of a result in memory while a request reads the result: the text, the parsed form, and the answer.
const COPIES: usize = 3;

/// The use cases about analyses.
pub struct Analyses {
    env: Env,
    store: Arc<dyn Store>,
    /// Memory budget of large results.
    memory: Arc<MemoryBudget>,
    /// Client of the vendor, for recordings and for calls that were never submitted here.
    vendor: Arc<VendorClient>,
    vendor_permits: Arc<VendorPermits>,
    prober: Arc<Prober>,
    guard: Guard,
    /// Token that is cancelled when the gateway drains. Waiting callers then get their answers.
    draining: CancellationToken,
    cache: Arc<RepresentationCache>,
    /// Held while a large body is compressed.
    compressing: Arc<Mutex<()>>,
    lookups: Lookups,
    waiters: Waiters,
    /// Memory budget of renderings.
    renderings: Arc<MemoryBudget>,
}

impl Analyses {
    /// Creates the use cases with an empty cache and the memory budgets of large results and of renderings. Waiting requests end
    /// early once `draining` is cancelled.
    pub fn new(
        settings: &Settings,
        env: Env,
        store: Arc<dyn Store>,
        (memory, renderings): (Arc<MemoryBudget>, Arc<MemoryBudget>),
        (vendor, vendor_permits, prober): (Arc<VendorClient>, Arc<VendorPermits>, Arc<Prober>),
        draining: CancellationToken,
    ) -> Self {
        Self {
            env,
            store,
            memory,
            vendor,
            vendor_permits,
            prober,
            guard: Guard::new(&settings.callbacks),
            draining,
            cache: Arc::new(RepresentationCache::new(&settings.cache)),
            compressing: Arc::default(),
            lookups: Lookups::new(),
            waiters: Waiters::default(),
            renderings,
        }
    }

    /// Returns the analysis of a call. With `wait`, returns when the analysis is finished and no reanalysis of the call
    /// is in progress, or when `wait` has elapsed.
    ///
    /// # Errors
    /// [`AnalysesError::NotFound`], also for another tenant's call. [`AnalysesError::VendorUnavailable`] if only the vendor could
    /// answer. [`AnalysesError::MemoryUsedUp`] if there is no memory for a large result in time. [`AnalysesError::Store`] if the
    /// store fails.
    pub async fn get(
        &self,
        tenant: &Tenant,
        call_id: &CallId,
        wait: Option<Duration>,
        trace: TraceContext,
    ) -> Result<Arc<Representation>, AnalysesError> {
        let key = (tenant.id().clone(), call_id.clone());
        let Some(wait) = wait else { return self.read(tenant, &key, trace).await };
        Box::pin(self.read_when(tenant, &key, wait, trace, |representation| !representation.under_way)).await
    }

    /// Reads the analysis of a call. Waits until the analysis meets the condition `is_met`, or until `wait` has
    /// elapsed.
    async fn read_when(
        &self,
        tenant: &Tenant,
        key: &Key,
        wait: Duration,
        trace: TraceContext,
        is_met: impl Fn(&Representation) -> bool + Send,
    ) -> Result<Arc<Representation>, AnalysesError> {
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            // The registration precedes the read, so that no change between the two is missed.
            let mut waiting = self.waiters.join(key.clone());
            let representation = self.read(tenant, key, trace).await?;
            if is_met(&representation) {
                return Ok(representation);
            }
            tokio::select! {
                () = waiting.changed() => {}
                () = tokio::time::sleep_until(deadline) => return Ok(representation),
                () = self.draining.cancelled() => return Ok(representation),
            }
        }
    }

    /// Returns the size of the cache in bytes.
    pub fn cached_bytes(&self) -> u64 {
        self.cache.bytes()
    }

    /// Invalidates cached analyses that changed and wakes their waiting callers, until `stop` is cancelled.
    pub async fn follow_changes(self: Arc<Self>, mut changes: Receiver<Change>, stop: CancellationToken) {
        loop {
            let change = tokio::select! {
                change = changes.recv() => change,
                () = stop.cancelled() => return,
            };
            match change {
                Ok(Change::Analysis(tenant, call_id)) => {
                    let key = (tenant, call_id);
                    self.cache.invalidate(&key);
                    self.waiters.wake(&key);
                }
                Ok(Change::Event(_) | Change::Work(_) | Change::Delivery | Change::Replay) => {}
                Ok(Change::Everything) | Err(RecvError::Lagged(_)) => {
                    self.cache.invalidate_all();
                    self.waiters.wake_all();
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    async fn read(
        &self,
        tenant: &Tenant,
        key: &Key,
        trace: TraceContext,
    ) -> Result<Arc<Representation>, AnalysesError> {
        let cached = self.cache.get(key);
        // While changes by other replicas may be missed, the store answers first. The cache answers only if the store
        // does not.
        let current = cached.is_some() && self.store.is_current();
        if let (Some(representation), true) = (&cached, current) {
            self.env.metrics.cache_hits.inc();
            return Ok(Arc::clone(representation));
        }
        self.env.metrics.cache_misses.inc();
        let epoch = self.cache.epoch(key);
        // The box keeps the future of a cached read small.
        let find = Box::pin(self.find(tenant, key, trace));
        let (found, _memory) = match cached {
            None => find.await?,
            Some(representation) => match tokio::time::timeout(CUT_OFF_PATIENCE, find).await {
                Ok(Err(AnalysesError::Store(StoreError::Unavailable(_)))) | Err(_) => {
                    tracing::warn!("store unavailable: answered from the cache");
                    return Ok(representation);
                }
                Ok(found) => found?,
            },
        };
        let representation = Arc::new(Representation::new(found, &self.env.public_url)?);
        if representation.status.is_finished() {
            self.cache.insert(key, epoch, Arc::clone(&representation));
        }
        Ok(representation)
    }

    /// Reads the analysis from the store, else from the vendor. A large result comes with a permit for its memory.
    async fn find(
        &self,
        tenant: &Tenant,
        key: &Key,
        trace: TraceContext,
    ) -> Result<(StoredAnalysis, Option<MemoryPermit>), AnalysesError> {
        let span = spans::store_call("find", &key.0, &key.1);
        let find = self.find_stored(key);
        if let Some(found) = spans::run(span, AnalysesError::label, find).await? {
            return Ok(found);
        }
        self.lookups.adopt(self, tenant, key, trace).await?;
        self.find_stored(key).await?.ok_or(AnalysesError::NotFound)
    }

    async fn find_stored(
        &self,
        (tenant, call_id): &Key,
    ) -> Result<Option<(StoredAnalysis, Option<MemoryPermit>)>, AnalysesError> {
        let read = |max_bytes| self.store.find_analysis_within(tenant, call_id, max_bytes);
        self.sized(tenant, COPIES, read).await
    }
}
