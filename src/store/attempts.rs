//! Attempts of deliveries.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::try_join;

use super::claims::{Lease, Leased};
use super::delivery_rows::{RecordedDelivery, webhook_id};
use super::replay_outcomes;
use super::rules::{Grouped, PIPELINED, Rule, Transaction, limit_lock_waits};
use super::sql::{Sql, sql};
use super::values::{Row, Value, values};
use super::webhook_health::{self, Verdict};
use super::{StoreError, subscriptions};
use crate::domain::clock::Timestamp;
use crate::domain::deliveries::DeliveryStatus;
use crate::domain::ids::TenantId;
use crate::domain::retries::{AttemptOutcome, GiveUpReason, RetryDecision};
use crate::domain::usage::Usage;
use crate::domain::webhooks::{DisabledReason, WebhookOutcome};

/// Maximum number of stored attempts per delivery. Older attempts are deleted, because a delivery can be redelivered
/// any number of times.
pub(super) const MOST_ATTEMPTS: u32 = 100;

/// The outcome of an attempt.
#[derive(Debug, Clone)]
pub struct FinishedAttempt {
    /// Outcome as one word from a fixed set.
    pub outcome: &'static str,
    /// Version of the webhook when the delivery was claimed; `None` for the callback of a submission. If the webhook has changed
    /// since the claim, the outcome does not affect the health of the webhook.
    pub webhook_version: Option<u32>,
    /// The HTTP status of the response, if there was one.
    pub status: Option<u16>,
    /// The duration from connecting to the last byte or the error.
    pub latency: Duration,
    /// Description of the error for people.
    pub detail: Option<String>,
    /// The first bytes of the response body.
    pub response: Vec<u8>,
    /// Decision about the next state of the delivery.
    pub next: RetryDecision,
}

/// A stored attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedAttempt {
    /// The attempt's number, counted from 1.
    pub number: u32,
    /// Time when the attempt began.
    pub started_at: Timestamp,
    /// The outcome; `None` while the attempt is in progress, or if its process died.
    pub outcome: Option<String>,
    /// The HTTP status of the response.
    pub status: Option<u16>,
    /// The duration from connecting to the last byte or the error.
    pub latency: Option<Duration>,
    /// Description of the error for people.
    pub detail: Option<String>,
    /// The first bytes of the response body.
    pub response: Vec<u8>,
}

/// A delivery with its last attempts.
#[derive(Debug, Clone, PartialEq)]
pub struct DeliveryWithAttempts {
    /// The delivery without its attempts.
    pub delivery: RecordedDelivery,
    /// The last attempts, oldest first, without the attempts that cannot be read.
    pub attempts: Vec<RecordedAttempt>,
}

/// Writes the outcome of an attempt to the attempt, the delivery and the webhook, and ends the lease.
#[derive(Clone)]
pub(super) struct FinishAttempt {
    pub(super) lease: Lease,
    pub(super) attempt: FinishedAttempt,
}

/// Writes the outcome of an attempt to its delivery. Parameters: the first six of [`FinishAttempt::values`].
const FINISH_DELIVERY: &str = "UPDATE deliveries SET status = ?3, due_at = coalesce(?4, due_at), finished_at = ?5, \
     leased = FALSE, earlier_attempts = earlier_attempts + ?6 WHERE seq = ?1 AND fence = ?2 AND leased";

impl FinishAttempt {
    /// Returns the parameters of the statements. The first two identify the lease: the row and the fencing token. The next four
    /// belong to the delivery: the status, the time of the next attempt, the time at which the delivery finished, and the number
    /// of attempts that the retry schedule does not count. The others belong to the attempt: outcome, status, latency, detail and
    /// response.
    fn values(&self, now: Timestamp) -> [Value<'_>; 11] {
        let Self { lease, attempt } = self;
        let (status, due_at) = match attempt.next {
            RetryDecision::Delivered => (DeliveryStatus::Delivered, None),
            RetryDecision::GiveUp(_) => (DeliveryStatus::Failed, None),
            RetryDecision::RetryAt(at) | RetryDecision::WaitUntil(at) => (DeliveryStatus::Pending, Some(at)),
            RetryDecision::Hold => (DeliveryStatus::Pending, Some(now)),
        };
        [
            lease.row.into(),
            lease.fence.into(),
            status.as_str().into(),
            due_at.into(),
            due_at.is_none().then_some(now).into(),
            i64::from(matches!(attempt.next, RetryDecision::WaitUntil(_))).into(),
            attempt.outcome.into(),
            attempt.status.into(),
            attempt.latency.into(),
            attempt.detail.as_ref().into(),
            (&attempt.response).into(),
        ]
    }

