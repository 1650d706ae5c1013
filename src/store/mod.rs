//! Where analyses, events and deliveries live: one trait, made for two engines, and the only place with SQL.
//!
//! What every engine promises:
//!
//! - An answer means that the change is on disk.
//! - A change of state, its event and its deliveries are one transaction. The transition itself is the domain's
//!   ([`crate::domain::lifecycle`]), run on the row as it stands inside that transaction. So is what a completion
//!   teaches about the tenant's pace.
//! - Work is claimed by lease: a claim pushes `due_at` to the lease's end and raises the row's fence, and every
//!   later write carries that fence. A worker that stalled past its lease gets [`StoreError::LeaseLost`].
//! - Claiming a submit writes down that its outcome is unknown, before the request leaves.
//! - No transaction is open while anything outside is waited for.
//!
//! [`copy`] carries everything from the one engine to the other.

pub mod copy;
mod endpoints;
pub mod postgres;
mod sealed;
mod selection;
pub mod sqlite;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::broadcast;

pub use self::endpoints::{Activity, Advanced, ClaimedEndpoint, RecordedDelivery, ReplayBegin, Sending};
pub use self::sealed::{SealedAnswer, SealedWebhook};
use crate::domain::analysis::{Analysis, AnalysisResult, Obtained, Status, Submission};
use crate::domain::audit::{Actor, AuditRecord};
use crate::domain::clock::{Clock, Entropy, Timestamp};
use crate::domain::deliveries::{Delivery, DeliveryPage};
use crate::domain::events::EventKind;
use crate::domain::feed::{FeedEvent, FeedPosition, PageLimits};
use crate::domain::idempotency::{KeptAnswer, KeyedRequest};
use crate::domain::ids::{CallId, DeliveryId, EventId, ReplayId, TenantId, WebhookId};
use crate::domain::lifecycle::Step;
use crate::domain::listing::{Listed, Page};
use crate::domain::pace::Pace;
use crate::domain::polling::PollingPolicy;
use crate::domain::replays::{Replay, ReplayCount, ReplaySpan};
use crate::domain::retries::Next;
use crate::domain::trace::TraceContext;
use crate::domain::usage::{Day, Usage};
use crate::domain::webhooks::{DisabledReason, Sealed, Webhook};
use crate::telemetry::metrics::Metrics;

/// Events that came within so long of each other may stand in either order in the feed: longer than a transaction lasts.
const FEED_DISORDER: Duration = Duration::from_mins(1);
/// Whether what was written `at` may stand after an event in the feed.
fn is_younger(event: EventId, at: Timestamp) -> bool {
    at + FEED_DISORDER >= event.generated_at()
}

/// The attempts of one delivery that are kept, the last ones: it may be sent again and again.
const MOST_ATTEMPTS: u32 = 100;
/// What the change feed holds for a slow listener before it is told that it missed some.
const CHANGE_BACKLOG: usize = 4096;

/// Why the store did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The work has a new owner, or is gone: the caller must forget it.
    #[error("the lease was lost")]
    LeaseLost,
    /// The store cannot be used now; later it may.
    #[error("the store cannot be used: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A row that this program did not write, or a later version of it did.
    #[error("the store holds a value that cannot be read: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// One of a few words, fit for a trace.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::LeaseLost => "lease_lost",
            Self::Unavailable(_) => "unavailable",
            Self::Corrupt(_) => "corrupt",
        }
    }
}

/// What an engine needs from the rest of the house.
#[derive(Clone)]
pub struct Surroundings {
    /// The time of every write.
    pub clock: Arc<dyn Clock>,
    /// For ids and jitter.
    pub entropy: Arc<dyn Entropy>,
    /// The rules of the transitions.
    pub policy: PollingPolicy,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Surroundings {
    /// A number that no other claim of a key has, whoever makes it; never below 0: -1 is nobody's.
    fn claim(&self) -> i64 {
        let mut bytes = [0; 8];
        self.entropy.fill(&mut bytes);
        i64::from_be_bytes(bytes) & i64::MAX
    }
}

/// An analysis with its result, if it has one.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The record.
    pub analysis: Analysis,
    /// What the vendor found out.
    pub result: Option<AnalysisResult>,
}

/// Which of an analysis' work is claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Queue {
    /// Calls to be sent to the vendor.
    Submits,
    /// Results to be asked for.
    Polls,
}

