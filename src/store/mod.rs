//! The store: analyses, events, deliveries and webhooks, on `SQLite` or PostgreSQL. This is the only module with SQL.
//!
//! Each subject has a trait. The file that holds the subject's SQL implements the trait, mostly once for both engines.
//! [`Store`] combines the traits. Methods on the data of one tenant take the tenant first. Methods on the rows of several
//! tenants have `across_tenants` in their names.
//!
//! Guarantees of every engine:
//!
//! - A successful write is on disk.
//! - A state change, its event and its deliveries are one transaction. The domain
//!   ([`crate::domain::lifecycle`]) computes the change inside that transaction, from the current row. The same transaction
//!   updates the tenant's learned processing time.
//! - Work is claimed by **lease**: a claim sets `due_at` to the lease's end and raises the row's **fencing token**, which
//!   every later write must carry. When the lease runs out, another worker may claim the row. Then the token of the first
//!   worker is outdated, and its write gets [`StoreError::LeaseLost`].
//! - The claim of a submit marks its outcome as unknown, before the request is sent.
//! - No transaction is open during a request to the vendor or to a receiver.
//! - Lists, searches and other scans of one tenant leave connections free for other tenants and for cheap reads (`scan_limits`),
//!   and examine a bounded number of rows per page (`listings`).
//!
//! [`copy`] copies a `SQLite` store to PostgreSQL.

mod analyses;
mod analysis_rows;
mod attempts;
mod attributes;
mod callbacks;
mod changes;
mod claims;
mod clock;
pub mod copy;
mod deletion;
mod deletion_batches;
mod deliveries;
mod delivery_rows;
mod engine;
mod events;
mod feed;
mod grouped_steps;
mod idempotency;
mod learned_answers;
mod listings;
mod observations;
mod paces;
pub mod postgres;
mod refreshes;
mod refused_work;
mod replay_outcomes;
mod replay_rows;
mod replay_steps;
mod replays;
mod rules;
mod scan_limits;
mod sealed;
mod sealed_urls;
mod selection;
mod sql;
pub mod sqlite;
mod submissions;
mod subscriptions;
mod tables;
mod time_corrections;
mod transitions;
mod unreadable;
mod upkeep;
mod usage;
mod values;
mod webhook_activity;
mod webhook_deletion;
mod webhook_health;
mod webhook_rows;
mod webhooks;
mod work;

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;

use crate::domain::ids::{CallId, TenantId};
use crate::domain::polling::PollingPolicy;
use crate::env::Env;

pub use self::analyses::{AnalysisStore, SizedRead};
pub use self::analysis_rows::StoredAnalysis;
pub use self::attempts::{DeliveryWithAttempts, FinishedAttempt, RecordedAttempt};
pub use self::attributes::AttributeStore;
pub use self::claims::{
    ClaimBatch, ClaimedDelivery, ClaimedWebhook, ClaimedWork, DeliverySlots, Lease, Queue, TenantSlots,
    WorkSlots,
};
pub use self::clock::ClockStore;
pub use self::deliveries::{DeliveryStore, Sending};
pub use self::delivery_rows::{RecordedDelivery, UnreadableDelivery};
pub use self::feed::{FeedRows, FeedStore};
pub use self::idempotency::{IdempotencyKeyStore, KeyClaim, KeyTerms, Keyed};
pub use self::learned_answers::{LearnedAnswersStore, ProbeClaim};
pub use self::refreshes::Refreshing;
pub use self::replay_steps::Advanced;
pub use self::replays::{ReplayBegin, ReplayStore};
pub use self::scan_limits::ScanRefusal;
pub use self::sealed::{SealedAnswer, SealedStore, SealedWebhook};
pub use self::sealed_urls::{StoredUrl, UrlTable};
pub use self::transitions::{Applied, OverdueFailures};
pub use self::upkeep::{Resources, RetentionStore, Stats, StatsStore, WebhookCounts};
pub use self::usage::UsageStore;
pub use self::webhook_activity::WebhookActivity;
pub use self::webhooks::WebhookStore;
pub use self::work::WorkStore;

/// Number of changes that are buffered for a slow listener. A listener that falls further behind gets an error with the
/// number of lost changes.
const CHANGE_BACKLOG: usize = 4096;

/// Reason why a store operation failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another worker owns the work, or the work was deleted. The caller must discard its outcome.
    #[error("the lease was lost")]
    LeaseLost,
    /// The files of the store were removed, replaced or overwritten. The process cannot use the store again.
    #[error("the store is lost: {0}")]
    FileLost(String),
    /// The store cannot be used now. A later attempt may succeed.
    #[error("the store is unavailable: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database refused a statement and will always refuse it, for example because a value is too large.
    #[error("the store rejected a statement: {0}")]
    Rejected(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The read was refused or ended early, so that it does not slow down other requests.
    #[error(transparent)]
    Refused(#[from] ScanRefusal),
    /// A row holds a value that this version of the program cannot read. The text of the error names the column and never
    /// contains the value.
    #[error("the store holds a value that cannot be read: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// Returns whether the same operation may succeed later.
    pub const fn is_temporary(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Refused(_) => true,
            Self::LeaseLost | Self::FileLost(_) | Self::Rejected(_) | Self::Corrupt(_) => false,
        }
    }

    /// Returns the name of the error in traces.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::LeaseLost => "lease_lost",
            Self::FileLost(_) => "file_lost",
            Self::Unavailable(_) => "unavailable",
            Self::Rejected(_) => "rejected",
            Self::Refused(_) => "refused",
            Self::Corrupt(_) => "corrupt",
        }
    }
}

/// Dependencies of the store.
#[derive(Clone)]
pub struct StoreContext {
    /// Environment of the process. Its `clock` sets the time of every write.
    pub env: Env,
    /// Polling policy, which the transitions of analyses follow.
    pub policy: PollingPolicy,
    /// Time limit of one operation, from the wait for a connection to the commit. The other time limits of the database are
    /// computed from this limit. Tests set a longer limit, because the machine may be busy.
    pub operation_timeout: Duration,
}

impl StoreContext {
    /// Time limit of one operation in production.
    pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
}

/// A committed change that other tasks or replicas may wait for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Change {
    /// An analysis changed.
    Analysis(TenantId, CallId),
    /// An event of the tenant was written.
    Event(TenantId),
    /// Work in a queue is due now.
    Work(Queue),
    /// A delivery is due now.
    Delivery,
    /// A replay is due now.
    Replay,
    /// Changes may have been missed, so any row may have changed.
    Everything,
}

/// The whole store: the traits of all subjects, and the operations on the engine itself.
#[async_trait]
pub trait Store:
    AnalysisStore
    + AttributeStore
    + ClockStore
    + DeliveryStore
    + FeedStore
    + IdempotencyKeyStore
    + LearnedAnswersStore
    + ReplayStore
    + RetentionStore
    + SealedStore
    + StatsStore
    + UsageStore
    + WebhookStore
    + WorkStore
    + Send
    + Sync
{
    /// Releases the leases of this process, so that another process can continue its work at once.
    async fn release_across_tenants(&self) -> Result<(), StoreError>;

    /// Reads the resources that the engine uses now. Does not wait for the database.
    async fn resources(&self) -> Result<Resources, StoreError>;

    /// Checks whether the store accepts writes.
    async fn check(&self) -> Result<(), StoreError>;

    /// Subscribes to the changes that are committed from now on.
    fn changes(&self) -> broadcast::Receiver<Change>;

    /// Returns whether [`Store::changes`] reports the commits of all replicas within 5 seconds. While it returns
    /// `false`, cached values may be stale.
    fn is_current(&self) -> bool;
}
