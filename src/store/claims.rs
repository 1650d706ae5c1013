//! Claims of work by lease: how much may be claimed, and what a claim returns.

use bytes::Bytes;

use crate::domain::analysis::Analysis;
use crate::domain::clock::Timestamp;
use crate::domain::deliveries::Delivery;
use crate::domain::ids::{TenantId, WebhookId};
use crate::domain::webhooks::SealedSecrets;

/// The two queues of work on analyses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Queue {
    /// Calls to submit to the vendor.
    Submits,
    /// Results to ask the vendor for.
    Polls,
}

/// The right to write the outcome of a piece of work, until the lease ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    pub(crate) row: i64,
    /// The fencing token.
    pub(crate) fence: i64,
}

/// The tables whose rows are leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leased {
    Analysis,
    Delivery,
}

/// A claimed analysis.
#[derive(Debug, Clone)]
pub struct ClaimedWork {
    /// The lease that every later write must carry.
    pub lease: Lease,
    /// The analysis as the claim left it. A claimed submit is already marked as unconfirmed.
    pub analysis: Analysis,
}

/// The outcome of a claim.
#[derive(Debug, Clone)]
pub struct ClaimBatch<T> {
    /// The claimed work.
    pub claimed: Vec<T>,
    /// When the next unclaimed piece of work is due, as far as the claim looked.
    pub next_due: Option<Timestamp>,
}

/// How much work of one tenant may be claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkSlots {
    /// The tenant whose work may be claimed.
    pub tenant: TenantId,
    /// The limit of this claim.
    pub free: usize,
    /// The limit of work in progress, on all replicas. Simultaneous claims may exceed it once.
    pub most: usize,
}

/// The webhook of a claimed delivery, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedWebhook {
    /// The webhook's id.
    pub id: WebhookId,
    /// The webhook's version, which every change raises.
    pub version: u32,
    /// The webhook's secrets and headers.
    pub sealed: SealedSecrets,
}

/// A claimed delivery, whose attempt is already recorded.
#[derive(Debug, Clone)]
pub struct ClaimedDelivery {
    /// The lease that every later write must carry.
    pub lease: Lease,
    /// The delivery; `attempts` counts the attempt that begins now.
    pub delivery: Delivery,
    /// The webhook; `None` for the callback of a submission.
    pub webhook: Option<ClaimedWebhook>,
    /// The body to send, byte for byte.
    pub body: Bytes,
}

/// How many deliveries may be claimed.
#[derive(Debug, Clone, Default)]
pub struct DeliverySlots {
    /// The tenants whose deliveries may be claimed.
    pub tenants: Vec<TenantId>,
    /// The limit of this claim.
    pub total: usize,
    /// The limit of body bytes; the delivery that exceeds it is the last one claimed.
    pub bytes: usize,
    /// The limit of one tenant's deliveries in progress, on all replicas.
    pub per_tenant: usize,
    /// The limit of deliveries in progress to one receiver of a tenant.
    pub per_receiver: usize,
}
