//! Idempotency keys: one caller claims a key and processes the request.

use std::time::Duration;

use alovoice_gateway::domain::clock::Clock;
use alovoice_gateway::domain::idempotency::{KeyedRequest, StoredAnswer};
use alovoice_gateway::domain::ids::TenantId;
use alovoice_gateway::store::{KeyClaim, KeyTerms, Keyed, StoreError};
use alovoice_gateway::workers::{Retention, Worker};
use futures_util::future::join_all;
use tokio_util::task::TaskTracker;

use super::deletion::actor;
use crate::harness::{Harness, acme, call_id, certain_clock, globex, submission};

const TERMS: KeyTerms = KeyTerms { lease: Duration::from_secs(60), kept_for: Duration::from_secs(3600) };

/// A request with this key and body, about one call or several (`*`).
fn about(concerns: Option<&str>, key: u8, body: u8) -> KeyedRequest {
    KeyedRequest { name: [key; 32], fingerprint: [body; 32], concerns: concerns.map(str::to_owned) }
}

pub(crate) fn request(key: u8, body: u8) -> KeyedRequest {
    about(None, key, body)
}

fn answer(byte: u8) -> StoredAnswer {
    StoredAnswer { is_sealed: byte.is_multiple_of(2), bytes: vec![byte, 0, 255] }
}

impl Harness {
    async fn key_of(&self, tenant: TenantId, request: KeyedRequest) -> Keyed {
        self.store.claim_key(&tenant, request, TERMS).await.unwrap()
    }

    pub(crate) async fn key(&self, request: KeyedRequest) -> Keyed {
        self.key_of(acme(), request).await
    }

    async fn claimed(&self, request: KeyedRequest) -> KeyClaim {
        match self.key(request).await {
            Keyed::Claimed(claim) => claim,
            other => panic!("the key is not free: {other:?}"),
        }
    }

    async fn finish(&self, claim: KeyClaim, answer: Option<StoredAnswer>) -> Result<(), StoreError> {
        self.store.finish_key(&acme(), claim, answer).await
    }
}

pub(crate) async fn a_key_belongs_to_one_request_and_keeps_its_answer(harness: Harness) {
    for (key, kept) in [(1, Some(answer(1))), (2, Some(answer(2))), (3, None)] {
        let claim = harness.claimed(request(key, 1)).await;
        assert_eq!(harness.key(request(key, 1)).await, Keyed::UnderWay);
        assert_eq!(harness.key(request(key, 9)).await, Keyed::OfAnother);
        harness.finish(claim, kept.clone()).await.unwrap();
        assert_eq!(harness.key(request(key, 1)).await, Keyed::Done(kept));
        assert_eq!(harness.key(request(key, 9)).await, Keyed::OfAnother);
    }
    let foreign = harness.key_of(globex(), request(1, 1)).await;
    assert!(matches!(foreign, Keyed::Claimed(_)), "tenants share a key: {foreign:?}");
}

pub(crate) async fn a_request_without_effect_frees_its_key(harness: Harness) {
    let claim = harness.claimed(request(1, 1)).await;
    harness.store.release_key(&acme(), claim.clone()).await.unwrap();
    let other = harness.claimed(request(1, 9)).await;
    // The old claim is no longer valid.
    harness.store.release_key(&acme(), claim.clone()).await.unwrap();
    assert!(matches!(harness.finish(claim, None).await, Err(StoreError::LeaseLost)));
    assert_eq!(harness.key(request(1, 9)).await, Keyed::UnderWay);
    harness.finish(other, None).await.unwrap();
}

pub(crate) async fn a_stalled_key_claim_cannot_write(harness: Harness) {
    let stalled = harness.claimed(request(1, 1)).await;
    harness.advance(59);
    assert_eq!(harness.key(request(1, 1)).await, Keyed::UnderWay);
    harness.advance(1);
    assert_eq!(
        harness.key(request(1, 9)).await,
        Keyed::OfAnother,
        "the outcome of the first request is unknown"
    );
    let successor = harness.claimed(request(1, 1)).await;
    assert!(matches!(harness.finish(stalled.clone(), Some(answer(1))).await, Err(StoreError::LeaseLost)));
    harness.store.release_key(&acme(), stalled).await.unwrap();
    assert_eq!(harness.key(request(1, 1)).await, Keyed::UnderWay);
    harness.finish(successor, Some(answer(2))).await.unwrap();
    assert_eq!(harness.key(request(1, 1)).await, Keyed::Done(Some(answer(2))));
}

pub(crate) async fn expired_keys_are_free_and_deleted_in_batches(harness: Harness) {
    for key in 0..5 {
        let claim = harness.claimed(request(key, 1)).await;
        harness.finish(claim, Some(answer(1))).await.unwrap();
    }
    harness.advance(3599);
    assert_eq!(harness.store.delete_keys_across_tenants(100).await.unwrap(), 0);
    assert_eq!(harness.key(request(0, 9)).await, Keyed::OfAnother);
    harness.advance(1);
    let claim = harness.claimed(request(0, 9)).await;
    assert_eq!(harness.store.delete_keys_across_tenants(3).await.unwrap(), 3);
    let worker = Retention {
        store: harness.store.clone(),
        period: Duration::from_secs(1_000_000),
        clock: harness.clock.clone(),
        clock_status: certain_clock(),
    };
    let worker = std::sync::Arc::new(worker);
    assert!(worker.clone().run_once(&TaskTracker::new()).await.unwrap().has_more);
    assert!(!worker.run_once(&TaskTracker::new()).await.unwrap().has_more);
    harness.finish(claim, Some(answer(2))).await.unwrap();
    assert_eq!(harness.key(request(0, 9)).await, Keyed::Done(Some(answer(2))));
    assert!(harness.clock.now() > crate::harness::START);
}

pub(crate) async fn deleting_a_call_deletes_stored_answers_about_it(harness: Harness) {
    harness.submit(submission("1")).await;
    harness.submit(submission("2")).await;
    for (key, concerns) in [(1, Some("1")), (2, Some("2")), (3, Some("*")), (4, None)] {
        let claim = harness.claimed(about(concerns, key, 1)).await;
        harness.finish(claim, Some(answer(key))).await.unwrap();
    }
    let under_way = harness.claimed(about(Some("1"), 5, 1)).await;
    assert!(harness.store.delete_analysis(&acme(), &call_id("1"), actor()).await.unwrap());
    for (key, kept) in [(1, None), (2, Some(answer(2))), (3, None), (4, Some(answer(4))), (5, None)] {
        assert_eq!(harness.key(request(key, 1)).await, Keyed::Done(kept), "{key}");
    }
    // An answer to a request from before the deletion is not stored.
    assert!(matches!(harness.finish(under_way, Some(answer(1))).await, Err(StoreError::LeaseLost)));
    assert_eq!(harness.key(request(5, 1)).await, Keyed::Done(None));
}

pub(crate) async fn one_of_many_concurrent_callers_claims_the_key(harness: Harness) {
    for key in 0..10 {
        let claims = join_all((0..8).map(|_| harness.key(request(key, 1)))).await;
        let claimed = claims.iter().filter(|claim| matches!(claim, Keyed::Claimed(_))).count();
        let under_way = claims.iter().filter(|claim| **claim == Keyed::UnderWay).count();
        assert_eq!((claimed, under_way), (1, 7));
    }
}
