//! Time and randomness. They are passed in, so that tests can control them.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
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

    /// Returns the time since `earlier`. Returns zero if `earlier` is later, because a clock can step back.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;
    /// The result saturates at the maximum.
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

/// A correction of a [`SteadyClock`] that was too large to be made gradually.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockStep {
    /// The time that the clock showed when it was started, or at the previous step.
    pub since: Timestamp,
    /// The time that the clock showed before the correction.
    pub from: Timestamp,
    /// The time that the clock showed after the correction.
    pub to: Timestamp,
}

impl ClockStep {
    /// Returns the correction in milliseconds; negative if the clock was ahead.
    pub const fn shift_millis(self) -> i64 {
        self.to.0.saturating_sub(self.from.0)
    }

    /// Returns the size of the correction.
    pub const fn size(self) -> Duration {
        Duration::from_millis(self.shift_millis().unsigned_abs())
    }

    /// Returns the label `direction` for metrics.
    pub const fn direction(self) -> &'static str {
        if self.shift_millis() < 0 { "backward" } else { "forward" }
    }
}

/// Clock that starts at a given time and advances with the machine's monotonic clock. So a small change of the clock that it
/// follows neither shortens nor extends leases. A large change means that a clock was wrong: it is a [`ClockStep`].
#[derive(Debug)]
pub struct SteadyClock {
    base: Instant,
    /// Time at `base` in milliseconds.
    at_base: AtomicI64,
    /// Time in milliseconds at the start of the clock or at its last step.
    since: AtomicI64,
    steps: Mutex<Vec<ClockStep>>,
}

impl SteadyClock {
    /// Creates a clock that shows `now`.
    pub fn starting_at(now: Timestamp) -> Self {
        Self {
            base: Instant::now(),
            at_base: AtomicI64::new(now.as_millis()),
            since: AtomicI64::new(now.as_millis()),
            steps: Mutex::default(),
        }
    }

    /// Minimum difference that is corrected as a step.
    pub const STEP: Duration = Duration::from_secs(10);

    /// Follows another clock, which shows `now`. A difference of less than [`Self::STEP`] is corrected by at most `at_most`, so that
    /// repeated calls converge without a jump. A larger one is corrected at once, as a step.
    pub fn follow(&self, now: Timestamp, at_most: Duration) {
        let from = self.now();
        let step = ClockStep { since: Timestamp(self.since.load(Ordering::Relaxed)), from, to: now };
        let (off, most) = (step.shift_millis(), i64::try_from(at_most.as_millis()).unwrap_or(i64::MAX));
        if step.size() < Self::STEP {
            self.at_base.fetch_add(off.clamp(-most, most), Ordering::Relaxed);
            return;
        }
        self.at_base.fetch_add(off, Ordering::Relaxed);
        self.since.store(now.as_millis(), Ordering::Relaxed);
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).push(step);
    }

    /// Takes the steps since the last call, the oldest first.
    pub fn take_steps(&self) -> Vec<ClockStep> {
        std::mem::take(&mut *self.steps.lock().unwrap_or_else(PoisonError::into_inner))
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
    fn a_steady_clock_corrects_small_differences_gradually_and_large_ones_at_once() {
        let (start, step) = (Timestamp::from_millis(1_000_000), Duration::from_secs(1));
        let clock = SteadyClock::starting_at(start);
        let hour = Duration::from_hours(1);
        let five = Duration::from_secs(5);
        clock.follow(start + five, step);
        let nearer = clock.now();
        assert!(start + step <= nearer && nearer < start + five, "{nearer}");
        assert_eq!(clock.take_steps(), []);
        clock.follow(start + hour, step);
        assert!(clock.now() >= start + hour, "a large difference is corrected at once");
        clock.follow(start, step);
        let [forward, backward] = clock.take_steps()[..] else { panic!("two steps") };
        assert_eq!((forward.since, forward.to, forward.direction()), (start, start + hour, "forward"));
        assert_eq!((backward.since, backward.to, backward.direction()), (start + hour, start, "backward"));
        assert!(forward.size() < hour && backward.size() >= hour, "{forward:?} {backward:?}");
        assert_eq!(clock.take_steps(), []);
    }

    #[test]
    fn timestamp_arithmetic_saturates() {
        let end = Timestamp::from_millis(i64::MAX);
        assert_eq!(end + Duration::MAX, end);
        assert_eq!(Timestamp::from_millis(1).since(end), Duration::ZERO);
    }
}
