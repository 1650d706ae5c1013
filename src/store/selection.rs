//! Selects the due deliveries of a claim: the oldest first, with a fair share for each tenant and each receiver.
//!
//! A claim first reads the [`WINDOW`] oldest due deliveries of a tenant. These may all go to one busy receiver. If more
//! deliveries are due and slots are left, the claim also scans up to [`RECEIVERS_PER_CLAIM`] receivers of the tenant, one after
//! another, and takes the oldest deliveries to each of these receivers. The next claim continues the scan after the last
//! receiver.
//!
//! Receivers that never answer hold their slots until the time-out. Three measures leave slots for other receivers:
//!
//! - Each tenant has reserved slots. A tenant uses the shared slots only when its reserved slots are taken.
//! - A quarter of a tenant's slots is reserved for receivers that answered the last delivery promptly.
//! - A receiver that does not answer is paused ([`Receivers`](crate::domain::receivers::Receivers)).

use std::collections::HashMap;
use std::time::Duration;

use super::claims::{DeliverySlots, TenantSlots};
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;
use crate::domain::webhooks::{DeliveryLimit, Health};

/// Number of a tenant's oldest due deliveries that a claim reads first.
pub(super) const WINDOW: usize = 64;
/// Maximum number of receivers of a tenant that one claim scans.
pub(super) const RECEIVERS_PER_CLAIM: usize = 64;
/// The pause before the next claim continues the scan of receivers.
pub(super) const SCAN_PAUSE: Duration = Duration::from_millis(50);

/// The last receiver of the scan, by tenant. The next claim continues after this receiver.
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
    now: Timestamp,
    /// Number of selected deliveries in shared slots.
    shared: usize,
    /// Remaining number of body bytes in shared slots.
    bytes: usize,
    rows: Vec<i64>,
}

/// The selection of deliveries of one tenant.
pub(super) struct Share<'s, 'a> {
    selection: &'s mut Selection<'a>,
    tenant: &'a TenantId,
    /// Number of deliveries in progress or selected, by receiver.
    busy: HashMap<String, usize>,
    /// The limits of webhooks that are disabled or paused.
    limits: HashMap<String, usize>,
    slots: TenantSlots,
    free: usize,
    /// Remaining number of slots for receivers that are not known to be prompt.
    free_unproven: usize,
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
        let health = Health { paused_until, ..Health::default() };
        let limit = if is_disabled { 0 } else { most(health.delivery_limit(now)) };
        self.limits.insert(webhook, limit);
        if !is_disabled && limit == 0 {
            self.next_end = self.next_end.into_iter().chain(paused_until).min();
        }
    }
}

/// Returns the maximum number of deliveries in progress that a limit allows.
const fn most(limit: DeliveryLimit) -> usize {
    match limit {
        DeliveryLimit::Unlimited => usize::MAX,
        DeliveryLimit::Probing => 1,
        DeliveryLimit::Paused(_) => 0,
    }
}

impl<'a> Selection<'a> {
    pub(super) fn new(slots: &'a DeliverySlots, now: Timestamp) -> Self {
        Self { slots, now, shared: 0, bytes: slots.bytes, rows: Vec::new() }
    }

    /// Whether no further delivery of the tenant can be selected. Another claim follows when a slot becomes free.
    pub(super) fn is_full_for(&self, tenant: &TenantId) -> bool {
        self.are_shared_slots_taken() && self.slots_of(tenant).own == 0
    }

    fn are_shared_slots_taken(&self) -> bool {
        self.shared >= self.slots.total || self.bytes == 0
    }

    fn slots_of(&self, tenant: &TenantId) -> TenantSlots {
        self.slots.by_tenant.get(tenant).copied().unwrap_or(TenantSlots::SHARED)
    }

    /// Begins the selection for a tenant. `busy` is the number of deliveries in progress by receiver.
    pub(super) fn tenant<'s>(
        &'s mut self,
        tenant: &'a TenantId,
        busy: HashMap<String, usize>,
        limits: HashMap<String, usize>,
    ) -> Share<'s, 'a> {
        let per_tenant = self.slots.per_tenant;
        let free = per_tenant.saturating_sub(busy.values().sum());
        let free_unproven = self.slots.receivers.as_ref().map_or(usize::MAX, |receivers| {
            let unproven = busy.iter().filter(|(receiver, _)| !receivers.is_prompt(tenant, receiver));
            (per_tenant - per_tenant / 4).saturating_sub(unproven.map(|(_, busy)| *busy).sum())
        });
        let slots = self.slots_of(tenant);
        Share { selection: self, tenant, busy, limits, slots, free, free_unproven }
    }

    pub(super) fn into_rows(self) -> Vec<i64> {
        self.rows
    }
}

impl Share<'_, '_> {
    /// Whether another delivery of the tenant could be selected.
    pub(super) fn has_free_slots(&self) -> bool {
        let receivers = self.selection.slots.receivers.as_ref();
        let has_room = self.slots.own > 0 || !self.selection.are_shared_slots_taken();
        let has_receiver =
            self.free_unproven > 0 || receivers.is_some_and(|receivers| receivers.has_prompt(self.tenant));
        self.free > 0 && has_room && has_receiver
    }

    /// Selects a delivery if the claim, the tenant and the receiver have a free slot.
    pub(super) fn offer(&mut self, candidate: Candidate) {
        let is_own = self.slots.own > 0 && candidate.size <= self.slots.own_bytes;
        let fits = is_own || (!self.selection.are_shared_slots_taken() && self.slots.shared_bytes > 0);
        if self.free == 0 || !fits || self.selection.rows.contains(&candidate.row) {
            return;
        }
        let (most, is_prompt) = self.limit(&candidate.receiver);
        if !is_prompt && self.free_unproven == 0 {
            return;
        }
        let busy = self.busy.entry(candidate.receiver).or_default();
        if *busy >= most {
            return;
        }
        *busy += 1;
        self.free -= 1;
        self.free_unproven -= usize::from(!is_prompt);
        if is_own {
            self.slots.own -= 1;
            self.slots.own_bytes -= candidate.size;
        } else {
            self.slots.shared_bytes = self.slots.shared_bytes.saturating_sub(candidate.size);
            self.selection.shared += 1;
            self.selection.bytes = self.selection.bytes.saturating_sub(candidate.size);
        }
        self.selection.rows.push(candidate.row);
    }

    /// Returns the maximum number of deliveries in progress to a receiver, and whether the receiver is known to be prompt.
    fn limit(&self, receiver: &str) -> (usize, bool) {
        let slots = self.selection.slots;
        let of_webhook = self.limits.get(receiver).copied().unwrap_or(usize::MAX);
        let Some(receivers) = &slots.receivers else { return (slots.per_receiver.min(of_webhook), true) };
        let of_receiver = most(receivers.delivery_limit(self.tenant, receiver, self.selection.now));
        let is_prompt = receivers.is_prompt(self.tenant, receiver);
        (slots.per_receiver.min(of_webhook).min(of_receiver), is_prompt)
    }
}