/// The right to write the outcome of a piece of work, until its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    pub(crate) row: i64,
    pub(crate) fence: i64,
}

/// A claimed analysis.
#[derive(Debug, Clone)]
pub struct ClaimedWork {
    /// Carries every later write.
    pub lease: Lease,
    /// The analysis as it was claimed. A claimed submit already stands as unconfirmed.
    pub analysis: Analysis,
}

/// A claimed delivery, whose attempt is already written down.
#[derive(Debug, Clone)]
pub struct ClaimedDelivery {
    /// Carries every later write.
    pub lease: Lease,
    /// The delivery; `attempts` counts this one.
    pub delivery: Delivery,
    /// The endpoint it goes to; `None` for a submission's own callback.
    pub endpoint: Option<ClaimedEndpoint>,
    /// What to send, byte for byte.
    pub body: Bytes,
}

/// The right to do a request that came with a key, and to write its answer, until somebody else gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyClaim {
    pub(crate) name: [u8; 32],
    pub(crate) claim: i64,
}

/// How long a request with a key is somebody's, and is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyTerms {
    /// How long it may be under way before another may do it.
    pub lease: Duration,
    /// How long its answer is kept, from its beginning.
    pub kept_for: Duration,
}

/// What the store knows of a request with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keyed {
    /// Nothing: it is the caller's to do now.
    Claimed(KeyClaim),
    /// Somebody does it just now.
    UnderWay,
    /// The key was another request's.
    OfAnother,
    /// It was done; its answer, if that could be kept.
    Done(Option<KeptAnswer>),
}

/// What a claim brought.
#[derive(Debug, Clone)]
pub struct Claims<T> {
    /// The claimed work.
    pub claimed: Vec<T>,
    /// When the next of what was not claimed is due, as far as the claim looked.
    pub next_due: Option<Timestamp>,
}

/// How much of a tenant's work may be claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkSlots {
    /// Whose.
    pub tenant: TenantId,
    /// By this claim.
    pub free: usize,
    /// In all, what is under way included, whoever has it. Claims at the very same moment may pass it once.
    pub most: usize,
}

/// How many deliveries may be claimed.
#[derive(Debug, Clone, Default)]
pub struct DeliverySlots {
    /// Whose.
    pub tenants: Vec<TenantId>,
    /// In all.
    pub total: usize,
    /// Bytes of bodies in all; the claim ends with the one that passes it.
    pub bytes: usize,
    /// Of one tenant, those under way included, whoever has them.
    pub per_tenant: usize,
    /// Of one tenant's receiver, those under way included.
    pub per_receiver: usize,
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub struct FinishedAttempt {
    /// A bounded word for it.
    pub outcome: &'static str,
    /// The version that the endpoint had when this was claimed; `None` for a submission's own callback. It says nothing of
    /// an endpoint that was changed meanwhile.
    pub endpoint_version: Option<u32>,
    /// The receiver's status, if it gave one.
    pub status: Option<u16>,
    /// From the first byte to the last, or to the fault.
    pub latency: Duration,
    /// The fault, for people.
    pub detail: Option<String>,
    /// The first bytes of the receiver's answer.
    pub response: Vec<u8>,
    /// What follows.
    pub next: Next,
}

/// What a step changed.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The analysis as it stands now.
    pub analysis: Analysis,
    /// What was announced.
    pub event: Option<EventKind>,
    /// Looks at the result in the round that the step was part of.
    pub polls: u32,
}

/// What was ended for its deadline.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Each of them, as after a step.
    pub applied: Vec<Applied>,
    /// When the next of the tenants' analyses is past its deadline.
    pub next_due: Option<Timestamp>,
}

/// Numbers of a tenant, for the metrics.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Analyses that are not finished, by status. The others are as many as there is room for: nobody counts those.
    pub unfinished: HashMap<Status, u64>,
    /// How long the oldest piece of due work has waited, by queue.
    pub work_lag: HashMap<Queue, Duration>,
    /// Deliveries whose outcome is open.
    pub pending_deliveries: u64,
    /// How long the oldest due delivery has waited.
    pub delivery_lag: Duration,
    /// Registered endpoints.
    pub webhooks: WebhookCounts,
}

/// A tenant's registered endpoints by what they get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WebhookCounts {
    /// Everything.
    pub enabled: u64,
    /// Little or nothing for now: they failed several times in a row.
    pub paused: u64,
    /// Nothing.
    pub disabled: u64,
}

