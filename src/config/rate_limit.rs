//! `[rate_limit]`: the rate limit of each tenant.

use std::ops::RangeInclusive;

use super::declare::settings;
use super::keys::Contents;
use super::rules::integer;

/// Bounds of both keys of a rate limit.
pub(super) const RATE: RangeInclusive<i64> = 1..=1_000_000;

settings! {
    /// The rate limit applies to each tenant. A tenant can have its own limit.
    struct RateLimitSettings {
        /// Sustained number of requests per second.
        requests_per_second: u32 = integer(RATE).default(100),
        /// Number of requests that may arrive at once.
        burst: u32 = integer(RATE).default(200),
    }
}
