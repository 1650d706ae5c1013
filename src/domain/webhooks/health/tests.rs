//! Tests of the health of webhooks.

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_716_207_617_000);

fn failed() -> WebhookOutcome {
    WebhookOutcome::Failed { gone: false, status: Some(500), error: "no".to_owned() }
}

#[test]
fn a_pause_ends_when_the_clock_is_set_back() {
    let mut health = Health::default();
    (0..Health::PAUSES_AFTER).for_each(|_| _ = health.attempted(&failed(), NOW + Duration::from_hours(24)));
    assert_eq!(health.delivery_limit(NOW), DeliveryLimit::Probing);
    health.attempted(&failed(), NOW);
    assert!(
        matches!(health.delivery_limit(NOW), DeliveryLimit::Paused(until) if until.since(NOW) <= Health::LONGEST_PAUSE)
    );
}

#[test]
fn consecutive_failures_cause_pauses_that_grow_up_to_a_maximum() {
    let (mut health, mut now) = (Health::default(), NOW);
    for _ in 1..Health::PAUSES_AFTER {
        assert_eq!(health.attempted(&failed(), now), None);
        assert_eq!(health.delivery_limit(now), DeliveryLimit::Unlimited);
    }
    let mut pauses = Vec::new();
    for _ in 0..9 {
        health.attempted(&failed(), now);
        let DeliveryLimit::Paused(until) = health.delivery_limit(now) else { panic!("{health:?}") };
        // An attempt that started before the pause changes neither this pause nor the next one.
        let before = (health.delivery_limit(now), health.failures);
        health.attempted(&failed(), now);
        assert_eq!((health.delivery_limit(now), health.failures), before);
        pauses.push(until.since(now).as_secs());
        now = until;
        assert_eq!(health.delivery_limit(now), DeliveryLimit::Probing);
    }
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    health.attempted(&WebhookOutcome::Delivered, now);
    assert_eq!(
        (health.delivery_limit(now), health.failures, health.failing_since),
        (DeliveryLimit::Unlimited, 0, None)
    );
    assert_eq!(health.last_success_at, Some(now));
    assert!(health.last_failure.is_some());
}

#[test]
fn five_days_of_failures_disable_the_webhook_and_a_success_resets_them() {
    let day = Duration::from_hours(24);
    let mut health = Health::default();
    for days in 0..5 {
        assert_eq!(health.attempted(&failed(), NOW + day * days), None, "{days}");
    }
    let mut other = health.clone();
    assert_eq!(health.attempted(&failed(), NOW + day * 5), Some(DisabledReason::Failing));
    other.attempted(&WebhookOutcome::Delivered, NOW + day * 4);
    assert_eq!(other.attempted(&failed(), NOW + day * 5), None);
}

#[test]
fn unsigned_attempts_pause_the_webhook_but_do_not_count_as_failures() {
    let unsigned = || WebhookOutcome::Unsigned { error: "no key".to_owned() };
    let mut health = Health::default();
    let later = NOW + Health::PATIENCE * 2;
    for now in [NOW, later] {
        assert_eq!(health.attempted(&unsigned(), now), None);
        assert_eq!(health.delivery_limit(now), DeliveryLimit::Paused(now + Health::UNSIGNED_PAUSE));
        assert_eq!((health.failures, health.failing_since, health.unsigned_since), (0, None, Some(NOW)));
    }
    let mut other = health.clone();
    assert!(health.learns_from(&WebhookOutcome::Delivered, later));
    health.attempted(&WebhookOutcome::Delivered, later);
    assert_eq!((health.delivery_limit(later), health.unsigned_since), (DeliveryLimit::Unlimited, None));
    // The attempt was signed, so its failure counts.
    other.attempted(&failed(), later);
    assert_eq!(
        (other.delivery_limit(later), other.unsigned_since, other.failures),
        (DeliveryLimit::Unlimited, None, 1)
    );
    // If the pause from failures is longer, that pause stays.
    for _ in 0..Health::PAUSES_AFTER + 8 {
        let now = other.paused_until.unwrap_or(later);
        other.attempted(&failed(), now);
    }
    let until = other.paused_until.unwrap();
    other.attempted(&unsigned(), later);
    assert_eq!(other.paused_until, Some(until));
}

#[test]
fn an_undeliverable_event_is_shown_and_does_not_pause_the_webhook() {
    let mut health = Health::default();
    for _ in 0..=Health::PAUSES_AFTER {
        let unrendered = WebhookOutcome::Undeliverable { status: None, error: "no ticket".to_owned() };
        assert!(health.learns_from(&unrendered, NOW));
        assert_eq!(health.attempted(&unrendered, NOW + Health::PATIENCE), None);
    }
    assert_eq!((health.failures, health.delivery_limit(NOW)), (0, DeliveryLimit::Unlimited));
    assert_eq!(health.last_failure.unwrap().error, "no ticket");
}

#[test]
fn an_answer_about_one_event_ends_the_failures() {
    let (mut health, day) = (Health::default(), Duration::from_hours(24));
    let undeliverable = |status| WebhookOutcome::Undeliverable { status, error: "no".to_owned() };
    (0..Health::PAUSES_AFTER).for_each(|_| _ = health.attempted(&failed(), NOW));
    // Nothing was sent, so this tells nothing about the receiver.
    health.attempted(&undeliverable(None), NOW + day);
    assert_eq!((health.failing_since, health.failures), (Some(NOW), Health::PAUSES_AFTER));
    let mut silent = health.clone();
    assert_eq!(silent.attempted(&failed(), NOW + day * 5), Some(DisabledReason::Failing));
    health.attempted(&undeliverable(Some(404)), NOW + day * 4);
    assert_eq!(
        (health.failing_since, health.delivery_limit(NOW + day * 4)),
        (None, DeliveryLimit::Unlimited)
    );
    assert_eq!((health.last_success_at, health.last_failure.as_ref().unwrap().status), (None, Some(404)));
    assert_eq!(health.attempted(&failed(), NOW + day * 5), None);
}

#[test]
fn a_410_disables_the_webhook_at_once() {
    let gone = WebhookOutcome::Failed { gone: true, status: Some(410), error: "gone".to_owned() };
    assert_eq!(Health::default().attempted(&gone, NOW), Some(DisabledReason::Gone));
}

#[test]
fn a_healthy_webhook_is_not_written_with_every_delivery() {
    let mut health = Health::default();
    assert!(health.learns_from(&WebhookOutcome::Delivered, NOW));
    health.attempted(&WebhookOutcome::Delivered, NOW);
    assert!(!health.learns_from(&WebhookOutcome::Delivered, NOW + Duration::from_millis(999)));
    assert!(health.learns_from(&WebhookOutcome::Delivered, NOW + Health::PRECISION));
    assert!(health.learns_from(&failed(), NOW));
    // A test event ends a pause, but not the time of the failures.
    let recovering = Health { failing_since: Some(NOW), ..health };
    assert!(recovering.learns_from(&WebhookOutcome::Delivered, NOW));
}
