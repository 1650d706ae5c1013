//! Rates of webhooks: tokens, their time, and other receivers meanwhile.

use std::time::Duration;

use alovoice_gateway::domain::delivery_rate::ChosenRate;
use alovoice_gateway::domain::ids::WebhookId;
use alovoice_gateway::domain::retries::RetryDecision;
use alovoice_gateway::domain::transforms::Transform;
use alovoice_gateway::domain::webhooks::{Health, Webhook};
use alovoice_gateway::store::Sending;

use super::deliveries::A;
use super::times::step;
use super::webhooks::{deliveries_to, events, finish, new_webhook, registered};
use crate::harness::{Harness, LEASE, START, acme, delivered, finished, slots, trace};

/// Registers a webhook with this rate.
pub(crate) async fn limited(harness: &Harness, rate: f64, burst: u32) -> WebhookId {
    let chosen_rate = ChosenRate { rate: rate.try_into().ok(), burst: f64::from(burst).try_into().ok() };
    let webhook = Webhook { chosen_rate, ..new_webhook(harness, A) };
    assert!(harness.store.add_webhook(&acme(), webhook.clone()).await.unwrap());
    webhook.id
}

/// Claims what is due. Returns the number of deliveries to this webhook and to other receivers.
async fn claimed(harness: &Harness, webhook: WebhookId) -> (usize, usize) {
    let claimed = harness.claim_deliveries(100, 100).await;
    let (to_webhook, others): (Vec<_>, Vec<_>) =
        claimed.iter().partition(|claimed| claimed.delivery.webhook == Some(webhook));
    (to_webhook.len(), others.len())
}

pub(crate) async fn a_webhook_gets_as_many_deliveries_as_its_bucket_has_tokens(harness: Harness) {
    let webhook = limited(&harness, 2.0, 3).await;
    registered(&harness, A).await;
    events(&harness, "event", 10).await;
    harness.announce("own", &[A]).await;
    assert_eq!(claimed(&harness, webhook).await, (3, 12));
    let claims = harness.store.claim_deliveries_across_tenants(slots(100, 100, 100), LEASE).await.unwrap();
    let half = Duration::from_millis(500);
    assert_eq!((claims.claimed.len(), claims.next_due), (0, Some(harness.now() + half)));
    harness.clock.advance(half);
    assert_eq!(claimed(&harness, webhook).await, (1, 0));
    harness.advance(1);
    assert_eq!(claimed(&harness, webhook).await, (2, 0));
    harness.advance(20);
    assert_eq!(claimed(&harness, webhook).await, (3, 0));
    let attempts: Vec<_> =
        deliveries_to(&harness, webhook).await.iter().map(|delivery| delivery.attempts).collect();
    assert_eq!(attempts.iter().filter(|attempts| **attempts == 1).count(), 9);
    assert_eq!(
        attempts.iter().filter(|attempts| **attempts == 0).count(),
        2,
        "a delivery that waits has no attempt"
    );
}

pub(crate) async fn a_flood_to_a_webhook_with_a_rate_does_not_delay_others(harness: Harness) {
    let slow = limited(&harness, 0.01, 1).await;
    events(&harness, "flood", 300).await;
    harness.advance(5);
    let quick = registered(&harness, A).await;
    events(&harness, "event", 10).await;
    harness.announce("own", &[A]).await;
    let mut of_slow = 0;
    for _ in 0..4 {
        for delivery in harness.claim_deliveries(100, 8).await {
            of_slow += usize::from(delivery.delivery.webhook == Some(slow));
            finish(&harness, &delivery, delivered()).await;
        }
    }
    let open = deliveries_to(&harness, quick.id).await;
    assert!(open.len() == 11 && open.iter().all(|delivery| delivery.status == "delivered"), "{open:?}");
    assert_eq!(of_slow, 1);
}

pub(crate) async fn a_preset_has_a_rate_that_a_webhook_can_change(harness: Harness) {
    let transform = Transform { preset: Some("slack.message".to_owned()), ..Transform::default() };
    let webhook = Webhook { transform: Some(transform), ..new_webhook(&harness, A) };
    assert!(harness.store.add_webhook(&acme(), webhook.clone()).await.unwrap());
    events(&harness, "event", 9).await;
    assert_eq!(claimed(&harness, webhook.id).await, (1, 0));
    let chosen_rate = ChosenRate { burst: 3.0.try_into().ok(), ..ChosenRate::default() };
    let changed = Webhook { chosen_rate, ..webhook.clone() };
    assert!(harness.store.change_webhook(&acme(), changed.clone(), false).await.unwrap());
    let found = harness.store.find_webhook(&acme(), webhook.id).await.unwrap().unwrap();
    assert_eq!(found, Webhook { version: 2, ..changed.clone() });
    assert_eq!(claimed(&harness, webhook.id).await, (2, 0));
    let unlimited = Webhook { transform: None, version: 2, ..changed };
    assert!(harness.store.change_webhook(&acme(), unlimited, false).await.unwrap());
    assert_eq!(claimed(&harness, webhook.id).await, (6, 0));
}

