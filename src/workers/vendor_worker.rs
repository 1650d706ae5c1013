//! The submitter and the poller. They share the protocol that [`workers`](super) documents, and differ in the request
//! that they send to the vendor.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::task::TaskTracker;
use tracing::field::{Empty, display};
use tracing::{Instrument, error_span};

use super::{OutcomeWriter, Report, TokenWatcher, Worker, lease_for};
use crate::alovoice::{
    BodyPermit, FreePermits, VendorAnswer, VendorCall, VendorClient, VendorPermit, VendorPermits,
};
use crate::analyses::Prober;
use crate::domain::claim_order::ClaimOrder;
use crate::domain::clock::Timestamp;
use crate::domain::events::EventKind;
use crate::domain::lifecycle::{Confirmation, ShapedAnswer, Step};
use crate::domain::polling::PollingPolicy;
use crate::domain::trace::TraceContext;
use crate::env::Env;
use crate::store::{Applied, ClaimBatch, ClaimedWork, Queue, Store, StoreError, WorkSlots};
use crate::telemetry::spans;
use crate::tenants::Tenants;

/// Maximum number of overdue analyses that one transaction marks as failed.
const OVERDUE_BATCH: usize = 100;

/// The worker of one queue of analyses.
#[derive(Clone)]
pub struct VendorWorker {
    /// The queue that this worker serves.
    pub queue: Queue,
    /// Store that holds the queue.
    pub store: Arc<dyn Store>,
    /// Client of the vendor.
    pub vendor: Arc<VendorClient>,
    /// Learns how the vendor answers for unknown calls.
    pub prober: Arc<Prober>,
    /// Limits of the number of requests in flight, per tenant.
    pub permits: Arc<VendorPermits>,
    /// The tenants with their vendor tokens.
    pub tenants: Arc<Tenants>,
    /// Schedule of the polls. The schedule decides which polls are conditional.
    pub polling: PollingPolicy,
    /// Maximum duration of one request. This duration determines the length of leases.
    pub request_timeout: Duration,
    /// Resumes work that waits because the vendor refused the token.
    pub token_watcher: Arc<TokenWatcher>,
    /// Writes the outcomes of the requests.
    pub outcomes: OutcomeWriter,
    /// Environment, for the clock of leases and the metrics.
    pub env: Env,
}

#[async_trait]
impl Worker for VendorWorker {
    fn name(&self) -> &'static str {
        match self.queue {
            Queue::Submits => "submitter",
            Queue::Polls => "poller",
        }
    }

    async fn run_once(self: Arc<Self>, tasks: &TaskTracker) -> Result<Report, StoreError> {
        let free = self.permits.free().await;
        let mut report = Report { has_more: false, next_due: free.next_probe };
        if !free.by_tenant.is_empty() {
            let claims = self.claim(&free).await?;
            report.next_due = earlier(report.next_due, claims.next_due);
            // While calls fail, a claim examines only a part of the due calls.
            let is_partial = free.by_tenant.iter().any(|(.., order)| *order != ClaimOrder::OldestFirst);
            report.has_more = is_partial && !claims.claimed.is_empty();
            for claimed in claims.claimed {
                // The permit is taken here and not in the task, so that the next step counts it. A tenant that is not
                // configured has no permits, so none of its work is claimed.
                let failed_before = claimed.analysis.work.as_ref().is_some_and(|work| work.errors > 0);
                let Some(permit) = free.take(&claimed.analysis.tenant, failed_before) else { continue };
                self.start(claimed, permit, tasks);
            }
        }
        let open_circuits = free.open_circuits.clone();
        drop(free);
        if !open_circuits.is_empty() {
            let ended = self.store.fail_overdue_across_tenants(open_circuits, OVERDUE_BATCH).await?;
            ended.applied.iter().for_each(|applied| self.observe(applied));
            report.has_more |= !ended.applied.is_empty();
            report.next_due = earlier(report.next_due, ended.next_due);
        }
        Ok(report)
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    one.into_iter().chain(other).min()
}

impl VendorWorker {
    async fn claim(&self, free: &FreePermits<'_>) -> Result<ClaimBatch<ClaimedWork>, StoreError> {
        let lease = lease_for(self.request_timeout);
        let slots = free.by_tenant.iter().filter_map(|(tenant, free, order)| {
            let most = self.tenants.get(tenant)?.max_concurrency();
            Some(WorkSlots { tenant: tenant.clone(), free: *free, most, order: *order })
        });
        self.store.claim_work_across_tenants(self.queue, slots.collect(), lease).await
    }

