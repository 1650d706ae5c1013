//! Usage of a tenant by day.

use std::fmt;
use std::ops::AddAssign;

use jiff::civil::Date;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use super::call_facts::CallFacts;
use super::clock::Timestamp;
use super::events::EventKind;

const MILLIS_OF_A_DAY: i64 = 86_400_000;

/// Day in UTC, written `2026-11-22` and stored as the number of days since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i64);

impl Day {
    /// Returns the day that contains a time.
    pub const fn of(moment: Timestamp) -> Self {
        Self(moment.as_millis().div_euclid(MILLIS_OF_A_DAY))
    }

    /// Returns the day with a number from [`Day::number`].
    pub const fn from_number(number: i64) -> Self {
        Self(number)
    }

    /// Returns the number of days since 1 January 1970.
    pub const fn number(self) -> i64 {
        self.0
    }

    /// Returns the day that is this number of days earlier.
    pub const fn before(self, days: i64) -> Self {
        Self(self.0.saturating_sub(days))
    }

    /// Returns all days from this one to `last`, including both.
    pub fn until(self, last: Self) -> impl Iterator<Item = Self> {
        (self.0..=last.0).map(Self)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let midnight = Timestamp::from_millis(self.0.saturating_mul(MILLIS_OF_A_DAY)).to_string();
        f.write_str(midnight.split('T').next().unwrap_or_default())
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let text = String::deserialize(deserializer)?;
        let wrong = || D::Error::custom("must be a day such as 2026-11-22");
        // jiff also parses a date with a time and ignores the time.
        if text.len() != 10 {
            return Err(wrong());
        }
        let date: Date = text.parse().map_err(|_| wrong())?;
        let midnight = date.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| wrong())?;
        Ok(Self::of(Timestamp::from_millis(midnight.timestamp().as_millisecond())))
    }
}

/// The call fact that groups the usage: `agent` (the agent's id, or the name of an agent without an id) or `queue`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UsageFact {
    /// The id of the agent, or the name if there is no id.
    Agent,
    /// The queue of the call.
    Queue,
}

impl UsageFact {
    /// Returns the name in the API and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Queue => "queue",
        }
    }

    /// Returns the facts by which the usage of a call is counted, each with its value.
    pub fn of(call: &CallFacts) -> impl Iterator<Item = (Self, &str)> {
        let agent = call.agent.as_ref().and_then(|agent| agent.id.as_ref().or(agent.name.as_ref()));
        let facts = [(Self::Agent, agent), (Self::Queue, call.queue.as_ref())];
        facts.into_iter().filter_map(|(fact, value)| Some((fact, value?.as_str())))
    }
}

/// Usage of the calls of one agent or one queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FactUsage {
    /// The agent or the queue.
    #[schema(max_length = 256, example = "17")]
    pub value: String,
    /// Number of accepted submissions, including repeated submissions.
    #[schema(example = 40)]
    pub submissions: u64,
    /// Number of completed analyses. Later revisions do not count.
    #[schema(example = 39)]
    pub completions: u64,
    /// Number of failed analyses.
    #[schema(example = 1)]
    pub failures: u64,
}

/// Usage counters of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Number of accepted submissions, including repeated submissions.
    pub submissions: u64,
    /// Number of requests for a result. A request for a call that was never submitted counts only if the vendor had
    /// the result.
    pub polls: u64,
    /// Number of completed analyses. Later revisions do not count.
    pub completions: u64,
    /// Number of failed analyses.
    pub failures: u64,
    /// Deliveries to callbacks and webhooks.
    pub deliveries: DeliveryUsage,
}

/// Usage of deliveries to callbacks and webhooks, including test events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
pub struct DeliveryUsage {
    /// Number of attempts that started on this day. Each attempt is also counted in the `attempt_count` of its
    /// delivery.
    #[schema(example = 125)]
    pub attempts: u64,
    /// Number of times on this day that a delivery reached the status `delivered`. A delivery that is sent again
    /// (redelivery or replay) counts again.
    #[schema(example = 120)]
    pub delivered: u64,
    /// Number of times on this day that a delivery reached the status `failed`. A failure still counts if the delivery is
    /// sent again later.
    #[schema(example = 0)]
    pub failed: u64,
}

