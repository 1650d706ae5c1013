//! Which of the due deliveries are claimed: the oldest first, but no tenant and no receiver more than its share.

use std::collections::HashMap;

use super::DeliverySlots;
use crate::domain::clock::Timestamp;
use crate::domain::webhooks::{DeliveryLimit, Health};

/// A tenant's oldest due deliveries are looked at this far. If all of them go to receivers that have their share
/// under way, the claim walks from receiver to receiver instead.
pub(super) const WINDOW: usize = 64;
/// How many receivers one claim walks past; the next goes on from there.
pub(super) const STRIDE: usize = 64;

/// A delivery that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) row: i64,
    pub(super) receiver: String,
    /// Bytes of its body.
    pub(super) size: usize,
}

/// What is chosen so far, of all tenants.
pub(super) struct Selection<'a> {
    slots: &'a DeliverySlots,
    bytes: usize,
    rows: Vec<i64>,
}

/// What is chosen of one tenant.
pub(super) struct Share<'s, 'a> {
    selection: &'s mut Selection<'a>,
    /// Under way or chosen, by receiver.
    busy: HashMap<String, usize>,
    /// How many may be, for those receivers that may not have their whole share.
    gates: HashMap<String, usize>,
    room: usize,
}

/// How many may be under way to an endpoint that is disabled or was paused: nothing, or one to try it with.
pub(super) fn gate_room(disabled: bool, paused_until: Option<Timestamp>, now: Timestamp) -> usize {
    if disabled {
        return 0;
    }
    match (Health { paused_until, ..Health::default() }).delivery_limit(now) {
        DeliveryLimit::Unlimited => usize::MAX,
        DeliveryLimit::Probing => 1,
        DeliveryLimit::Paused(_) => 0,
    }
}

impl<'a> Selection<'a> {
    pub(super) fn new(slots: &'a DeliverySlots) -> Self {
        Self { slots, bytes: slots.bytes, rows: Vec::new() }
    }

    /// Whoever gives a place back asks again.
    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= self.slots.total || self.bytes == 0
    }

    /// Begins with a tenant, of which each receiver has so many under way, and some may have no more than `gates` says.
    pub(super) fn tenant<'s>(
        &'s mut self,
        busy: HashMap<String, usize>,
        gates: HashMap<String, usize>,
    ) -> Share<'s, 'a> {
        let room = self.slots.per_tenant.saturating_sub(busy.values().sum());
        Share { selection: self, busy, gates, room }
    }

    pub(super) fn into_rows(self) -> Vec<i64> {
        self.rows
    }
}

impl Share<'_, '_> {
    /// Whether another could be chosen.
    pub(super) fn has_room(&self) -> bool {
        self.room > 0 && !self.selection.is_full()
    }

    /// Chooses it if everybody concerned has room.
    pub(super) fn offer(&mut self, candidate: Candidate) {
        let has_room = self.has_room();
        let per_receiver = self.selection.slots.per_receiver;
        let most = self.gates.get(&candidate.receiver).map_or(per_receiver, |gate| per_receiver.min(*gate));
        let of_receiver = self.busy.entry(candidate.receiver).or_default();
        if has_room && *of_receiver < most && !self.selection.rows.contains(&candidate.row) {
            *of_receiver += 1;
            self.room -= 1;
            self.selection.bytes = self.selection.bytes.saturating_sub(candidate.size);
            self.selection.rows.push(candidate.row);
        }
    }
}
