//! The rate of deliveries to a webhook: a token bucket.
//!
//! A bucket has up to [`Burst`] tokens and gets [`PerSecond`] tokens each second. Each attempt takes a token when it is claimed. The
//! bucket follows the generic cell rate algorithm (ITU-T I.371): its only state is the time at which it will be full again, so all
//! replicas share it with one column of the store.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock::Timestamp;
use super::clock_guard::TOLERANCE;

/// The reason why a number is not valid in a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRate {
    /// The number of deliveries per second is out of bounds.
    #[error("must be a number from {min} to {max}", min = PerSecond::MIN, max = PerSecond::MAX)]
    PerSecond,
    /// The size of the bucket is out of bounds.
    #[error("must be a whole number from 1 to {max}", max = Burst::MAX)]
    Burst,
}

/// Number of deliveries per second, on average.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct PerSecond(f64);

impl PerSecond {
    /// The lowest rate: a delivery in 100 seconds.
    pub const MIN: f64 = 0.01;
    /// The highest rate.
    pub const MAX: f64 = 1000.0;
}

impl TryFrom<f64> for PerSecond {
    type Error = InvalidRate;

    fn try_from(number: f64) -> Result<Self, InvalidRate> {
        if (Self::MIN..=Self::MAX).contains(&number) { Ok(Self(number)) } else { Err(InvalidRate::PerSecond) }
    }
}

impl From<PerSecond> for f64 {
    fn from(rate: PerSecond) -> Self {
        rate.0
    }
}

/// Number of deliveries that may be sent at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "u32")]
pub struct Burst(u32);

impl Burst {
    /// The largest burst.
    pub const MAX: u32 = 10_000;
}

impl TryFrom<f64> for Burst {
    type Error = InvalidRate;

    /// Converts a number. `50.0` is a whole number, too.
    fn try_from(number: f64) -> Result<Self, InvalidRate> {
        let is_valid = number.fract() == 0.0 && (1.0..=f64::from(Self::MAX)).contains(&number);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is whole and within bounds"
        )]
        if is_valid { Ok(Self(number as u32)) } else { Err(InvalidRate::Burst) }
    }
}

impl From<Burst> for u32 {
    fn from(burst: Burst) -> Self {
        burst.0
    }
}

/// The parts of a rate that the owner of a webhook has chosen.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ChosenRate {
    /// Number of deliveries per second; `None` selects the number of the preset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<PerSecond>,
    /// Number of deliveries at once; `None` selects the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<Burst>,
}

impl ChosenRate {
    /// Returns the choice as JSON for the store; `None` if nothing was chosen.
    pub fn to_json(&self) -> Option<String> {
        // A structure of two numbers always serializes.
        (*self != Self::default()).then(|| serde_json::to_string(self).unwrap_or_default())
    }

    /// Parses the output of [`ChosenRate::to_json`]. Returns `None` if this version cannot read it.
    pub fn from_json(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// Returns the rate that follows from these choices; `None` means that there is no limit. The rate of the preset
    /// (`of_preset`) applies unless a number per second was chosen.
    pub fn or(self, of_preset: Option<DeliveryRate>) -> Option<DeliveryRate> {
        let chosen = self.rate.map(DeliveryRate::without_burst);
        let rate = chosen.or(of_preset)?;
        Some(DeliveryRate { burst: self.burst.unwrap_or(rate.burst), ..rate })
    }
}

/// The rate of deliveries to a webhook.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeliveryRate {
    /// Number of deliveries per second, on average.
    pub per_second: PerSecond,
    /// Number of deliveries at once.
    pub burst: Burst,
}

impl DeliveryRate {
    /// Creates the rate of a preset.
    pub(super) const fn of_preset(per_second: f64, burst: u32) -> Self {
        Self { per_second: PerSecond(per_second), burst: Burst(burst) }
    }

