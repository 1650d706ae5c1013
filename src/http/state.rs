//! The shared state of the API.

use std::sync::Arc;
use std::time::Duration;

use super::connection_limits::ConnectionLimits;
use super::idempotency::KeyedRequests;
use super::problem::ApiError;
use super::rate_limits::RateLimits;
use super::refusals::RefusalLog;
use crate::analyses::{Analyses, Feed, MemoryBudget, Webhooks};
use crate::auth::Verifier;
use crate::domain::clock_status::ClockStatus;
use crate::domain::sealing::SealingKeys;
use crate::env::Env;
use crate::store::Store;
use crate::telemetry::audit_log::AuditLog;
use crate::tenants::Tenants;

/// The shared state of the API.
pub struct ApiState {
    /// Use cases of analyses.
    pub analyses: Arc<Analyses>,
    /// The feed of events.
    pub feed: Arc<Feed>,
    /// Use cases of webhooks and deliveries.
    pub webhooks: Webhooks,
    /// Verifier of access tokens.
    pub verifier: Arc<Verifier>,
    /// The configured tenants.
    pub tenants: Arc<Tenants>,
    /// Rate limits of the tenants.
    pub limits: RateLimits,
    /// The audit log.
    pub audit: Arc<AuditLog>,
    /// Log of refused requests.
    pub refusals: Arc<RefusalLog>,
    /// Executes requests with an `Idempotency-Key`.
    pub keyed: Arc<KeyedRequests>,
    /// Store, for readiness and metrics.
    pub store: Arc<dyn Store>,
    /// State of the clock, for readiness.
    pub clock_status: Arc<ClockStatus>,
    /// Limits of the tenants' connections.
    pub connections: ConnectionLimits,
    /// Memory for request bodies of up to 64 KiB.
    pub small_bodies: MemoryBudget,
    /// Memory for larger request bodies.
    pub large_bodies: MemoryBudget,
    /// Memory for answers of up to 64 KiB.
    pub small_answers: MemoryBudget,
    /// Memory for larger answers and for events.
    pub answers: Arc<MemoryBudget>,
    /// Memory for recordings that are being sent.
    pub recordings: MemoryBudget,
    /// Memory for written bytes that clients have not read.
    pub write_buffers: Arc<MemoryBudget>,
    /// Maximum size of the body of a request, in bytes.
    pub max_body_bytes: usize,
    /// Time limit for the body of a request.
    pub body_timeout: Duration,
    /// Clocks, randomness, encryption keys, metrics and the public URL.
    pub env: Env,
}

impl ApiState {
    /// Returns the encryption keys.
    ///
    /// # Errors
    /// `encryption_not_configured`, if there are none.
    pub fn sealing_keys(&self) -> Result<Arc<SealingKeys>, ApiError> {
        self.env.encryption.keys().ok_or_else(ApiError::encryption_not_configured)
    }
}
