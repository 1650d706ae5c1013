//! Builds the requests of deliveries: the URL, the body, the secrets that sign it and the custom headers.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::domain::analysis::SubmittedData;
use crate::domain::callback_url::CallbackUrl;
use crate::domain::events::parse_event;
use crate::domain::retries::AttemptOutcome;
use crate::domain::secrets::CallbackSecret;
use crate::domain::transforms::{RenderedBody, Transform, TransformError, TransformInput};
use crate::domain::webhooks::{CustomHeaders, WebhookSealer};
use crate::env::Env;
use crate::secrets::Encryption;
use crate::store::{ClaimedDelivery, Store};
use crate::tenants::Tenants;

/// Maximum number of transforms that run at the same time.
const MAX_RENDERINGS: usize = 2;

/// The request of one attempt.
pub(super) struct DeliveryRequest {
    /// URL with the ids of the call.
    pub(super) url: CallbackUrl,
    /// Body and content type.
    pub(super) rendered: RenderedBody,
    /// Secrets that sign the request.
    pub(super) secrets: Vec<CallbackSecret>,
    /// Custom headers.
    pub(super) headers: CustomHeaders,
}

/// Builds the requests of deliveries.
pub(super) struct RequestBuilder {
    env: Env,
    store: Arc<dyn Store>,
    tenants: Arc<Tenants>,
    encryption: Arc<Encryption>,
    renderings: Semaphore,
}

/// Whether the delivery fails after an attempt of unknown outcome.
pub(super) fn gives_up_on_unknown(claimed: &ClaimedDelivery) -> bool {
    claimed.transform.as_ref().is_some_and(Transform::gives_up_on_unknown)
}

/// Whether the attempt could double the effect of the attempt before. A redelivery is intended by its caller.
fn may_double(claimed: &ClaimedDelivery) -> bool {
    claimed.follows_unknown && claimed.delivery.attempts_of_round() > 1 && gives_up_on_unknown(claimed)
}

impl RequestBuilder {
    /// Creates a builder.
    pub(super) fn new(
        env: Env,
        store: Arc<dyn Store>,
        tenants: Arc<Tenants>,
        encryption: Arc<Encryption>,
    ) -> Self {
        Self { env, store, tenants, encryption, renderings: Semaphore::new(MAX_RENDERINGS) }
    }

    /// Builds the request of an attempt. The error is the outcome of an attempt that sends nothing.
    pub(super) async fn build(&self, claimed: &ClaimedDelivery) -> Result<DeliveryRequest, AttemptOutcome> {
        let (secrets, headers) = self
            .credentials(claimed)
            .map_err(|reason| AttemptOutcome::Unsigned { detail: reason.to_owned() })?;
        if may_double(claimed) {
            return Err(AttemptOutcome::Unknown);
        }
        let submitted = self.submitted_data(claimed).await?;
        let ids = submitted.as_ref().and_then(|submitted| submitted.call.crm.clone()).unwrap_or_default();
        let url = claimed.delivery.url.fill(&ids).map_err(|error| error.to_string());
        let rendered = self.body(claimed, submitted).await.map_err(|error| error.to_string());
        match (url, rendered) {
            (Ok(url), Ok(rendered)) => Ok(DeliveryRequest { url, rendered, secrets, headers }),
            (url, rendered) => {
                let problems: Vec<_> = url.err().into_iter().chain(rendered.err()).collect();
                Err(AttemptOutcome::Unrendered { detail: problems.join("; ") })
            }
        }
    }

    /// Returns the secrets and headers of the webhook, or the secrets for the tenant's callbacks. The error is the
    /// reason why there are none.
    fn credentials(
        &self,
        claimed: &ClaimedDelivery,
    ) -> Result<(Vec<CallbackSecret>, CustomHeaders), &'static str> {
        let tenant = &claimed.delivery.tenant;
        let Some(webhook) = &claimed.webhook else {
            let secrets = self.tenants.get(tenant).map(|tenant| tenant.callback_secrets());
            return match secrets {
                Some(secrets) if !secrets.is_empty() => Ok((secrets, CustomHeaders::default())),
                _ => Err("the tenant has no callback secret to sign with"),
            };
        };
        let keys =
            self.encryption.keys().ok_or("encryption.key_file is not set: the secret cannot be decrypted")?;
        let sealer = WebhookSealer::new(&keys, tenant, webhook.id);
        let lost = "no key in encryption.key_file decrypts the secret or the headers of the webhook";
        let secrets = sealer.open_secrets(&webhook.sealed, self.env.clock.now()).ok_or(lost)?;
        Ok((secrets, sealer.open_headers(&webhook.sealed).ok_or(lost)?))
    }

    /// Reads the metadata and facts that the call has now, if the request needs them. A later submission can thus add a
    /// value that was missing.
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

    /// Returns the body of the request. A transform may compute for a while and holds the parsed event in memory, so only a
    /// few run at a time, outside of the threads for I/O.
    async fn body(
        &self,
        claimed: &ClaimedDelivery,
        submitted: Option<SubmittedData>,
    ) -> Result<RenderedBody, TransformError> {
        let body = claimed.body.clone();
        let Some(transform) = claimed.transform.clone() else {
            return Ok(RenderedBody { body, content_type: "application/json".to_owned() });
        };
        let call_id = claimed.delivery.call_id.as_ref();
        let link = call_id.map(|call_id| self.env.public_url.analysis(call_id)).unwrap_or_default();
        let _permit = self.renderings.acquire().await;
        let rendered = spawn_blocking(move || {
            transform.render(TransformInput { event: parse_event(&body, submitted.as_ref()), link: &link })
        });
        rendered
            .await
            .unwrap_or_else(|_| Err(TransformError(vec!["the gateway failed to render the body".to_owned()])))
    }
}
