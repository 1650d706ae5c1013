//! Calls that were never submitted here: the vendor is asked once, however many callers want to know.

use std::time::Duration;

use moka::future::Cache;

use super::cache::Key;
use super::{Analyses, AnalysesError};
use crate::alovoice::Request;
use crate::domain::events::EventKind;
use crate::domain::lifecycle::PollOutcome;
use crate::domain::trace::TraceContext;
use crate::store::StoreError;
use crate::telemetry::spans;
use crate::tenants::Tenant;

/// How long a lookup waits for its turn.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(5);
/// How long a miss is remembered.
const MISS_TIME_TO_LIVE: Duration = Duration::from_secs(10);
/// The most misses remembered: a flood of made-up ids pushes out its own.
const MAX_MISSES: u64 = 10_000;

/// Keys the vendor has no finished answer for.
pub(super) struct Lookups(Cache<Key, ()>);

/// How a lookup ends without a miss to remember.
#[derive(Debug, Clone)]
enum Ended {
    Adopted,
    Unavailable { retry_after: Option<Duration> },
    Store(String),
}

impl Lookups {
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(MAX_MISSES).time_to_live(MISS_TIME_TO_LIVE).build())
    }

    /// Returns when the store has the call.
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
                Ended::Adopted => Ok(()),
                Ended::Unavailable { retry_after } => {
                    Err(AnalysesError::VendorUnavailable { retry_after: *retry_after })
                }
                Ended::Store(message) => {
                    Err(AnalysesError::Store(StoreError::Unavailable(message.clone().into())))
                }
            },
        }
    }
}

/// `Ok` is a miss: what the cache is to remember. Everything else is not.
async fn ask(analyses: &Analyses, tenant: &Tenant, key: &Key, trace: TraceContext) -> Result<(), Ended> {
    // Another lookup may have ended since the caller looked: lookups of a key come one after another.
    match analyses.store.find_analysis(&key.0, &key.1).await {
        Ok(Some(_)) => return Err(Ended::Adopted),
        Ok(None) => {}
        Err(error) => return Err(Ended::Store(error.to_string())),
    }
    // What was deleted stays so until it is submitted again.
    match analyses.store.was_deleted(&key.0, &key.1).await {
        Ok(true) => return Ok(()),
        Ok(false) => {}
        Err(error) => return Err(Ended::Store(error.to_string())),
    }
    let taken =
        tokio::time::timeout(LOOKUP_PATIENCE, analyses.vendor_permits.acquire_for_lookup(tenant.id())).await;
    let permit = match taken {
        Ok(Ok(permit)) => permit,
        Ok(Err(circuit)) => {
            let retry_after = circuit.until.map(|until| until.since(analyses.env.clock.now()));
            return Err(Ended::Unavailable { retry_after });
        }
        Err(_) => return Err(Ended::Unavailable { retry_after: Some(LOOKUP_PATIENCE) }),
    };
    let token = tenant.vendor_token();
    let request = Request { token: &token, call_id: &key.1, trace };
    let (outcome, _body_permit) = analyses.vendor.result(&permit, request, None).await;
    match outcome {
        PollOutcome::Ready(obtained) => {
            let span = spans::store_call("adopt", &key.0, &key.1);
            let adopt = analyses.store.adopt(&key.0, &key.1, trace, obtained);
            Err(match spans::run(span, StoreError::label, adopt).await {
                Ok(true) => {
                    let kind = EventKind::AnalysisCompleted.as_str();
                    analyses.env.metrics.events.with_label_values(&[tenant.id().as_str(), kind]).inc();
                    Ended::Adopted
                }
                // Submitted meanwhile, or adopted by another replica.
                Ok(false) => Ended::Adopted,
                Err(error) => Ended::Store(error.to_string()),
            })
        }
        PollOutcome::Empty(_)
        | PollOutcome::NotReady { .. }
        | PollOutcome::Unchanged
        | PollOutcome::NotFound
        | PollOutcome::Rejected(_) => Ok(()),
        PollOutcome::Fault(fault) => Err(Ended::Unavailable { retry_after: fault.retry_after }),
    }
}
