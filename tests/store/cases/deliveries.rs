//! Deliveries: attempts, retries, and fair shares for receivers.

use std::collections::HashSet;
use std::time::Duration;

use alovoice_gateway::domain::analysis::Submission;
use alovoice_gateway::domain::retries::{GiveUpReason, RetryDecision};
use alovoice_gateway::domain::transforms::Transform;
use alovoice_gateway::domain::webhooks::Webhook;
use alovoice_gateway::store::{ClaimedDelivery, DeliverySlots, StoreError};
use futures_util::{StreamExt, stream};

use super::webhooks::new_webhook;
use crate::harness::{
    Harness, LEASE, START, acme, call_id, delivered, finished, globex, obtained, slots, submission, trace,
    with_callback,
};
use crate::rows::{attempts_of, deliveries_of_call};

pub(super) const A: &str = "https://a.example/";
pub(super) const B: &str = "https://b.example/";

pub(super) fn receivers(claimed: &[ClaimedDelivery]) -> Vec<String> {
    claimed.iter().map(|claimed| claimed.delivery.url.to_text().into_owned()).collect()
}

/// Creates finished calls, each with a due delivery to `url`.
pub(super) async fn flood(harness: &Harness, url: &str, count: usize) {
    let host = url.trim_start_matches("https://").trim_end_matches('/');
    // A few at a time: they share commits, and none waits long for a connection on a busy machine.
    let adopt = async |number| {
        let call = format!("{host}-{number}");
        harness.store.adopt(&acme(), &call_id(&call), trace(), obtained("salom")).await.unwrap();
        harness.submit(with_callback(&call, url)).await;
    };
    stream::iter(0..count).for_each_concurrent(16, adopt).await;
}

/// A submission whose callback has a transform.
fn with_transform(call: &str, preset: &str) -> Submission {
    let mut submission = with_callback(call, A);
    let transform = Transform { preset: Some(preset.to_owned()), ..Transform::default() };
    submission.callback.as_mut().unwrap().transform = Some(transform);
    submission
}

pub(crate) async fn a_delivery_has_the_latest_transform_of_its_callback(harness: Harness) {
    harness.submit(with_transform("1", "html")).await;
    harness.complete(with_transform("1", "markdown"), "salom").await;
    let first = harness.claim_delivery().await;
    assert_eq!(first.transform.as_ref().unwrap().preset.as_deref(), Some("markdown"));
    assert!(!first.follows_unknown);
    // The process of the first attempt ends without an outcome.
    harness.advance(LEASE.as_secs() + 1);
    let second = harness.claim_delivery().await;
    assert!(second.follows_unknown);
    let refused = finished("refused", Some(500), RetryDecision::RetryAt(harness.now()));
    harness.store.finish_attempt(second.lease, refused).await.unwrap();
    assert!(!harness.claim_delivery().await.follows_unknown);
    // The rest of a batch and a callback of a finished call have their transforms, too.
    harness.store.submit_all(&acme(), vec![with_transform("2", "html")]).await.unwrap();
    harness.complete(submission("2"), "salom").await;
    assert_eq!(harness.claim_delivery().await.transform.unwrap().preset.as_deref(), Some("html"));
    harness.complete(submission("3"), "salom").await;
    harness.submit(with_transform("3", "html")).await;
    assert_eq!(harness.claim_delivery().await.transform.unwrap().preset.as_deref(), Some("html"));
}

/// Finishes an attempt with this outcome. Returns the next claim of the delivery.
async fn failed(harness: &Harness, claimed: &ClaimedDelivery, outcome: &'static str) -> ClaimedDelivery {
    let waits = outcome == "unsigned" && claimed.webhook.is_some();
    let next = if waits { RetryDecision::WaitUntil } else { RetryDecision::RetryAt };
    harness.store.finish_attempt(claimed.lease, finished(outcome, None, next(harness.now()))).await.unwrap();
    harness.claim_delivery().await
}

/// Redelivers the delivery after an attempt that was not sent.
async fn redelivered(harness: &Harness, claimed: &ClaimedDelivery) -> ClaimedDelivery {
    let claimed = failed(harness, claimed, "forbidden").await;
    let later = RetryDecision::RetryAt(harness.now() + LEASE);
    harness.store.finish_attempt(claimed.lease, finished("forbidden", None, later)).await.unwrap();
    harness.store.redeliver(&acme(), claimed.delivery.id).await.unwrap();
    harness.claim_delivery().await
}