    /// Records that the lease has ended, and adds the outcome to the usage of the tenant. Works both inside a transaction and
    /// after a single statement.
    async fn finished(&self, transaction: &impl Transaction, tenant: &TenantId) -> Result<(), StoreError> {
        transaction.end_lease(Leased::Delivery, self.lease);
        transaction.count_usage(tenant, Usage::delivery(self.attempt.next.arrived())).await
    }

    /// Locks the subscriptions of the tenant. An outcome that may disable the webhook needs this lock, because such an outcome
    /// may write an event. The transaction must take this lock before all other locks.
    async fn share_subscriptions(&self, transaction: &impl Transaction) -> Result<(), StoreError> {
        let select = sql!("SELECT tenant FROM deliveries WHERE seq = ?1");
        let tenant = transaction.find(select, values![self.lease.row], |row| row.get("tenant")).await?;
        match tenant {
            Some(tenant) => subscriptions::share(transaction, &tenant).await,
            None => Err(StoreError::LeaseLost),
        }
    }

    /// Returns the effect of the attempt on the health of its webhook; `None` for the callback of a submission.
    fn verdict(&self) -> Option<Verdict> {
        let attempt = &self.attempt;
        let error = || attempt.detail.clone().unwrap_or_else(|| attempt.outcome.to_owned());
        let outcome = match attempt.next {
            _ if AttemptOutcome::concerns_one_event(attempt.outcome, attempt.status) => {
                WebhookOutcome::Undeliverable { status: attempt.status, error: error() }
            }
            RetryDecision::Delivered => WebhookOutcome::Delivered,
            RetryDecision::WaitUntil(_) => WebhookOutcome::Unsigned { error: error() },
            RetryDecision::RetryAt(_) | RetryDecision::GiveUp(_) | RetryDecision::Hold => {
                WebhookOutcome::Failed {
                    gone: matches!(
                        attempt.next,
                        RetryDecision::Hold | RetryDecision::GiveUp(GiveUpReason::Gone)
                    ),
                    status: attempt.status,
                    error: error(),
                }
            }
        };
        Some(Verdict { version: attempt.webhook_version?, outcome })
    }
}

impl Rule for FinishAttempt {
    const NAME: &'static str = "finish_attempt";
    type Output = Option<DisabledReason>;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Option<DisabledReason>, StoreError> {
        let verdict = self.verdict();
        if verdict.as_ref().is_some_and(|verdict| matches!(verdict.outcome, WebhookOutcome::Failed { .. })) {
            self.share_subscriptions(transaction).await?;
        }
        let values = self.values(transaction.env().clock.now());
        let delivery = sql!(FINISH_DELIVERY, " RETURNING tenant, webhook");
        let read = |row: &dyn Row| Ok((row.get("tenant")?, webhook_id(row)?));
        let attempt = sql!(
            "UPDATE attempts SET outcome = ?3, status = ?4, latency_ms = ?5, detail = ?6, response = ?7 \
             WHERE delivery = ?1 AND number = (SELECT attempts FROM deliveries WHERE seq = ?1 AND fence = ?2)"
        );
        let [row, fence, .., outcome, status, latency, detail, response] = values.clone();
        let of_attempt = [row, fence, outcome, status, latency, detail, response];
        // If the lease was lost, the error undoes both.
        let (found, _) = try_join!(
            transaction.find(delivery, &values[..6], read),
            transaction.execute(attempt, &of_attempt)
        )?;
        let (tenant, webhook) = found.ok_or(StoreError::LeaseLost)?;
        self.finished(transaction, &tenant).await?;
        let Some(webhook) = webhook else { return Ok(None) };
        let count = async {
            match self.attempt.next.arrived() {
                Some(arrived) => replay_outcomes::count(transaction, self.lease.row, arrived).await,
                None => Ok(()),
            }
        };
        let record = async {
            match &verdict {
                Some(verdict) => webhook_health::record(transaction, &tenant, webhook, verdict).await,
                None => Ok(None),
            }
        };
        Ok(try_join!(count, record)?.1)
    }
}

