//! Asks the vendor for calls that were never submitted here. Concurrent lookups of one call share one request.

use std::time::Duration;

use moka::future::Cache;

use super::cache::Key;
use super::{Analyses, AnalysesError};
use crate::alovoice::{VendorAnswer, VendorCall, VendorPermit};
use crate::domain::answer_shape::AnswerShape;
use crate::domain::clock::Timestamp;
use crate::domain::events::EventKind;
use crate::domain::lifecycle::PollOutcome;
use crate::domain::trace::TraceContext;
use crate::store::StoreError;
use crate::telemetry::spans;
use crate::tenants::Tenant;

/// Maximum time that a lookup waits for a free permit.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(5);
/// Time for which the negative cache keeps a miss.
const MISS_TIME_TO_LIVE: Duration = Duration::from_secs(10);
/// Maximum size of the negative cache. A flood of unknown ids evicts its own entries.
const MAX_MISSES: u64 = 10_000;

/// The negative cache: calls for which the vendor has no result.
pub(super) struct Lookups(Cache<Key, ()>);

/// Outcome of a lookup, except for a miss. The negative cache keeps misses, but none of these outcomes.
#[derive(Debug, Clone)]
enum LookupOutcome {
    Adopted,
    Unavailable { retry_after: Option<Duration> },
    Store(String),
}

impl Lookups {
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(MAX_MISSES).time_to_live(MISS_TIME_TO_LIVE).build())
    }

    /// Asks the vendor for the result of a call. Returns when the result is in the store.
    ///
    /// # Errors
    /// [`AnalysesError::NotFound`] if the vendor has no result or the call was deleted, [`AnalysesError::VendorUnavailable`],
    /// and [`AnalysesError::Store`].
    pub(super) async fn adopt(
        &self,
        analyses: &Analyses,
        tenant: &Tenant,
        key: &Key,
        trace: TraceContext,
    ) -> Result<(), AnalysesError> {
        match self.0.try_get_with_by_ref(key, ask(analyses, tenant, key, trace)).await {
            Ok(()) => Err(AnalysesError::NotFound),
            Err(ended) => match &*ended {
                LookupOutcome::Adopted => Ok(()),
                LookupOutcome::Unavailable { retry_after } => {
                    Err(AnalysesError::VendorUnavailable { retry_after: *retry_after })
                }
                LookupOutcome::Store(message) => {
                    Err(AnalysesError::Store(StoreError::Unavailable(message.clone().into())))
                }
            },
        }
    }
}

/// Asks the vendor for the result of a call. `Ok(())` means that the vendor has no result. Only this outcome is cached.
async fn ask(
    analyses: &Analyses,
    tenant: &Tenant,
    key: &Key,
    trace: TraceContext,
) -> Result<(), LookupOutcome> {
    // An earlier lookup of the same call may have stored the result since the caller read the store.
    match analyses.store.find_analysis_within(&key.0, &key.1, 0).await {
        Ok(Some(_)) => return Err(LookupOutcome::Adopted),
        Ok(None) => {}
        Err(error) => return Err(LookupOutcome::Store(error.to_string())),
    }
    // A deleted call stays deleted until it is submitted again.
    match analyses.store.was_deleted(&key.0, &key.1).await {
        Ok(true) => return Ok(()),
        Ok(false) => {}
        Err(error) => return Err(LookupOutcome::Store(error.to_string())),
    }
    let acquire = analyses.vendor_permits.acquire_for_lookup(tenant.id(), &key.1);
    let permit = match tokio::time::timeout(LOOKUP_PATIENCE, acquire).await {
        Ok(Ok(permit)) => permit,
        Ok(Err(circuit)) => {
            let retry_after = circuit.until.map(|until| until.since(analyses.env.clock.now()));
            return Err(LookupOutcome::Unavailable { retry_after });
        }
        Err(_) => return Err(LookupOutcome::Unavailable { retry_after: Some(LOOKUP_PATIENCE) }),
    };
    let token = tenant.vendor_token();
    let request = VendorCall { token: &token, call_id: &key.1, trace };
    let asked_at = analyses.env.clock.now();
    let VendorAnswer { outcome, shape, body_permit: _held } =
        analyses.vendor.result(&permit, request, None).await;
    match outcome {
        PollOutcome::Ready(obtained) => {
            let span = spans::store_call("adopt", &key.0, &key.1);
            let adopt = analyses.store.adopt(&key.0, &key.1, trace, obtained);
            Err(match spans::run(span, StoreError::label, adopt).await {
                Ok(true) => {
                    let kind = EventKind::AnalysisCompleted.as_str();
                    analyses.env.metrics.events.with_label_values(&[tenant.id().as_str(), kind]).inc();
                    LookupOutcome::Adopted
                }
                // The call was submitted in the meantime, or another replica adopted the result.
                Ok(false) => LookupOutcome::Adopted,
                Err(error) => LookupOutcome::Store(error.to_string()),
            })
        }
        PollOutcome::Empty(_)
        | PollOutcome::NotReady { .. }
        | PollOutcome::Unchanged
        | PollOutcome::NotFound(_)
        | PollOutcome::Rejected(_) => Ok(()),
        PollOutcome::Fault(fault) => {
            let unavailable = LookupOutcome::Unavailable { retry_after: fault.retry_after };
            // A server error may mean an outage.
            let Some(shape) = shape.filter(|shape| !shape.is_server_error()) else { return Err(unavailable) };
            let is_unknown = is_unknown(analyses, tenant, &permit, request, (shape, asked_at));
            match is_unknown.await {
                Ok(true) => Ok(()),
                Ok(false) => Err(unavailable),
                Err(error) => Err(LookupOutcome::Store(error.to_string())),
            }
        }
    }
}

/// Whether an answer that cannot be read is the vendor's answer for unknown calls. If the answer for unknown calls is not known
/// yet, the function sends a probe.
async fn is_unknown(
    analyses: &Analyses,
    tenant: &Tenant,
    permit: &VendorPermit,
    request: VendorCall<'_>,
    (shape, asked_at): (AnswerShape, Timestamp),
) -> Result<bool, StoreError> {
    let find = || analyses.store.find_learned_answers(tenant.id(), request.token.fingerprint());
    if find().await?.is_trusted(shape, analyses.env.clock.now()) {
        return Ok(true);
    }
    analyses.prober.probe(tenant, permit, request, (asked_at, false)).await?;
    Ok(find().await?.is_trusted(shape, analyses.env.clock.now()))
}
