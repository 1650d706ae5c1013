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
//!
//! A webhook with a rate gets as many deliveries as its bucket has tokens ([`delivery_rate`](crate::domain::delivery_rate)). The others
//! stay due, and the next claim follows when the bucket gets a token. The claim writes the new state of the bucket only if no other
//! replica has changed it since the claim read it, and otherwise takes no delivery of this webhook.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use super::StoreError;
use super::claims::{DeliverySlots, TenantSlots};
use super::values::Row;
use super::webhook_rows::read_rate;
use crate::domain::clock::Timestamp;
use crate::domain::delivery_rate::TokenBucket;
use crate::domain::ids::TenantId;
use crate::domain::transforms::Transform;
use crate::domain::webhooks::{DeliveryLimit, Health};

/// Number of a tenant's oldest due deliveries that a claim reads first.
pub(super) const WINDOW: usize = 64;
/// Maximum number of receivers of a tenant that one claim scans.
pub(super) const RECEIVERS_PER_CLAIM: usize = 64;
/// The pause before the next claim continues the scan of receivers.
const SCAN_PAUSE: Duration = Duration::from_millis(50);

/// SQL condition of the webhooks that may have limits: those that are disabled or paused, that have a rate, or whose preset may have
/// one. An index has the same condition. A transform is stored as JSON, and `preset` is its first member.
macro_rules! is_limited {
    () => {
        "(disabled_at IS NOT NULL OR paused_until IS NOT NULL OR rate IS NOT NULL OR substr(transform, 1, 9) = '{\"preset\"')"
    };
}
pub(super) use is_limited;

/// The columns that [`WebhookLimits::add`] reads. A transform can be long, so only the beginning with the name of the preset is read.
macro_rules! limits {
    () => {
        "id, disabled_at, paused_until, rate, CASE WHEN substr(transform, 1, 11) = '{\"preset\":\"' THEN substr(transform, 12, 65) END \
         AS preset, bucket_full_at"
    };
}
pub(super) use limits;

/// The scans of receivers that the next claim continues, by tenant.
pub(super) type ReceiverCursors = HashMap<TenantId, ReceiverCursor>;

/// State of an unfinished scan of a tenant's receivers.
#[derive(Debug, Default)]
pub(super) struct ReceiverCursor {
    /// The last receiver of the scan. The next claim continues after this receiver.
    pub(super) last: String,
    /// Earliest time at which one of the webhooks that earlier claims of this scan have skipped gets a token. The last claim of
    /// the scan does not read these webhooks again.
    next_token: Option<Timestamp>,
}

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
    selected: Selected,
}

/// The deliveries that a claim takes, and the tokens that it takes for them.
#[derive(Debug, Default)]
pub(super) struct Selected {
    pub(super) rows: Vec<i64>,
    /// Tokens by webhook.
    pub(super) tokens: HashMap<String, TakenTokens>,
    /// Earliest time at which an empty bucket with a due delivery gets a token.
    pub(super) next_token: Option<Timestamp>,
}

/// A change of a bucket. The change must be written together with the claim, and only if the bucket has the state `before`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TakenTokens {
    pub(super) before: Option<i64>,
    pub(super) after: Option<i64>,
    pub(super) count: i64,
}

/// The selection of deliveries of one tenant.
pub(super) struct Share<'s, 'a> {
    selection: &'s mut Selection<'a>,
    tenant: &'a TenantId,
    /// Number of deliveries in progress or selected, by receiver.
    busy: HashMap<String, usize>,
    /// The limits of webhooks that are disabled or paused, or that have a rate.
    limits: HashMap<String, WebhookLimit>,
    slots: TenantSlots,
    free: usize,
    /// Remaining number of slots for receivers that are not known to be prompt.
    free_unproven: usize,
    /// Earliest time at which an empty bucket of the tenant with a due delivery gets a token.
    next_token: Option<Timestamp>,
}

/// The limits of a webhook.
#[derive(Debug)]
pub(super) struct WebhookLimit {
    /// Maximum number of deliveries in progress.
    most: usize,
    bucket: Option<TokenBucket>,
}

/// The limits of a tenant's webhooks that are disabled or paused, or that have a rate.
#[derive(Debug, Default)]
pub(super) struct WebhookLimits {
    /// The limits by webhook.
    pub(super) limits: HashMap<String, WebhookLimit>,
    /// Time when the next pause ends.
    pub(super) next_end: Option<Timestamp>,
}

