//! Registers and changes webhooks.

use super::{TRIES, WebhookState, Webhooks, WebhooksError, contended};
use crate::domain::callback_url::CallbackUrl;
use crate::domain::delivery_rate::{Burst, ChosenRate, PerSecond};
use crate::domain::event_payload::EventPayload;
use crate::domain::filters::ContentFilter;
use crate::domain::ids::{TenantId, WebhookId};
use crate::domain::secrets::CallbackSecret;
use crate::domain::transforms::{DeliveryMethod, Transform};
use crate::domain::webhooks::{
    CustomHeaders, DisabledReason, EventFilter, HeaderName, Health, SealedSecrets, Webhook, WebhookSealer,
};
use crate::store::WebhookActivity;

/// A webhook to be registered.
#[derive(Debug)]
pub struct Registration {
    /// URL that receives the events.
    pub url: CallbackUrl,
    /// Types of the events that are sent.
    pub events: EventFilter,
    /// Filter on the content of the events.
    pub filter: Option<ContentFilter>,
    /// Transform that makes the bodies of the requests from the events.
    pub transform: Option<Transform>,
    /// HTTP method of the requests.
    pub method: Option<DeliveryMethod>,
    /// The chosen parts of the rate of deliveries.
    pub rate: ChosenRate,
    /// Payload of the events.
    pub payload: EventPayload,
    /// Custom headers of the requests.
    pub headers: CustomHeaders,
    /// Description for people.
    pub description: Option<String>,
    /// Whether deliveries start at once.
    pub enabled: bool,
    /// Secret that signs the deliveries; with `None`, the gateway generates one.
    pub secret: Option<CallbackSecret>,
}

/// A change of a webhook's custom headers.
#[derive(Debug, Default)]
pub enum HeaderChanges {
    /// Keeps all headers.
    #[default]
    None,
    /// Removes all headers.
    Clear,
    /// Sets each header that has a value, and removes each header without a value.
    Merge(Vec<(HeaderName, Option<String>)>),
}

/// A change of a webhook. Fields that are `None` keep their value.
#[derive(Debug, Default)]
pub struct WebhookChange {
    /// URL that receives the events, including pending events.
    pub url: Option<CallbackUrl>,
    /// Types of the events that are sent from now on.
    pub events: Option<EventFilter>,
    /// Filter on the content of events from now on; `Some(None)` removes it.
    pub filter: Option<Option<ContentFilter>>,
    /// Transform that makes the bodies of the requests from the events, including pending events. With `Some(None)`, the bodies
    /// are the events themselves.
    pub transform: Option<Option<Transform>>,
    /// HTTP method of the requests; `Some(None)` selects the method of the transform.
    pub method: Option<Option<DeliveryMethod>>,
    /// Number of deliveries per second, including pending deliveries; `Some(None)` selects the number of the preset.
    pub rate: Option<Option<PerSecond>>,
    /// Number of deliveries at once; `Some(None)` selects the default.
    pub burst: Option<Option<Burst>>,
    /// Payload of the events, including pending events.
    pub payload: Option<EventPayload>,
    /// Custom headers of the requests.
    pub headers: HeaderChanges,
    /// Description for people; `Some(None)` removes it.
    pub description: Option<Option<String>>,
    /// Whether the webhook gets deliveries.
    pub enabled: Option<bool>,
}

impl Webhooks {
    /// Registers a webhook. Only the return value of this function contains the secret.
    ///
    /// # Errors
    /// Returns an error if the address is forbidden, the headers exceed a limit, a burst has no rate, no encryption key is
    /// configured, the tenant has too many webhooks, or the store fails.
    pub async fn create(
        &self,
        tenant: &TenantId,
        registration: Registration,
    ) -> Result<(WebhookState, CallbackSecret), WebhooksError> {
        self.guard.admit(&registration.url)?;
        self.admit_transform(registration.transform.as_ref())?;
        registration.headers.check()?;
        let (keys, entropy) = (self.keys()?, &*self.env.entropy);
        let now = self.env.clock.now();
        let id = WebhookId::generate(now, entropy);
        let vault = WebhookSealer::new(&keys, tenant, id);
        let secret = registration.secret.unwrap_or_else(|| CallbackSecret::generate(entropy));
        let mut webhook = Webhook {
            id,
            url: vault.seal_url(&registration.url, entropy),
            events: registration.events,
            filter: registration.filter,
            transform: registration.transform,
            method: registration.method,
            chosen_rate: registration.rate,
            payload: registration.payload,
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
        check_rate(&webhook)?;
        if !registration.enabled {
            webhook.disable(DisabledReason::Requested, now);
        }
        if !self.store.add_webhook(tenant, webhook.clone()).await? {
            return Err(WebhooksError::TooMany);
        }
        Ok((WebhookState { webhook, activity: WebhookActivity::default() }, secret))
    }

    /// Changes a webhook. Pending deliveries use the new state. Setting the URL, the method, the payload, the transform or the
    /// headers resets the failure count and ends a pause, because the cause of the failures may be gone. Enabling the webhook has
    /// the same effect.
    ///
    /// # Errors
    /// Returns an error if the tenant has no such webhook, the address is forbidden, the headers exceed a limit, a burst has no
    /// rate, the headers or the URL cannot be encrypted or decrypted, concurrent changes conflict too often, or the store fails.
    pub async fn change(
        &self,
        tenant: &TenantId,
        id: WebhookId,
        change: &WebhookChange,
    ) -> Result<WebhookState, WebhooksError> {
        if let Some(url) = &change.url {
            self.guard.admit(url)?;
        }
        self.admit_transform(change.transform.as_ref().and_then(Option::as_ref))?;
        let forgive = change.url.is_some()
            || change.payload.is_some()
            || change.transform.is_some()
            || change.method.is_some()
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
            webhook.url = if url.has_secret() {
                WebhookSealer::new(&*self.keys()?, tenant, webhook.id).seal_url(url, &*self.env.entropy)
            } else {
                url.clone().into()
            };
        }
        if let Some(events) = &change.events {
            webhook.events = events.clone();
        }
        if let Some(filter) = &change.filter {
            webhook.filter.clone_from(filter);
        }
        if let Some(transform) = &change.transform {
            webhook.transform.clone_from(transform);
        }
        if let Some(method) = change.method {
            webhook.method = method;
        }
        if let Some(rate) = change.rate {
            webhook.chosen_rate.rate = rate;
        }
        if let Some(burst) = change.burst {
            webhook.chosen_rate.burst = burst;
            check_rate(webhook)?;
        } else if webhook.rate().is_none() {
            // Otherwise a later rate would have a burst that no answer has shown.
            webhook.chosen_rate.burst = None;
        }
        if let Some(payload) = change.payload {
            webhook.payload = payload;
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
}

/// Refuses a burst that has no effect.
fn check_rate(webhook: &Webhook) -> Result<(), WebhooksError> {
    if webhook.chosen_rate.burst.is_some() && webhook.rate().is_none() {
        return Err(WebhooksError::BurstWithoutRate);
    }
    Ok(())
}