/// Checks which attempts of a pending delivery follow an attempt of unknown outcome.
async fn follow_unknown_outcomes(harness: &Harness) {
    let mut claimed = harness.claim_delivery().await;
    assert!(!claimed.follows_unknown);
    claimed = failed(harness, &claimed, "unsigned").await;
    assert!(!claimed.follows_unknown, "nothing was sent");
    // The process of this attempt ends without an outcome.
    harness.advance(LEASE.as_secs() + 1);
    claimed = harness.claim_delivery().await;
    for outcome in ["unsigned", "unsigned", "transform", "forbidden", "unsigned"] {
        assert!(claimed.follows_unknown, "before {outcome}");
        claimed = failed(harness, &claimed, outcome).await;
    }
    assert!(claimed.follows_unknown);
    // The caller wants this round, so it may double the attempt of the round before.
    claimed = redelivered(harness, &claimed).await;
    for outcome in ["unsigned", "transform", "forbidden", "unsigned"] {
        assert!(!claimed.follows_unknown, "before {outcome} of the second round");
        claimed = failed(harness, &claimed, outcome).await;
    }
    assert!(!claimed.follows_unknown);
    harness.advance(LEASE.as_secs() + 1);
    claimed = harness.claim_delivery().await;
    assert!(claimed.follows_unknown);
    claimed = failed(harness, &claimed, "refused").await;
    assert!(!claimed.follows_unknown, "the last attempt has an outcome");
}

pub(crate) async fn an_attempt_to_a_webhook_that_was_not_sent_hides_no_unknown_outcome(harness: Harness) {
    let transform = Some(Transform { preset: Some("html".to_owned()), ..Transform::default() });
    let webhook = Webhook { transform, ..new_webhook(&harness, A) };
    assert!(harness.store.add_webhook(&acme(), webhook).await.unwrap());
    harness.complete(submission("1"), "salom").await;
    follow_unknown_outcomes(&harness).await;
}

pub(crate) async fn an_attempt_to_a_callback_that_was_not_sent_hides_no_unknown_outcome(harness: Harness) {
    harness.complete(with_transform("1", "html"), "salom").await;
    follow_unknown_outcomes(&harness).await;
}

pub(crate) async fn an_attempt_is_recorded_with_its_claim(harness: Harness) {
    harness.announce("1", &[A]).await;
    assert_eq!(harness.deliveries("1").await, [("pending".to_owned(), 0)]);
    let claimed = harness.claim_delivery().await;
    assert_eq!(claimed.delivery.attempts, 1);
    assert_eq!(harness.deliveries("1").await, [("pending".to_owned(), 1)]);
    let attempts = attempts_of(&*harness.store, &acme(), claimed.delivery.id).await;
    assert_eq!(attempts.len(), 1);
    assert_eq!((attempts[0].number, attempts[0].started_at), (1, START + Duration::from_secs(10)));
    assert_eq!((&attempts[0].outcome, attempts[0].status, attempts[0].latency), (&None, None, None));
    assert_eq!(attempts[0].response, b"");
}

pub(crate) async fn a_successful_delivery_is_finished(harness: Harness) {
    harness.announce("1", &[A]).await;
    let claimed = harness.claim_delivery().await;
    harness.store.finish_attempt(claimed.lease, delivered()).await.unwrap();
    assert_eq!(harness.deliveries("1").await, [("delivered".to_owned(), 1)]);
    let attempts = attempts_of(&*harness.store, &acme(), claimed.delivery.id).await;
    assert_eq!((attempts[0].outcome.as_deref(), attempts[0].status), (Some("delivered"), Some(204)));
    assert_eq!(attempts[0].latency, Some(Duration::from_millis(42)));
    assert_eq!(attempts[0].response, b"thanks");
    harness.advance(1_000_000);
    assert_eq!(harness.claim_deliveries(100, 100).await.len(), 0);
}

pub(crate) async fn a_failed_attempt_is_retried_when_due(harness: Harness) {
    harness.announce("1", &[A]).await;
    let first = harness.claim_delivery().await;
    let retry_at = START + Duration::from_secs(20);
    let failed = finished("refused", Some(503), RetryDecision::RetryAt(retry_at));
    harness.store.finish_attempt(first.lease, failed).await.unwrap();
    assert_eq!(harness.deliveries("1").await, [("pending".to_owned(), 1)]);

    let slots = slots(100, 100, 100);
    let early = harness.store.claim_deliveries_across_tenants(slots, LEASE).await.unwrap();
    assert_eq!((early.claimed.len(), early.next_due), (0, Some(retry_at)));
    harness.advance(10);
    let second = harness.claim_delivery().await;
    assert_eq!(second.delivery.attempts, 2);
    assert_eq!(second.delivery.id, first.delivery.id);
    assert_eq!((second.delivery.event_id, &second.body), (first.delivery.event_id, &first.body));

    harness.store.finish_attempt(second.lease, delivered()).await.unwrap();
    let attempts = attempts_of(&*harness.store, &acme(), first.delivery.id).await;
    let outcomes: Vec<_> =
        attempts.iter().map(|attempt| (attempt.number, attempt.outcome.as_deref(), attempt.status)).collect();
    assert_eq!(outcomes, [(1, Some("refused"), Some(503)), (2, Some("delivered"), Some(204))]);
}

