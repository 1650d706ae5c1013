//! Time and randomness. Other modules get their sources as parameters, so that tests can control time and randomness.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Time in whole milliseconds since the Unix epoch, written as RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Returns the time that is this number of milliseconds after the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Returns the whole seconds since the Unix epoch, rounded down.
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Returns the milliseconds since `other`; negative if `other` is later.
    pub const fn millis_after(self, other: Self) -> i64 {
        self.0.saturating_sub(other.0)
    }

    /// Returns the time that is this number of milliseconds later. The result saturates.
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Returns the time since `earlier`. Returns zero if `earlier` is later, because a clock can step back.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;
    /// Returns the time that is `duration` later. The result saturates at the maximum.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(timestamp) => timestamp.fmt(f),
            // RFC 3339 has no years after 9999, so the nearest possible time is written instead.
            Err(_) if self.0 < 0 => jiff::Timestamp::MIN.fmt(f),
            Err(_) => jiff::Timestamp::MAX.fmt(f),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong =
            |_| serde::de::Error::custom("must be a time with its offset, such as 2026-11-01T00:00:00Z");
        let timestamp: jiff::Timestamp = text.parse().map_err(wrong)?;
        Ok(Self(timestamp.as_millisecond()))
    }
}

/// Source of the current time.
pub trait Clock: Send + Sync {
    /// Returns the current time.
    fn now(&self) -> Timestamp;

    /// Returns the current time in microseconds since the Unix epoch.
    fn now_micros(&self) -> i64 {
        self.now().as_millis().saturating_mul(1000)
    }
}

/// Source of unpredictable bytes.
pub trait Entropy: Send + Sync {
    /// Fills the slice with random bytes.
    fn fill(&self, bytes: &mut [u8]);

    /// Returns a random number, uniform in `0.0..1.0`, for jitter.
    fn fraction(&self) -> f64 {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> Timestamp {
        Timestamp(jiff::Timestamp::now().as_millisecond())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the machine's clock in microseconds"
    )]
    fn now_micros(&self) -> i64 {
        jiff::Timestamp::now().as_microsecond()
    }
}

/// A jump of a [`SteadyClock`] to another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockStep {
    /// Time since which the clock was wrong, according to this clock before the step. `None` if the clock was never
    /// confirmed. Such a clock may always have been wrong.
    pub since: Option<Timestamp>,
    /// The time that the clock showed before the step.
    pub from: Timestamp,
    /// The time that the clock shows after the step.
    pub to: Timestamp,
}

impl ClockStep {
    /// Returns the step in milliseconds; negative if the clock was ahead.
    pub const fn shift_millis(self) -> i64 {
        self.to.millis_after(self.from)
    }

    /// Returns the size of the step.
    pub const fn size(self) -> Duration {
        Duration::from_millis(self.shift_millis().unsigned_abs())
    }

    /// Returns the label `direction` for metrics.
    pub const fn direction(self) -> &'static str {
        direction(self.shift_millis())
    }
}

/// Returns the label `direction` for a difference in milliseconds.
pub const fn direction(millis: i64) -> &'static str {
    if millis < 0 { "backward" } else { "forward" }
}

/// Clock that starts at a given time and advances with the machine's monotonic clock. A jump of the system clock
/// therefore neither shortens nor extends a lease. [`ClockGuard`](super::clock_guard::ClockGuard) decides when this
/// clock is corrected.
#[derive(Debug)]
pub struct SteadyClock {
    base: Instant,
    /// The time that this clock showed at the moment `base`, in milliseconds.
    at_base: AtomicI64,
}

impl SteadyClock {
    /// Creates a clock that shows `now`.
    pub fn starting_at(now: Timestamp) -> Self {
        Self { base: Instant::now(), at_base: AtomicI64::new(now.as_millis()) }
    }

    /// Sets the clock to `now`, which may be a jump.
    pub fn set(&self, now: Timestamp) {
        self.at_base.store(now.as_millis().saturating_sub(self.elapsed()), Ordering::Relaxed);
    }

    /// Moves the clock towards `now` by at most `at_most`. Repeated calls converge without a jump.
    pub fn follow(&self, now: Timestamp, at_most: Duration) {
        let most = i64::try_from(at_most.as_millis()).unwrap_or(i64::MAX);
        self.at_base.fetch_add(now.millis_after(self.now()).clamp(-most, most), Ordering::Relaxed);
    }

    fn elapsed(&self) -> i64 {
        i64::try_from(self.base.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.at_base.load(Ordering::Relaxed).saturating_add(self.elapsed()))
    }
}

/// Randomness from the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's randomness")]
    fn fill(&self, bytes: &mut [u8]) {
        rand::Rng::fill_bytes(&mut rand::rng(), bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_displays_as_rfc_3339_in_utc() {
        assert_eq!(Timestamp::from_millis(1_716_207_617_000).to_string(), "2024-05-20T12:20:17Z");
        assert_eq!(Timestamp::from_millis(1_716_207_617_042).to_string(), "2024-05-20T12:20:17.042Z");
        assert_eq!(Timestamp::from_millis(i64::MAX).to_string(), jiff::Timestamp::MAX.to_string());
    }

    #[test]
    fn a_timestamp_parses_its_own_json() {
        for millis in [0, 1_716_207_617_000, 1_716_207_617_042, -1] {
            let at = Timestamp::from_millis(millis);
            let json = serde_json::to_string(&at).unwrap();
            assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), at);
        }
    }

    #[test]
    fn a_steady_clock_follows_gradually_and_can_be_set() {
        let (start, second, hour) =
            (Timestamp::from_millis(1_000_000), Duration::from_secs(1), Duration::from_hours(1));
        let clock = SteadyClock::starting_at(start);
        clock.follow(start + hour, second);
        let nearer = clock.now();
        assert!(start + second <= nearer && nearer < start + hour, "{nearer}");
        clock.set(start + hour);
        assert!(clock.now() >= start + hour);
        clock.set(start);
        assert!(clock.now() < start + hour);
    }

    #[test]
    fn timestamp_arithmetic_saturates() {
        let end = Timestamp::from_millis(i64::MAX);
        assert_eq!(end + Duration::MAX, end);
        assert_eq!(Timestamp::from_millis(1).since(end), Duration::ZERO);
    }
}
