//! How an endpoint's deliveries went, and what follows: a pause, or that it is disabled.
//!
//! An endpoint that failed several times in a row gets a pause, and then one delivery to try it with: until that
//! arrives, all others wait without using up their attempts, and nobody else waits with them. Every failed try makes
//! the pause longer, up to a bound. What cannot be signed, as the operator's key is not there, waits in the same way, and
//! nothing of it is held against the endpoint.

use std::time::Duration;

use super::DisabledReason;
use crate::domain::clock::Timestamp;

/// The last attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastFailure {
    /// When it ended.
    pub at: Timestamp,
    /// The receiver's status, if it gave one.
    pub status: Option<u16>,
    /// For people; it never names the URL.
    pub error: String,
}

/// How an endpoint's deliveries went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// Attempts that failed in a row.
    pub failures: u32,
    /// Since when there have been only such.
    pub failing_since: Option<Timestamp>,
    /// Until when nothing is sent; afterwards one delivery tries it.
    pub paused_until: Option<Timestamp>,
    /// The last success, to a second.
    pub last_success_at: Option<Timestamp>,
    /// The last failure.
    pub last_failure: Option<LastFailure>,
    /// Since when nothing could be signed; `None` if the last attempt was.
    pub unsigned_since: Option<Timestamp>,
}

/// How an attempt ended, as far as it says something of its endpoint.
#[derive(Debug, Clone)]
pub enum EndpointOutcome {
    /// It was taken.
    Delivered,
    /// It was not; `gone` if the receiver wants no more at all.
    Failed {
        /// A 410.
        gone: bool,
        /// The receiver's status.
        status: Option<u16>,
        /// For people.
        error: String,
    },
    /// Nothing was sent: the secret could not be opened. It says nothing of the receiver.
    Unsigned {
        /// For people.
        error: String,
    },
}

/// What may be sent to an endpoint now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryLimit {
    /// As much as to any other.
    Unlimited,
    /// One at a time: it is being tried.
    Probing,
    /// Nothing until then.
    Paused(Timestamp),
}

impl Health {
    /// So many failures in a row bring the first pause.
    pub const PAUSES_AFTER: u32 = 5;
    /// The first pause; each that follows is twice as long.
    pub const FIRST_PAUSE: Duration = Duration::from_secs(5);
    /// The longest.
    pub const LONGEST_PAUSE: Duration = Duration::from_mins(5);
    /// An endpoint that has only failed for so long is disabled.
    pub const PATIENCE: Duration = Duration::from_hours(5 * 24);
    /// How long an endpoint waits for which nothing can be signed; then one delivery tries it.
    pub const UNSIGNED_PAUSE: Duration = Duration::from_mins(1);
    /// How exactly the last success is known: a busy endpoint's record is not written with every delivery.
    pub const PRECISION: Duration = Duration::from_secs(1);

    /// What may be sent at this moment.
    pub fn delivery_limit(&self, now: Timestamp) -> DeliveryLimit {
        match self.paused_until {
            None => DeliveryLimit::Unlimited,
            Some(until) if until > now => DeliveryLimit::Paused(until),
            Some(_) => DeliveryLimit::Probing,
        }
    }

    /// Whether [`Health::attempted`] would change anything.
    pub fn learns_from(&self, ended: &EndpointOutcome, now: Timestamp) -> bool {
        match ended {
            EndpointOutcome::Failed { .. } | EndpointOutcome::Unsigned { .. } => true,
            EndpointOutcome::Delivered => {
                self.failures > 0
                    || self.unsigned_since.is_some()
                    || self.paused_until.is_some()
                    || self.last_success_at.is_none_or(|last| now.since(last) >= Self::PRECISION)
            }
        }
    }

