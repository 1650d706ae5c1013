//! Claims of work by lease: how much may be claimed, and what a claim returns.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::domain::analysis::Analysis;
use crate::domain::claim_order::ClaimOrder;
use crate::domain::clock::Timestamp;
use crate::domain::deliveries::Delivery;
use crate::domain::ids::{TenantId, WebhookId};
use crate::domain::receivers::Receivers;
use crate::domain::transforms::{DeliveryMethod, Transform};
use crate::domain::usage::Usage;
use crate::domain::webhooks::SealedSecrets;

/// Maximum number of due analyses of a tenant from which a claim selects, if the claim prefers analyses whose last request did
/// not fail.
pub(super) const UNFAILED_WINDOW: usize = 256;

/// The two queues of work on analyses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Queue {
    /// Calls to submit to the vendor.
    Submits,
    /// Results to request from the vendor.
    Polls,
}

impl Queue {
    /// Returns the condition of the queue's partial index. The engines use the index only if a statement has the condition in the
    /// same form.
    pub(super) const fn condition(self) -> &'static str {
        match self {
            Self::Submits => "stage = 'submit'",
            Self::Polls => "stage <> 'submit'",
        }
    }

    /// Returns the SQL assignments of a claim, except the assignments of its lease. `now` is the placeholder of the present
    /// time. The claim of a submit marks the submit as unconfirmed, because the outcome of the submit is unknown after a crash.
    /// The claim of a poll must not change any indexed column except the columns of its lease.
    pub(super) fn claim_changes(self, now: &str) -> String {
        match self {
            Self::Submits => format!(
                "stage = 'confirm', denied_since = NULL, shapes = NULL, sent_at = {now}, submits = submits + 1, "
            ),
            Self::Polls => String::new(),
        }
    }
}

/// Right to write the outcome of a piece of work, until the lease ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease {
    pub(crate) row: i64,
    /// The fencing token.
    pub(crate) fence: i64,
}

/// A table whose rows are leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leased {
    Analysis,
    Delivery,
}

impl Leased {
    /// Returns the name of the table.
    pub(super) const fn table(self) -> &'static str {
        match self {
            Self::Analysis => "analyses",
            Self::Delivery => "deliveries",
        }
    }
}

/// A claimed analysis.
#[derive(Debug, Clone)]
pub struct ClaimedWork {
    /// Lease of the work. Every later write checks the lease.
    pub lease: Lease,
    /// The analysis after the claim. A claimed submit is already marked as unconfirmed.
    pub analysis: Analysis,
}

/// The outcome of a claim.
#[derive(Debug, Clone)]
pub struct ClaimBatch<T> {
    /// The claimed work.
    pub claimed: Vec<T>,
    /// Leases of claimed rows that this version cannot read.
    pub(crate) unreadable: Vec<Lease>,
    /// Time when the next unclaimed work is due, among the work that the claim has read.
    pub next_due: Option<Timestamp>,
}

/// Limits of one claim for a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkSlots {
    /// The tenant whose work may be claimed.
    pub tenant: TenantId,
    /// Maximum number of analyses in this claim.
    pub free: usize,
    /// Maximum number of analyses in progress, over all replicas. Simultaneous claims may exceed this number briefly.
    pub most: usize,
    /// Order in which the analyses are claimed.
    pub order: ClaimOrder,
}

/// Current state of the webhook of a claimed delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedWebhook {
    /// The webhook's id.
    pub id: WebhookId,
    /// Version of the webhook, which every change increments.
    pub version: u32,
    /// The encrypted secrets and headers of the webhook.
    pub sealed: SealedSecrets,
}

