//! Delivers callbacks: each attempt is on disk before it is made, and its outcome after.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::task::TaskTracker;
use tracing::field::Empty;
use tracing::{Instrument, error_span};

use super::{Report, Wake, Worker, lease_for};
use crate::callbacks::{Outgoing, Sender, Sent};
use crate::domain::ids::TenantId;
use crate::domain::retries::{AttemptOutcome, RetryDecision, RetrySchedule};
use crate::domain::secrets::CallbackSecret;
use crate::domain::trace::TraceContext;
use crate::domain::webhooks::{CustomHeaders, DisabledReason, Health, WebhookSealer};
use crate::env::Env;
use crate::secrets::Encryption;
use crate::store::{ClaimedDelivery, DeliverySlots, FinishedAttempt, Store, StoreError};
use crate::telemetry::spans;
use crate::tenants::Tenants;

/// Attempts under way at once.
const MAX_CONCURRENCY: usize = 128;
/// Bytes of bodies under way at once, bar the one that passes it.
const MAX_BYTES: usize = 64 << 20;
/// Attempts under way at once of one tenant: however many receivers it names, others have room.
const MAX_CONCURRENCY_PER_TENANT: usize = 32;
/// Attempts under way at once to one receiver: a slow one holds up its own alone.
const MAX_CONCURRENCY_PER_RECEIVER: usize = 8;

/// Works on the deliveries.
pub struct Deliverer {
    /// Where they are.
    pub store: Arc<dyn Store>,
    /// What sends them.
    pub sender: Sender,
    /// When to try again.
    pub schedule: RetrySchedule,
    /// Whose secrets sign what goes to callbacks.
    pub tenants: Arc<Tenants>,
    /// What opens the secrets of endpoints.
    pub encryption: Arc<Encryption>,
    /// An attempt's deadline.
    pub timeout: Duration,
    /// What is under way.
    pub busy: Mutex<Busy>,
    /// Woken when a place becomes free.
    pub wake: Wake,
    /// The clocks, the randomness of jitter, and the metrics.
    pub env: Env,
}

/// What is under way.
#[derive(Debug, Default)]
pub struct Busy {
    attempts: usize,
    bytes: usize,
}

#[async_trait]
impl Worker for Deliverer {
    fn name(&self) -> &'static str {
        "deliverer"
    }

    async fn step(self: Arc<Self>, tasks: &TaskTracker) -> Result<Report, StoreError> {
        let lease = lease_for(self.timeout);
        let claims = self.store.claim_deliveries_across_tenants(self.slots(), lease).await?;
        let report = Report { started: claims.claimed.len(), next_due: claims.next_due };
        for claimed in claims.claimed {
            let delivery = &claimed.delivery;
            // At the level of errors, so that log lines have these fields whatever the log filter is.
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
            let place = Place::take(Arc::clone(&self), &claimed);
            tasks.spawn(async move { place.deliverer.deliver(claimed, trace).await }.instrument(span));
        }
        Ok(report)
    }
}

impl Deliverer {
    fn slots(&self) -> DeliverySlots {
        let busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        DeliverySlots {
            tenants: self.tenants.all().map(|tenant| tenant.id().clone()).collect(),
            total: MAX_CONCURRENCY.saturating_sub(busy.attempts),
            bytes: MAX_BYTES.saturating_sub(busy.bytes),
            per_tenant: MAX_CONCURRENCY_PER_TENANT,
            per_receiver: MAX_CONCURRENCY_PER_RECEIVER,
        }
    }

