//! Time and chance, passed in so that a test can choose both.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment, in whole milliseconds since the Unix epoch; written as RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// How long after `earlier` this is; zero if it is not after it (a clock may step back).
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;
    /// Saturates at the far end of time.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(timestamp) => timestamp.fmt(f),
            // Years beyond 9999 cannot be written in RFC 3339; the nearest that can stands in.
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

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Timestamp;

    /// The same in microseconds since the Unix epoch, as finely as the clock tells it.
    fn now_micros(&self) -> i64 {
        self.now().as_millis().saturating_mul(1000)
    }
}

/// Gives unpredictable bytes.
pub trait Entropy: Send + Sync {
    /// Fills the whole slice.
    fn fill(&self, bytes: &mut [u8]);

    /// A share of one, evenly spread over `0.0..1.0`: what jitter is made of.
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

    #[expect(clippy::disallowed_methods, reason = "the same, in finer units")]
    fn now_micros(&self) -> i64 {
        jiff::Timestamp::now().as_microsecond()
    }
}

/// Starts at a moment and goes on by the machine's monotonic clock: when somebody sets the machine's clock, leases
/// neither end early nor last for ever.
#[derive(Debug)]
pub struct SteadyClock {
    base: Instant,
    /// The time at `base`, in milliseconds.
    at_base: AtomicI64,
}

impl SteadyClock {
    /// It is `now`.
    pub fn starting_at(now: Timestamp) -> Self {
        Self { base: Instant::now(), at_base: AtomicI64::new(now.as_millis()) }
    }

    /// It is `now`, as somebody who is to be followed says.
    pub fn set(&self, now: Timestamp) {
        self.at_base.store(now.as_millis().saturating_sub(self.elapsed()), Ordering::Relaxed);
    }

    /// Comes nearer to `now` by `at_most`: so it ends up with a clock that was put right, and never leaps.
    pub fn approach(&self, now: Timestamp, at_most: Duration) {
        let most = i64::try_from(at_most.as_millis()).unwrap_or(i64::MAX);
        let off = now.as_millis().saturating_sub(self.now().as_millis());
        self.at_base.fetch_add(off.clamp(-most, most), Ordering::Relaxed);
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

/// The operating system's random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks for chance")]
    fn fill(&self, bytes: &mut [u8]) {
        rand::Rng::fill_bytes(&mut rand::rng(), bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_as_rfc_3339_in_utc() {
        assert_eq!(Timestamp::from_millis(1_716_207_617_000).to_string(), "2024-05-20T12:20:17Z");
        assert_eq!(Timestamp::from_millis(1_716_207_617_042).to_string(), "2024-05-20T12:20:17.042Z");
        assert_eq!(Timestamp::from_millis(i64::MAX).to_string(), jiff::Timestamp::MAX.to_string());
    }

    #[test]
    fn reads_back_what_it_writes() {
        for millis in [0, 1_716_207_617_000, 1_716_207_617_042, -1] {
            let at = Timestamp::from_millis(millis);
            let json = serde_json::to_string(&at).unwrap();
            assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), at);
        }
    }

    #[test]
    fn a_steady_clock_comes_nearer_and_does_not_leap() {
        let (start, step) = (Timestamp::from_millis(1_000_000), Duration::from_secs(1));
        let clock = SteadyClock::starting_at(start);
        let hour = Duration::from_hours(1);
        clock.approach(start + hour, step);
        let nearer = clock.now();
        assert!(start + step <= nearer && nearer < start + hour, "{nearer}");
        clock.approach(start, hour);
        clock.set(start + hour);
        assert!(clock.now() >= start + hour);
    }

    #[test]
    fn arithmetic_saturates() {
        let end = Timestamp::from_millis(i64::MAX);
        assert_eq!(end + Duration::MAX, end);
        assert_eq!(Timestamp::from_millis(1).since(end), Duration::ZERO);
    }
}