    /// Creates a rate with the default burst: the deliveries of one second, and at least one.
    fn without_burst(per_second: PerSecond) -> Self {
        // The number is within the bounds of a burst.
        let burst = Burst::try_from(per_second.0.ceil()).unwrap_or(Burst(1));
        Self { per_second, burst }
    }

    /// Returns the time in which the bucket gets a token, in microseconds.
    fn interval(self) -> i64 {
        #[expect(clippy::cast_possible_truncation, reason = "at most 100 seconds")]
        let interval = (1e6 / self.per_second.0).ceil() as i64;
        interval
    }
}

/// The bucket of a webhook.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenBucket {
    rate: DeliveryRate,
    /// Time at which the bucket will be full, in microseconds since the Unix epoch; `None` if it was never used.
    full_at: Option<i64>,
}

impl TokenBucket {
    /// Creates the bucket from its state in the store.
    pub const fn new(rate: DeliveryRate, full_at: Option<i64>) -> Self {
        Self { rate, full_at }
    }

    /// Returns the state for the store.
    pub const fn full_at(&self) -> Option<i64> {
        self.full_at
    }

    /// Takes a token. If the bucket has no token, returns the time at which the bucket gets the next one.
    ///
    /// The stored time at which the bucket will be full can be later than that of an empty bucket: the clock of the replica that
    /// wrote the time was ahead or wrong, or the rate was lower. The clocks of replicas differ by less than [`TOLERANCE`]. If the
    /// stored time is later by more than [`TOLERANCE`], the bucket counts as full. So no stored time stops a webhook for longer
    /// than [`TOLERANCE`] plus the time of one token.
    pub fn take(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        let (now, interval) = (now.as_millis().saturating_mul(1000), self.rate.interval());
        let capacity = interval * i64::from(self.rate.burst.0);
        let latest = now.saturating_add(capacity + micros(TOLERANCE));
        let full_at = self.full_at.filter(|at| *at <= latest).map_or(now, |at| at.max(now));
        let next_full = full_at.saturating_add(interval);
        let free_at = next_full.saturating_sub(capacity);
        if free_at > now {
            // A part of a millisecond counts as a whole one, so that there is a token at this time.
            return Err(Timestamp::from_millis(free_at.saturating_add(999).div_euclid(1000)));
        }
        self.full_at = Some(next_full);
        Ok(())
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_716_207_617_000);
    const BITRIX24: DeliveryRate = DeliveryRate::of_preset(2.0, 50);

    /// Takes tokens until the bucket is empty. Returns the number of tokens and the time of the next token.
    fn drained(bucket: &mut TokenBucket, now: Timestamp) -> (u32, Timestamp) {
        let mut taken = 0;
        loop {
            match bucket.take(now) {
                Ok(()) => taken += 1,
                Err(at) => return (taken, at),
            }
        }
    }

    #[test]
    fn a_bucket_has_its_burst_and_then_a_token_at_each_interval() {
        let mut bucket = TokenBucket::new(BITRIX24, None);
        let half = Duration::from_millis(500);
        assert_eq!(drained(&mut bucket, NOW), (50, NOW + half));
        assert_eq!(bucket.take(NOW + Duration::from_millis(499)), Err(NOW + half));
        assert_eq!(drained(&mut bucket, NOW + half), (1, NOW + half * 2));
        assert_eq!(drained(&mut bucket, NOW + half * 11), (10, NOW + half * 12));
        assert_eq!(drained(&mut bucket, NOW + Duration::from_hours(1)).0, 50);
    }

