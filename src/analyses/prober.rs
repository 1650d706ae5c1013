//! Probes of the vendor: requests for the result of a call that cannot exist. Probes show the vendor's answer for unknown calls.

use std::sync::Arc;
use std::time::Duration;

use crate::alovoice::{VendorCall, VendorClient, VendorPermit};
use crate::config::VendorSettings;
use crate::domain::answer_shape::AnswerShape;
use crate::domain::clock::Timestamp;
use crate::env::Env;
use crate::store::{Store, StoreError};
use crate::tenants::Tenant;

/// Sends the probes of all tenants.
pub struct Prober {
    store: Arc<dyn Store>,
    vendor: Arc<VendorClient>,
    env: Env,
    lease: Duration,
    pause: Duration,
}

impl Prober {
    /// Creates the prober of a process. Replicas share their probes through the store.
    pub fn new(
        settings: &VendorSettings,
        env: Env,
        store: Arc<dyn Store>,
        vendor: Arc<VendorClient>,
    ) -> Self {
        Self {
            store,
            vendor,
            env,
            lease: settings.request_timeout + Duration::from_secs(2),
            pause: settings.polling.min_interval,
        }
    }

    /// Sends a probe. Does nothing if another probe started at `since` or later, is in progress or has just ended. The id in the
    /// probe has the same form as the id of `call`. The probe uses the permit of an earlier request. An open circuit prevents the
    /// probe, unless the vendor answered the earlier request (`is_answered`). This exception is needed for a vendor that answers
    /// unknown calls with an error, because these answers open the circuit.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub async fn probe(
        &self,
        tenant: &Tenant,
        permit: &VendorPermit,
        call: VendorCall<'_>,
        (since, is_answered): (Timestamp, bool),
    ) -> Result<(), StoreError> {
        if permit.is_circuit_open() && !is_answered {
            return Ok(());
        }
        let account = call.token.fingerprint();
        let claim = self.store.claim_probe(tenant.id(), account, since, self.lease).await?;
        let Some(claim) = claim else { return Ok(()) };
        let shape = self.vendor.probe(permit, call).await;
        let outcome = self.store.finish_probe(tenant.id(), claim, shape, self.pause).await?;
        let label = outcome.map_or("failed", |outcome| outcome.as_str());
        self.env.metrics.vendor_probes.with_label_values(&[tenant.id().as_str(), label]).inc();
        let (tenant, status) = (tenant.id(), shape.map(AnswerShape::status));
        tracing::info!(%tenant, status, outcome = label, "vendor probed with the id of a call that does not exist");
        Ok(())
    }
}