impl WebhookLimits {
    /// Adds a webhook. A disabled or paused webhook gets no deliveries. After a pause, one delivery probes the
    /// webhook. If this version cannot read the chosen rate of a webhook, the rate of the preset applies,
    /// so the claim does not fail.
    pub(super) fn add(&mut self, row: &dyn Row, now: Timestamp) -> Result<(), StoreError> {
        let is_disabled = row.get::<Option<Timestamp>>("disabled_at")?.is_some();
        let paused_until = row.get("paused_until")?;
        let health = Health { paused_until, ..Health::default() };
        let most = if is_disabled { 0 } else { most(health.delivery_limit(now)) };
        if !is_disabled && most == 0 {
            self.next_end = self.next_end.into_iter().chain(paused_until).min();
        }
        let chosen = read_rate(row).unwrap_or_default();
        let text: Option<Cow<'_, str>> = row.get("preset")?;
        let preset = text.and_then(|text| Some(text.split_once('"')?.0.to_owned()));
        let rate = Transform::rate(chosen, Some(&Transform { preset, ..Transform::default() }));
        let full_at = row.get("bucket_full_at")?;
        let bucket = rate.map(|rate| TokenBucket::new(rate, full_at));
        self.limits.insert(row.get("id")?, WebhookLimit { most, bucket });
        Ok(())
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
        Self { slots, now, shared: 0, bytes: slots.bytes, selected: Selected::default() }
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
        limits: HashMap<String, WebhookLimit>,
    ) -> Share<'s, 'a> {
        let per_tenant = self.slots.per_tenant;
        let free = per_tenant.saturating_sub(busy.values().sum());
        let free_unproven = self.slots.receivers.as_ref().map_or(usize::MAX, |receivers| {
            let unproven = busy.iter().filter(|(receiver, _)| !receivers.is_prompt(tenant, receiver));
            (per_tenant - per_tenant / 4).saturating_sub(unproven.map(|(_, busy)| *busy).sum())
        });
        let slots = self.slots_of(tenant);
        Share { selection: self, tenant, busy, limits, slots, free, free_unproven, next_token: None }
    }

    pub(super) fn into_selected(self) -> Selected {
        self.selected
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

    /// Selects a delivery if the claim, the tenant and the receiver have a free slot, and the webhook has a token.
    pub(super) fn offer(&mut self, candidate: Candidate) {
        let is_own = self.slots.own > 0 && candidate.size <= self.slots.own_bytes;
        let fits = is_own || (!self.selection.are_shared_slots_taken() && self.slots.shared_bytes > 0);
        if self.free == 0 || !fits || self.selection.selected.rows.contains(&candidate.row) {
            return;
        }
        let (most, is_prompt) = self.limit(&candidate.receiver);
        if !is_prompt && self.free_unproven == 0 {
            return;
        }
        let busy = self.busy.get(&candidate.receiver).copied().unwrap_or(0);
        if busy >= most || !self.take_token(&candidate.receiver) {
            return;
        }
        *self.busy.entry(candidate.receiver).or_default() += 1;
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
        self.selection.selected.rows.push(candidate.row);
    }

    /// Takes a token from the bucket of a receiver. Returns whether the delivery may be sent. A receiver without a rate needs no
    /// token.
    fn take_token(&mut self, receiver: &str) -> bool {
        let bucket = self.limits.get_mut(receiver).and_then(|limit| limit.bucket.as_mut());
        let Some(bucket) = bucket else { return true };
        let (before, selected) = (bucket.full_at(), &mut self.selection.selected);
        match bucket.take(self.selection.now) {
            Ok(()) => {
                let taken = TakenTokens { before, after: None, count: 0 };
                let taken = selected.tokens.entry(receiver.to_owned()).or_insert(taken);
                (taken.after, taken.count) = (bucket.full_at(), taken.count + 1);
                true
            }
            Err(at) => {
                selected.next_token = selected.next_token.into_iter().chain([at]).min();
                self.next_token = self.next_token.into_iter().chain([at]).min();
                false
            }
        }
    }

    /// Ends the claim's part of the scan that began at a cursor. `last` is the last receiver if more may follow. Returns the
    /// time when the next claim is due because of the scan.
    pub(super) fn end_scan(
        &self,
        began: &ReceiverCursor,
        last: Option<String>,
        cursors: &mut ReceiverCursors,
    ) -> Option<Timestamp> {
        let next_token = began.next_token.into_iter().chain(self.next_token).min();
        let Some(last) = last else {
            // Deliveries to receivers before the cursor may have become due. A claim that selects nothing ends the scan.
            let restarts = !began.last.is_empty() && !self.selection.selected.rows.is_empty();
            return next_token.into_iter().chain(restarts.then_some(self.selection.now)).min();
        };
        cursors.insert(self.tenant.clone(), ReceiverCursor { last, next_token });
        Some(self.selection.now + SCAN_PAUSE)
    }

    /// Returns the maximum number of deliveries in progress to a receiver, and whether the receiver is known to be prompt.
    fn limit(&self, receiver: &str) -> (usize, bool) {
        let slots = self.selection.slots;
        let of_webhook = self.limits.get(receiver).map_or(usize::MAX, |limit| limit.most);
        let Some(receivers) = &slots.receivers else { return (slots.per_receiver.min(of_webhook), true) };
        let of_receiver = most(receivers.delivery_limit(self.tenant, receiver, self.selection.now));
        let is_prompt = receivers.is_prompt(self.tenant, receiver);
        (slots.per_receiver.min(of_webhook).min(of_receiver), is_prompt)
    }
}
