//! What the handlers share.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use std::num::NonZeroU32;

use crate::analyses::Analyses;
use crate::auth::Verifier;
use crate::config::RateLimitSettings;
use crate::domain::clock::{Clock, Entropy};
use crate::domain::ids::TenantId;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::tenants::Tenants;

/// What the handlers share.
pub struct ApiState {
    /// The use cases.
    pub analyses: Arc<Analyses>,
    /// Says who a token speaks for.
    pub verifier: Arc<Verifier>,
    /// Says whether such a tenant is configured.
    pub tenants: Arc<Tenants>,
    /// How much each may ask.
    pub limits: RateLimits,
    /// For readiness and the numbers of the store.
    pub store: Arc<dyn Store>,
    /// The most bytes of a body.
    pub max_body_bytes: usize,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// For request ids and traces.
    pub entropy: Arc<dyn Entropy>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Requests a second, for each tenant.
pub struct RateLimits(HashMap<TenantId, DefaultDirectRateLimiter>);

impl RateLimits {
    /// From each tenant's settings.
    pub fn new<'a>(tenants: impl IntoIterator<Item = (TenantId, &'a RateLimitSettings)>) -> Self {
        let limiter = |settings: &RateLimitSettings| {
            let rate = NonZeroU32::new(settings.requests_per_second).unwrap_or(NonZeroU32::MIN);
            let burst = NonZeroU32::new(settings.burst).unwrap_or(NonZeroU32::MIN);
            RateLimiter::direct(Quota::per_second(rate).allow_burst(burst))
        };
        Self(tenants.into_iter().map(|(tenant, settings)| (tenant, limiter(settings))).collect())
    }

    /// Counts a request.
    ///
    /// # Errors
    /// How long to wait, if there were too many.
    pub fn take(&self, tenant: &TenantId) -> Result<(), Duration> {
        let Some(limiter) = self.0.get(tenant) else { return Ok(()) };
        limiter.check().map_err(|not_until| not_until.wait_time_from(DefaultClock::default().now()))
    }
}