    /// Takes note of an attempt's end; gives why the endpoint is to be disabled, if it is.
    pub fn attempted(&mut self, ended: &EndpointOutcome, now: Timestamp) -> Option<DisabledReason> {
        let (gone, status, error) = match ended {
            EndpointOutcome::Failed { gone, status, error } => (gone, status, error),
            EndpointOutcome::Unsigned { error } => {
                self.unsigned(error, now);
                return None;
            }
            EndpointOutcome::Delivered => {
                self.forgive();
                self.last_success_at = Some(now);
                return None;
            }
        };
        if self.unsigned_since.take().is_some() && self.failures < Self::PAUSES_AFTER {
            self.paused_until = None;
        }
        let paused = self.paused_until.is_some_and(|until| until > now);
        self.failures = self.failures.saturating_add(1);
        let since = *self.failing_since.get_or_insert(now);
        self.last_failure = Some(LastFailure { at: now, status: *status, error: error.clone() });
        // What was under way when the pause began ends within it, and says nothing new.
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

    /// Forgets that there were failures, but for the last one's record.
    pub fn forgive(&mut self) {
        (self.failures, self.failing_since, self.paused_until, self.unsigned_since) = (0, None, None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_716_207_617_000);

    fn failed() -> EndpointOutcome {
        EndpointOutcome::Failed { gone: false, status: Some(500), error: "no".to_owned() }
    }

    #[test]
    fn failures_in_a_row_bring_pauses_that_grow_up_to_a_bound() {
        let (mut health, mut now) = (Health::default(), NOW);
        for _ in 1..Health::PAUSES_AFTER {
            assert_eq!(health.attempted(&failed(), now), None);
            assert_eq!(health.delivery_limit(now), DeliveryLimit::Unlimited);
        }
        let mut pauses = Vec::new();
        for _ in 0..9 {
            health.attempted(&failed(), now);
            let DeliveryLimit::Paused(until) = health.delivery_limit(now) else { panic!("{health:?}") };
            // One that was under way changes nothing.
            let others = health.clone();
            health.attempted(&failed(), now);
            assert_eq!(
                (health.delivery_limit(now), health.failures),
                (others.delivery_limit(now), others.failures + 1)
            );
            health.failures = others.failures;
            pauses.push(until.since(now).as_secs());
            now = until;
            assert_eq!(health.delivery_limit(now), DeliveryLimit::Probing);
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        health.attempted(&EndpointOutcome::Delivered, now);
        assert_eq!(
            (health.delivery_limit(now), health.failures, health.failing_since),
            (DeliveryLimit::Unlimited, 0, None)
        );
        assert_eq!(health.last_success_at, Some(now));
        assert!(health.last_failure.is_some());
    }

    #[test]
    fn only_failures_for_five_days_disable_and_a_success_begins_anew() {
        let day = Duration::from_hours(24);
        let mut health = Health::default();
        for days in 0..5 {
            assert_eq!(health.attempted(&failed(), NOW + day * days), None, "{days}");
        }
        let mut other = health.clone();
        assert_eq!(health.attempted(&failed(), NOW + day * 5), Some(DisabledReason::Failing));
        other.attempted(&EndpointOutcome::Delivered, NOW + day * 4);
        assert_eq!(other.attempted(&failed(), NOW + day * 5), None);
    }

    #[test]
    fn what_cannot_be_signed_waits_and_is_not_held_against_the_receiver() {
        let unsigned = || EndpointOutcome::Unsigned { error: "no key".to_owned() };
        let mut health = Health::default();
        let later = NOW + Health::PATIENCE * 2;
        for now in [NOW, later] {
            assert_eq!(health.attempted(&unsigned(), now), None);
            assert_eq!(health.delivery_limit(now), DeliveryLimit::Paused(now + Health::UNSIGNED_PAUSE));
            assert_eq!((health.failures, health.failing_since, health.unsigned_since), (0, None, Some(NOW)));
        }
        let mut other = health.clone();
        assert!(health.learns_from(&EndpointOutcome::Delivered, later));
        health.attempted(&EndpointOutcome::Delivered, later);
        assert_eq!((health.delivery_limit(later), health.unsigned_since), (DeliveryLimit::Unlimited, None));
        // It could be signed: what comes now is the receiver's.
        other.attempted(&failed(), later);
        assert_eq!(
            (other.delivery_limit(later), other.unsigned_since, other.failures),
            (DeliveryLimit::Unlimited, None, 1)
        );
        // A longer pause that failures brought stays.
        for _ in 0..Health::PAUSES_AFTER + 8 {
            let now = other.paused_until.unwrap_or(later);
            other.attempted(&failed(), now);
        }
        let until = other.paused_until.unwrap();
        other.attempted(&unsigned(), later);
        assert_eq!(other.paused_until, Some(until));
    }

    #[test]
    fn gone_disables_at_once() {
        let gone = EndpointOutcome::Failed { gone: true, status: Some(410), error: "gone".to_owned() };
        assert_eq!(Health::default().attempted(&gone, NOW), Some(DisabledReason::Gone));
    }

    #[test]
    fn a_healthy_endpoint_is_not_written_with_every_delivery() {
        let mut health = Health::default();
        assert!(health.learns_from(&EndpointOutcome::Delivered, NOW));
        health.attempted(&EndpointOutcome::Delivered, NOW);
        assert!(!health.learns_from(&EndpointOutcome::Delivered, NOW + Duration::from_millis(999)));
        assert!(health.learns_from(&EndpointOutcome::Delivered, NOW + Health::PRECISION));
        assert!(health.learns_from(&failed(), NOW));
    }
}
