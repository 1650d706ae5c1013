//! Delivers events to webhooks and callbacks. Each attempt is stored before its request is sent, and its outcome is
//! stored afterwards. [`workers`](super) documents the protocol.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio_util::task::TaskTracker;
use tracing::field::Empty;
use tracing::{Instrument, error_span};

use super::attempt_slots::AttemptSlots;
use super::{OutcomeWriter, Report, Wake, Worker, lease_for};
use crate::callbacks::{Outgoing, Sender, Sent, hold_during_lookups};
use crate::config::CallbackSettings;
use crate::domain::ids::TenantId;
use crate::domain::receivers::Receivers;
use crate::domain::retries::{AttemptOutcome, GiveUpReason, RetryDecision, RetrySchedule};
use crate::domain::secrets::CallbackSecret;
use crate::domain::trace::TraceContext;
use crate::domain::transforms::{RenderedBody, Transform, TransformError, TransformInput};
use crate::domain::webhooks::{CustomHeaders, DisabledReason, Health, WebhookSealer};
use crate::env::Env;
use crate::secrets::Encryption;
use crate::store::{ClaimedDelivery, FinishedAttempt, Store, StoreError};
use crate::telemetry::spans;
use crate::tenants::Tenants;

/// Maximum number of transforms that run at the same time.
const MAX_RENDERINGS: usize = 2;

/// The worker that delivers events.
pub struct Deliverer {
    env: Env,
    store: Arc<dyn Store>,
    sender: Sender,
    schedule: RetrySchedule,
    tenants: Arc<Tenants>,
    encryption: Arc<Encryption>,
    timeout: Duration,
    receivers: Arc<Receivers>,
    slots: Arc<AttemptSlots>,
    outcomes: OutcomeWriter,
    renderings: Semaphore,
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
        let claims = self.store.claim_deliveries_across_tenants(slots, lease).await?;
        let next_due = claims.next_due.into_iter().chain(self.receivers.next_end(self.env.clock.now())).min();
        let report = Report { started: claims.claimed.len(), next_due };
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
        encryption: Arc<Encryption>,
        (wake, outcomes): (Wake, OutcomeWriter),
    ) -> Self {
        Self {
            env,
            store,
            sender,
            schedule: RetrySchedule::new(settings.retry_schedule.clone()),
            tenants,
            encryption,
            timeout: settings.timeout,
            receivers,
            slots: Arc::new(AttemptSlots::new(wake)),
            outcomes,
            renderings: Semaphore::new(MAX_RENDERINGS),
        }
    }

    /// Makes one attempt and stores its outcome.
    async fn deliver(&self, claimed: ClaimedDelivery, trace: TraceContext) {
        let delivery = &claimed.delivery;
        let sent = match self.credentials(&claimed) {
            Ok(_) if doubles(&claimed) => unsent(AttemptOutcome::Unknown),
            Ok(credentials) => match self.body(&claimed).await {
                Ok(body) => self.send(&claimed, &credentials, body, trace).await,
                Err(error) => unsent(AttemptOutcome::Unrendered { detail: error.to_string() }),
            },
            Err(reason) => unsent(AttemptOutcome::Unsigned { detail: reason.to_owned() }),
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
            self.count(&delivery.tenant, next, disabled);
        }
    }

    /// Returns the secrets and headers of the webhook, or the secrets for the tenant's callbacks. The error is the
    /// reason why there are none.
    fn credentials(&self, claimed: &ClaimedDelivery) -> Result<Credentials, &'static str> {
        let tenant = &claimed.delivery.tenant;
        let Some(webhook) = &claimed.webhook else {
            let secrets = self.tenants.get(tenant).map(|tenant| tenant.callback_secrets());
            return match secrets {
                Some(secrets) if !secrets.is_empty() => {
                    Ok(Credentials { secrets, headers: CustomHeaders::default() })
                }
                _ => Err("the tenant has no callback secret to sign with"),
            };
        };
        let keys =
            self.encryption.keys().ok_or("encryption.key_file is not set: the secret cannot be decrypted")?;
        let sealer = WebhookSealer::new(&keys, tenant, webhook.id);
        let lost = "no key in encryption.key_file decrypts the secret or the headers of the webhook";
        let secrets = sealer.open_secrets(&webhook.sealed, self.env.clock.now()).ok_or(lost)?;
        Ok(Credentials { secrets, headers: sealer.open_headers(&webhook.sealed).ok_or(lost)? })
    }

    /// Returns the body of the request. A transform may compute for a while and holds the parsed event in memory, so only a
    /// few run at a time, outside of the threads for I/O.
    async fn body(&self, claimed: &ClaimedDelivery) -> Result<RenderedBody, TransformError> {
        let event = claimed.body.clone();
        let Some(transform) = claimed.transform.clone() else {
            return Ok(RenderedBody { body: event, content_type: "application/json".to_owned() });
        };
        let call_id = claimed.delivery.call_id.as_ref();
        let link = call_id.map(|call_id| self.env.public_url.analysis(call_id)).unwrap_or_default();
        let _permit = self.renderings.acquire().await;
        let rendered =
            spawn_blocking(move || transform.render(TransformInput { event: &event, link: &link }));
        rendered
            .await
            .unwrap_or_else(|_| Err(TransformError(vec!["the gateway could not render it".to_owned()])))
    }

    /// Sends the request inside a separate span.
    async fn send(
        &self,
        claimed: &ClaimedDelivery,
        credentials: &Credentials,
        rendered: RenderedBody,
        trace: TraceContext,
    ) -> Sent {
        let delivery = &claimed.delivery;
        let id = delivery.event_id.to_string();
        let method = Transform::method(claimed.method, claimed.transform.as_ref());
        let span = spans::client(method.as_str(), delivery.url.as_url(), None);
        if delivery.attempts > 1 {
            span.record("resend_count", i64::from(delivery.attempts - 1));
        }
        let traceparent = spans::start(&span, trace).traceparent();
        let outgoing = Outgoing {
            url: &delivery.url,
            id: &id,
            timestamp: self.env.wall_clock.now(),
            secrets: &credentials.secrets,
            method,
            content_type: &rendered.content_type,
            preset: claimed.transform.as_ref().and_then(Transform::preset),
            headers: &credentials.headers,
            body: rendered.body,
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
        Sent { response: credentials.headers.erased_from(&sent.response), ..sent }
    }

    /// Decides what follows after an attempt.
    fn next(&self, claimed: &ClaimedDelivery, sent: &Sent) -> RetryDecision {
        let (delivery, outcome) = (&claimed.delivery, &sent.outcome);
        let now = self.env.clock.now();
        match outcome {
            AttemptOutcome::Failed { .. } if sent.is_written && gives_up_on_unknown(claimed) => {
                RetryDecision::GiveUp(GiveUpReason::Unknown)
            }
            // The outcome disables the webhook. This delivery waits with all others of the webhook.
            AttemptOutcome::Gone if delivery.webhook.is_some() => RetryDecision::Hold,
            // Only the operator can fix this. Until then, all deliveries of the webhook wait.
            AttemptOutcome::Unsigned { .. } if delivery.webhook.is_some() => {
                RetryDecision::WaitUntil(now + Health::UNSIGNED_PAUSE)
            }
            _ => self.schedule.next(delivery.attempts_of_round(), outcome, now, self.env.entropy.fraction()),
        }
    }

    fn count(&self, tenant: &TenantId, next: RetryDecision, disabled: Option<DisabledReason>) {
        if matches!(next, RetryDecision::GiveUp(_)) {
            self.env.metrics.callbacks_given_up.with_label_values(&[tenant.as_str()]).inc();
        }
        if let Some(reason) = disabled {
            self.env.metrics.webhooks_disabled.with_label_values(&[tenant.as_str(), reason.as_str()]).inc();
        }
    }
}

