//! Selects the due deliveries of a claim: the oldest first, with a fair share for each tenant and each receiver.
//!
//! A claim first reads the [`WINDOW`] oldest due deliveries of a tenant. These may all go to one busy receiver. If
//! more deliveries are due and slots are left, the claim also scans up to [`RECEIVERS_PER_CLAIM`] receivers of the
//! tenant, one after another, and takes the oldest deliveries of each. The next claim continues the scan after the
//! last receiver.

use std::collections::HashMap;
use std::time::Duration;

use super::claims::DeliverySlots;
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;
use crate::domain::webhooks::{DeliveryLimit, Health};

/// Number of a tenant's oldest due deliveries that a claim reads first.
pub(super) const WINDOW: usize = 64;
/// Maximum number of receivers of a tenant that one claim scans.
pub(super) const RECEIVERS_PER_CLAIM: usize = 64;
/// The pause before the next claim continues the scan of receivers.
pub(super) const SCAN_PAUSE: Duration = Duration::from_millis(50);

/// The last receiver of the scan, by tenant. The next claim continues after it.
pub(super) type ReceiverCursors = HashMap<TenantId, String>;

/// A due delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) row: i64,
    pub(super) receiver: String,
    /// The size of the body in bytes.
    pub(super) size: usize,
}

/// The deliveries selected so far, of all tenants.
pub(super) struct Selection<'a> {
    slots: &'a DeliverySlots,
    bytes: usize,
    rows: Vec<i64>,
}

/// The selection of deliveries of one tenant.
pub(super) struct Share<'s, 'a> {
    selection: &'s mut Selection<'a>,
    /// Number of deliveries in progress or selected, by receiver.
    busy: HashMap<String, usize>,
    /// The limits of receivers that are disabled or paused.
    limits: HashMap<String, usize>,
    free: usize,
}

/// The limits of a tenant's webhooks that are disabled or paused.
#[derive(Debug, Default)]
pub(super) struct WebhookLimits {
    /// Maximum number of deliveries in progress, by webhook.
    pub(super) limits: HashMap<String, usize>,
    /// Time when the next pause ends.
    pub(super) next_end: Option<Timestamp>,
}

impl WebhookLimits {
    /// Adds a webhook. A disabled or paused webhook gets no deliveries. After a pause, one delivery probes the
    /// webhook.
    pub(super) fn add(
        &mut self,
        webhook: String,
        is_disabled: bool,
        paused_until: Option<Timestamp>,
        now: Timestamp,
    ) {
        let limit = match (Health { paused_until, ..Health::default() }).delivery_limit(now) {
            _ if is_disabled => 0,
            DeliveryLimit::Unlimited => usize::MAX,
            DeliveryLimit::Probing => 1,
            DeliveryLimit::Paused(_) => 0,
        };
        self.limits.insert(webhook, limit);
        if !is_disabled && limit == 0 {
            self.next_end = self.next_end.into_iter().chain(paused_until).min();
        }
    }
}

impl<'a> Selection<'a> {
    pub(super) fn new(slots: &'a DeliverySlots) -> Self {
        Self { slots, bytes: slots.bytes, rows: Vec::new() }
    }

    /// Whether no further delivery can be selected. Another claim follows when a slot becomes free.
    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= self.slots.total || self.bytes == 0
    }

    /// Begins the selection for a tenant. `busy` is the number of deliveries in progress by receiver.
    pub(super) fn tenant<'s>(
        &'s mut self,
        busy: HashMap<String, usize>,
        limits: HashMap<String, usize>,
    ) -> Share<'s, 'a> {
        let free = self.slots.per_tenant.saturating_sub(busy.values().sum());
        Share { selection: self, busy, limits, free }
    }

    pub(super) fn into_rows(self) -> Vec<i64> {
        self.rows
    }
}

impl Share<'_, '_> {
    /// Whether another delivery of the tenant could be selected.
    pub(super) fn has_free_slots(&self) -> bool {
        self.free > 0 && !self.selection.is_full()
    }

    /// Selects a delivery if the claim, the tenant and the receiver have a free slot.
    pub(super) fn offer(&mut self, candidate: Candidate) {
        let has_free_slots = self.has_free_slots();
        let per_receiver = self.selection.slots.per_receiver;
        let most =
            self.limits.get(&candidate.receiver).map_or(per_receiver, |limit| per_receiver.min(*limit));
        let busy = self.busy.entry(candidate.receiver).or_default();
        if has_free_slots && *busy < most && !self.selection.rows.contains(&candidate.row) {
            *busy += 1;
            self.free -= 1;
            self.selection.bytes = self.selection.bytes.saturating_sub(candidate.size);
            self.selection.rows.push(candidate.row);
        }
    }
}
