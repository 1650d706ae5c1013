//! Deliveries and their attempts.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{ClaimBatch, Lease, StoreError};
use crate::domain::clock::Timestamp;
use crate::domain::deliveries::{Delivery, DeliveryQuery};
use crate::domain::ids::{CallId, DeliveryId, EventId, TenantId, WebhookId};
use crate::domain::retries::{GiveUpReason, RetryDecision};
use crate::domain::webhooks::{DisabledReason, EndpointOutcome, SealedSecrets};

/// How many attempts of one delivery are stored: the last ones. A delivery can be redelivered any number of times.
pub(super) const MOST_ATTEMPTS: u32 = 100;

/// The webhook of a claimed delivery, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedEndpoint {
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
    pub endpoint: Option<ClaimedEndpoint>,
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

/// The outcome of an attempt.
#[derive(Debug, Clone)]
pub struct FinishedAttempt {
    /// The outcome in one word of a fixed set.
    pub outcome: &'static str,
    /// The version that the webhook had when the delivery was claimed; `None` for the callback of a submission. The
    /// outcome does not count for a webhook that has changed since.
    pub endpoint_version: Option<u32>,
    /// The HTTP status of the response, if there was one.
    pub status: Option<u16>,
    /// The duration from connecting to the last byte or the error.
    pub latency: Duration,
    /// The error, for people.
    pub detail: Option<String>,
    /// The first bytes of the response body.
    pub response: Vec<u8>,
    /// The next state of the delivery.
    pub next: RetryDecision,
}

/// A stored attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedAttempt {
    /// The attempt's number, counted from 1.
    pub number: u32,
    /// When the attempt began.
    pub started_at: Timestamp,
    /// The outcome; `None` while the attempt is in progress, or if its process died.
    pub outcome: Option<String>,
    /// The HTTP status of the response.
    pub status: Option<u16>,
    /// The duration from connecting to the last byte or the error.
    pub latency: Option<Duration>,
    /// The error, for people.
    pub detail: Option<String>,
    /// The first bytes of the response body.
    pub response: Vec<u8>,
}

/// A stored delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedDelivery {
    /// The position in the list of all deliveries; later deliveries have higher positions.
    pub place: i64,
    /// The delivery's id.
    pub id: DeliveryId,
    /// The webhook; `None` for the callback of a submission.
    pub webhook: Option<WebhookId>,
    /// The URL of the receiver. For a webhook, its present URL.
    pub url: String,
    /// The event's id.
    pub event_id: EventId,
    /// The event's type.
    pub kind: String,
    /// The call that the event is about; `None` for a test event.
    pub call_id: Option<CallId>,
    /// `pending`, `delivered` or `failed`.
    pub status: String,
    /// The number of attempts begun.
    pub attempts: u32,
    /// When the delivery was created.
    pub created_at: Timestamp,
    /// When the next attempt is due. During an attempt, when its lease ends.
    pub due_at: Timestamp,
    /// Whether an attempt is in progress.
    pub leased: bool,
    /// When the delivery succeeded or was given up.
    pub finished_at: Option<Timestamp>,
}

/// The outcome of a request to send a delivery now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// The delivery is due.
    Due(DeliveryId),
    /// The delivery or its webhook does not exist.
    NotFound,
    /// The webhook is disabled.
    Disabled,
}

/// What an attempt says about its webhook.
pub(super) struct Verdict {
    /// The webhook's version that the attempt used.
    pub(super) version: u32,
    pub(super) ended: EndpointOutcome,
}

/// The verdict on the webhook of an attempt; `None` for the callback of a submission.
pub(super) fn verdict(attempt: &FinishedAttempt) -> Option<Verdict> {
    let error = || attempt.detail.clone().unwrap_or_else(|| attempt.outcome.to_owned());
    let ended = match attempt.next {
        RetryDecision::Delivered => EndpointOutcome::Delivered,
        RetryDecision::WaitUntil(_) => EndpointOutcome::Unsigned { error: error() },
        RetryDecision::RetryAt(_) | RetryDecision::GiveUp(_) | RetryDecision::Hold => {
            EndpointOutcome::Failed {
                gone: matches!(attempt.next, RetryDecision::Hold | RetryDecision::GiveUp(GiveUpReason::Gone)),
                status: attempt.status,
                error: error(),
            }
        }
    };
    Some(Verdict { version: attempt.endpoint_version?, ended })
}

/// Deliveries and their attempts.
#[async_trait]
pub trait DeliveryStore: Send + Sync {
    /// Claims due deliveries, with fair shares for receivers, and records the attempts that begin with the claim.
    async fn claim_deliveries_across_tenants(
        &self,
        slots: DeliverySlots,
        lease: Duration,
    ) -> Result<ClaimBatch<ClaimedDelivery>, StoreError>;

    /// Writes the outcome of an attempt. Returns the reason if the attempt disables its webhook.
    async fn finish_attempt(
        &self,
        lease: Lease,
        attempt: FinishedAttempt,
    ) -> Result<Option<DisabledReason>, StoreError>;

    /// Reads the last attempts of a delivery, the oldest first.
    async fn attempts(
        &self,
        tenant: &TenantId,
        delivery: DeliveryId,
    ) -> Result<Vec<RecordedAttempt>, StoreError>;

    /// Reads one page of a tenant's deliveries, the newest first.
    async fn list_deliveries(
        &self,
        tenant: &TenantId,
        page: DeliveryQuery,
    ) -> Result<Vec<RecordedDelivery>, StoreError>;

    /// Reads a delivery.
    async fn find_delivery(
        &self,
        tenant: &TenantId,
        delivery: DeliveryId,
    ) -> Result<Option<RecordedDelivery>, StoreError>;

    /// Makes a delivery due now, whatever its status, and restarts its retry schedule. A delivery whose attempt is in
    /// progress is not changed. Ends a pause of the webhook.
    async fn redeliver(&self, tenant: &TenantId, delivery: DeliveryId) -> Result<Sending, StoreError>;
}
