//! Builds the requests of deliveries: the URL, the body, the secrets that sign the request, and the custom headers.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::analyses::{MemoryBudget, MemoryPermit, RENDERING};
use crate::callbacks::Guard;
use crate::config::CallbackSettings;
use crate::domain::analysis::SubmittedData;
use crate::domain::callback_url::CallbackUrl;
use crate::domain::deliveries::Delivery;
use crate::domain::events::{link_of, parse_event};
use crate::domain::retries::AttemptOutcome;
use crate::domain::secrets::CallbackSecret;
use crate::domain::test_event::ids_without_call;
use crate::domain::transforms::{RenderedBody, Transform, TransformError, TransformInput};
use crate::domain::url_sealer::UrlSealer;
use crate::domain::webhooks::{CustomHeaders, WebhookSealer};
use crate::env::Env;
use crate::store::{ClaimedDelivery, Store};
use crate::tenants::Tenants;

/// The request of one attempt.
pub(super) struct DeliveryRequest {
    /// URL with the ids of the call.
    pub(super) url: CallbackUrl,
    /// Body and content type.
    pub(super) rendered: RenderedBody,
    /// The secret parts of the request.
    pub(super) credentials: Credentials,
}

/// The secret parts of a request.
pub(super) struct Credentials {
    /// Secrets that sign the request.
    pub(super) secrets: Vec<CallbackSecret>,
    /// Custom headers of the request.
    pub(super) headers: CustomHeaders,
    /// URL with placeholders for the ids of the call.
    url: CallbackUrl,
}

impl Credentials {
    /// Masks the values of the headers and the secrets of the URL wherever the answer of the receiver contains them.
    pub(super) fn erased_from(&self, answer: &[u8]) -> Vec<u8> {
        self.url.erased_from(&self.headers.erased_from(answer))
    }
}

/// Builds the requests of deliveries.
pub(super) struct RequestBuilder {
    env: Env,
    store: Arc<dyn Store>,
    tenants: Arc<Tenants>,
    /// Memory budget of renderings.
    renderings: Arc<MemoryBudget>,
    guard: Guard,
    /// Maximum duration of a request.
    timeout: Duration,
}

/// The reason why an attempt has no request.
#[derive(Debug)]
pub(super) enum NoRequest {
    /// The attempt ends with this outcome.
    Ended(AttemptOutcome),
    /// The lease would end before the deadline of the request, so another replica could send the event too.
    LeaseTooShort,
}

impl From<AttemptOutcome> for NoRequest {
    fn from(outcome: AttemptOutcome) -> Self {
        Self::Ended(outcome)
    }
}

/// Whether the delivery fails after an attempt of unknown outcome.
pub(super) fn gives_up_on_unknown(claimed: &ClaimedDelivery) -> bool {
    claimed.transform.as_ref().is_some_and(Transform::gives_up_on_unknown)
}

/// Whether this attempt could repeat the effect of the previous attempt. A caller who asks for a redelivery intends this effect.
fn may_double(claimed: &ClaimedDelivery) -> bool {
    claimed.follows_unknown && gives_up_on_unknown(claimed)
}

impl RequestBuilder {
    /// Creates a builder.
    pub(super) fn new(
        env: Env,
        store: Arc<dyn Store>,
        tenants: Arc<Tenants>,
        renderings: Arc<MemoryBudget>,
        settings: &CallbackSettings,
    ) -> Self {
        Self { env, store, tenants, renderings, guard: Guard::new(settings), timeout: settings.timeout }
    }

    /// Builds the request of an attempt. The error is the reason why the attempt sends nothing.
    pub(super) async fn build(&self, claimed: &ClaimedDelivery) -> Result<DeliveryRequest, NoRequest> {
        // This check is the first, so that an attempt without credentials does not hide the unknown outcome from the next attempt.
        if may_double(claimed) {
            return Err(AttemptOutcome::Unknown.into());
        }
        let credentials = self
            .credentials(claimed)
            .map_err(|reason| AttemptOutcome::Unsigned { detail: reason.to_owned() })?;
        let submitted = self.submitted_data(claimed).await?;
        let ids = match &submitted {
            Some(submitted) => submitted.call.crm.clone().unwrap_or_default(),
            None => ids_without_call(&claimed.body, &credentials.url),
        };
        let url = credentials.url.fill(&ids).map_err(|error| error.to_string());
        let rendered = self.body(claimed, submitted).await?.map_err(|error| error.to_string());
        match (url, rendered) {
            (Ok(_), Ok(_)) if self.spare_time(claimed).is_none() => Err(NoRequest::LeaseTooShort),
            (Ok(url), Ok(rendered)) => Ok(DeliveryRequest { url, rendered, credentials }),
            (url, rendered) => {
                let problems: Vec<_> = url.err().into_iter().chain(rendered.err()).collect();
                Err(AttemptOutcome::Unrendered { detail: problems.join("; ") }.into())
            }
        }
    }

