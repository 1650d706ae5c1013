//! Fair shares of the deliveries in progress while receivers never answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use alovoice_gateway::domain::receivers::Receivers;
use alovoice_gateway::domain::retries::AttemptOutcome;
use alovoice_gateway::domain::transport_error::TransportError;
use alovoice_gateway::store::{DeliverySlots, TenantSlots};

use super::deliveries::{A, B, flood, receivers as receivers_of};
use crate::harness::{Harness, LEASE, acme, call_id, globex, obtained, slots, trace, with_callback};

/// The number of deliveries of acme and of globex that a claim with these slots gets.
async fn claimed_by_tenant(harness: &Harness, slots: DeliverySlots) -> (usize, usize) {
    let claims = harness.store.claim_deliveries_across_tenants(slots, LEASE).await.unwrap();
    let of = |tenant| claims.claimed.iter().filter(|claimed| claimed.delivery.tenant == tenant).count();
    (of(acme()), of(globex()))
}

pub(crate) async fn a_tenant_has_reserved_slots(harness: Harness) {
    flood(&harness, A, 9).await;
    harness.store.adopt(&globex(), &call_id("1"), trace(), obtained("salom")).await.unwrap();
    harness.store.submit(&globex(), with_callback("1", A)).await.unwrap();
    let own = |own, own_bytes, shared_bytes| TenantSlots { own, own_bytes, shared_bytes };
    let with = |total, acme_slots| DeliverySlots {
        by_tenant: HashMap::from([(acme(), acme_slots), (globex(), own(0, 0, 0))]),
        ..slots(total, 100, 100)
    };
    assert_eq!(claimed_by_tenant(&harness, with(0, own(0, usize::MAX, usize::MAX))).await, (0, 0));
    assert_eq!(claimed_by_tenant(&harness, with(0, own(2, 0, usize::MAX))).await, (0, 0), "no own bytes");
    assert_eq!(claimed_by_tenant(&harness, with(0, own(2, usize::MAX, 0))).await, (2, 0));
    assert_eq!(claimed_by_tenant(&harness, with(9, own(1, usize::MAX, 0))).await, (1, 0), "no shared bytes");
    assert_eq!(claimed_by_tenant(&harness, with(2, own(1, usize::MAX, usize::MAX))).await, (3, 0));
    let of_globex = HashMap::from([(globex(), own(1, usize::MAX, 0))]);
    let rest = DeliverySlots { by_tenant: of_globex, ..slots(1, 100, 100) };
    assert_eq!(claimed_by_tenant(&harness, rest).await, (1, 1), "the own slot is beside the shared one");
}

pub(crate) async fn a_receiver_that_does_not_answer_is_probed_after_a_pause(harness: Harness) {
    flood(&harness, A, 9).await;
    flood(&harness, B, 1).await;
    let receivers = Arc::new(Receivers::default());
    let timeout = AttemptOutcome::Failed { error: TransportError::Timeout };
    for _ in 0..5 {
        receivers.record(&acme(), "https://a.example", true, (&timeout, LEASE), harness.now());
    }
    let claim = async || {
        let slots = DeliverySlots { receivers: Some(Arc::clone(&receivers)), ..slots(100, 100, 100) };
        let claims = harness.store.claim_deliveries_across_tenants(slots, LEASE).await.unwrap();
        receivers_of(&claims.claimed)
    };
    assert_eq!(claim().await, [B]);
    harness.advance(4);
    assert_eq!(claim().await, [""; 0]);
    harness.advance(1);
    assert_eq!(claim().await, [A]);
    assert_eq!(claim().await, [""; 0], "the probe is in progress");
    receivers.end_pause(&acme(), "https://a.example");
    assert_eq!(claim().await.len(), 8);
}

pub(crate) async fn receivers_that_are_not_known_to_be_prompt_leave_slots_for_others(harness: Harness) {
    for receiver in 0..10 {
        flood(&harness, &format!("https://{receiver}.example/"), 1).await;
    }
    flood(&harness, A, 3).await;
    let receivers = Arc::new(Receivers::default());
    let claim = async || {
        let slots = DeliverySlots { receivers: Some(Arc::clone(&receivers)), ..slots(100, 8, 8) };
        let claims = harness.store.claim_deliveries_across_tenants(slots, LEASE).await.unwrap();
        receivers_of(&claims.claimed)
    };
    assert_eq!(claim().await.len(), 6);
    assert_eq!(claim().await.len(), 0);
    let delivered = AttemptOutcome::Delivered { status: 200 };
    receivers.record(&acme(), "https://a.example", true, (&delivered, Duration::ZERO), harness.now());
    assert_eq!(claim().await, [A, A]);
}
