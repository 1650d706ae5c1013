//! Registered endpoints and what is sent to them: register, change, try out, rotate, send again.
//!
//! Secrets and header values are sealed here, on their way to the store, and shown to nobody afterwards.

mod deliveries;
mod replays;

use std::sync::Arc;
use std::time::Duration;

pub use self::deliveries::{DeliveryList, DeliveryWithAttempts};
pub use self::replays::ReplayRequest;
use super::InvalidCursor;
use crate::callbacks::{Forbidden, Guard};
use crate::config::CallbackSettings;
use crate::domain::callback_url::CallbackUrl;
use crate::domain::ids::{DeliveryId, TenantId, WebhookId};
use crate::domain::sealing::SealingKeys;
use crate::domain::secrets::CallbackSecret;
use crate::domain::trace::TraceContext;
use crate::domain::webhooks::{
    CustomHeaders, DisabledReason, EventFilter, HeaderName, Health, InvalidHeader, SealedSecrets, Webhook,
    WebhookSealer,
};
use crate::env::Env;
use crate::secrets::Encryption;
use crate::store::{Sending, Store, StoreError, WebhookActivity};

/// How often a change is tried again that another change came before.
const TRIES: usize = 8;

/// Why a use case did not end well.
#[derive(Debug, thiserror::Error)]
pub enum WebhooksError {
    /// The tenant has no such endpoint, delivery or replay.
    #[error("there is no {0} of this id")]
    NotFound(&'static str),
    /// The operator set no key to seal with.
    #[error("there is no key to seal with")]
    NotConfigured,
    /// The URL points where none may go.
    #[error("the address is forbidden")]
    Forbidden(#[from] Forbidden),
    /// There are too many headers.
    #[error("the headers {0}")]
    Headers(#[from] InvalidHeader),
    /// The tenant has as many endpoints as it may.
    #[error("there are as many webhooks as there may be")]
    TooMany,
    /// The endpoint is disabled.
    #[error("the webhook is disabled")]
    Disabled,
    /// Another replay to the endpoint is not finished.
    #[error("a replay to this webhook is under way")]
    ReplayUnderWay,
    /// None of the keys opens what was sealed.
    #[error("no key opens the headers that were kept")]
    Unopenable,
    /// The cursor belongs to another list.
    #[error("the cursor is not one of this list")]
    InvalidCursor(#[from] InvalidCursor),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The use cases about webhooks and deliveries.
pub struct Webhooks {
    env: Env,
    store: Arc<dyn Store>,
    guard: Guard,
    encryption: Arc<Encryption>,
}

/// An endpoint to be registered.
#[derive(Debug)]
pub struct Registration {
    /// Where events go.
    pub url: CallbackUrl,
    /// Which.
    pub events: EventFilter,
    /// What is sent along.
    pub headers: CustomHeaders,
    /// For people.
    pub description: Option<String>,
    /// Whether it gets anything yet.
    pub enabled: bool,
    /// What signs; a new one if there is none.
    pub secret: Option<CallbackSecret>,
}

/// What becomes of an endpoint's headers.
#[derive(Debug, Default)]
pub enum HeaderChanges {
    /// They stay.
    #[default]
    None,
    /// They go.
    Clear,
    /// Each of these is set, or goes.
    Merge(Vec<(HeaderName, Option<String>)>),
}

/// A change of an endpoint; what is `None` stays.
#[derive(Debug, Default)]
pub struct WebhookChange {
    /// Where events go, what is on its way included.
    pub url: Option<CallbackUrl>,
    /// Which, from now on.
    pub events: Option<EventFilter>,
    /// What is sent along.
    pub headers: HeaderChanges,
    /// For people; `Some(None)` takes it away.
    pub description: Option<Option<String>>,
    /// Whether it gets anything.
    pub enabled: Option<bool>,
}

/// An endpoint with how it goes.
#[derive(Debug)]
pub struct WebhookState {
    /// The endpoint.
    pub webhook: Webhook,
    /// Its youngest deliveries.
    pub activity: WebhookActivity,
}

impl Webhooks {
    /// Creates the use cases. `encryption` seals the secrets and headers of webhooks.
    pub fn new(
        settings: &CallbackSettings,
        env: Env,
        store: Arc<dyn Store>,
        encryption: Arc<Encryption>,
    ) -> Self {
        Self { env, store, guard: Guard::new(settings), encryption }
    }

    /// Registers an endpoint. The secret is told with this answer and never again.
    ///
    /// # Errors
    /// If deliveries may not go there, there is no key to seal with, or there are too many.
    pub async fn create(
        &self,
        tenant: &TenantId,
        registration: Registration,
    ) -> Result<(WebhookState, CallbackSecret), WebhooksError> {
        self.guard.admit(&registration.url)?;
        registration.headers.check()?;
        let (keys, entropy) = (self.keys()?, &*self.env.entropy);
        let now = self.env.clock.now();
        let id = WebhookId::generate(now, entropy);
        let vault = WebhookSealer::new(&keys, tenant, id);
        let secret = registration.secret.unwrap_or_else(|| CallbackSecret::generate(entropy));
        let mut webhook = Webhook {
            id,
            url: registration.url,
            events: registration.events,
            description: registration.description,
            header_names: registration.headers.names(),
            sealed: SealedSecrets {
                secret: vault.seal_secret(&secret, entropy),
                previous_secret: None,
                headers: vault.seal_headers(&registration.headers, entropy),
            },
            disabled: None,
            created_at: now,
            updated_at: now,
            version: 1,
            health: Health::default(),
        };
        if !registration.enabled {
            webhook.disable(DisabledReason::Requested, now);
        }
        if !self.store.add_webhook(tenant, webhook.clone()).await? {
            return Err(WebhooksError::TooMany);
        }
        Ok((WebhookState { webhook, activity: WebhookActivity::default() }, secret))
    }

    /// An endpoint.
    ///
    /// # Errors
    /// If the tenant has no such endpoint.
    pub async fn get(&self, tenant: &TenantId, id: WebhookId) -> Result<WebhookState, WebhooksError> {
        let webhook = self.find(tenant, id).await?;
        self.with_activity(tenant, webhook).await
    }

    /// All endpoints, the oldest first.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn list(&self, tenant: &TenantId) -> Result<Vec<WebhookState>, WebhooksError> {
        let webhooks = self.store.list_webhooks(tenant).await?;
        let ids = webhooks.iter().map(|webhook| webhook.id).collect();
        let activities = self.store.webhook_activities(tenant, ids).await?;
        Ok(webhooks
            .into_iter()
            .zip(activities)
            .map(|(webhook, activity)| WebhookState { webhook, activity })
            .collect())
    }

    /// Changes an endpoint. What was on its way goes by the new state. A new URL, other headers, or that it is to be enabled,
    /// forgets what went wrong, and a pause ends: what was the matter may be mended.
    ///
    /// # Errors
    /// If the tenant has no such endpoint, or deliveries may not go there.
    pub async fn change(
        &self,
        tenant: &TenantId,
        id: WebhookId,
        change: &WebhookChange,
    ) -> Result<WebhookState, WebhooksError> {
        if let Some(url) = &change.url {
            self.guard.admit(url)?;
        }
        let forgive = change.url.is_some()
            || change.enabled == Some(true)
            || !matches!(change.headers, HeaderChanges::None);
        for _ in 0..TRIES {
            let mut webhook = self.find(tenant, id).await?;
            self.apply(tenant, &mut webhook, change)?;
            if self.store.change_webhook(tenant, webhook, forgive).await? {
                return self.get(tenant, id).await;
            }
        }
        Err(contended())
    }

    fn apply(
        &self,
        tenant: &TenantId,
        webhook: &mut Webhook,
        change: &WebhookChange,
    ) -> Result<(), WebhooksError> {
        let now = self.env.clock.now();
        webhook.updated_at = now;
        if let Some(url) = &change.url {
            webhook.url = url.clone();
        }
        if let Some(events) = &change.events {
            webhook.events = events.clone();
        }
        if let Some(description) = &change.description {
            webhook.description.clone_from(description);
        }
        match change.enabled {
            Some(true) => webhook.enable(),
            Some(false) => webhook.disable(DisabledReason::Requested, now),
            None => {}
        }
        let headers = match &change.headers {
            HeaderChanges::None => return Ok(()),
            HeaderChanges::Clear => CustomHeaders::default(),
            HeaderChanges::Merge(changes) => self.merge(tenant, webhook, changes)?,
        };
        webhook.header_names = headers.names();
        webhook.sealed.headers = if webhook.header_names.is_empty() {
            None
        } else {
            WebhookSealer::new(&*self.keys()?, tenant, webhook.id).seal_headers(&headers, &*self.env.entropy)
        };
        Ok(())
    }

    fn merge(
        &self,
        tenant: &TenantId,
        webhook: &Webhook,
        changes: &[(HeaderName, Option<String>)],
    ) -> Result<CustomHeaders, WebhooksError> {
        let mut headers = match &webhook.sealed.headers {
            None => CustomHeaders::default(),
            Some(_) => WebhookSealer::new(&*self.keys()?, tenant, webhook.id)
                .open_headers(&webhook.sealed)
                .ok_or(WebhooksError::Unopenable)?,
        };
        for (name, value) in changes {
            match value {
                Some(value) => headers.set(name.clone(), value)?,
                None => headers.remove(name),
            }
        }
        headers.check()?;
        Ok(headers)
    }

    /// Deletes an endpoint, its deliveries and their attempts.
    ///
    /// # Errors
    /// If the tenant has no such endpoint.
    pub async fn delete(&self, tenant: &TenantId, id: WebhookId) -> Result<(), WebhooksError> {
        if !self.store.delete_webhook(tenant, id).await? {
            return Err(WebhooksError::NotFound("webhook"));
        }
        Ok(())
    }

    /// Puts a new secret in force. The one before it signs too for so long; one from before that does no more.
    ///
    /// # Errors
    /// If the tenant has no such endpoint, or there is no key to seal with.
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
            // A try before this one may have been written although the store could not say so.
            let is_written = webhook.sealed.secret == sealed;
            // If it was the secret that could not be opened, the new one can.
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

    /// Sends an endpoint something that tells of nothing.
    ///
    /// # Errors
    /// If the tenant has no such endpoint, or it is disabled.
    pub async fn test(
        &self,
        tenant: &TenantId,
        id: WebhookId,
        trace: TraceContext,
    ) -> Result<DeliveryId, WebhooksError> {
        due(self.store.test_webhook(tenant, id, trace).await?, "webhook")
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
        self.encryption.keys().ok_or(WebhooksError::NotConfigured)
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
    StoreError::Unavailable("others change the same webhook all the time".into()).into()
}