/// Writes the outcomes of attempts of different deliveries. If the delivery goes to a webhook or if its lease was lost, the result is
/// `None`, and [`FinishAttempt`] must run. Only PostgreSQL uses this rule.
pub(super) struct FinishCallbacks(pub(super) Vec<Arc<FinishAttempt>>);

/// Writes the outcome of an attempt of a delivery to a callback. Parameters: [`FinishAttempt::values`].
static FINISH_CALLBACK: Sql = Sql::per_engine(
    &[],
    &[
        "WITH delivery AS (",
        FINISH_DELIVERY,
        " AND webhook = '' RETURNING seq, attempts, tenant), \
         attempt AS (UPDATE attempts SET outcome = ?7, status = ?8, latency_ms = ?9, detail = ?10, response = ?11 \
         FROM delivery WHERE attempts.delivery = delivery.seq AND number = delivery.attempts) SELECT tenant FROM delivery",
    ],
);

impl Rule for FinishCallbacks {
    const NAME: &'static str = "finish_callbacks";
    const NOTIFIES: bool = false;
    const IS_GROUP: bool = true;
    type Output = Vec<Option<Option<DisabledReason>>>;

    /// A single statement needs no transaction.
    async fn shortcut<T: Transaction>(&self, transaction: &T) -> Result<Option<Self::Output>, StoreError> {
        if self.0.len() == 1 { self.run(transaction).await.map(Some) } else { Ok(None) }
    }

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Self::Output, StoreError> {
        let now = transaction.env().clock.now();
        let finish = |finish: Arc<FinishAttempt>| async move {
            let values = finish.values(now);
            let tenant = transaction.find(&FINISH_CALLBACK, &values, |row| row.get("tenant")).await?;
            let Some(tenant) = tenant else { return Ok(None) };
            finish.finished(transaction, &tenant).await?;
            Ok::<_, StoreError>(Some(None))
        };
        limit_lock_waits(transaction, self.0.len()).await?;
        let mut all = Vec::with_capacity(self.0.len());
        for some in self.0.chunks(PIPELINED) {
            all.extend(try_join_all(some.iter().cloned().map(finish)).await?);
        }
        Ok(all)
    }
}

impl Grouped for FinishAttempt {
    type Group = FinishCallbacks;
    type Key = Lease;

    fn key(&self) -> Lease {
        self.lease
    }

    fn size(&self) -> usize {
        self.attempt.response.len()
    }

    /// All groups lock rows in the same order.
    fn group(mut rules: Vec<Arc<Self>>) -> FinishCallbacks {
        rules.sort_unstable_by_key(|rule| rule.lease.row);
        FinishCallbacks(rules)
    }
}

/// The columns that [`recorded`] reads from `attempts`.
pub(super) const ATTEMPT: &str =
    "number, started_at, outcome, attempts.status AS answer_status, latency_ms, detail, response";

/// Reads a row of [`ATTEMPT`].
pub(super) fn recorded(row: &dyn Row) -> Result<RecordedAttempt, StoreError> {
    Ok(RecordedAttempt {
        number: row.get("number")?,
        started_at: row.get("started_at")?,
        outcome: row.get("outcome")?,
        status: row.get("answer_status")?,
        latency: row.get("latency_ms")?,
        detail: row.get("detail")?,
        response: row.get::<Option<Vec<u8>>>("response")?.unwrap_or_default(),
    })
}