/// What an engine takes up, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resources {
    /// Of an embedded one: bytes on the disk.
    File {
        /// The file itself.
        database: u64,
        /// The log of what is not in it yet.
        log: u64,
    },
    /// Of one on a server: connections of this process.
    Server {
        /// At work.
        in_use: usize,
        /// Made, and free.
        idle: usize,
        /// The most there may be.
        most: usize,
        /// Pieces of work that wait for one.
        waiting: usize,
    },
}

/// Something was committed that others may wait for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    /// An analysis changed.
    Analysis(TenantId, CallId),
    /// An event of the tenant was written.
    Event(TenantId),
    /// A queue got something due at once.
    Work(Queue),
    /// A delivery is due at once.
    Delivery,
    /// A replay has something to do.
    Replay,
    /// What changed is not known: changes may have been missed.
    Everything,
}

/// The store. Methods on one tenant's data take the tenant first; the others say `across_tenants`.
#[async_trait]
pub trait Store: Send + Sync {
    /// Takes a submission: a new analysis, or a change of the one that stands.
    async fn submit(&self, tenant: &TenantId, submission: Submission) -> Result<Found, StoreError>;

    /// Takes submissions of a tenant, one after another, all of them in one commit or none.
    async fn submit_all(
        &self,
        tenant: &TenantId,
        submissions: Vec<Submission>,
    ) -> Result<Vec<Found>, StoreError>;

    /// Takes a finished answer for a call that was never submitted; one that stands is left alone, one that was deleted
    /// stays so. Whether it was taken.
    async fn adopt(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
        trace: TraceContext,
        obtained: Box<Obtained>,
    ) -> Result<bool, StoreError>;

    /// The analysis of a call.
    async fn find_analysis(&self, tenant: &TenantId, call_id: &CallId) -> Result<Option<Found>, StoreError>;

    /// A part of the list of a tenant's analyses, the newest first.
    async fn list_analyses(&self, tenant: &TenantId, page: Page) -> Result<Vec<Listed>, StoreError>;

    /// Deletes a call with its result, events, deliveries and kept answers, whatever is under way, and leaves a record of
    /// it. Whether there was anything to delete.
    async fn delete_analysis(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
        actor: Actor,
    ) -> Result<bool, StoreError>;

    /// Whether a call was deleted, as far as there is a record of it.
    async fn was_deleted(&self, tenant: &TenantId, call_id: &CallId) -> Result<bool, StoreError>;

    /// The records of a call, the oldest first.
    async fn audit_of_call(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
    ) -> Result<Vec<AuditRecord>, StoreError>;

    /// The vendor's answer that the result was read from, byte for byte.
    async fn find_vendor_answer(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
    ) -> Result<Option<Bytes>, StoreError>;

    /// Claims due work, the oldest first, for each tenant as much as it has slots.
    async fn claim_work_across_tenants(
        &self,
        queue: Queue,
        slots: Vec<WorkSlots>,
        lease: Duration,
    ) -> Result<Claims<ClaimedWork>, StoreError>;

    /// Writes what was found out, with everything that follows from it.
    async fn apply(&self, lease: Lease, step: Step) -> Result<Applied, StoreError>;

    /// Ends what is past its deadline and in nobody's hands, up to `limit`, without another look: for tenants whose vendor
    /// cannot be asked now.
    async fn end_overdue_across_tenants(
        &self,
        tenants: Vec<TenantId>,
        limit: usize,
    ) -> Result<Ended, StoreError>;

    /// Claims due deliveries, fairly over receivers, and writes down the attempts that begin with it.
    async fn claim_deliveries_across_tenants(
        &self,
        slots: DeliverySlots,
        lease: Duration,
    ) -> Result<Claims<ClaimedDelivery>, StoreError>;

    /// Writes how an attempt ended; why its endpoint is disabled with that, if it is.
    async fn finish_attempt(
        &self,
        lease: Lease,
        attempt: FinishedAttempt,
    ) -> Result<Option<DisabledReason>, StoreError>;

