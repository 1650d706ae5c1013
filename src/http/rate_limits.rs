//! Rate limits of tenants, and the headers `RateLimit-Policy` and `RateLimit` of
//! draft-ietf-httpapi-ratelimit-headers-10.
//!
//! There is one policy, `default`. The headers have these parameters:
//!
//! - `q`: a tenant may send a burst of up to `q` requests.
//! - `w`: `w` seconds after a full burst, the whole quota is available again.
//! - `r`: number of requests that are possible now.
//! - `t`: number of seconds, rounded up, until one more request is possible. The rate of a tenant is at least one request per
//!   second, so `t` is 1. Only in the answer to a refused request, `t` equals `Retry-After`.

use std::collections::HashMap;
use std::io::Write as _;
use std::num::NonZeroU32;
use std::time::Duration;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::problem::whole_seconds;
use crate::config::RateLimitSettings;
use crate::domain::ids::TenantId;

/// The header with the limit of a tenant.
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// The header with the number of remaining requests.
pub const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// The rate limiters of all tenants.
pub struct RateLimits(HashMap<TenantId, TenantLimit>);

struct TenantLimit {
    /// The constant value of `RateLimit-Policy`.
    policy: HeaderValue,
    limiter: DefaultDirectRateLimiter<StateInformationMiddleware>,
}

/// The state of the rate limit of a tenant after a request.
#[derive(Debug, Clone)]
pub struct Remaining {
    policy: HeaderValue,
    requests: u32,
    /// Time until one more request is possible.
    wait: Duration,
}

/// A tenant exceeded its limit.
#[derive(Debug, Clone)]
pub struct Exceeded {
    /// Time until the next request is possible.
    pub wait: Duration,
    /// The state of the rate limit, for the headers of the answer.
    pub remaining: Remaining,
}

impl RateLimits {
    /// Creates the limiters from the settings of the tenants.
    pub fn new<'a>(tenants: impl IntoIterator<Item = (TenantId, &'a RateLimitSettings)>) -> Self {
        Self(tenants.into_iter().map(|(tenant, settings)| (tenant, TenantLimit::new(settings))).collect())
    }

    /// Counts a request and returns the state of the rate limit; `None` for a tenant without a limit.
    ///
    /// # Errors
    /// [`Exceeded`], if the request exceeds the limit.
    pub fn take(&self, tenant: &TenantId) -> Result<Option<Remaining>, Exceeded> {
        let Some(TenantLimit { policy, limiter }) = self.0.get(tenant) else { return Ok(None) };
        let remaining = |requests, wait| Remaining { policy: policy.clone(), requests, wait };
        match limiter.check() {
            // The rate is a whole number of requests per second, so the next request is possible within a second.
            Ok(state) => Ok(Some(remaining(state.remaining_burst_capacity(), Duration::from_secs(1)))),
            Err(not_until) => {
                let wait = not_until.wait_time_from(DefaultClock::default().now());
                Err(Exceeded { wait, remaining: remaining(0, wait) })
            }
        }
    }
}

impl TenantLimit {
    fn new(settings: &RateLimitSettings) -> Self {
        let rate = NonZeroU32::new(settings.requests_per_second).unwrap_or(NonZeroU32::MIN);
        let burst = NonZeroU32::new(settings.burst).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(rate).allow_burst(burst);
        let window = whole_seconds(quota.burst_size_replenished_in());
        let policy = HeaderValue::try_from(format!("\"default\";q={burst};w={window}"));
        Self {
            // Numbers are always valid in a header.
            policy: policy.unwrap_or(HeaderValue::from_static("\"default\"")),
            limiter: RateLimiter::direct(quota).with_middleware(),
        }
    }
}

impl Remaining {
    /// Writes the headers `RateLimit-Policy` and `RateLimit`.
    pub fn write(self, headers: &mut HeaderMap) {
        headers.insert(POLICY, self.policy);
        // The text is written on the stack and not on the heap, because every answer has this header.
        let mut buffer = [0; 64];
        let mut rest = &mut buffer[..];
        // The longest value has 45 bytes.
        let _ = write!(rest, "\"default\";r={};t={}", self.requests, whole_seconds(self.wait));
        let unused = rest.len();
        if let Ok(limit) = HeaderValue::from_bytes(&buffer[..buffer.len() - unused]) {
            headers.insert(LIMIT, limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_value_fits_the_buffer() {
        let policy = HeaderValue::from_static("\"default\"");
        let mut headers = HeaderMap::new();
        Remaining { policy, requests: u32::MAX, wait: Duration::MAX }.write(&mut headers);
        let limit = headers.get(LIMIT).unwrap();
        assert_eq!(limit, "\"default\";r=4294967295;t=18446744073709551615");
    }
}
