//! The recent activity of webhooks: their success rate and their pending deliveries.

use futures_util::future::try_join_all;
use futures_util::try_join;

use super::StoreError;
use super::rules::{PIPELINED, Rule, Transaction};
use super::sql::Sql;
use super::values::{Row, values};
use crate::domain::ids::{TenantId, WebhookId};

/// The recent deliveries of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WebhookActivity {
    /// Number of finished attempts, except for attempts that the gateway could not sign.
    pub attempts: u64,
    /// Number of successful attempts.
    pub delivered: u64,
    /// Number of pending deliveries, counted up to 1,000.
    pub pending: u64,
    /// Whether there are more pending deliveries than `pending`.
    pub more_pending: bool,
}

/// Summarizes the recent deliveries of webhooks.
pub(super) struct ReadActivities {
    pub(super) tenant: TenantId,
    pub(super) ids: Vec<WebhookId>,
}

impl Rule for ReadActivities {
    const NAME: &'static str = "webhook_activities";
    type Output = Vec<WebhookActivity>;

    async fn run<T: Transaction>(&self, transaction: &T) -> Result<Vec<WebhookActivity>, StoreError> {
        let mut activities = Vec::with_capacity(self.ids.len());
        for ids in self.ids.chunks(PIPELINED) {
            let read = ids.iter().map(|id| activity(transaction, &self.tenant, *id));
            activities.extend(try_join_all(read).await?);
        }
        Ok(activities)
    }
}

/// Number of the newest deliveries of a webhook whose attempts determine its success rate.
const ACTIVITY_WINDOW: usize = 100;
/// Maximum number of attempts of a delivery that count. Only the last attempts count, so a delivery with many attempts does not
/// outweigh the other deliveries.
const ACTIVITY_ATTEMPTS: usize = 10;
/// Maximum number of pending deliveries that are counted.
const PENDING_COUNTED: usize = 1000;

/// Counts attempts of recent deliveries. Parameters: the webhook, the number of its newest deliveries to count, and the
/// maximum number of last attempts to count for each of them.
pub(super) static ACTIVITY: Sql = Sql::new(&[
    "SELECT CAST(coalesce(sum(finished), 0) AS bigint) AS attempts, \
     CAST(coalesce(sum(successful), 0) AS bigint) AS delivered FROM (SELECT \
     (SELECT count(nullif(outcome, 'unsigned')) FROM attempts WHERE delivery = seq AND number > attempted - ?3) AS finished, \
     (SELECT count(*) FROM attempts WHERE delivery = seq AND number > attempted - ?3 AND outcome = 'delivered') AS successful \
     FROM (SELECT seq, attempts AS attempted FROM deliveries WHERE webhook = ?1 AND webhook <> '' \
     ORDER BY seq DESC LIMIT ?2) AS youngest) AS counted",
]);

async fn activity(
    transaction: &impl Transaction,
    tenant: &TenantId,
    id: WebhookId,
) -> Result<WebhookActivity, StoreError> {
    let of_attempts = values![id, ACTIVITY_WINDOW, ACTIVITY_ATTEMPTS];
    let attempts = |row: &dyn Row| Ok((row.get("attempts")?, row.get("delivered")?));
    let (attempts, pending) = try_join!(
        transaction.find(&ACTIVITY, of_attempts, attempts),
        pending(transaction, tenant, id, PENDING_COUNTED + 1),
    )?;
    let (attempts, delivered) = attempts.unwrap_or_default();
    let (counted, more_pending) = (pending.min(PENDING_COUNTED), pending > PENDING_COUNTED);
    Ok(WebhookActivity { attempts, delivered, pending: counted as u64, more_pending })
}

/// Counts pending deliveries. Parameters: the tenant, the webhook, and the maximum number of deliveries to count.
pub(super) static PENDING: Sql =
    Sql::new(&["SELECT count(*) AS pending FROM (SELECT 1 FROM deliveries WHERE status = 'pending' \
     AND tenant = ?1 AND receiver = ?2 LIMIT ?3) AS waiting"]);

/// Counts the pending deliveries of a webhook, up to `most`.
pub(super) async fn pending(
    transaction: &impl Transaction,
    tenant: &TenantId,
    id: WebhookId,
    most: usize,
) -> Result<usize, StoreError> {
    Ok(transaction.find(&PENDING, values![tenant, id, most], |row| row.get("pending")).await?.unwrap_or(0))
}