    /// Returns the time that is left to start the request. After this time, the deadline of the request would lie after the end
    /// of the lease. Returns `None` if no time is left.
    fn spare_time(&self, claimed: &ClaimedDelivery) -> Option<Duration> {
        claimed.delivery.due_at.since(self.env.clock.now()).checked_sub(self.timeout)
    }

    /// Takes a permit for a rendering. The wait takes at most half of the spare time, which leaves the other half for the
    /// rendering.
    async fn rendering_permit(&self, claimed: &ClaimedDelivery) -> Result<MemoryPermit, NoRequest> {
        let patience = self.spare_time(claimed).ok_or(NoRequest::LeaseTooShort)? / 2;
        let permit = timeout(patience, self.renderings.take(&claimed.delivery.tenant, RENDERING)).await;
        permit.ok().and_then(Result::ok).ok_or(NoRequest::LeaseTooShort)
    }

    /// Returns the credentials of the webhook. For a callback, returns the credentials for the tenant's callbacks. The error is
    /// the reason why the gateway has no credentials.
    fn credentials(&self, claimed: &ClaimedDelivery) -> Result<Credentials, &'static str> {
        let (tenant, url) = (&claimed.delivery.tenant, &claimed.delivery.url);
        let Some(webhook) = &claimed.webhook else {
            let secrets = self.tenants.get(tenant).map(|tenant| tenant.callback_secrets());
            return match secrets {
                Some(secrets) if !secrets.is_empty() => {
                    let url = self.callback_url(&claimed.delivery)?;
                    Ok(Credentials { secrets, headers: CustomHeaders::default(), url })
                }
                _ => Err("the tenant has no callback secret to sign with"),
            };
        };
        let keys = self
            .env
            .encryption
            .keys()
            .ok_or("encryption.key_file is not set: the secret cannot be decrypted")?;
        let sealer = WebhookSealer::new(&keys, tenant, webhook.id);
        let lost = "no key in encryption.key_file decrypts the secret, the headers or the URL of the webhook";
        let secrets = sealer.open_secrets(&webhook.sealed, self.env.clock.now()).ok_or(lost)?;
        let headers = sealer.open_headers(&webhook.sealed).ok_or(lost)?;
        Ok(Credentials { secrets, headers, url: sealer.open_url(url).ok_or(lost)? })
    }

    /// Returns the URL of a callback. The error is the reason why the URL cannot be decrypted.
    fn callback_url(&self, delivery: &Delivery) -> Result<CallbackUrl, &'static str> {
        if let Some(plain) = delivery.url.plain() {
            return Ok(plain.clone());
        }
        let keys = self
            .env
            .encryption
            .keys()
            .ok_or("encryption.key_file is not set: the URL cannot be decrypted")?;
        let opened = delivery.call_id.as_ref().and_then(|call_id| {
            UrlSealer::of_callbacks(&keys, &delivery.tenant, call_id).open(&delivery.url)
        });
        opened.ok_or("no key in encryption.key_file decrypts the URL of the callback")
    }

    /// Reads the metadata and facts that the call has now, if the request needs them. So a later submission can add a value that
    /// was missing.
    async fn submitted_data(
        &self,
        claimed: &ClaimedDelivery,
    ) -> Result<Option<SubmittedData>, AttemptOutcome> {
        let delivery = &claimed.delivery;
        let Some(call_id) = &delivery.call_id else { return Ok(None) };
        if claimed.transform.is_none() && !delivery.url.has_placeholders() {
            return Ok(None);
        }
        self.store.find_submitted_data(&delivery.tenant, call_id).await.map_err(|error| {
            tracing::warn!(%error, "callback not sent: failed to read the facts of the call");
            AttemptOutcome::Unrendered {
                detail: "the gateway failed to read the facts of the call".to_owned(),
            }
        })
    }

    /// Returns the body of the request. A transform may compute for a while and holds the parsed event in memory. So only a few
    /// transforms run at a time, and not on the threads for I/O.
    async fn body(
        &self,
        claimed: &ClaimedDelivery,
        submitted: Option<SubmittedData>,
    ) -> Result<Result<RenderedBody, TransformError>, NoRequest> {
        let body = claimed.body.clone();
        let Some(transform) = claimed.transform.clone() else {
            return Ok(Ok(RenderedBody { body, content_type: "application/json".to_owned() }));
        };
        if let Err(forbidden) = self.guard.admit_rendering(&transform) {
            return Ok(Err(forbidden));
        }
        let public_url = self.env.public_url.clone();
        let permit = self.rendering_permit(claimed).await?;
        let rendered = spawn_blocking(move || {
            let _permit = permit;
            let event = parse_event(&body, submitted.as_ref());
            let link = link_of(&event, &public_url);
            transform.render(TransformInput { event, link: &link })
        });
        let failed = || TransformError(vec!["the gateway failed to render the body".to_owned()]);
        Ok(rendered.await.unwrap_or_else(|_| Err(failed())))
    }
}
