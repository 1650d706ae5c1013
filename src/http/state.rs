//! What the handlers share.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::audit::Operations;
use super::idempotency::KeyedRequests;
use super::problem::{ApiError, ENCRYPTION_NOT_CONFIGURED};
use super::rate_limits::RateLimits;
use crate::analyses::{Analyses, Feed, Webhooks};
use crate::auth::Verifier;
use crate::domain::sealing::SealingKeys;
use crate::env::Env;
use crate::secrets::Encryption;
use crate::store::Store;
use crate::tenants::Tenants;

/// What the handlers share.
pub struct ApiState {
    /// The use cases.
    pub analyses: Arc<Analyses>,
    /// What happened to analyses.
    pub feed: Arc<Feed>,
    /// Registered endpoints.
    pub webhooks: Webhooks,
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
    /// What the operations are called.
    pub operations: Operations,
    /// What is done once, however often it is sent.
    pub keyed: Arc<KeyedRequests>,
    /// For readiness and the numbers of the store.
    pub store: Arc<dyn Store>,
    /// The most bytes of a body.
    pub max_body_bytes: usize,
    /// How long a caller may take to send one.
    pub body_timeout: Duration,
    /// The clocks, the randomness of request ids, and the metrics.
    pub env: Env,
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