/// SQL condition that a claim evaluates for each of its deliveries. The condition looks at the last earlier attempt that may have
/// sent a request. The condition is true if this attempt has no outcome and belongs to the present round. A round begins when the
/// delivery is created or redelivered. Attempts with the outcomes `unsigned`, `transform` and `forbidden` sent no request. The
/// retry schedule counts every attempt of a round, except `unsigned` attempts of a webhook. The parameter of the macro is the
/// name of the table of deliveries.
macro_rules! follows_unknown {
    ($delivery:literal) => {
        concat!(
            "EXISTS (SELECT 1 FROM attempts AS lost WHERE lost.delivery = ",
            $delivery,
            ".seq AND lost.outcome IS NULL AND NOT EXISTS (SELECT 1 FROM attempts AS later \
             WHERE later.delivery = lost.delivery AND later.number > lost.number \
             AND coalesce(later.outcome, '') NOT IN ('unsigned', 'transform', 'forbidden')) AND ",
            $delivery,
            ".attempts - 1 - ",
            $delivery,
            ".earlier_attempts > (SELECT count(*) FROM attempts AS later WHERE later.delivery = lost.delivery \
             AND later.number > lost.number AND (later.outcome <> 'unsigned' OR ",
            $delivery,
            ".webhook = '')))"
        )
    };
}
pub(super) use follows_unknown;

/// A claimed delivery, whose attempt is already recorded.
#[derive(Debug, Clone)]
pub struct ClaimedDelivery {
    /// Lease of the delivery. Every later write checks the lease.
    pub lease: Lease,
    /// The delivery. Its `attempts` also counts the attempt that begins now.
    pub delivery: Delivery,
    /// Webhook of the delivery; `None` for the callback of a submission.
    pub webhook: Option<ClaimedWebhook>,
    /// The transform that makes the body of the request from `body`. With `None`, the request sends `body` unchanged.
    pub transform: Option<Transform>,
    /// HTTP method of the webhook. With `None`, the transform determines the method.
    pub method: Option<DeliveryMethod>,
    /// Whether the outcome of an earlier attempt of the round is unknown. The outcome is unknown if the last attempt that may
    /// have sent a request has no outcome, because its process ended. Always `false` without a transform.
    pub follows_unknown: bool,
    /// Body of the event, byte for byte.
    pub body: Bytes,
}

/// The slots that one claim may use for a tenant: the tenant's reserved slots, and its share of the shared slots. Each delivery
/// in progress uses one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantSlots {
    /// Number of reserved slots, which other tenants cannot take.
    pub own: usize,
    /// Maximum size of all bodies in the reserved slots, in bytes.
    pub own_bytes: usize,
    /// Maximum size of all bodies of the tenant in the shared slots, in bytes.
    pub shared_bytes: usize,
}

impl TenantSlots {
    /// Slots of a tenant without reserved slots and without a limit of bytes in the shared slots.
    pub(super) const SHARED: Self = Self { own: 0, own_bytes: 0, shared_bytes: usize::MAX };
}

/// Limits of one claim of deliveries.
#[derive(Debug, Clone, Default)]
pub struct DeliverySlots {
    /// Tenants whose deliveries may be claimed.
    pub tenants: Vec<TenantId>,
    /// Maximum number of deliveries in this claim, except for deliveries in reserved slots.
    pub total: usize,
    /// Maximum size of all bodies of the deliveries that `total` limits, in bytes. Only the last claimed delivery may exceed
    /// this size.
    pub bytes: usize,
    /// Slots of each tenant. A tenant that is not listed has no reserved slots.
    pub by_tenant: HashMap<TenantId, TenantSlots>,
    /// Maximum number of deliveries of one tenant in progress, over all replicas.
    pub per_tenant: usize,
    /// Maximum number of deliveries in progress to one receiver of a tenant.
    pub per_receiver: usize,
    /// Health of the receivers. With `None`, the health does not limit the claim.
    pub receivers: Option<Arc<Receivers>>,
}

/// Returns the usage by tenant: the number of attempts that begin with the claim.
pub(super) fn attempts_by_tenant(claimed: &[ClaimedDelivery]) -> HashMap<&TenantId, Usage> {
    let mut usage: HashMap<&TenantId, Usage> = HashMap::new();
    for claimed in claimed {
        *usage.entry(&claimed.delivery.tenant).or_default() += Usage::attempts(1);
    }
    usage
}
