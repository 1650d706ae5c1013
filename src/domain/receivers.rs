//! The health of receivers, which this process derives from its own delivery attempts.
//!
//! A receiver of the callbacks of submissions has the same circuit breaker as a webhook ([`Health`]). This circuit breaker is
//! kept in memory: after a restart, the process needs a few failed attempts to find out that a receiver is down. The breaker of a
//! webhook is in the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::clock::Timestamp;
use super::ids::TenantId;
use super::retries::AttemptOutcome;
use super::webhooks::{DeliveryLimit, Health, WebhookOutcome};

/// Maximum number of receivers per tenant whose state is kept in memory.
const MAX_RECEIVERS: usize = 512;
/// A receiver is prompt if its latest delivery succeeded in less than this time.
const PROMPT: Duration = Duration::from_secs(1);

/// The receivers of all tenants.
#[derive(Debug, Default)]
pub struct Receivers(Mutex<HashMap<TenantId, HashMap<Arc<str>, ReceiverState>>>);

#[derive(Debug)]
struct ReceiverState {
    health: Health,
    /// Whether the latest delivery succeeded in less than `PROMPT`.
    is_prompt: bool,
    changed_at: Timestamp,
}

impl Receivers {
    /// Records an attempt that ended at `now`. `has_breaker` is false for a webhook, whose breaker is in the store.
    pub fn record(
        &self,
        tenant: &TenantId,
        receiver: &str,
        has_breaker: bool,
        (outcome, latency): (&AttemptOutcome, Duration),
        now: Timestamp,
    ) {
        let Some(ended) = effect(outcome) else { return };
        let mut tenants = self.lock();
        let receivers = tenants.entry(tenant.clone()).or_default();
        if !receivers.contains_key(receiver) {
            make_room(receivers);
        }
        let new = || ReceiverState { health: Health::default(), is_prompt: false, changed_at: now };
        let state = receivers.entry(receiver.into()).or_insert_with(new);
        state.is_prompt = latency < PROMPT && matches!(outcome, AttemptOutcome::Delivered { .. });
        state.changed_at = now;
        if has_breaker {
            state.health.attempted(&ended, now);
        }
    }

    /// Returns the limit of deliveries to the receiver at `now`.
    pub fn delivery_limit(&self, tenant: &TenantId, receiver: &str, now: Timestamp) -> DeliveryLimit {
        let tenants = self.lock();
        let state = tenants.get(tenant).and_then(|receivers| receivers.get(receiver));
        state.map_or(DeliveryLimit::Unlimited, |state| state.health.delivery_limit(now))
    }

    /// Whether the latest delivery to the receiver succeeded in less than `PROMPT`.
    pub fn is_prompt(&self, tenant: &TenantId, receiver: &str) -> bool {
        let tenants = self.lock();
        tenants.get(tenant).and_then(|receivers| receivers.get(receiver)).is_some_and(|state| state.is_prompt)
    }

    /// Whether any receiver of the tenant is prompt.
    pub fn has_prompt(&self, tenant: &TenantId) -> bool {
        self.lock().get(tenant).is_some_and(|receivers| receivers.values().any(|state| state.is_prompt))
    }

    /// Returns the earliest time at which the pause of a receiver ends; `None` if no receiver is paused.
    pub fn next_end(&self, now: Timestamp) -> Option<Timestamp> {
        let tenants = self.lock();
        let states = tenants.values().flat_map(HashMap::values);
        let end = |state: &ReceiverState| match state.health.delivery_limit(now) {
            DeliveryLimit::Paused(until) => Some(until),
            DeliveryLimit::Unlimited | DeliveryLimit::Probing => None,
        };
        states.filter_map(end).min()
    }

