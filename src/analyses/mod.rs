//! The use cases: submit a call or many, get an analysis (from memory, from the store, from the vendor), wait for it, list
//! and search, delete, see what was used; register webhooks and follow what is sent to them.

mod batch;
mod cache;
mod cursor;
mod deletion;
mod feed;
mod listing;
mod lookup;
mod representation;
mod usage;
mod waiters;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

pub use self::batch::BatchItem;
use self::cache::{Key, RepresentationCache};
pub use self::cursor::InvalidCursor;
pub use self::feed::{EventStream, Feed, FeedPage, Start, StreamItem, TooManyStreams};
pub use self::listing::Listing;
use self::lookup::Lookups;
pub use self::representation::{Representation, entity_tag};
use self::waiters::Waiters;
pub use self::webhooks::{
    DeliveryList, DeliveryWithAttempts, HeaderChanges, Registration, ReplayRequest, WebhookChange,
    WebhookState, Webhooks, WebhooksError,
};
use crate::alovoice::{Recording, RecordingRequest, VendorClient, VendorPermits};
use crate::callbacks::{Forbidden, Guard};
use crate::config::Settings;
use crate::domain::analysis::{Status, Submission};
use crate::domain::ids::CallId;
use crate::domain::lifecycle::VendorFault;
use crate::domain::trace::TraceContext;
use crate::domain::transcript::Transcript;
use crate::env::Env;
use crate::store::{Change, Store, StoreError, StoredAnalysis};
use crate::telemetry::spans;
use crate::tenants::Tenant;

/// How long the store is asked before memory answers, while changes by other replicas may go unheard.
const CUT_OFF_PATIENCE: Duration = Duration::from_secs(1);