    fn start(self: &Arc<Self>, claimed: ClaimedWork, permit: VendorPermit, tasks: &TaskTracker) {
        let analysis = &claimed.analysis;
        let (tenant, call_id) = (display(&analysis.tenant), display(&analysis.call_id));
        let (trace_id, worker) = (display(&analysis.trace), self.name());
        // The span has the level `error`, so that log lines have these fields with every log filter.
        let span = match self.queue {
            Queue::Submits => {
                error_span!("submit call", worker, tenant, call_id, trace_id, span_id = Empty)
            }
            Queue::Polls => {
                error_span!("poll result", worker, tenant, call_id, trace_id, span_id = Empty)
            }
        };
        let trace = spans::resume(&span, analysis.trace);
        let worker = Arc::clone(self);
        tasks.spawn(async move { worker.work(claimed, permit, trace).await }.instrument(span));
    }

    async fn work(&self, claimed: ClaimedWork, permit: VendorPermit, trace: TraceContext) {
        let analysis = &claimed.analysis;
        let Some(tenant) = self.tenants.get(&analysis.tenant) else { return };
        // If this process was paused, the lease may have expired, and another replica may send the request.
        let lease_end = analysis.work.as_ref().map_or(self.env.clock.now(), |work| work.due_at);
        if self.env.clock.now() + self.request_timeout > lease_end {
            tracing::warn!("request skipped: the lease would end before the deadline of the request");
            return;
        }
        let token = tenant.vendor_token();
        let request = VendorCall { token: &token, call_id: &analysis.call_id, trace };
        // The permit for the memory of a large answer is held until the answer is stored.
        let (step, body_permit) = match self.queue {
            Queue::Submits => {
                (Step::Submitted(self.vendor.submit(&permit, request).await), BodyPermit::default())
            }
            Queue::Polls => {
                let now = self.env.clock.now();
                let etag = analysis.work.as_ref().and_then(|work| work.condition(&self.polling, now));
                let VendorAnswer { outcome, shape, body_permit } =
                    self.vendor.result(&permit, request, etag).await;
                (Step::Answered(outcome, ShapedAnswer { shape, account: token.fingerprint() }), body_permit)
            }
        };
        let (is_refused, is_answered) = (step.is_token_refused(), step.is_answered_with_error());
        let step = Arc::new(step);
        let apply = || self.store.apply(claimed.lease, Arc::clone(&step));
        let applied = self.outcomes.write(("apply", "analyses"), lease_end, apply).await;
        drop(body_permit);
        if let Some(applied) = applied {
            self.observe(&applied);
            if let Some(event) = applied.event {
                spans::export("event", event.as_str());
            }
            if let Some(since) = applied.probe
                && let Err(error) = self.prober.probe(&tenant, &permit, request, (since, is_answered)).await
            {
                // The next answer that needs a probe asks for a probe again.
                tracing::error!(%error, "failed to store the outcome of a probe");
            }
        }
        // The token watcher resumed the waiting work before this work began to wait, so the watcher must resume it again.
        if is_refused && !Arc::ptr_eq(&token, &tenant.vendor_token()) {
            self.token_watcher.repeat(&analysis.tenant);
        }
    }

    fn observe(&self, applied: &Applied) {
        let analysis = &applied.analysis;
        let tenant = analysis.tenant.as_str();
        match applied.confirmation {
            Some(Confirmation::Unconfirmed) => {
                tracing::warn!(
                    "submission unconfirmed: the answers do not show whether the vendor accepted the call"
                );
                self.env.metrics.submissions_unconfirmed.with_label_values(&[tenant]).inc();
            }
            Some(Confirmation::Resubmitted) => {
                tracing::info!(
                    "call will be submitted again: no answer shows that the vendor accepted the call"
                );
                self.env.metrics.submissions_repeated.with_label_values(&[tenant]).inc();
            }
            None => {}
        }
        if let Some(missing) = applied.discarded {
            tracing::warn!(%missing, "vendor result discarded: it has less content than the stored result");
            self.env.metrics.results_discarded.with_label_values(&[tenant]).inc();
        }
        let Some(event) = applied.event else { return };
        tracing::info!(event = event.as_str(), revision = analysis.revision, "analysis changed");
        self.env.metrics.events.with_label_values(&[tenant, event.as_str()]).inc();
        if event == EventKind::AnalysisCompleted
            && let Some(at) = analysis.finished_at
        {
            self.env.metrics.completion.observe(at.since(analysis.submitted_at).as_secs_f64());
            self.env.metrics.polls.observe(f64::from(applied.polls));
        }
    }
}