    /// Ends a pause of the receiver, so that a redelivery is sent at once.
    pub fn end_pause(&self, tenant: &TenantId, receiver: &str) {
        let mut tenants = self.lock();
        if let Some(state) = tenants.get_mut(tenant).and_then(|receivers| receivers.get_mut(receiver)) {
            state.health.forgive();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, HashMap<Arc<str>, ReceiverState>>> {
        // Each entry is complete before the lock is released, so a panic leaves the map usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Evicts the receivers with the oldest attempts until there is room for another receiver.
fn make_room(receivers: &mut HashMap<Arc<str>, ReceiverState>) {
    while receivers.len() >= MAX_RECEIVERS {
        let oldest = receivers.iter().min_by_key(|(_, state)| state.changed_at);
        let Some(oldest) = oldest.map(|(receiver, _)| Arc::clone(receiver)) else { return };
        receivers.remove(&oldest);
    }
}

/// Returns the effect of an attempt on the breaker; `None` if no request was sent. Only 429, 502, 503 and 504, and attempts
/// without an answer, count as failures. Other error statuses usually concern one event and show that the receiver works.
fn effect(outcome: &AttemptOutcome) -> Option<WebhookOutcome> {
    let failed = |status| WebhookOutcome::Failed { gone: false, status, error: String::new() };
    Some(match outcome {
        AttemptOutcome::Refused { status: status @ (429 | 502 | 503 | 504), .. }
        | AttemptOutcome::Declined { status: status @ (429 | 502 | 503 | 504), .. } => failed(Some(*status)),
        AttemptOutcome::Failed { .. } => failed(None),
        AttemptOutcome::Delivered { .. }
        | AttemptOutcome::Refused { .. }
        | AttemptOutcome::Declined { .. }
        | AttemptOutcome::Rejected { .. }
        | AttemptOutcome::Gone => WebhookOutcome::Delivered,
        AttemptOutcome::Unsigned { .. }
        | AttemptOutcome::Unrendered { .. }
        | AttemptOutcome::Unknown
        | AttemptOutcome::Forbidden { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::transport_error::TransportError;

    const NOW: Timestamp = Timestamp::from_millis(1_716_207_617_000);
    const A: &str = "https://a.example";
    const TIMEOUT: AttemptOutcome = AttemptOutcome::Failed { error: TransportError::Timeout };
    const SERVER_ERROR: AttemptOutcome = AttemptOutcome::Refused { status: 500, retry_after: None };
    const UNAVAILABLE: AttemptOutcome = AttemptOutcome::Refused { status: 503, retry_after: None };

    fn acme() -> TenantId {
        TenantId::parse("acme").unwrap()
    }

    fn after(outcomes: &[AttemptOutcome], has_breaker: bool) -> Receivers {
        let receivers = Receivers::default();
        for outcome in outcomes {
            receivers.record(&acme(), A, has_breaker, (outcome, Duration::from_millis(1)), NOW);
        }
        receivers
    }

    #[test]
    fn a_receiver_that_does_not_answer_is_paused_and_then_probed() {
        let until = NOW + Health::FIRST_PAUSE;
        for outcome in [TIMEOUT, UNAVAILABLE] {
            let receivers = after(&[(); 5].map(|()| outcome.clone()), true);
            assert_eq!(receivers.delivery_limit(&acme(), A, NOW), DeliveryLimit::Paused(until));
            assert_eq!((receivers.next_end(NOW), receivers.next_end(until)), (Some(until), None));
            assert_eq!(receivers.delivery_limit(&acme(), A, until), DeliveryLimit::Probing);
            receivers.end_pause(&acme(), A);
            assert_eq!(receivers.delivery_limit(&acme(), A, NOW), DeliveryLimit::Unlimited);
        }
    }

    #[test]
    fn an_error_about_an_event_and_the_failures_of_a_webhook_cause_no_pause() {
        let errors = [(); 9].map(|()| SERVER_ERROR);
        let mixed = [TIMEOUT, TIMEOUT, TIMEOUT, TIMEOUT, SERVER_ERROR, TIMEOUT];
        for receivers in [after(&errors, true), after(&mixed, true), after(&[(); 9].map(|()| TIMEOUT), false)]
        {
            assert_eq!(receivers.delivery_limit(&acme(), A, NOW), DeliveryLimit::Unlimited);
        }
    }

    #[test]
    fn a_receiver_is_prompt_after_a_quick_success() {
        let delivered = AttemptOutcome::Delivered { status: 200 };
        let prompt = |receivers: &Receivers| (receivers.is_prompt(&acme(), A), receivers.has_prompt(&acme()));
        assert_eq!(prompt(&after(&[], true)), (false, false));
        assert_eq!(prompt(&after(std::slice::from_ref(&delivered), false)), (true, true));
        assert_eq!(prompt(&after(&[delivered.clone(), SERVER_ERROR], true)), (false, false));
        let receivers = after(&[], true);
        receivers.record(&acme(), A, true, (&delivered, PROMPT), NOW);
        assert_eq!(prompt(&receivers), (false, false));
    }

    #[test]
    fn the_number_of_receivers_is_bounded() {
        let receivers = after(&[(); 5].map(|()| TIMEOUT), true);
        for number in 0..MAX_RECEIVERS {
            let outcome = (&TIMEOUT, Duration::ZERO);
            receivers.record(&acme(), &format!("https://{number}.example"), true, outcome, NOW + PROMPT);
        }
        assert_eq!(receivers.lock()[&acme()].len(), MAX_RECEIVERS);
        assert_eq!(receivers.delivery_limit(&acme(), A, NOW), DeliveryLimit::Unlimited);
    }
}