pub(crate) async fn a_delivery_is_given_up(harness: Harness) {
    harness.announce("1", &[A, B]).await;
    for (claimed, reason) in
        harness.claim_deliveries(100, 100).await.iter().zip([GiveUpReason::Gone, GiveUpReason::Exhausted])
    {
        let attempt = finished("gone", None, RetryDecision::GiveUp(reason));
        harness.store.finish_attempt(claimed.lease, attempt).await.unwrap();
    }
    let failed = ("failed".to_owned(), 1);
    assert_eq!(harness.deliveries("1").await, [failed.clone(), failed]);
    harness.advance(1_000_000);
    assert_eq!(harness.claim_deliveries(100, 100).await.len(), 0);
}

pub(crate) async fn a_stale_attempt_cannot_write(harness: Harness) {
    harness.announce("1", &[A]).await;
    let stale = harness.claim_delivery().await;
    harness.advance(LEASE.as_secs());
    let fresh = harness.claim_delivery().await;
    assert_eq!(fresh.delivery.attempts, 2);

    let lost = harness.store.finish_attempt(stale.lease, delivered()).await;
    assert!(matches!(lost, Err(StoreError::LeaseLost)), "{lost:?}");
    assert_eq!(harness.deliveries("1").await, [("pending".to_owned(), 2)]);
    let attempts = attempts_of(&*harness.store, &acme(), fresh.delivery.id).await;
    assert!(attempts.iter().all(|attempt| attempt.outcome.is_none()), "{attempts:?}");

    harness.store.finish_attempt(fresh.lease, delivered()).await.unwrap();
    for lease in [stale.lease, fresh.lease] {
        let gave_up = finished("gone", Some(410), RetryDecision::GiveUp(GiveUpReason::Gone));
        let lost = harness.store.finish_attempt(lease, gave_up).await;
        assert!(matches!(lost, Err(StoreError::LeaseLost)), "{lost:?}");
    }
    assert_eq!(harness.deliveries("1").await, [("delivered".to_owned(), 2)]);
}

pub(crate) async fn deliveries_in_progress_to_a_receiver_are_limited(harness: Harness) {
    flood(&harness, A, 5).await;
    let first = harness.claim_deliveries(2, 3).await;
    flood(&harness, B, 5).await;
    let claim = async || {
        let urls = receivers(&harness.claim_deliveries(100, 3).await);
        let of = |url: &str| urls.iter().filter(|claimed| *claimed == url).count();
        (of(A), of(B))
    };
    assert_eq!(claim().await, (1, 3));
    assert_eq!(claim().await, (0, 0));
    for claimed in first {
        harness.store.finish_attempt(claimed.lease, delivered()).await.unwrap();
    }
    assert_eq!(claim().await, (2, 0));
}

pub(crate) async fn a_claim_ends_with_the_body_that_exceeds_the_byte_limit(harness: Harness) {
    flood(&harness, A, 5).await;
    for (bytes, claimed) in [(0, 0), (1, 1), (usize::MAX, 4)] {
        let slots = DeliverySlots { bytes, ..slots(100, 100, 100) };
        let claims = harness.store.claim_deliveries_across_tenants(slots, LEASE).await.unwrap();
        assert_eq!(claims.claimed.len(), claimed, "{bytes}");
    }
}

pub(crate) async fn a_flood_to_one_receiver_does_not_block_another(harness: Harness) {
    flood(&harness, A, 1000).await;
    harness.advance(60);
    flood(&harness, B, 1).await;
    let claimed = harness.claim_deliveries(100, 8).await;
    let urls = receivers(&claimed);
    assert_eq!(urls.iter().filter(|url| *url == A).count(), 8);
    assert_eq!(urls.iter().filter(|url| *url == B).count(), 1);
}