    /// Deletes analyses at rest and events from before a moment, up to `limit` of each, with all that hangs on
    /// them; nothing that has work or a delivery to come. How many rows went: fewer than asked for means that all did.
    async fn delete_expired_across_tenants(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError>;

    /// Deletes records of what was done, and numbers of days, before a moment, up to `limit` of each. How many.
    async fn delete_records_across_tenants(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> Result<usize, StoreError>;

    /// Claims a request that came with a key, if nobody has or had it. Of two at once, one gets it.
    async fn claim_key(
        &self,
        tenant: &TenantId,
        request: KeyedRequest,
        terms: KeyTerms,
    ) -> Result<Keyed, StoreError>;

    /// Writes down that a request was done, with its answer if that can be kept. [`StoreError::LeaseLost`] if it is no
    /// longer the caller's.
    async fn finish_key(
        &self,
        tenant: &TenantId,
        claim: KeyClaim,
        answer: Option<KeptAnswer>,
    ) -> Result<(), StoreError>;

    /// Forgets a request that came to nothing: its key is free again.
    async fn release_key(&self, tenant: &TenantId, claim: KeyClaim) -> Result<(), StoreError>;

    /// Forgets requests whose time is over, up to `limit`. How many.
    async fn delete_keys_across_tenants(&self, limit: usize) -> Result<usize, StoreError>;

    /// What is sealed of endpoints, in the order of their ids, from after one on, up to `limit`.
    async fn sealed_webhooks_across_tenants(
        &self,
        after: Option<WebhookId>,
        limit: usize,
    ) -> Result<Vec<SealedWebhook>, StoreError>;

    /// Replaces what is sealed of an endpoint, unless it was changed or deleted meanwhile; whether it was replaced. Whoever
    /// read the endpoint before cannot write it back.
    async fn reseal_webhook(&self, was: SealedWebhook, sealed: Sealed) -> Result<bool, StoreError>;

    /// Kept answers that are sealed, in the order of tenant and name, from after one on, up to `limit`.
    async fn sealed_answers_across_tenants(
        &self,
        after: Option<(TenantId, [u8; 32])>,
        limit: usize,
    ) -> Result<Vec<SealedAnswer>, StoreError>;

    /// Replaces sealed answers, each unless it was changed or forgotten meanwhile, in one commit. How many were replaced.
    async fn reseal_answers_across_tenants(
        &self,
        answers: Vec<(SealedAnswer, Vec<u8>)>,
    ) -> Result<usize, StoreError>;

    /// Lists up to `limit` results from before there were lists. How many; 0 when all are listed.
    async fn list_earlier_results_across_tenants(&self, limit: usize) -> Result<usize, StoreError>;

    /// Gives back what this process still holds, so that another may go on at once.
    async fn release_across_tenants(&self) -> Result<(), StoreError>;

    /// Numbers for the metrics, of each of these tenants. They cost what is under way and waits, however much rests in the
    /// store.
    async fn stats_across_tenants(
        &self,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, Stats>, StoreError>;

    /// What the engine takes up now. It does not wait for the store.
    async fn resources(&self) -> Result<Resources, StoreError>;

    /// The last attempts of a delivery, the first one first: when, how it ended, and the status.
    async fn attempts(
        &self,
        tenant: &TenantId,
        delivery: DeliveryId,
    ) -> Result<Vec<RecordedAttempt>, StoreError>;

    /// The deliveries of a call, the oldest first.
    async fn deliveries_of_call(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
    ) -> Result<Vec<RecordedDelivery>, StoreError>;

    /// A part of the list of a tenant's deliveries, the newest first.
    async fn list_deliveries(
        &self,
        tenant: &TenantId,
        page: DeliveryPage,
    ) -> Result<Vec<RecordedDelivery>, StoreError>;

    /// A delivery.
    async fn find_delivery(
        &self,
        tenant: &TenantId,
        delivery: DeliveryId,
    ) -> Result<Option<RecordedDelivery>, StoreError>;

    /// Makes a delivery due now, whatever became of it, and lets its schedule begin anew; one that is under way is left
    /// alone. A pause of its endpoint ends.
    async fn redeliver(&self, tenant: &TenantId, delivery: DeliveryId) -> Result<Sending, StoreError>;

    /// Registers an endpoint; whether there was room for one more. What happens from now on is sent to it.
    async fn add_webhook(&self, tenant: &TenantId, webhook: Webhook) -> Result<bool, StoreError>;

    /// An endpoint.
    async fn find_webhook(&self, tenant: &TenantId, id: WebhookId) -> Result<Option<Webhook>, StoreError>;

    /// A tenant's endpoints, the oldest first.
    async fn list_webhooks(&self, tenant: &TenantId) -> Result<Vec<Webhook>, StoreError>;

    /// Writes an endpoint that was read before, unless it was changed or deleted meanwhile; whether it was written. Of its
    /// health nothing is written; with `forgive`, what went wrong is forgotten and a pause ends. What happens from now on is
    /// sent by what it says.
    async fn change_webhook(
        &self,
        tenant: &TenantId,
        webhook: Webhook,
        forgive: bool,
    ) -> Result<bool, StoreError>;

    /// Deletes an endpoint with its replays and deliveries; whether there was one. Nothing more is sent to it. Of very many
    /// deliveries, some go a little later.
    async fn delete_webhook(&self, tenant: &TenantId, id: WebhookId) -> Result<bool, StoreError>;

    /// How the youngest deliveries of each of these endpoints go.
    async fn webhook_activities(
        &self,
        tenant: &TenantId,
        ids: Vec<WebhookId>,
    ) -> Result<Vec<Activity>, StoreError>;

    /// The same of one.
    async fn webhook_activity(&self, tenant: &TenantId, id: WebhookId) -> Result<Activity, StoreError> {
        Ok(self.webhook_activities(tenant, vec![id]).await?.pop().unwrap_or_default())
    }

    /// Makes an event that tells of nothing, for one endpoint alone; no feed shows it. A pause of the endpoint ends.
    async fn test_webhook(
        &self,
        tenant: &TenantId,
        id: WebhookId,
        trace: TraceContext,
    ) -> Result<Sending, StoreError>;

    /// How many events a replay would send.
    async fn count_events(&self, tenant: &TenantId, span: ReplaySpan) -> Result<ReplayCount, StoreError>;

    /// Begins a replay. An event that is already on its way is not sent twice; one that arrived or was given up is sent
    /// again, under the same id.
    async fn begin_replay(&self, tenant: &TenantId, replay: Replay) -> Result<ReplayBegin, StoreError>;

    /// A replay to an endpoint.
    async fn find_replay(
        &self,
        tenant: &TenantId,
        webhook: WebhookId,
        replay: ReplayId,
    ) -> Result<Option<Replay>, StoreError>;

    /// Takes one replay that is due a step further: its deliveries and its cursor in one commit.
    async fn advance_replays_across_tenants(&self) -> Result<Advanced, StoreError>;

    /// The tenant's events after a place in its feed, oldest first. Whoever goes on after the last of them sees every event
    /// once, whichever transaction it was written in and whenever that was committed.
    async fn events_after(
        &self,
        tenant: &TenantId,
        after: FeedPosition,
        limits: PageLimits,
    ) -> Result<Vec<FeedEvent>, StoreError>;

    /// Where the tenant's feed ends now.
    async fn feed_end(&self, tenant: &TenantId) -> Result<FeedPosition, StoreError>;

    /// The place after an event. For one that is not kept any more, a place with nothing younger before it: what came
    /// within a minute of it may come again.
    async fn feed_position(&self, tenant: &TenantId, event: EventId) -> Result<FeedPosition, StoreError>;

    /// What was learned of the tenant's processing times; `None` before the first of them.
    async fn pace(&self, tenant: &TenantId) -> Result<Option<Pace>, StoreError>;

    /// What a tenant used on the days from `from` to `to`, both included; days without anything are left out. The embedded
    /// engine counts in the transaction that does it. A server's replicas add up every few seconds: one that is killed may
    /// lose as much, and what a lost connection interrupted may be counted twice or not at all.
    async fn usage(&self, tenant: &TenantId, from: Day, to: Day) -> Result<Vec<(Day, Usage)>, StoreError>;

    /// Whether the store can be written to.
    async fn check(&self) -> Result<(), StoreError>;

    /// Everything committed from now on that others may wait for.
    fn changes(&self) -> broadcast::Receiver<Change>;

    /// Whether [`Store::changes`] tells of everything that others commit, within seconds. While it does not, what is
    /// held in memory may be out of date.
    fn is_current(&self) -> bool;
}

/// An attempt as it stands in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedAttempt {
    /// Counted from 1.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// How it ended; `None` while it is under way, or if its process died.
    pub outcome: Option<String>,
    /// The receiver's status.
    pub status: Option<u16>,
    /// From the first byte to the last.
    pub latency: Option<Duration>,
    /// The fault, for people.
    pub detail: Option<String>,
    /// The first bytes of the receiver's answer.
    pub response: Vec<u8>,
}
