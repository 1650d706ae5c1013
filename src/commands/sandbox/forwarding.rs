//! `sandbox --forward-to URL`: registers a webhook that delivers every event to the integrator's own receiver, and prints a line
//! for each attempt.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use url::Url;

use crate::commands::Failed;
use crate::domain::callback_url::CallbackUrl;
use crate::domain::deliveries::{DeliveryFilter, DeliveryQuery, DeliveryStatus};
use crate::domain::ids::{DeliveryId, TenantId, WebhookId};
use crate::domain::retries::AttemptOutcome;
use crate::http_client;
use crate::store::{DeliveryWithAttempts, RecordedAttempt, Store, StoreError};

/// Description of the webhook. The next sandbox with the same data directory recognizes the webhook by this description.
const DESCRIPTION: &str = "sandbox --forward-to";
/// Interval at which the deliveries of the webhook are read.
const INTERVAL: Duration = Duration::from_millis(250);
/// Number of deliveries that are read, the newest first.
const WATCHED: usize = 100;

/// The API of the gateway in this process.
pub(super) struct OwnApi<'a> {
    /// Root of the URLs of the API.
    pub(super) url: &'a Url,
    /// Token with all scopes.
    pub(super) token: &'a str,
}

impl OwnApi<'_> {
    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, Failed> {
        let client = http_client::builder().no_proxy().build().map_err(Failed::fault)?;
        let mut request = client.request(method, self.url.join(path).map_err(Failed::fault)?);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.bearer_auth(self.token).send().await.map_err(Failed::fault)?;
        let is_success = answer.status().is_success();
        let body = answer.bytes().await.map_err(Failed::fault)?;
        if !is_success {
            return Err(Failed::usage(format!(
                "--forward-to is refused: {}",
                String::from_utf8_lossy(&body)
            )));
        }
        serde_json::from_slice(&body).map_err(Failed::fault)
    }
}

/// The watched deliveries of the webhook.
pub(super) struct Forwarding {
    store: Arc<dyn Store>,
    tenant: TenantId,
    webhook: WebhookId,
    /// For each delivery, the number of its last attempt that needs no line: the attempt was shown, or it is older than this
    /// process.
    shown: HashMap<DeliveryId, u32>,
}

impl Forwarding {
    /// Registers the webhook, or changes the webhook of an earlier sandbox with the same data directory. Without a URL, disables
    /// the earlier webhook and returns `None`.
    ///
    /// # Errors
    /// Returns an error if the gateway refuses the webhook, or the store fails.
    pub(super) async fn set_up(
        (store, tenant): (Arc<dyn Store>, TenantId),
        api: OwnApi<'_>,
        url: Option<&CallbackUrl>,
        secret: &str,
    ) -> Result<Option<Self>, Failed> {
        let listed = api.call(Method::GET, "v1/webhooks", None).await?;
        let mut webhooks = listed["webhooks"].as_array().into_iter().flatten();
        let known = webhooks.find(|webhook| webhook["description"] == DESCRIPTION);
        let (known, url) = match (known, url) {
            (None, None) => return Ok(None),
            (None, Some(url)) => {
                let new = json!({"url": url.as_str(), "description": DESCRIPTION, "secret": secret});
                (api.call(Method::POST, "v1/webhooks", Some(new)).await?, None)
            }
            (Some(known), url) => (known.clone(), Some(url)),
        };
        let webhook = known["id"].as_str().and_then(WebhookId::parse);
        let webhook = webhook.ok_or_else(|| Failed::fault("the webhook of --forward-to has no id"))?;
        let mut forwarding = Self { store, tenant, webhook, shown: HashMap::new() };
        let Some(url) = url else { return Ok(Some(forwarding)) };
        // Earlier attempts are read before the change, because pending deliveries are sent as soon as the webhook is enabled.
        forwarding.new_attempts().await.map_err(Failed::fault)?;
        let change = match url {
            Some(url) => json!({"url": url.as_str(), "enabled": true}),
            None => json!({"enabled": false}),
        };
        api.call(Method::PATCH, &format!("v1/webhooks/{webhook}"), Some(change)).await?;
        Ok(url.map(|_| forwarding))
    }

    /// Prints a line for each attempt. Never returns.
    pub(super) async fn watch(mut self) {
        loop {
            match self.new_attempts().await {
                Ok(lines) => {
                    // The sandbox keeps running even if its standard output is closed.
                    let _ = io::stdout().write_all(lines.as_bytes());
                }
                Err(error) => tracing::warn!(%error, "failed to list deliveries to the --forward-to URL"),
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Returns a line for each attempt that has ended and was not shown yet.
    async fn new_attempts(&mut self) -> Result<String, StoreError> {
        let filter = DeliveryFilter { webhook: Some(self.webhook), ..DeliveryFilter::default() };
        let page = DeliveryQuery { filter, after: None, limit: WATCHED };
        let newest = self.store.list_deliveries(&self.tenant, page).await?;
        let mut lines = String::new();
        for delivery in newest.into_iter().rev().flatten() {
            let shown = self.shown.entry(delivery.id).or_insert(0);
            if delivery.attempts == *shown || delivery.leased {
                continue;
            }
            let Some(found) = self.store.find_delivery(&self.tenant, delivery.id).await? else { continue };
            let before = *shown;
            let ended = found.attempts.iter().filter(|attempt| attempt.outcome.is_some());
            for attempt in ended.filter(|attempt| attempt.number > before) {
                lines.push_str(&line(&found, attempt));
                *shown = attempt.number;
            }
        }
        Ok(lines)
    }
}

/// Returns the line of an attempt that has ended.
fn line(found: &DeliveryWithAttempts, attempt: &RecordedAttempt) -> String {
    let delivery = &found.delivery;
    let (kind, event, number) = (&delivery.kind, delivery.event_id, attempt.number);
    let call = delivery.call_id.as_ref().map_or("-", |call_id| call_id.as_str());
    let outcome = match (&attempt.detail, attempt.status) {
        (Some(reason), _) => reason.clone(),
        (None, Some(status)) => format!("delivered with status {status}"),
        (None, None) => attempt.outcome.clone().unwrap_or_default(),
    };
    let next = if number < delivery.attempts || delivery.status == DeliveryStatus::Delivered.as_str() {
        String::new()
    } else if attempt.outcome.as_deref() == Some(AttemptOutcome::Gone.label()) {
        "; the webhook is disabled".to_owned()
    } else if delivery.status == DeliveryStatus::Pending.as_str() {
        format!("; next attempt at {}", delivery.due_at)
    } else {
        "; no further attempt".to_owned()
    };
    format!("forward: {kind}, call {call}, webhook-id {event}, attempt {number}: {outcome}{next}\n")
}