fn gives_up_on_unknown(claimed: &ClaimedDelivery) -> bool {
    claimed.transform.as_ref().is_some_and(Transform::gives_up_on_unknown)
}

/// Whether the attempt could double the effect of the one before. A redelivery is what its caller wants.
fn doubles(claimed: &ClaimedDelivery) -> bool {
    claimed.follows_unknown && claimed.delivery.attempts_of_round() > 1 && gives_up_on_unknown(claimed)
}

/// Logs the outcome of an attempt. The log line also has the ids of the surrounding span.
fn log_outcome(delivery: &ClaimedDelivery, sent: &Sent, next: RetryDecision) {
    let host = delivery.delivery.url.as_url().host_str();
    let (status, outcome) = (sent.status, sent.outcome.label());
    match next {
        RetryDecision::Delivered => tracing::info!(host, status, "callback delivered"),
        RetryDecision::RetryAt(at) => {
            tracing::warn!(host, status, outcome, retry_at = %at, "callback delivery failed");
        }
        RetryDecision::WaitUntil(until) => {
            let reason = &sent.outcome;
            tracing::error!(host, outcome, %reason, retry_at = %until, "callback delivery paused: no usable signing secret");
        }
        RetryDecision::Hold => {
            tracing::error!(host, status, outcome, "webhook disabled: the receiver answered 410");
        }
        RetryDecision::GiveUp(reason) => {
            tracing::error!(host, status, outcome, ?reason, "callback delivery given up");
        }
    }
}

/// Secrets that sign a delivery, and the custom headers sent with it.
struct Credentials {
    secrets: Vec<CallbackSecret>,
    headers: CustomHeaders,
}

/// Returns the result of an attempt that sent nothing.
const fn unsent(outcome: AttemptOutcome) -> Sent {
    Sent { outcome, latency: Duration::ZERO, is_written: false, response: Vec::new(), status: None }
}