/// Why a use case did not end well.
#[derive(Debug, thiserror::Error)]
pub enum AnalysesError {
    /// Neither the tenant nor its vendor account has this call.
    #[error("there is no analysis of this call")]
    NotFound,
    /// There is an analysis, but no result (yet).
    #[error("the analysis has no result")]
    NoResult {
        /// How far it is.
        status: Status,
        /// When to ask again.
        retry_after: Option<Duration>,
    },
    /// The cursor belongs to another list.
    #[error("the cursor is not one of this list")]
    InvalidCursor(#[from] InvalidCursor),
    /// The vendor has no recording of the call.
    #[error("there is no recording of this call")]
    NoRecording,
    /// The callback's URL points where none may go.
    #[error("the callback's address is forbidden")]
    CallbackForbidden(#[from] Forbidden),
    /// Callbacks are signed, and this tenant has nothing to sign with.
    #[error("the tenant has no callback secret")]
    NoCallbackSecret,
    /// The vendor had to be asked, and could not be.
    #[error("the vendor could not be asked")]
    VendorUnavailable {
        /// The vendor's `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What became of a submission.
#[derive(Debug)]
pub struct Submitted {
    /// The analysis as it stands.
    pub representation: Representation,
    /// Whether an outcome is still to come.
    pub under_way: bool,
}

/// The use cases about analyses.
pub struct Analyses {
    env: Env,
    store: Arc<dyn Store>,
    /// Client for calls that were never submitted here.
    vendor: Arc<VendorClient>,
    vendor_permits: Arc<VendorPermits>,
    guard: Guard,
    /// Cancelled when the gateway drains; waiting callers are answered then.
    draining: CancellationToken,
    cache: RepresentationCache,
    lookups: Lookups,
    waiters: Waiters,
}

impl Analyses {
    /// Creates the use cases with an empty cache. Waits end early once `draining` is cancelled.
    pub fn new(
        settings: &Settings,
        env: Env,
        store: Arc<dyn Store>,
        (vendor, vendor_permits): (Arc<VendorClient>, Arc<VendorPermits>),
        draining: CancellationToken,
    ) -> Self {
        Self {
            env,
            store,
            vendor,
            vendor_permits,
            guard: Guard::new(&settings.callbacks),
            draining,
            cache: RepresentationCache::new(&settings.cache),
            lookups: Lookups::new(),
            waiters: Waiters::default(),
        }
    }

    /// Checks a submission's callback without writing anything.
    ///
    /// # Errors
    /// If it may not go there, or could not be signed.
    pub fn admit(&self, tenant: &Tenant, submission: &Submission) -> Result<(), AnalysesError> {
        if let Some(callback) = &submission.callback {
            self.guard.admit(callback)?;
            if tenant.callback_secrets().is_empty() {
                return Err(AnalysesError::NoCallbackSecret);
            }
        }
        Ok(())
    }

    /// Takes a submission; it is on disk when this returns.
    ///
    /// # Errors
    /// As [`Analyses::admit`], and if the store fails.
    pub async fn submit(&self, tenant: &Tenant, submission: Submission) -> Result<Submitted, AnalysesError> {
        self.admit(tenant, &submission)?;
        let key = (tenant.id().clone(), submission.call_id.clone());
        let span = spans::store_call("submit", &key.0, &key.1);
        let submit = self.store.submit(tenant.id(), submission);
        let found = spans::run(span, StoreError::label, submit).await?;
        self.cache.invalidate(&key);
        let under_way = found.analysis.is_under_way();
        Ok(Submitted { representation: Representation::new(found)?, under_way })
    }

    /// The analysis of a call; with `wait`, when it is finished or the time is up.
    ///
    /// # Errors
    /// [`AnalysesError::NotFound`] also for another tenant's call.
    pub async fn get(
        &self,
        tenant: &Tenant,
        call_id: &CallId,
        wait: Option<Duration>,
        trace: TraceContext,
    ) -> Result<Arc<Representation>, AnalysesError> {
        let key = (tenant.id().clone(), call_id.clone());
        let Some(wait) = wait else { return self.read(tenant, &key, trace).await };
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            // Joined before the read, so that no change falls between the two.
            let mut waiting = self.waiters.join(key.clone());
            let representation = self.read(tenant, &key, trace).await?;
            if representation.status.is_finished() {
                return Ok(representation);
            }
            tokio::select! {
                () = waiting.changed() => {}
                () = tokio::time::sleep_until(deadline) => return Ok(representation),
                () = self.draining.cancelled() => return Ok(representation),
            }
        }
    }

    /// The talk of a call.
    ///
    /// # Errors
    /// [`AnalysesError::NoResult`] until the analysis is completed.
    pub async fn transcript(
        &self,
        tenant: &Tenant,
        call_id: &CallId,
        trace: TraceContext,
    ) -> Result<Transcript, AnalysesError> {
        let StoredAnalysis { analysis, result } =
            self.find(tenant, &(tenant.id().clone(), call_id.clone()), trace).await?;
        let retry_after = analysis.retry_after(self.env.clock.now());
        let result = result.ok_or(AnalysesError::NoResult { status: analysis.status, retry_after })?;
        Ok(Transcript {
            call_id: analysis.call_id,
            revision: analysis.revision,
            begin_time: result.begin_time,
            turns: result.transcript,
        })
    }

    /// The vendor's answer that the result was read from, byte for byte.
    ///
    /// # Errors
    /// [`AnalysesError::NoResult`] until the analysis is completed.
    pub async fn vendor_answer(
        &self,
        tenant: &Tenant,
        call_id: &CallId,
        trace: TraceContext,
    ) -> Result<Bytes, AnalysesError> {
        if let Some(answer) = self.store.find_vendor_answer(tenant.id(), call_id).await? {
            return Ok(answer);
        }
        let found = self.find(tenant, &(tenant.id().clone(), call_id.clone()), trace).await?;
        let retry_after = found.analysis.retry_after(self.env.clock.now());
        let none = AnalysesError::NoResult { status: found.analysis.status, retry_after };
        self.store.find_vendor_answer(tenant.id(), call_id).await?.ok_or(none)
    }

    /// Opens the recording of a call for streaming. `headers` are the caller's headers that are in
    /// [`REQUEST_HEADERS`](crate::alovoice::REQUEST_HEADERS).
    ///
    /// # Errors
    /// [`AnalysesError::NoResult`] until the analysis is completed, [`AnalysesError::NoRecording`] if the vendor
    /// named none on its own host.
    pub async fn recording(
        &self,
        tenant: &Tenant,
        call_id: &CallId,
        head: bool,
        headers: &[(&'static str, Vec<u8>)],
        trace: TraceContext,
    ) -> Result<Recording, AnalysesError> {
        let path = self.recording_path(tenant, call_id, trace).await?;
        let unavailable =
            |fault: VendorFault| AnalysesError::VendorUnavailable { retry_after: fault.retry_after };
        let request = RecordingRequest { path: &path, head, headers };
        let recording = self.vendor.recording((tenant.id(), call_id), request, trace).await;
        let recording = recording.map_err(unavailable)?;
        if recording.status() == 404 { Err(AnalysesError::NoRecording) } else { Ok(recording) }
    }

    /// Where the vendor said that the recording of a call is, on its host.
    ///
    /// # Errors
    /// As [`Analyses::recording`]; the vendor is not asked for the recording.
    pub async fn recording_path(
        &self,
        tenant: &Tenant,
        call_id: &CallId,
        trace: TraceContext,
    ) -> Result<String, AnalysesError> {
        let StoredAnalysis { analysis, result } =
            self.find(tenant, &(tenant.id().clone(), call_id.clone()), trace).await?;
        let retry_after = analysis.retry_after(self.env.clock.now());
        let result = result.ok_or(AnalysesError::NoResult { status: analysis.status, retry_after })?;
        result.audio_path.ok_or(AnalysesError::NoRecording)
    }

    /// Bytes of finished analyses in memory.
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
        // Cut off from what others change, the store is asked first, and the cache only if it does not answer.
        let current = cached.is_some() && self.store.is_current();
        if let (Some(representation), true) = (&cached, current) {
            self.env.metrics.cache_hits.inc();
            return Ok(Arc::clone(representation));
        }
        self.env.metrics.cache_misses.inc();
        let epoch = self.cache.epoch(key);
        let find = self.find(tenant, key, trace);
        let found = match cached {
            None => find.await?,
            Some(representation) => match tokio::time::timeout(CUT_OFF_PATIENCE, find).await {
                Ok(Err(AnalysesError::Store(StoreError::Unavailable(_)))) | Err(_) => {
                    tracing::warn!("answered from memory: the store does not answer");
                    return Ok(representation);
                }
                Ok(found) => found?,
            },
        };
        let representation = Arc::new(Representation::new(found)?);
        if representation.status.is_finished() {
            self.cache.insert(key, epoch, Arc::clone(&representation));
        }
        Ok(representation)
    }

    /// From the store, or else from the vendor.
    async fn find(
        &self,
        tenant: &Tenant,
        key: &Key,
        trace: TraceContext,
    ) -> Result<StoredAnalysis, AnalysesError> {
        let store = &self.store;
        let span = spans::store_call("find", &key.0, &key.1);
        let find = store.find_analysis(&key.0, &key.1);
        if let Some(found) = spans::run(span, StoreError::label, find).await? {
            return Ok(found);
        }
        self.lookups.adopt(self, tenant, key, trace).await?;
        store.find_analysis(&key.0, &key.1).await?.ok_or(AnalysesError::NotFound)
    }
}
