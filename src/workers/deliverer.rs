//! Delivers events to webhooks and callbacks. Each attempt is stored before its request is sent, and its outcome is
//! stored afterwards. [`workers`](super) documents the protocol.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::task::TaskTracker;
use tracing::field::Empty;
use tracing::{Instrument, error_span};

use super::attempt_slots::AttemptSlots;
use super::delivery_requests::{DeliveryRequest, NoRequest, RequestBuilder, gives_up_on_unknown};
use super::{OutcomeWriter, Report, Wake, Worker, lease_for};
use crate::analyses::MemoryBudget;
use crate::callbacks::{Outgoing, Sender, Sent, hold_during_lookups};
use crate::config::CallbackSettings;
use crate::domain::events::EventKind;
use crate::domain::ids::TenantId;
use crate::domain::receivers::Receivers;
use crate::domain::retries::{AttemptOutcome, GiveUpReason, RetryDecision, RetrySchedule};
use crate::domain::trace::TraceContext;
use crate::domain::transforms::Transform;
use crate::domain::webhooks::{DisabledReason, Health};
use crate::env::Env;
use crate::store::{ClaimedDelivery, FinishedAttempt, Store, StoreError};
use crate::telemetry::spans;
use crate::tenants::Tenants;

/// Pause of a delivery whose request could not start early enough in its lease.
const PAUSE_OF_POSTPONED: Duration = Duration::from_secs(1);

/// The worker that delivers events.
pub struct Deliverer {
    env: Env,
    store: Arc<dyn Store>,
    sender: Sender,
    schedule: RetrySchedule,
    tenants: Arc<Tenants>,
    requests: RequestBuilder,
    timeout: Duration,
    receivers: Arc<Receivers>,
    slots: Arc<AttemptSlots>,
    outcomes: OutcomeWriter,
}

#[async_trait]
impl Worker for Deliverer {
    fn name(&self) -> &'static str {
        "deliverer"
    }

    async fn run_once(self: Arc<Self>, tasks: &TaskTracker) -> Result<Report, StoreError> {
        let lease = lease_for(self.timeout);
        let tenants = self.tenants.all().map(|tenant| tenant.id().clone()).collect();
        let slots = self.slots.free(tenants, &self.receivers);
        // The claim does not see a pause of a receiver that ends during the claim.
        let now = self.env.clock.now();
        let claims = self.store.claim_deliveries_across_tenants(slots, lease).await?;
        let next_due = claims.next_due.into_iter().chain(self.receivers.next_end(now)).min();
        let report = Report { has_more: false, next_due };
        for claimed in claims.claimed {
            let delivery = &claimed.delivery;
            // The span has the level `error`, so that log lines have these fields with every log filter.
            let span = error_span!(
                "deliver callback",
                tenant = %delivery.tenant,
                call_id = delivery.call_id.as_ref().map(display),
                webhook_id = delivery.webhook.map(display),
                delivery_id = %delivery.id,
                attempt = i64::from(delivery.attempts),
                trace_id = %delivery.trace,
                span_id = Empty,
            );
            let trace = spans::resume(&span, delivery.trace);
            let slot = Arc::new(self.slots.take(&claimed));
            let deliverer = Arc::clone(&self);
            let attempt = async move { deliverer.deliver(claimed, trace).await };
            tasks.spawn(hold_during_lookups(slot, attempt).instrument(span));
        }
        Ok(report)
    }
}

impl Deliverer {
    /// Creates the worker. `wake` must be the signal of this worker's loop.
    pub fn new(
        settings: &CallbackSettings,
        env: Env,
        store: Arc<dyn Store>,
        (sender, receivers): (Sender, Arc<Receivers>),
        tenants: Arc<Tenants>,
        renderings: Arc<MemoryBudget>,
        (wake, outcomes): (Wake, OutcomeWriter),
    ) -> Self {
        let requests =
            RequestBuilder::new(env.clone(), Arc::clone(&store), Arc::clone(&tenants), renderings, settings);
        Self {
            env,
            store,
            sender,
            schedule: RetrySchedule::new(settings.retry_schedule.clone()),
            tenants,
            requests,
            timeout: settings.timeout,
            receivers,
            slots: Arc::new(AttemptSlots::new(wake)),
            outcomes,
        }
    }

    /// Makes one attempt and stores its outcome.
    async fn deliver(&self, claimed: ClaimedDelivery, trace: TraceContext) {
        let delivery = &claimed.delivery;
        let sent = match self.requests.build(&claimed).await {
            Ok(request) => self.send(&claimed, request, trace).await,
            Err(NoRequest::Ended(outcome)) => unsent(outcome),
            Err(NoRequest::LeaseTooShort) => return self.postpone(&claimed).await,
        };
        let outcome = sent.outcome.label();
        self.env.metrics.callback_attempts.with_label_values(&[outcome]).observe(sent.latency.as_secs_f64());
        let next = self.next(&claimed, &sent);
        log_outcome(&claimed, &sent, next);
        self.receivers.record(
            &delivery.tenant,
            &delivery.receiver(),
            delivery.webhook.is_none(),
            (&sent.outcome, sent.latency),
            self.env.clock.now(),
        );
        let attempt = FinishedAttempt {
            outcome,
            webhook_version: claimed.webhook.as_ref().map(|webhook| webhook.version),
            status: sent.status,
            latency: sent.latency,
            detail: (next != RetryDecision::Delivered).then(|| sent.outcome.to_string()),
            response: sent.response,
            next,
        };
        let finish = || self.store.finish_attempt(claimed.lease, attempt.clone());
        let finished = self.outcomes.write(("finish_attempt", "deliveries"), delivery.due_at, finish).await;
        if let Some(disabled) = finished {
            self.report(&delivery.tenant, next, disabled);
        }
    }