pub(crate) async fn tests_redeliveries_and_probes_take_tokens(harness: Harness) {
    let webhook = limited(&harness, 0.01, 1).await;
    let test = async || harness.store.test_webhook(&acme(), webhook, trace()).await.unwrap();
    let Sending::Due(first) = test().await else { panic!("the webhook is disabled") };
    test().await;
    for _ in 0..Health::PAUSES_AFTER {
        let attempt = harness.claim_delivery().await;
        let refused = finished("refused", Some(500), RetryDecision::RetryAt(harness.now()));
        finish(&harness, &attempt, refused).await;
        assert_eq!(claimed(&harness, webhook).await, (0, 0), "there is no token");
        harness.advance(100);
    }
    let probe = harness.claim_delivery().await;
    finish(&harness, &probe, delivered()).await;
    assert_eq!(harness.store.redeliver(&acme(), first).await.unwrap(), Sending::Due(first));
    assert_eq!(claimed(&harness, webhook).await, (0, 0), "there is no token");
    harness.advance(100);
    assert_eq!(claimed(&harness, webhook).await, (1, 0));
}

pub(crate) async fn a_jump_of_the_clock_does_not_stop_a_webhook(harness: Harness) {
    let webhook = limited(&harness, 0.01, 2).await;
    events(&harness, "event", 20).await;
    assert_eq!(claimed(&harness, webhook).await, (2, 0));
    // A step keeps the tokens.
    for to in [START + Duration::from_hours(48), START] {
        step(&harness, Some(harness.now()), to).await;
        assert_eq!(claimed(&harness, webhook).await, (0, 0));
    }
    harness.advance(100);
    assert_eq!(claimed(&harness, webhook).await, (1, 0));
    // A clock that jumps without a step finds an impossible bucket, which counts as full.
    harness.clock.set(START + Duration::from_hours(1));
    assert_eq!(claimed(&harness, webhook).await, (2, 0));
    harness.clock.set(START + Duration::from_mins(30));
    assert_eq!(claimed(&harness, webhook).await, (2, 0));
}

pub(crate) async fn deliveries_that_wait_for_a_token_are_not_late(harness: Harness) {
    let webhook = limited(&harness, 1.0, 2).await;
    events(&harness, "event", 9).await;
    let lag = async || {
        harness.store.stats_across_tenants(&[acme()]).await.unwrap().remove(&acme()).unwrap().delivery_lag
    };
    harness.advance(1);
    assert_eq!(lag().await, Duration::from_secs(1), "nothing claims the deliveries");
    assert_eq!(claimed(&harness, webhook).await, (2, 0));
    harness.advance(1);
    assert_eq!(lag().await, Duration::ZERO);
    harness.advance(9);
    assert_eq!(lag().await, Duration::from_secs(11));
}

/// The scan takes two claims. The webhook that gets the next token is among the receivers of the first claim.
pub(crate) async fn a_scan_of_many_receivers_ends_at_the_next_token(harness: Harness) {
    limited(&harness, 0.01, 1).await;
    events(&harness, "flood", 70).await;
    harness.advance(1);
    limited(&harness, 0.1, 1).await;
    harness.advance(1);
    for _ in 0..40 {
        registered(&harness, A).await;
    }
    for call in 0..5 {
        let callbacks: Vec<String> =
            (0..8).map(|number| format!("https://receiver-{call}-{number}.example/")).collect();
        let callbacks: Vec<&str> = callbacks.iter().map(String::as_str).collect();
        harness.announce(&call.to_string(), &callbacks).await;
    }
    let claim = async || {
        let slots = slots(1000, 1000, 1000);
        let claims = harness.store.claim_deliveries_across_tenants(slots, LEASE).await.unwrap();
        (claims.claimed.len(), claims.next_due.unwrap().since(harness.now()))
    };
    // The first claim scans 40 receivers of callbacks and 24 webhooks, of which two have a rate.
    assert_eq!(claim().await, (1 + 40 + 1 + 22 * 5, Duration::from_millis(50)));
    // The second claim ends the scan. The first receivers may have new deliveries, so another scan follows.
    assert_eq!(claim().await, (18 * 5, Duration::ZERO));
    assert_eq!(claim().await, (0, Duration::from_millis(50)));
    assert_eq!(claim().await, (0, Duration::from_secs(10)));
}
