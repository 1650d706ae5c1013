//! How much each tenant may ask, and how it is told: the fields `RateLimit-Policy` and `RateLimit` of
//! draft-ietf-httpapi-ratelimit-headers-10.
//!
//! There is one policy, `default`: `q` requests at once, and so many seconds (`w`) until all of them may be made again.
//! `r` is how many may be made now; `t` the whole seconds, rounded up, until there is one more, which is what the draft
//! has meant by it since its tenth version. A tenant gets at least one more in each second, so that only a refused
//! request hears anything but `t=1`, and there it agrees with `Retry-After`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::time::Duration;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::problem::whole_seconds;
use crate::config::RateLimitSettings;
use crate::domain::ids::TenantId;

/// Says how much a tenant may ask.
pub const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// Says how much of that is left.
pub const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Requests a second, for each tenant.
pub struct RateLimits(HashMap<TenantId, TenantLimit>);

struct TenantLimit {
    /// `RateLimit-Policy`, which stays as it is.
    policy: HeaderValue,
    limiter: DefaultDirectRateLimiter<StateInformationMiddleware>,
}

/// What is left after a request.
#[derive(Debug, Clone)]
pub struct Remaining {
    policy: HeaderValue,
    requests: u32,
    /// Until there is one more.
    wait: Duration,
}

/// A tenant asked for more than it may.
#[derive(Debug, Clone)]
pub struct Exceeded {
    /// How long to wait.
    pub wait: Duration,
    /// The same, as every answer tells it.
    pub remaining: Remaining,
}

impl RateLimits {
    /// From each tenant's settings.
    pub fn new<'a>(tenants: impl IntoIterator<Item = (TenantId, &'a RateLimitSettings)>) -> Self {
        Self(tenants.into_iter().map(|(tenant, settings)| (tenant, TenantLimit::new(settings))).collect())
    }

    /// Counts a request, and says what is left; `None` for a tenant without a limit.
    ///
    /// # Errors
    /// [`Exceeded`], if there were too many.
    pub fn take(&self, tenant: &TenantId) -> Result<Option<Remaining>, Exceeded> {
        let Some(TenantLimit { policy, limiter }) = self.0.get(tenant) else { return Ok(None) };
        let remaining = |requests, wait| Remaining { policy: policy.clone(), requests, wait };
        match limiter.check() {
            // The rate is given in whole requests a second: the next one is never further away.
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
            // Figures are always fit for a header.
            policy: policy.unwrap_or(HeaderValue::from_static("\"default\"")),
            limiter: RateLimiter::direct(quota).with_middleware(),
        }
    }
}

impl Remaining {
    /// Writes both fields.
    pub fn write(self, headers: &mut HeaderMap) {
        headers.insert(POLICY, self.policy);
        let mut limit = Line { bytes: [0; 64], length: 0 };
        // It has room for the longest.
        let _ = write!(limit, "\"default\";r={};t={}", self.requests, whole_seconds(self.wait));
        if let Ok(limit) = HeaderValue::from_bytes(limit.text()) {
            headers.insert(LIMIT, limit);
        }
    }
}

/// A line on the stack: every answer has one, the fastest too.
struct Line {
    bytes: [u8; 64],
    length: usize,
}

impl Line {
    fn text(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl std::fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_field_has_room() {
        let policy = HeaderValue::from_static("\"default\"");
        let mut headers = HeaderMap::new();
        Remaining { policy, requests: u32::MAX, wait: Duration::MAX }.write(&mut headers);
        let limit = headers.get(LIMIT).unwrap();
        assert_eq!(limit, "\"default\";r=4294967295;t=18446744073709551615");
    }
}