    /// An endpoint's own secrets and headers, or those of a tenant's callbacks; or why there are none to sign with.
    fn open(&self, claimed: &ClaimedDelivery) -> Result<Opened, &'static str> {
        let tenant = &claimed.delivery.tenant;
        let Some(endpoint) = &claimed.endpoint else {
            let secrets = self.tenants.get(tenant).map(|tenant| tenant.callback_secrets());
            return match secrets {
                Some(secrets) if !secrets.is_empty() => {
                    Ok(Opened { secrets, headers: CustomHeaders::default() })
                }
                _ => Err("the tenant has no callback secret to sign with"),
            };
        };
        let keys =
            self.encryption.keys().ok_or("encryption.key_file is not set: the secret cannot be opened")?;
        let vault = WebhookSealer::new(&keys, tenant, endpoint.id);
        let lost = "no key in encryption.key_file opens the endpoint's secret or headers";
        let secrets = vault.open_secrets(&endpoint.sealed, self.env.clock.now()).ok_or(lost)?;
        Ok(Opened { secrets, headers: vault.open_headers(&endpoint.sealed).ok_or(lost)? })
    }

    async fn deliver(&self, claimed: ClaimedDelivery, trace: TraceContext) {
        let delivery = &claimed.delivery;
        let sent = match self.open(&claimed) {
            Ok(Opened { secrets, headers }) => {
                let id = delivery.event_id.to_string();
                let call = spans::client("POST", delivery.url.as_url(), None);
                if delivery.attempts > 1 {
                    call.record("resend_count", i64::from(delivery.attempts - 1));
                }
                let traceparent = spans::start(&call, trace).traceparent();
                let outgoing = Outgoing {
                    url: &delivery.url,
                    id: &id,
                    timestamp: self.env.wall_clock.now(),
                    secrets: &secrets,
                    headers: &headers,
                    body: claimed.body.clone(),
                    traceparent: &traceparent,
                };
                let sent = self.sender.send(&outgoing).await;
                if let Some(status) = sent.status {
                    spans::record_status(&call, status);
                }
                let label = sent.outcome.label();
                call.record("outcome", label);
                if !matches!(sent.outcome, AttemptOutcome::Delivered { .. }) {
                    spans::fail(&call, label);
                }
                Sent { response: headers.erased_from(&sent.response), ..sent }
            }
            Err(why) => unsigned(why),
        };
        let outcome = &sent.outcome;
        let label = outcome.label();
        self.env.metrics.callback_attempts.with_label_values(&[label]).observe(sent.latency.as_secs_f64());
        let next = match outcome {
            // Its endpoint is disabled with this; the delivery waits with all others of it.
            AttemptOutcome::Gone if delivery.webhook.is_some() => RetryDecision::Hold,
            // The operator can mend it: until then all that goes to this endpoint waits.
            AttemptOutcome::Unsigned { .. } if delivery.webhook.is_some() => {
                RetryDecision::WaitUntil(self.env.clock.now() + Health::UNSIGNED_PAUSE)
            }
            _ => {
                let (made, jitter) = (delivery.attempts_of_round(), self.env.entropy.fraction());
                self.schedule.next(made, outcome, self.env.clock.now(), jitter)
            }
        };
        log_outcome(&claimed, &sent, next);
        let attempt = FinishedAttempt {
            outcome: label,
            endpoint_version: claimed.endpoint.as_ref().map(|endpoint| endpoint.version),
            status: sent.status,
            latency: sent.latency,
            detail: (next != RetryDecision::Delivered).then(|| outcome.to_string()),
            response: sent.response,
            next,
        };
        let span = spans::store("finish_attempt", "deliveries");
        let finish = self.store.finish_attempt(claimed.lease, attempt);
        match spans::run(span, StoreError::label, finish).await {
            Ok(disabled) => self.count(&delivery.tenant, next, disabled),
            Err(StoreError::LeaseLost) => tracing::warn!("outcome discarded: the lease was lost"),
            // The lease runs out and the delivery is attempted again: a callback is delivered at least once.
            Err(error) => tracing::error!(%error, "failed to store the outcome of a callback attempt"),
        }
    }

    /// What a tenant has to hear of.
    fn count(&self, tenant: &TenantId, next: RetryDecision, disabled: Option<DisabledReason>) {
        if matches!(next, RetryDecision::GiveUp(_)) {
            self.env.metrics.callbacks_given_up.with_label_values(&[tenant.as_str()]).inc();
        }
        if let Some(reason) = disabled {
            self.env.metrics.webhooks_disabled.with_label_values(&[tenant.as_str(), reason.as_str()]).inc();
        }
    }
}

/// Logs the outcome of an attempt. The log line also has the ids of the span around it.
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
            tracing::error!(host, outcome, %reason, retry_at = %until, "callback delivery paused: no secret to sign with");
        }
        RetryDecision::Hold => tracing::error!(host, status, outcome, "webhook disabled by its receiver"),
        RetryDecision::GiveUp(reason) => {
            tracing::error!(host, status, outcome, ?reason, "callback delivery given up");
        }
    }
}

/// What a delivery is sent with.
struct Opened {
    secrets: Vec<CallbackSecret>,
    headers: CustomHeaders,
}

fn unsigned(why: &'static str) -> Sent {
    Sent {
        outcome: AttemptOutcome::Unsigned { detail: why.to_owned() },
        latency: Duration::ZERO,
        response: Vec::new(),
        status: None,
    }
}

/// A delivery's place in the count of what is under way; given back when dropped, also by a panic.
struct Place {
    deliverer: Arc<Deliverer>,
    bytes: usize,
}

impl Place {
    fn take(deliverer: Arc<Deliverer>, claimed: &ClaimedDelivery) -> Self {
        let bytes = claimed.body.len();
        let mut busy = deliverer.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.attempts += 1;
        busy.bytes += bytes;
        drop(busy);
        Self { deliverer, bytes }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut busy = self.deliverer.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.attempts -= 1;
        busy.bytes -= self.bytes;
        drop(busy);
        self.deliverer.wake.wake();
    }
}
