//! The use cases about webhooks: register, change, test, rotate the secret, list deliveries and replay events.
//!
//! Secrets and header values are encrypted before they are stored. Only the answer to the request that creates a secret
//! contains the secret.

mod changes;
mod deliveries;
mod error;
mod preview;
mod replays;

use std::sync::Arc;
use std::time::Duration;

pub use self::changes::{HeaderChanges, Registration, WebhookChange};
pub use self::deliveries::DeliveryPage;
pub use self::error::WebhooksError;
pub use self::preview::{Preview, PreviewSubject};
pub use self::replays::ReplayRequest;
use super::MemoryBudget;
use crate::callbacks::Guard;
use crate::config::CallbackSettings;
use crate::domain::ids::{DeliveryId, TenantId, WebhookId};
use crate::domain::receivers::Receivers;
use crate::domain::sealing::SealingKeys;
use crate::domain::secrets::CallbackSecret;
use crate::domain::trace::TraceContext;
use crate::domain::transforms::Transform;
use crate::domain::webhooks::{Webhook, WebhookSealer};
use crate::env::Env;
use crate::store::{Sending, Store, StoreError, WebhookActivity};

/// Maximum number of times that a change of a webhook is tried. Each conflict with a concurrent change of the same webhook causes
/// another try.
const TRIES: usize = 8;

/// The use cases about webhooks and deliveries.
pub struct Webhooks {
    env: Env,
    store: Arc<dyn Store>,
    guard: Guard,
    receivers: Arc<Receivers>,
    /// Memory budget of renderings.
    renderings: Arc<MemoryBudget>,
}

/// A webhook with its recent activity.
#[derive(Debug)]
pub struct WebhookState {
    /// The webhook as stored.
    pub webhook: Webhook,
    /// Summary of its latest deliveries.
    pub activity: WebhookActivity,
}

impl Webhooks {
    /// Creates the use cases. `receivers` contains the paused receivers of callbacks. `renderings` is the memory budget of
    /// renderings.
    pub fn new(
        settings: &CallbackSettings,
        env: Env,
        store: Arc<dyn Store>,
        (receivers, renderings): (Arc<Receivers>, Arc<MemoryBudget>),
    ) -> Self {
        Self { env, store, guard: Guard::new(settings), receivers, renderings }
    }

    /// Returns a webhook.
    ///
    /// # Errors
    /// Returns an error if the tenant has no such webhook, or the store fails.
    pub async fn get(&self, tenant: &TenantId, id: WebhookId) -> Result<WebhookState, WebhooksError> {
        let webhook = self.find(tenant, id).await?;
        self.with_activity(tenant, webhook).await
    }

    /// Lists all webhooks, oldest first, and the ids of webhooks that cannot be read.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub async fn list(&self, tenant: &TenantId) -> Result<(Vec<WebhookState>, Vec<String>), WebhooksError> {
        let (mut webhooks, mut unreadable) = (Vec::new(), Vec::new());
        for row in self.store.list_webhooks(tenant).await? {
            match row {
                Ok(webhook) => webhooks.push(webhook),
                Err(id) => unreadable.push(id),
            }
        }
        let ids = webhooks.iter().map(|webhook| webhook.id).collect();
        let activities = self.store.webhook_activities(tenant, ids).await?;
        let states = webhooks.into_iter().zip(activities);
        let states = states.map(|(webhook, activity)| WebhookState { webhook, activity }).collect();
        Ok((states, unreadable))
    }

    /// Deletes a webhook, its deliveries and their attempts.
    ///
    /// # Errors
    /// Returns an error if the tenant has no such webhook, or the store fails.
    pub async fn delete(&self, tenant: &TenantId, id: WebhookId) -> Result<(), WebhooksError> {
        if !self.store.delete_webhook(tenant, id).await? {
            return Err(WebhooksError::NotFound("webhook"));
        }
        Ok(())
    }

    /// Replaces the secret by `secret`, or by a generated secret if `secret` is `None`. During `overlap`, deliveries are also
    /// signed with the previous secret, but not with older secrets.
    ///
    /// # Errors
    /// Returns an error if the tenant has no such webhook, no encryption key is configured, concurrent changes conflict too
    /// often, or the store fails.
    pub async fn rotate(
        &self,
        tenant: &TenantId,
        id: WebhookId,
        secret: Option<CallbackSecret>,
        overlap: Duration,
    ) -> Result<(WebhookState, CallbackSecret), WebhooksError> {
        let (keys, entropy) = (self.keys()?, &*self.env.entropy);
        let secret = secret.unwrap_or_else(|| CallbackSecret::generate(entropy));
        let sealed = WebhookSealer::new(&keys, tenant, id).seal_secret(&secret, entropy);
        for _ in 0..TRIES {
            let mut webhook = self.find(tenant, id).await?;
            // An earlier attempt may have been written although the store reported an error.
            let is_written = webhook.sealed.secret == sealed;
            // The pause may have been caused by a secret that could not be decrypted, so the new secret ends it.
            let forgive = webhook.health.unsigned_since.is_some();
            if !is_written {
                let now = self.env.clock.now();
                webhook.updated_at = now;
                let before = std::mem::replace(&mut webhook.sealed.secret, sealed.clone());
                webhook.sealed.previous_secret = (!overlap.is_zero()).then(|| (before, now + overlap));
            }
            if is_written || self.store.change_webhook(tenant, webhook, forgive).await? {
                return Ok((self.get(tenant, id).await?, secret));
            }
        }
        Err(contended())
    }

    /// Creates a test delivery to a webhook.
    ///
    /// # Errors
    /// Returns an error if the tenant has no such webhook, it is disabled, or the store fails.
    pub async fn test(
        &self,
        tenant: &TenantId,
        id: WebhookId,
        trace: TraceContext,
    ) -> Result<DeliveryId, WebhooksError> {
        due(self.store.test_webhook(tenant, id, trace).await?, "webhook")
    }

    /// Checks that a transform is allowed, and compiles its template.
    fn admit_transform(&self, transform: Option<&Transform>) -> Result<(), WebhooksError> {
        let Some(transform) = transform else { return Ok(()) };
        self.guard.admit_transform(transform).map_err(WebhooksError::Template)
    }

    async fn find(&self, tenant: &TenantId, id: WebhookId) -> Result<Webhook, WebhooksError> {
        self.store.find_webhook(tenant, id).await?.ok_or(WebhooksError::NotFound("webhook"))
    }

    async fn with_activity(
        &self,
        tenant: &TenantId,
        webhook: Webhook,
    ) -> Result<WebhookState, WebhooksError> {
        let activity = self.store.webhook_activity(tenant, webhook.id).await?;
        Ok(WebhookState { webhook, activity })
    }

    fn keys(&self) -> Result<Arc<SealingKeys>, WebhooksError> {
        self.env.encryption.keys().ok_or(WebhooksError::NotConfigured)
    }
}

fn due(sending: Sending, what: &'static str) -> Result<DeliveryId, WebhooksError> {
    match sending {
        Sending::Due(delivery) => Ok(delivery),
        Sending::NotFound => Err(WebhooksError::NotFound(what)),
        Sending::Disabled => Err(WebhooksError::Disabled),
    }
}

fn contended() -> WebhooksError {
    StoreError::Unavailable("the webhook was changed concurrently too often".into()).into()
}
