//! Handlers that preview the requests of webhooks.

use std::collections::BTreeMap;

use actix_web::HttpResponse;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::{JsonBody, JsonFields};
use super::call_id_schema::known_call_id_schema;
use super::exact_object::ExactObject;
use super::field_errors::FieldErrors;
use super::json::Object;
use super::problem::ApiError;
use super::query::NoQuery;
use super::request::ApiRequest;
use super::webhook_input::event_filter;
use super::webhook_schemas::filter_schema;
use crate::analyses::{Preview, PreviewSubject};
use crate::domain::callback_url::CallbackUrl;
use crate::domain::event_payload::EventPayload;
use crate::domain::events::EventKind;
use crate::domain::ids::{CallId, WebhookId};
use crate::domain::transforms::{DeliveryMethod, Transform};
use crate::domain::webhooks::EventFilter;

/// Maximum size of a body in a preview in bytes.
const MAX_SHOWN: usize = 256 << 10;

/// The call to preview.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"call_id": "1716207617.42"}))]
pub struct PreviewCall {
    #[schema(schema_with = known_call_id_schema)]
    call_id: String,
}

/// A call, and the settings of a webhook to try. All settings are optional.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"call_id": "1716207617.42", "transform": {"preset": "markdown"}}))]
pub struct PreviewWebhook {
    #[schema(schema_with = known_call_id_schema)]
    call_id: String,
    /// The URL of the webhook. The preview fills in its placeholders and sends nothing to the URL.
    #[serde(default)]
    #[schema(
        max_length = 2048,
        pattern = r"^https?://[^\s/?#@{}]+(/([^\s?#{}]|\{crm\.[A-Za-z0-9_.-]{1,64}\})*)?(\?[^\s#]*)?$"
    )]
    url: Option<String>,
    /// The types of events to receive. The default is all types.
    #[serde(default)]
    #[schema(min_items = 1, max_items = 4)]
    events: Option<Vec<EventKind>>,
    #[serde(default)]
    #[schema(schema_with = filter_schema)]
    filter: Option<ExactObject>,
    /// The transform that makes the body from the event.
    #[serde(default)]
    #[schema(value_type = Option<Transform>)]
    transform: Option<Object<Transform>>,
    /// The HTTP method of the requests. The default is the method of the preset, or `POST` if there is no preset.
    #[serde(default)]
    method: Option<DeliveryMethod>,
    /// Payload of the events, if there is no transform. The default is `full`.
    #[serde(default)]
    payload: EventPayload,
}

/// The request that a webhook would get for a call.
#[derive(Serialize, ToSchema)]
#[schema(as = WebhookPreview)]
pub struct PreviewResource {
    /// The type of the event.
    event_type: EventKind,
    /// Whether the event passes `events` and the `filter`. If not, the webhook does not get it.
    passes_filter: bool,
    /// The HTTP method.
    method: DeliveryMethod,
    /// The URL with the ids of the call, and with `***` in place of the secrets of the URL; `null` if there is no `url`, or if
    /// the call lacks an id that the `url` names.
    #[schema(required = true, max_length = 4096)]
    url: Option<String>,
    /// The headers. A value is `null` if it is secret or changes with each attempt.
    #[schema(value_type = HashMap<String, Option<String>>)]
    headers: BTreeMap<String, Option<String>>,
    /// The body, up to 256 KiB; `null` if it cannot be rendered.
    #[schema(required = true, max_length = 262_144)]
    body: Option<String>,
    /// The size of the whole body in bytes.
    size: usize,
    /// Whether `body` is only the beginning of the body.
    body_truncated: bool,
    /// Everything that prevents this request: values that the preset needs and did not find, errors of the template, or an
    /// analysis that is not finished.
    #[schema(max_items = 32)]
    problems: Vec<String>,
}

impl JsonFields for PreviewCall {
    fn calls(&self) -> Vec<CallId> {
        CallId::parse(&self.call_id).into_iter().collect()
    }
}

impl JsonFields for PreviewWebhook {
    fn calls(&self) -> Vec<CallId> {
        CallId::parse(&self.call_id).into_iter().collect()
    }
}

impl PreviewWebhook {
    fn into_subject(self) -> Result<(CallId, PreviewSubject), ApiError> {
        let mut errors = FieldErrors::default();
        let call_id = errors.take("#/call_id", CallId::parse(&self.call_id));
        let url = self.url.and_then(|url| errors.take("#/url", CallbackUrl::parse(&url)));
        let events = match &self.events {
            Some(kinds) => errors.take("#/events", event_filter(kinds, "all types")),
            None => Some(EventFilter::all()),
        };
        let filter = self.filter.and_then(|filter| errors.filter(filter));
        let transform = self.transform.and_then(|it| errors.transform("#/transform", it.0));
        errors.check()?;
        let (Some(call_id), Some(events)) = (call_id, events) else {
            return Err(ApiError::invalid(Vec::new()));
        };
        let (method, payload) = (self.method, self.payload);
        let subject =
            PreviewSubject { url, events, filter, transform, method, payload, header_names: Vec::new() };
        Ok((call_id, subject))
    }
}

impl From<Preview> for PreviewResource {
    fn from(preview: Preview) -> Self {
        let content_type = preview.rendered.as_ref().map(|rendered| rendered.content_type.clone());
        let mut headers: BTreeMap<_, _> = preview.header_names.into_iter().map(|name| (name, None)).collect();
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            headers.insert(name.to_owned(), None);
        }
        headers.insert("content-type".to_owned(), content_type);
        let body = preview.rendered.map(|rendered| rendered.body).unwrap_or_default();
        let text = String::from_utf8_lossy(&body);
        let shown = &text[..text.floor_char_boundary(MAX_SHOWN)];
        Self {
            event_type: preview.kind,
            passes_filter: preview.passes_filter,
            method: preview.method,
            url: preview.url.map(|url| url.as_str().to_owned()),
            body: (!body.is_empty()).then(|| shown.to_owned()),
            size: body.len(),
            body_truncated: shown.len() < text.len(),
            headers,
            problems: preview.problems,
        }
    }
}

/// Previews the request of a webhook that is not registered.
pub(super) async fn preview_unregistered_webhook(
    request: ApiRequest<(), NoQuery, JsonBody<PreviewWebhook>>,
) -> Result<HttpResponse, ApiError> {
    let ApiRequest { state, tenant, body, .. } = request;
    let (call_id, subject) = body.0.into_subject()?;
    let preview = state.webhooks.preview(tenant.id(), &call_id, subject).await?;
    Ok(HttpResponse::Ok().json(PreviewResource::from(preview)))
}

/// Previews the request of a registered webhook.
pub(super) async fn preview_webhook(
    request: ApiRequest<WebhookId, NoQuery, JsonBody<PreviewCall>>,
) -> Result<HttpResponse, ApiError> {
    let ApiRequest { state, tenant, path: webhook, body, .. } = request;
    let call_id =
        CallId::parse(&body.0.call_id).map_err(|error| ApiError::invalid_field("#/call_id", &error))?;
    let preview = state.webhooks.preview_registered(tenant.id(), webhook, &call_id).await?;
    Ok(HttpResponse::Ok().json(PreviewResource::from(preview)))
}
