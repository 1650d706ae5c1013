//! What the handlers share.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use std::num::NonZeroU32;
use url::Url;

use super::problem::{ApiError, ENCRYPTION_NOT_CONFIGURED};
use crate::analyses::{Analyses, Feed};
use crate::auth::Verifier;
use crate::config::RateLimitSettings;
use crate::domain::clock::{Clock, Entropy};
use crate::domain::ids::TenantId;
use crate::domain::sealing::SealingKeys;
use crate::metrics::Metrics;
use crate::secrets::Encryption;
use crate::store::Store;
use crate::tenants::Tenants;

/// What the handlers share.
pub struct ApiState {
    /// The use cases.
    pub analyses: Arc<Analyses>,
    /// What happened to analyses.
    pub feed: Arc<Feed>,
    /// Says who a token speaks for.
    pub verifier: Arc<Verifier>,
    /// Says whether such a tenant is configured.
    pub tenants: Arc<Tenants>,
    /// The keys that seal.
    pub encryption: Arc<Encryption>,
    /// Where callers reach this service, if the operator says.
    pub public_url: Option<Url>,
    /// How much each may ask.
    pub limits: RateLimits,
    /// For readiness and the numbers of the store.
    pub store: Arc<dyn Store>,
    /// The most bytes of a body.
    pub max_body_bytes: usize,
    /// How long a caller may take to send one.
    pub body_timeout: Duration,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// For request ids and traces.
    pub entropy: Arc<dyn Entropy>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl ApiState {
    /// The keys that seal.
    ///
    /// # Errors
    /// A problem, if the operator set none.
    pub fn sealing_keys(&self) -> Result<Arc<SealingKeys>, ApiError> {
        let none = || {
            ApiError::new(
                ENCRYPTION_NOT_CONFIGURED,
                "the operator of this service has to set encryption.key_file",
            )
        };
        self.encryption.keys().ok_or_else(none)
    }
}

/// Requests a second, for each tenant.
pub struct RateLimits(HashMap<TenantId, TenantLimit>);

struct TenantLimit {
    quota: Quota,
    limiter: DefaultDirectRateLimiter,
}

/// A tenant asked for more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded {
    /// How long to wait.
    pub wait: Duration,
    /// How many requests it may make in a [`window`](Self::window).
    pub quota: u32,
    /// How long it takes until all of them may be made again.
    pub window: Duration,
}

impl RateLimits {
    /// From each tenant's settings.
    pub fn new<'a>(tenants: impl IntoIterator<Item = (TenantId, &'a RateLimitSettings)>) -> Self {
        let limiter = |settings: &RateLimitSettings| {
            let rate = NonZeroU32::new(settings.requests_per_second).unwrap_or(NonZeroU32::MIN);
            let burst = NonZeroU32::new(settings.burst).unwrap_or(NonZeroU32::MIN);
            let quota = Quota::per_second(rate).allow_burst(burst);
            TenantLimit { quota, limiter: RateLimiter::direct(quota) }
        };
        Self(tenants.into_iter().map(|(tenant, settings)| (tenant, limiter(settings))).collect())
    }

    /// Counts a request.
    ///
    /// # Errors
    /// [`Exceeded`], if there were too many.
    pub fn take(&self, tenant: &TenantId) -> Result<(), Exceeded> {
        let Some(TenantLimit { quota, limiter }) = self.0.get(tenant) else { return Ok(()) };
        limiter.check().map_err(|not_until| Exceeded {
            wait: not_until.wait_time_from(DefaultClock::default().now()),
            quota: quota.burst_size().get(),
            window: quota.burst_size_replenished_in(),
        })
    }
}