    /// Ends the lease without an attempt. The delivery is due again after a pause.
    async fn postpone(&self, claimed: &ClaimedDelivery) {
        let due = self.env.clock.now() + PAUSE_OF_POSTPONED;
        tracing::warn!(retry_at = %due, "callback delivery postponed: the lease would end before the deadline of the request");
        let postpone = || self.store.postpone_delivery(claimed.lease, due);
        let names = ("postpone_delivery", "deliveries");
        self.outcomes.write(names, claimed.delivery.due_at, postpone).await;
    }

    /// Sends the request inside a separate span.
    async fn send(&self, claimed: &ClaimedDelivery, request: DeliveryRequest, trace: TraceContext) -> Sent {
        let delivery = &claimed.delivery;
        let id = delivery.event_id.to_string();
        let method = Transform::method(claimed.method, claimed.transform.as_ref());
        let span = spans::client(method.as_str(), request.url.as_url(), None);
        if delivery.attempts > 1 {
            span.record("resend_count", i64::from(delivery.attempts - 1));
        }
        let traceparent = spans::start(&span, trace).traceparent();
        let credentials = &request.credentials;
        let outgoing = Outgoing {
            url: &request.url,
            id: &id,
            timestamp: self.env.wall_clock.now(),
            secrets: &credentials.secrets,
            method,
            content_type: &request.rendered.content_type,
            preset: claimed.transform.as_ref().and_then(Transform::preset),
            headers: &credentials.headers,
            body: request.rendered.body,
            traceparent: &traceparent,
        };
        let sent = self.sender.send(&outgoing).await;
        if let Some(status) = sent.status {
            spans::record_status(&span, status);
        }
        let outcome = sent.outcome.label();
        span.record("outcome", outcome);
        if !matches!(sent.outcome, AttemptOutcome::Delivered { .. }) {
            spans::fail(&span, outcome);
        }
        let response = credentials.erased_from(&sent.response);
        // A receiver may repeat a secret in the text of an error, also escaped as JSON. So secrets are erased from the reason as
        // well.
        let outcome = sent.outcome.map_reason(|reason| {
            String::from_utf8_lossy(&credentials.erased_from(reason.as_bytes())).into_owned()
        });
        Sent { response, outcome, ..sent }
    }

    /// Decides whether the delivery ends, waits or is attempted again.
    fn next(&self, claimed: &ClaimedDelivery, sent: &Sent) -> RetryDecision {
        let (delivery, outcome) = (&claimed.delivery, &sent.outcome);
        let now = self.env.clock.now();
        match outcome {
            AttemptOutcome::Failed { .. } if sent.is_written && gives_up_on_unknown(claimed) => {
                RetryDecision::GiveUp(GiveUpReason::Unknown)
            }
            // The outcome disables the webhook. This delivery waits with all other deliveries of the webhook.
            AttemptOutcome::Gone if delivery.webhook.is_some() => RetryDecision::Hold,
            // Only the operator can provide the secret. Until then, all deliveries of the webhook wait.
            AttemptOutcome::Unsigned { .. } if delivery.webhook.is_some() => {
                RetryDecision::WaitUntil(now + Health::UNSIGNED_PAUSE)
            }
            _ => self.schedule.next(delivery.attempts_of_round(), outcome, now, self.env.entropy.fraction()),
        }
    }

    /// Counts the effects of a stored outcome, and logs that the outcome disabled the webhook.
    fn report(&self, tenant: &TenantId, next: RetryDecision, disabled: Option<DisabledReason>) {
        if matches!(next, RetryDecision::GiveUp(_)) {
            self.env.metrics.callbacks_given_up.with_label_values(&[tenant.as_str()]).inc();
        }
        if let Some(reason) = disabled {
            let kind = EventKind::WebhookDisabled;
            tracing::error!(reason = reason.as_str(), "webhook disabled");
            self.env.metrics.webhooks_disabled.with_label_values(&[tenant.as_str(), reason.as_str()]).inc();
            self.env.metrics.events.with_label_values(&[tenant.as_str(), kind.as_str()]).inc();
        }
    }
}

/// Logs the outcome of an attempt. The log line also has the ids of the surrounding span.
fn log_outcome(delivery: &ClaimedDelivery, sent: &Sent, next: RetryDecision) {
    let host = delivery.delivery.url.host();
    let (status, outcome) = (sent.status, sent.outcome.label());
    match next {
        RetryDecision::Delivered => tracing::info!(host, status, "callback delivered"),
        RetryDecision::RetryAt(at) => {
            tracing::warn!(host, status, outcome, retry_at = %at, "callback delivery failed");
        }
        RetryDecision::WaitUntil(until) => {
            let reason = &sent.outcome;
            tracing::error!(host, outcome, %reason, retry_at = %until, "callback delivery paused: the secret is missing, or the secret, the headers or the URL cannot be decrypted");
        }
        RetryDecision::Hold => {
            tracing::warn!(
                host,
                status,
                outcome,
                "callback delivery waits until the webhook is enabled again: the receiver answered 410"
            );
        }
        RetryDecision::GiveUp(reason) => {
            tracing::error!(host, status, outcome, ?reason, "callback delivery given up");
        }
    }
}

/// Returns the result of an attempt that sent nothing.
const fn unsent(outcome: AttemptOutcome) -> Sent {
    Sent { outcome, latency: Duration::ZERO, is_written: false, response: Vec::new(), status: None }
}
