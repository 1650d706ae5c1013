//! Health of a webhook: a circuit breaker that pauses or disables the webhook after failures.
//!
//! After five consecutive failures the webhook is paused, and then one delivery probes it. Until the probe succeeds,
//! all other deliveries of this webhook wait without using up their attempts; other webhooks are not affected. Each
//! failed probe doubles the pause up to a maximum. Deliveries that cannot be signed, because the operator's key is
//! missing, also pause the webhook, but do not count as failures.

use std::time::Duration;

use super::DisabledReason;
use crate::domain::clock::Timestamp;

/// The most recent failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastFailure {
    /// Time at which the attempt ended.
    pub at: Timestamp,
    /// Status of the answer, if there was one.
    pub status: Option<u16>,
    /// Description for people. It never contains the URL.
    pub error: String,
}

/// Health of a webhook, derived from its deliveries.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// Number of consecutive failures.
    pub failures: u32,
    /// Time of the first of the consecutive failures.
    pub failing_since: Option<Timestamp>,
    /// End of the pause. Afterwards one delivery probes the webhook.
    pub paused_until: Option<Timestamp>,
    /// Time of the last success, accurate to one second.
    pub last_success_at: Option<Timestamp>,
    /// The most recent failure.
    pub last_failure: Option<LastFailure>,
    /// Time since which no attempt could be signed; `None` if the last attempt was signed.
    pub unsigned_since: Option<Timestamp>,
}

/// Effect of an attempt on the health of its webhook.
#[derive(Debug, Clone)]
pub enum WebhookOutcome {
    /// The receiver accepted the event.
    Delivered,
    /// The attempt failed.
    Failed {
        /// Whether the receiver answered 410.
        gone: bool,
        /// Status of the answer, if there was one.
        status: Option<u16>,
        /// Description of the failure for people.
        error: String,
    },
    /// This event cannot be delivered now: the transform could not render it, or the receiver does not accept it. Other events to
    /// the same webhook may succeed.
    Undeliverable {
        /// Status of the answer, if there was one.
        status: Option<u16>,
        /// Description of the failure for people.
        error: String,
    },
    /// The attempt was not sent, because the secret could not be decrypted. The receiver is not at fault.
    Unsigned {
        /// Description of the failure for people.
        error: String,
    },
}

/// Limit on the deliveries that a webhook may receive now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryLimit {
    /// No limit: the webhook is healthy.
    Unlimited,
    /// One delivery at a time, which probes the webhook.
    Probing,
    /// No deliveries before this time.
    Paused(Timestamp),
}

impl Health {
    /// Number of consecutive failures after which the webhook is paused.
    pub const PAUSES_AFTER: u32 = 5;
    /// First pause. Each further pause is twice as long, up to a maximum.
    pub const FIRST_PAUSE: Duration = Duration::from_secs(5);
    /// Maximum length of a pause.
    const LONGEST_PAUSE: Duration = Duration::from_mins(5);
    /// Duration of uninterrupted failures after which the webhook is disabled.
    pub const PATIENCE: Duration = Duration::from_hours(5 * 24);
    /// Pause of a webhook whose deliveries cannot be signed. After this pause, one delivery probes the webhook.
    pub const UNSIGNED_PAUSE: Duration = Duration::from_mins(1);
    /// Accuracy of the time of the last success. With a higher accuracy, every delivery to a busy webhook would write the row of
    /// the webhook.
    const PRECISION: Duration = Duration::from_secs(1);

    /// Returns the limit at `now`. A pause counts as over if its remaining time exceeds the maximum length of a pause, because
    /// then the clock was set back after the pause began.
    pub fn delivery_limit(&self, now: Timestamp) -> DeliveryLimit {
        match self.paused_until {
            None => DeliveryLimit::Unlimited,
            Some(until) if until > now && until.since(now) <= Self::LONGEST_PAUSE => {
                DeliveryLimit::Paused(until)
            }
            Some(_) => DeliveryLimit::Probing,
        }
    }

    /// Whether [`Health::attempted`] would change the health.
    pub fn learns_from(&self, ended: &WebhookOutcome, now: Timestamp) -> bool {
        match ended {
            WebhookOutcome::Failed { .. }
            | WebhookOutcome::Undeliverable { .. }
            | WebhookOutcome::Unsigned { .. } => true,
            WebhookOutcome::Delivered => {
                self.failures > 0
                    || self.failing_since.is_some()
                    || self.unsigned_since.is_some()
                    || self.paused_until.is_some()
                    || self.last_success_at.is_none_or(|last| now.since(last) >= Self::PRECISION)
            }
        }
    }

    /// Records the outcome of an attempt. Returns the reason if the webhook must be disabled.
    pub fn attempted(&mut self, ended: &WebhookOutcome, now: Timestamp) -> Option<DisabledReason> {
        let (gone, status, error) = match ended {
            WebhookOutcome::Failed { gone, status, error } => (gone, status, error),
            WebhookOutcome::Unsigned { error } => {
                self.unsigned(error, now);
                return None;
            }
            WebhookOutcome::Undeliverable { status, error } => {
                // An answer about one event shows that the receiver works, so it ends the failures.
                if status.is_some() {
                    self.forgive();
                }
                self.last_failure = Some(LastFailure { at: now, status: *status, error: error.clone() });
                return None;
            }
            WebhookOutcome::Delivered => {
                self.forgive();
                self.last_success_at = Some(now);
                return None;
            }
        };
        if self.unsigned_since.take().is_some() && self.failures < Self::PAUSES_AFTER {
            self.paused_until = None;
        }
        let paused = matches!(self.delivery_limit(now), DeliveryLimit::Paused(_));
        // Attempts that started before the pause can end during the pause. They change neither this pause nor the next one.
        // Otherwise a receiver with many deliveries would get the longest pause after a short outage.
        if !paused {
            self.failures = self.failures.saturating_add(1);
        }
        let since = *self.failing_since.get_or_insert(now);
        self.last_failure = Some(LastFailure { at: now, status: *status, error: error.clone() });
        if self.failures >= Self::PAUSES_AFTER && !paused {
            let doublings = (self.failures - Self::PAUSES_AFTER).min(16);
            let pause = Self::FIRST_PAUSE.saturating_mul(1 << doublings).min(Self::LONGEST_PAUSE);
            self.paused_until = Some(now + pause);
        }
        if *gone {
            Some(DisabledReason::Gone)
        } else if now.since(since) >= Self::PATIENCE {
            Some(DisabledReason::Failing)
        } else {
            None
        }
    }

    fn unsigned(&mut self, error: &str, now: Timestamp) {
        self.unsigned_since.get_or_insert(now);
        self.last_failure = Some(LastFailure { at: now, status: None, error: error.to_owned() });
        self.paused_until = self.paused_until.max(Some(now + Self::UNSIGNED_PAUSE));
    }

    /// Resets the failures and the pause, but keeps the most recent failure.
    pub fn forgive(&mut self) {
        (self.failures, self.failing_since, self.paused_until, self.unsigned_since) = (0, None, None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_716_207_617_000);

    fn failed() -> WebhookOutcome {
        WebhookOutcome::Failed { gone: false, status: Some(500), error: "no".to_owned() }
    }

    #[test]
    fn a_pause_ends_when_the_clock_is_set_back() {
        let mut health = Health::default();
        (0..Health::PAUSES_AFTER)
            .for_each(|_| _ = health.attempted(&failed(), NOW + Duration::from_hours(24)));
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
}