pub(crate) async fn a_tenant_with_many_receivers_does_not_block_another_tenant(harness: Harness) {
    for receiver in 0..50 {
        flood(&harness, &format!("https://{receiver}.example/"), 2).await;
    }
    harness.store.adopt(&globex(), &call_id("1"), trace(), obtained("salom")).await.unwrap();
    harness.store.submit(&globex(), with_callback("1", A)).await.unwrap();
    let claim = async |total| {
        let slots = slots(total, 10, 8);
        let claims = harness.store.claim_deliveries_across_tenants(slots, LEASE).await.unwrap();
        let of = |tenant| claims.claimed.iter().filter(|claimed| claimed.delivery.tenant == tenant).count();
        (of(acme()), of(globex()))
    };
    assert_eq!(claim(20).await, (10, 1));
    assert_eq!(claim(20).await, (0, 0));
}

pub(crate) async fn receivers_behind_a_busy_receiver_are_found(harness: Harness) {
    const OTHERS: usize = 150;
    flood(&harness, A, 200).await;
    harness.claim_deliveries(100, 8).await;
    harness.advance(5);
    for other in 0..OTHERS {
        flood(&harness, &format!("https://{other}.example/"), 1).await;
    }
    let (mut seen, mut next_due) = (HashSet::new(), None);
    // Each claim scans a limited number of receivers, and the next claim continues the scan.
    for _ in 0..OTHERS {
        let slots = slots(100, usize::MAX, 8);
        let claims = harness.store.claim_deliveries_across_tenants(slots, LEASE).await.unwrap();
        seen.extend(receivers(&claims.claimed));
        next_due = claims.next_due;
        if seen.len() == OTHERS {
            break;
        }
    }
    assert_eq!(seen.len(), OTHERS);
    // The first receivers may have new deliveries, so another scan follows.
    assert_eq!(next_due, Some(harness.now()));
    assert!(!seen.contains(A));
}

pub(crate) async fn tenants_with_the_same_receiver_have_separate_slots(harness: Harness) {
    flood(&harness, A, 3).await;
    harness.store.adopt(&globex(), &call_id("1"), trace(), obtained("salom")).await.unwrap();
    harness.store.submit(&globex(), with_callback("1", A)).await.unwrap();
    let claimed = harness.claim_deliveries(100, 2).await;
    let of = |tenant| claimed.iter().filter(|claimed| claimed.delivery.tenant == tenant).count();
    assert_eq!((of(acme()), of(globex())), (2, 1));
}

pub(crate) async fn a_claim_of_deliveries_respects_its_slots(harness: Harness) {
    flood(&harness, A, 3).await;
    flood(&harness, B, 3).await;
    for expected in [4, 2, 0] {
        assert_eq!(harness.claim_deliveries(4, 100).await.len(), expected);
    }
    harness.submit(submission("1")).await;
    assert_eq!(harness.claim_deliveries(0, 100).await.len(), 0);
}

pub(crate) async fn every_receiver_is_served_when_slots_are_scarce(harness: Harness) {
    const PLENTY: usize = 64;
    flood(&harness, A, PLENTY).await;
    flood(&harness, B, PLENTY).await;
    let mut seen = HashSet::new();
    // The first tenant is random. The same one 64 times in a row is practically impossible.
    for _ in 0..PLENTY {
        seen.extend(receivers(&harness.claim_deliveries(1, 1).await));
    }
    assert_eq!(seen, HashSet::from([A.to_owned(), B.to_owned()]));
}

pub(crate) async fn released_deliveries_are_due_at_once(harness: Harness) {
    harness.announce("1", &[A]).await;
    let claimed = harness.claim_delivery().await;
    harness.store.release_across_tenants().await.unwrap();
    let lost = harness.store.finish_attempt(claimed.lease, delivered()).await;
    assert!(matches!(lost, Err(StoreError::LeaseLost)), "{lost:?}");
    assert_eq!(harness.claim_delivery().await.delivery.attempts, 2);

    // Finished deliveries stay finished.
    harness.announce("2", &[B]).await;
    let claimed = harness.claim_delivery().await;
    harness.store.finish_attempt(claimed.lease, delivered()).await.unwrap();
    harness.store.release_across_tenants().await.unwrap();
    assert_eq!(harness.deliveries("2").await, [("delivered".to_owned(), 1)]);
}

pub(crate) async fn deliveries_of_other_tenants_are_hidden(harness: Harness) {
    harness.announce("1", &[A]).await;
    let claimed = harness.claim_delivery().await;
    assert_eq!(deliveries_of_call(&*harness.store, &globex(), &call_id("1")).await, []);
    assert_eq!(attempts_of(&*harness.store, &globex(), claimed.delivery.id).await, []);
}
