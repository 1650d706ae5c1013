//! Health of a webhook: a circuit breaker that pauses or disables the webhook after failures.
//!
//! After five consecutive failures the webhook is paused, and then one delivery probes it. Until the probe succeeds,
//! all other deliveries of this webhook wait without using up their attempts; other webhooks are not affected. Each
//! failed probe doubles the pause up to a maximum. Deliveries that cannot be signed, because the operator's key is
//! missing, also pause the webhook, but do not count as failures.

#[cfg(test)]
mod tests;

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