    #[test]
    fn a_wrong_clock_or_a_lower_rate_stops_a_bucket_for_a_bounded_time() {
        let mut bucket = TokenBucket::new(BITRIX24, None);
        drained(&mut bucket, NOW);
        let full_at = bucket.full_at();
        // The clock of this replica is a little behind.
        let behind = Timestamp::from_millis(NOW.as_millis() - 9_000);
        assert_eq!(drained(&mut bucket, behind), (0, NOW + Duration::from_millis(500)));
        assert_eq!(drained(&mut TokenBucket::new(BITRIX24, full_at), NOW + Duration::from_hours(1)).0, 50);
        let before = Timestamp::from_millis(NOW.as_millis() - 3_600_000);
        assert_eq!(drained(&mut TokenBucket::new(BITRIX24, full_at), before).0, 50);
        let mut smaller = TokenBucket::new(DeliveryRate::of_preset(1.0, 1), full_at);
        assert_eq!(drained(&mut smaller, NOW).0, 1);
        for state in [i64::MIN, -1, i64::MAX] {
            assert!(TokenBucket::new(BITRIX24, Some(state)).take(NOW).is_ok(), "{state}");
        }
    }

    #[test]
    fn the_parts_of_a_rate_have_bounds_and_defaults() {
        for (number, is_valid) in
            [(0.01, true), (1000.0, true), (0.0099, false), (1000.1, false), (f64::NAN, false)]
        {
            assert_eq!(PerSecond::try_from(number).is_ok(), is_valid, "{number}");
        }
        for (number, is_valid) in
            [(1.0, true), (10_000.0, true), (0.0, false), (1.5, false), (10_001.0, false)]
        {
            assert_eq!(Burst::try_from(number).is_ok(), is_valid, "{number}");
        }
        let chosen = |json| ChosenRate::from_json(json).unwrap();
        let rate = |json, of_preset| {
            chosen(json).or(of_preset).map(|rate| (f64::from(rate.per_second), u32::from(rate.burst)))
        };
        assert_eq!(rate("{}", None), None);
        assert_eq!(rate(r#"{"burst": 9}"#, None), None);
        assert_eq!(rate("{}", Some(BITRIX24)), Some((2.0, 50)));
        assert_eq!(rate(r#"{"burst": 9}"#, Some(BITRIX24)), Some((2.0, 9)));
        assert_eq!(rate(r#"{"rate": 0.5}"#, Some(BITRIX24)), Some((0.5, 1)));
        assert_eq!(rate(r#"{"rate": 6.1}"#, None), Some((6.1, 7)));
        assert_eq!(rate(r#"{"rate": 1000, "burst": 1}"#, None), Some((1000.0, 1)));
        assert_eq!(chosen(r#"{"rate": 0.5}"#).to_json().unwrap(), r#"{"rate":0.5}"#);
        assert_eq!(ChosenRate::default().to_json(), None);
        assert_eq!(ChosenRate::from_json(r#"{"rate": 0}"#), None);
    }

    proptest! {
        #[test]
        fn no_period_has_more_than_the_burst_and_the_rate(
            per_second in PerSecond::MIN..PerSecond::MAX, burst in 1_u32..100,
            pauses in prop::collection::vec(0_u64..2_000, 1..50),
        ) {
            let rate = DeliveryRate::of_preset(per_second, burst);
            let (mut bucket, mut now) = (TokenBucket::new(rate, None), NOW);
            let mut taken = Vec::new();
            for pause in pauses {
                now = now + Duration::from_millis(pause);
                let (count, next) = drained(&mut bucket, now);
                taken.push((now, count));
                prop_assert!(next > now && next.since(now).as_secs_f64() <= 1.0 / per_second + 0.002);
                let mut later = bucket;
                prop_assert!(later.take(next).is_ok());
            }
            for (index, (from, _)) in taken.iter().enumerate() {
                let count: u32 = taken[index..].iter().map(|(_, count)| count).sum();
                let most = f64::from(burst) + now.since(*from).as_secs_f64() * per_second;
                prop_assert!(f64::from(count) <= most + 1e-6, "{} > {}", count, most);
            }
        }

        #[test]
        fn a_bucket_never_panics(state in any::<Option<i64>>(), millis in any::<i64>()) {
            let _ = TokenBucket::new(BITRIX24, state).take(Timestamp::from_millis(millis));
        }
    }
}
