//! Shows the request that a webhook would get for a call, without sending it.

use tokio::task::spawn_blocking;

use super::{Webhooks, WebhooksError};
use crate::analyses::RENDERING;
use crate::callbacks::Guard;
use crate::domain::analysis::Status;
use crate::domain::call_facts::CrmIds;
use crate::domain::callback_url::CallbackUrl;
use crate::domain::event_payload::EventPayload;
use crate::domain::events::{Event, EventKind, event_data, parse_event};
use crate::domain::filters::{ContentFilter, FilterData};
use crate::domain::ids::{CallId, TenantId, WebhookId};
use crate::domain::resource::AnalysisResource;
use crate::domain::transforms::{DeliveryMethod, RenderedBody, Transform, TransformInput};
use crate::domain::webhooks::{EventFilter, Webhook, WebhookSealer};
use crate::store::{StoreError, StoredAnalysis};

/// The settings of a webhook that determine its requests.
#[derive(Debug)]
pub struct PreviewSubject {
    /// URL of the receiver; `None` if only the body matters.
    pub url: Option<CallbackUrl>,
    /// Types of the events.
    pub events: EventFilter,
    /// Filter on the content of the events.
    pub filter: Option<ContentFilter>,
    /// Transform that makes the body of the request from the event.
    pub transform: Option<Transform>,
    /// HTTP method; `None` selects the method of the transform.
    pub method: Option<DeliveryMethod>,
    /// Payload of the events.
    pub payload: EventPayload,
    /// Names of the custom headers.
    pub header_names: Vec<String>,
}

/// The request that a webhook would get.
#[derive(Debug)]
pub struct Preview {
    /// Type of the event.
    pub kind: EventKind,
    /// Whether the webhook gets the event.
    pub passes_filter: bool,
    /// HTTP method of the request.
    pub method: DeliveryMethod,
    /// URL with the ids of the call and with masked secrets; `None` if there is no URL or if an id is missing.
    pub url: Option<CallbackUrl>,
    /// Names of the custom headers.
    pub header_names: Vec<String>,
    /// Body and content type; `None` if the transform fails.
    pub rendered: Option<RenderedBody>,
    /// Every reason why this request cannot be sent.
    pub problems: Vec<String>,
}

impl PreviewSubject {
    /// Returns the settings of a registered webhook, with `url` instead of the encrypted URL.
    fn of(webhook: Webhook, url: CallbackUrl) -> Self {
        Self {
            method: Some(webhook.method()),
            url: Some(url),
            events: webhook.events,
            filter: webhook.filter,
            transform: webhook.transform,
            payload: webhook.payload,
            header_names: webhook.header_names,
        }
    }
}

impl Webhooks {
    /// Shows the request of a registered webhook for a call.
    ///
    /// # Errors
    /// Returns an error if the tenant has no such webhook or no such call, or other renderings leave no memory in time.
    pub async fn preview_registered(
        &self,
        tenant: &TenantId,
        webhook: WebhookId,
        call_id: &CallId,
    ) -> Result<Preview, WebhooksError> {
        let webhook = self.find(tenant, webhook).await?;
        let keys = self.env.encryption.keys();
        let opened =
            keys.and_then(|keys| WebhookSealer::new(&keys, tenant, webhook.id).open_url(&webhook.url));
        // The masked URL has the same placeholders.
        let url = opened.unwrap_or_else(|| webhook.url.masked());
        self.show(tenant, call_id, PreviewSubject::of(webhook, url)).await
    }

    /// Shows the request of a webhook that need not be registered.
    ///
    /// # Errors
    /// Returns an error if the transform is forbidden, the tenant has no such call, or other renderings leave no memory in time.
    pub async fn preview(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
        subject: PreviewSubject,
    ) -> Result<Preview, WebhooksError> {
        self.admit_transform(subject.transform.as_ref())?;
        self.show(tenant, call_id, subject).await
    }

    async fn show(
        &self,
        tenant: &TenantId,
        call_id: &CallId,
        subject: PreviewSubject,
    ) -> Result<Preview, WebhooksError> {
        // The permit is taken before the read, because a large analysis takes much memory.
        let permit = self.renderings.take_in_time(tenant, RENDERING).await?;
        let found = self.store.find_analysis(tenant, call_id).await?;
        let StoredAnalysis { analysis, result } = found.ok_or(WebhooksError::NotFound("analysis"))?;
        let link = self.env.public_url.analysis(call_id);
        let resource = AnalysisResource::new(&analysis, result, &self.env.public_url);
        let ids = resource.call.crm.clone().unwrap_or_default();
        let (now, entropy) = (self.env.clock.now(), &*self.env.entropy);
        let kind = match analysis.status {
            Status::Failed => EventKind::AnalysisFailed,
            Status::Queued | Status::Processing | Status::Completed => EventKind::AnalysisCompleted,
        };
        let mut problems = Vec::new();
        if !matches!(analysis.status, Status::Failed | Status::Completed) {
            problems.push(format!("the analysis has no event yet (status {})", analysis.status.as_str()));
        }
        let event = Event::new(kind, analysis.tenant, &resource, link.clone(), now, entropy)
            .map_err(|error| StoreError::Corrupt(error.to_string()))?;
        let guard = self.guard.clone();
        let rendered = spawn_blocking(move || {
            // The rendering continues if the caller disconnects, so it holds the permit.
            let _permit = permit;
            render(&event, subject, (&link, &ids, &guard), problems)
        });
        rendered.await.map_err(|error| StoreError::Unavailable(error.into()).into())
    }
}

fn render(
    event: &Event,
    subject: PreviewSubject,
    (link, ids, guard): (&str, &CrmIds, &Guard),
    mut problems: Vec<String>,
) -> Preview {
    let url = subject.url.and_then(|url| {
        url.fill(ids).map_err(|error| problems.push(error.to_string())).ok()?;
        url.masked().fill(ids).ok()
    });
    let passes = |filter: ContentFilter| filter.passes(&FilterData::new(event_data(&event.body)));
    let passes_filter = subject.events.wants(event.kind) && subject.filter.is_none_or(passes);
    let rendered = match &subject.transform {
        Some(transform) => {
            let rendered = guard.admit_rendering(transform).and_then(|()| {
                transform.render(TransformInput { event: parse_event(&event.body, None), link })
            });
            rendered.map_err(|error| problems.extend(error.0)).ok()
        }
        None => Some(RenderedBody {
            body: match subject.payload {
                EventPayload::Full => event.body.clone(),
                EventPayload::Thin => event.thin_body.clone(),
            },
            content_type: "application/json".to_owned(),
        }),
    };
    let method = Transform::method(subject.method, subject.transform.as_ref());
    let PreviewSubject { header_names, .. } = subject;
    Preview { kind: event.kind, passes_filter, method, url, header_names, rendered, problems }
}