impl Usage {
    /// Returns the counters to add for one accepted submission.
    pub fn submission() -> Self {
        Self { submissions: 1, ..Self::default() }
    }

    /// Returns the counters to add for this number of polls, and for the event if they caused one.
    pub fn step(polls: u64, event: Option<EventKind>) -> Self {
        let is = |kind| u64::from(event == Some(kind));
        let (completions, failures) = (is(EventKind::AnalysisCompleted), is(EventKind::AnalysisFailed));
        Self { polls, completions, failures, ..Self::default() }
    }

    /// Returns the counters to add when this number of attempts begins.
    pub fn attempts(attempts: u64) -> Self {
        Self { deliveries: DeliveryUsage { attempts, ..DeliveryUsage::default() }, ..Self::default() }
    }

    /// Returns the counters to add when an attempt ends. `outcome` says whether the delivery succeeded; `None` means that the
    /// delivery continues. The attempt itself was counted when it began.
    pub fn delivery(outcome: Option<bool>) -> Self {
        let is = |wanted| u64::from(outcome == Some(wanted));
        let deliveries = DeliveryUsage { attempts: 0, delivered: is(true), failed: is(false) };
        Self { deliveries, ..Self::default() }
    }

    /// Returns all counters in the order of the columns in the store.
    pub const fn numbers(&self) -> [u64; 7] {
        let Self { submissions, polls, completions, failures, deliveries } = *self;
        let DeliveryUsage { attempts, delivered, failed } = deliveries;
        [submissions, polls, completions, failures, attempts, delivered, failed]
    }

    /// Restores the counters from the output of [`Usage::numbers`].
    pub const fn from_numbers(numbers: [u64; 7]) -> Self {
        let [submissions, polls, completions, failures, attempts, delivered, failed] = numbers;
        let deliveries = DeliveryUsage { attempts, delivered, failed };
        Self { submissions, polls, completions, failures, deliveries }
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        let (mut sum, other) = (self.numbers(), other.numbers());
        for (number, more) in sum.iter_mut().zip(other) {
            *number = number.saturating_add(more);
        }
        *self = Self::from_numbers(sum);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn usage_is_counted_by_the_id_or_else_the_name_of_the_agent_and_by_queue() {
        let facts = |call: serde_json::Value| -> Vec<(UsageFact, String)> {
            let call = serde_json::from_value(call).unwrap();
            UsageFact::of(&call).map(|(fact, value)| (fact, value.to_owned())).collect()
        };
        let row = |fact, value: &str| (fact, value.to_owned());
        let both = json!({"agent": {"id": "17", "name": "Ali"}, "queue": "support"});
        assert_eq!(facts(both), [row(UsageFact::Agent, "17"), row(UsageFact::Queue, "support")]);
        assert_eq!(facts(json!({"agent": {"id": null, "name": "Ali"}})), [row(UsageFact::Agent, "Ali")]);
        assert_eq!(facts(json!({"phone": "+998901234567"})), []);
    }

    #[test]
    fn a_day_parses_its_own_text_and_starts_at_midnight_utc() {
        for (text, number) in [("1970-01-01", 0), ("2024-05-20", 19_863), ("1969-12-31", -1)] {
            let day: Day = serde_json::from_value(text.into()).unwrap();
            assert_eq!((day.number(), day.to_string().as_str()), (number, text));
        }
        assert_eq!(Day::of(Timestamp::from_millis(86_399_999)).number(), 0);
        assert_eq!(Day::of(Timestamp::from_millis(86_400_000)).number(), 1);
        for wrong in ["2024-05-32", "yesterday", "2024-05-20T00:00:00Z", "20240520", ""] {
            serde_json::from_value::<Day>(wrong.into()).unwrap_err();
        }
    }
}
