//! `/v1/webhooks`

use std::collections::BTreeMap;
use std::sync::Arc;

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, web};
use secrecy::ExposeSecret;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};

use super::authorized::{Authorized, WebhooksManage};
use super::idempotency::Idempotency;
use super::input::{JsonBody, NoParameters, StrictQuery, WebhookPath};
use super::parameters::{RequestKey, WebhookParameter};
use super::problem::{ApiError, FieldError};
use super::problem_responses::{
    BodyProblems, CommonProblems, ConflictProblems, KeyProblems, NotFoundProblems, SealingProblems,
};
use super::state::ApiState;
use crate::analyses::{HeaderChanges, Registration, WebhookChange, WebhookState};
use crate::domain::callback_url::CallbackUrl;
use crate::domain::clock::Timestamp;
use crate::domain::events::EventKind;
use crate::domain::idempotency::Subject;
use crate::domain::secrets::CallbackSecret;
use crate::domain::webhooks::{CustomHeaders, DisabledReason, EventFilter, HeaderName};

/// The most characters of a description.
const MAX_DESCRIPTION: usize = 256;

/// An endpoint to be registered.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"url": "https://crm.example.uz/hooks/alovoice", "events": ["analysis.completed", "analysis.failed"]}))]
pub struct CreateWebhook {
    /// An `https` URL at a public address, up to 2,048 bytes, without user name, password and fragment.
    #[schema(
        max_length = 2048,
        pattern = r"^https?://[^\s/?#@]+([/?][^\s#]*)?$",
        example = "https://crm.example.uz/hooks/alovoice"
    )]
    url: String,
    /// The types of events it gets; all if none are named.
    #[serde(default)]
    #[schema(min_items = 1, max_items = 3)]
    events: Option<Vec<EventKind>>,
    #[serde(default)]
    #[schema(schema_with = headers_schema)]
    headers: BTreeMap<String, String>,
    /// For people: up to 256 characters.
    #[serde(default)]
    #[schema(max_length = 256)]
    description: Option<String>,
    /// Whether it gets events from now on.
    #[serde(default = "yes")]
    #[schema(default = true)]
    enabled: bool,
    /// What is to sign, as Standard Webhooks writes it: `whsec_` and base64 of 24 to 64 bytes. If it is left out, a new
    /// one is made.
    #[serde(default)]
    secret: Option<String>,
}

fn headers_schema() -> Schema {
    headers_with(Type::String.into())
        .schema_type(Type::Object)
        .description(Some(
            "Sent along with every delivery, such as `{\"Authorization\": \"Bearer …\"}`: up to 16, each value of up to 1,024 \
             printable ASCII characters. Not `Host`, `Content-…`, `Webhook-…` and others that HTTP or the gateway sets. \
             Values are kept encrypted and never shown again.",
        ))
        .into()
}

fn header_changes_schema() -> Schema {
    headers_with(SchemaType::Array(vec![Type::String, Type::Null]))
        .schema_type(SchemaType::Array(vec![Type::Object, Type::Null]))
        .description(Some(
            "Headers to be set, or taken away with `null`; others stay. `null` for all of it takes them all away.",
        ))
        .into()
}

/// Names as RFC 9110 (5.6.2) has them; in values, what is visible, and spaces.
fn headers_with(value: SchemaType) -> ObjectBuilder {
    let name = ObjectBuilder::new()
        .schema_type(Type::String)
        .max_length(Some(HeaderName::MAX_LEN))
        .pattern(Some("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"));
    let value = ObjectBuilder::new().schema_type(value).max_length(Some(1024)).pattern(Some("^[ -~]*$"));
    ObjectBuilder::new()
        .property_names(Some(name))
        .additional_properties(Some(value))
        .max_properties(Some(16))
}

const fn yes() -> bool {
    true
}

/// A change of an endpoint, as a JSON Merge Patch (RFC 7396): what is left out stays, `null` takes away.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"events": ["analysis.failed"], "enabled": true}))]
pub struct ChangeWebhook {
    /// Where events go from now on, those that are on their way included.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, nullable = false, max_length = 2048, pattern = r"^https?://[^\s/?#@]+([/?][^\s#]*)?$")]
    url: Option<String>,
    /// The types of events it gets from now on; all with `null`.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<EventKind>>, min_items = 1, max_items = 3)]
    events: Option<Option<Vec<EventKind>>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(schema_with = header_changes_schema)]
    headers: Option<Option<BTreeMap<String, Option<String>>>>,
    /// For people.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, max_length = 256)]
    description: Option<Option<String>>,
    /// `true` enables it: what was on its way goes on at once, and failures are forgotten. `false` disables it: nothing is sent,
    /// and what happens meanwhile is not put on its way; a replay brings it later.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<bool>, nullable = false)]
    enabled: Option<bool>,
}

/// Tells what is `null` from what is not there.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// A registered endpoint.
#[derive(Serialize, ToSchema)]
pub struct Webhook {
    /// Its id.
    #[schema(example = "whk_018f95f4cd287c5b9a6f3b1f8f0a1d2e")]
    id: String,
    /// Where events go.
    #[schema(example = "https://crm.example.uz/hooks/alovoice")]
    url: String,
    /// The types of events it gets.
    #[schema(max_items = 3)]
    events: Vec<EventKind>,
    /// The names of the headers that are sent along, in lower case. Their values are not shown.
    #[schema(max_items = 16, example = json!(["authorization"]))]
    header_names: Vec<String>,
    /// For people.
    #[schema(required = true)]
    description: Option<String>,
    /// Whether it gets events.
    enabled: bool,
    /// Why not: `requested`, `gone` (it answered 410) or `failing` (every attempt of five days failed).
    #[schema(required = true)]
    disabled_reason: Option<DisabledReason>,
    /// Since when not.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    disabled_at: Option<Timestamp>,
    /// Until when deliveries carry two signatures, the second by the secret that was rotated away.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    previous_secret_until: Option<Timestamp>,
    /// When it was registered.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it was last changed through this API.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// How its deliveries go.
    health: WebhookHealth,
    /// What signs its deliveries. Only in the answer that makes it: keep it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false, example = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")]
    secret: Option<String>,
}

/// How an endpoint's deliveries go.
#[derive(Serialize, ToSchema)]
pub struct WebhookHealth {
    /// The share of `attempts` that were answered with 2xx; `null` if there were none.
    #[schema(required = true, example = 0.98)]
    success_rate: Option<f64>,
    /// The attempts that ended of its 100 youngest deliveries, of each the last ten.
    attempts: u64,
    /// Deliveries with an attempt to come, counted up to 1,000.
    pending: u64,
    /// Whether there are more than that.
    more_pending: bool,
    /// The last success, to a second.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    last_success_at: Option<Timestamp>,
    /// The last failure.
    #[schema(required = true)]
    last_failure: Option<WebhookFailure>,
    /// Attempts that failed in a row.
    consecutive_failures: u32,
    /// Since when there were only failures.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    failing_since: Option<Timestamp>,
    /// After five failures in a row, or when they cannot be signed, its deliveries wait until then, and go on when one has
    /// arrived.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    paused_until: Option<Timestamp>,
    /// Since when its deliveries cannot be signed, because the gateway's operator lost the key that opens its secret or
    /// headers, or set none; `last_failure` says which. They wait, are tried every minute, and lose nothing by it. If the key is
    /// not to be had any more, `rotate-secret` and new `headers` do without it.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    unsigned_since: Option<Timestamp>,
}

/// An attempt that failed.
#[derive(Serialize, ToSchema)]
pub struct WebhookFailure {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The receiver's status, if it gave one.
    #[schema(required = true)]
    status: Option<u16>,
    /// What went wrong.
    #[schema(example = "the receiver answered with status 500")]
    error: String,
}

/// Every endpoint.
#[derive(Serialize, ToSchema)]
pub struct WebhookList {
    /// The oldest first. There are at most 50, so they come all at once.
    #[schema(max_items = 50)]
    webhooks: Vec<Webhook>,
}

impl Webhook {
    /// As it is shown, with the secret if this answer makes one.
    pub(super) fn new(state: WebhookState, secret: Option<&CallbackSecret>, now: Timestamp) -> Self {
        let WebhookState { webhook, activity } = state;
        let previous = webhook.sealed.previous_secret.as_ref().map(|(_, until)| *until);
        let health = webhook.health;
        #[expect(clippy::cast_precision_loss, reason = "a few hundred attempts")]
        let success_rate =
            (activity.attempts > 0).then(|| activity.delivered as f64 / activity.attempts as f64);
        Self {
            id: webhook.id.to_string(),
            url: webhook.url.as_str().to_owned(),
            events: webhook.events.kinds().to_vec(),
            header_names: webhook.header_names,
            description: webhook.description,
            enabled: webhook.disabled.is_none(),
            disabled_reason: webhook.disabled.map(|disabled| disabled.reason),
            disabled_at: webhook.disabled.map(|disabled| disabled.at),
            previous_secret_until: previous.filter(|until| *until > now),
            created_at: webhook.created_at,
            updated_at: webhook.updated_at,
            health: WebhookHealth {
                success_rate,
                attempts: activity.attempts,
                pending: activity.pending,
                more_pending: activity.more_pending,
                last_success_at: health.last_success_at,
                last_failure: health.last_failure.map(|last| WebhookFailure {
                    at: last.at,
                    status: last.status,
                    error: last.error,
                }),
                consecutive_failures: health.failures,
                failing_since: health.failing_since,
                paused_until: health.paused_until.filter(|until| *until > now),
                unsigned_since: health.unsigned_since,
            },
            secret: secret.map(|secret| secret.to_text().expose_secret().to_owned()),
        }
    }
}

/// Notes what breaks a rule.
#[derive(Default)]
struct Errors(Vec<FieldError>);

impl Errors {
    fn note(&mut self, pointer: impl Into<String>, detail: impl std::fmt::Display) {
        self.0.push(FieldError { pointer: pointer.into(), detail: detail.to_string() });
    }

    fn take<T>(&mut self, pointer: &str, parsed: Result<T, impl std::fmt::Display>) -> Option<T> {
        parsed.map_err(|error| self.note(pointer, error)).ok()
    }

    fn events(&mut self, kinds: Option<&[EventKind]>) -> Option<EventFilter> {
        let Some(kinds) = kinds else { return Some(EventFilter::all()) };
        let filter = EventFilter::new(kinds);
        if filter.is_none() {
            self.note("#/events", "must name one type at least; leave it out for all");
        }
        filter
    }

    fn description(&mut self, description: Option<&str>) {
        let Some(text) = description else { return };
        if text.chars().count() > MAX_DESCRIPTION || text.chars().any(char::is_control) {
            self.note(
                "#/description",
                format!("must have at most {MAX_DESCRIPTION} characters, and no control characters"),
            );
        }
    }

    /// The headers with their values checked. In the errors are names alone.
    fn headers(&mut self, given: BTreeMap<String, Option<String>>) -> Vec<(HeaderName, Option<String>)> {
        let mut checked: Vec<(HeaderName, Option<String>)> = Vec::new();
        for (text, value) in given {
            let shown: String = text.chars().take(HeaderName::MAX_LEN).collect();
            let pointer = format!("#/headers/{}", shown.replace('~', "~0").replace('/', "~1"));
            let Some(name) = self.take(&pointer, HeaderName::parse(&text)) else { continue };
            if checked.iter().any(|(before, _)| *before == name) {
                self.note(&pointer, "comes twice: names differ in more than case");
            }
            let fits = value.as_ref().map(|value| CustomHeaders::default().set(name.clone(), value));
            if let Some(Err(error)) = fits {
                self.note(&pointer, error);
            }
            checked.push((name, value));
        }
        checked
    }

    fn check(self) -> Result<(), ApiError> {
        if self.0.is_empty() { Ok(()) } else { Err(ApiError::invalid(self.0)) }
    }
}

impl CreateWebhook {
    fn into_registration(self) -> Result<Registration, ApiError> {
        let mut errors = Errors::default();
        let url = errors.take("#/url", CallbackUrl::parse(&self.url));
        let events = errors.events(self.events.as_deref());
        errors.description(self.description.as_deref());
        let given = self.headers.into_iter().map(|(name, value)| (name, Some(value))).collect();
        let mut headers = CustomHeaders::default();
        for (name, value) in errors.headers(given) {
            // What does not fit was noted.
            let _ = headers.set(name, value.as_deref().unwrap_or_default());
        }
        let secret = self.secret.map(|text| errors.take("#/secret", CallbackSecret::parse(&text)));
        errors.check()?;
        match (url, events) {
            (Some(url), Some(events)) => Ok(Registration {
                url,
                events,
                headers,
                description: self.description,
                enabled: self.enabled,
                secret: secret.flatten(),
            }),
            _ => Err(ApiError::invalid(Vec::new())),
        }
    }
}

impl ChangeWebhook {
    fn into_change(self) -> Result<WebhookChange, ApiError> {
        let mut errors = Errors::default();
        let url = self.url.and_then(|url| errors.take("#/url", CallbackUrl::parse(&url)));
        let events = self.events.and_then(|events| errors.events(events.as_deref()));
        errors.description(self.description.as_ref().and_then(Option::as_deref));
        let headers = match self.headers {
            None => HeaderChanges::None,
            Some(None) => HeaderChanges::Clear,
            Some(Some(headers)) => HeaderChanges::Merge(errors.headers(headers)),
        };
        errors.check()?;
        Ok(WebhookChange { url, events, headers, description: self.description, enabled: self.enabled })
    }
}

/// Register a webhook
///
/// What happens to any of the tenant's analyses from now on is sent to it, besides the callbacks of submissions, as
/// Standard Webhooks asks and with a secret of its own. The answer shows that secret, once: it is kept encrypted. A tenant
/// may have 50 webhooks.
///
/// A delivery that fails is tried again for a day and more. After five failures in a row all deliveries to the webhook
/// wait, and one of them tries it now and then; when it arrives, the others follow. A webhook that answers 410, or has only
/// failed for five days, is disabled, and what is on its way waits until it is enabled again.
#[utoipa::path(
    post, path = "/v1/webhooks", operation_id = "create_webhook", tag = "webhooks",
    params(RequestKey), request_body = CreateWebhook,
    responses(
        (status = 201, description = "Registered", body = Webhook,
            headers(("Location" = String, description = "Where the webhook is"),
                ("Idempotency-Replayed" = bool, description = "`true`: the first answer to this `Idempotency-Key`, again"))),
        KeyProblems, ConflictProblems, SealingProblems, BodyProblems, CommonProblems,
    ),
    security(("bearer" = ["webhooks:manage"]))
)]
pub async fn create_webhook(
    state: web::Data<ApiState>,
    caller: Authorized<WebhooksManage>,
    idempotency: Idempotency,
    _query: StrictQuery<NoParameters>,
    body: JsonBody<CreateWebhook>,
) -> Result<HttpResponse, ApiError> {
    let registration = body.0.into_registration()?;
    let (keyed, tenant) = (Arc::clone(&state.keyed), caller.tenant.id().clone());
    let work = async move {
        let (created, secret) = state.webhooks.create(caller.tenant.id(), registration).await?;
        let location = format!("/v1/webhooks/{}", created.webhook.id);
        let shown = Webhook::new(created, Some(&secret), state.env.clock.now());
        Ok(secretive(HttpResponse::Created()).insert_header((header::LOCATION, location)).json(shown))
    };
    idempotency.once(&keyed, &tenant, Subject::Secret, work).await
}

/// An answer with a secret in it is for nobody's cache.
pub(super) fn secretive(mut response: actix_web::HttpResponseBuilder) -> actix_web::HttpResponseBuilder {
    response.insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
    response
}

/// List webhooks
///
/// All of them: there are at most 50.
#[utoipa::path(
    get, path = "/v1/webhooks", operation_id = "list_webhooks", tag = "webhooks",
    responses((status = 200, description = "The webhooks", body = WebhookList), CommonProblems),
    security(("bearer" = ["webhooks:manage"]))
)]
pub async fn list_webhooks(
    state: web::Data<ApiState>,
    caller: Authorized<WebhooksManage>,
    _query: StrictQuery<NoParameters>,
) -> Result<HttpResponse, ApiError> {
    let (states, now) = (state.webhooks.list(caller.tenant.id()).await?, state.env.clock.now());
    let webhooks = states.into_iter().map(|state| Webhook::new(state, None, now)).collect();
    Ok(HttpResponse::Ok().json(WebhookList { webhooks }))
}

/// Get a webhook, and how its deliveries go
///
/// Its secret and the values of its headers are not shown.
#[utoipa::path(
    get, path = "/v1/webhooks/{webhook_id}", operation_id = "get_webhook", tag = "webhooks",
    params(WebhookParameter),
    responses((status = 200, description = "The webhook", body = Webhook), NotFoundProblems, CommonProblems),
    security(("bearer" = ["webhooks:manage"]))
)]
pub async fn get_webhook(
    state: web::Data<ApiState>,
    caller: Authorized<WebhooksManage>,
    webhook: WebhookPath,
    _query: StrictQuery<NoParameters>,
) -> Result<HttpResponse, ApiError> {
    let found = state.webhooks.get(caller.tenant.id(), webhook.0).await?;
    Ok(HttpResponse::Ok().json(Webhook::new(found, None, state.env.clock.now())))
}

/// Change a webhook, disable or enable it
///
/// A merge patch. What was on its way goes by the new state: to the new URL, with the new headers. The secret stays, and so do
/// headers that the patch does not name: with a new `url`, what is secret in them goes to the new place unless the patch takes
/// it away. A new `url`, `headers`, or `enabled: true` ends a pause and forgets failures. Of events that happened while it was
/// disabled none is put on its way by itself: send them with a replay.
#[utoipa::path(
    patch, path = "/v1/webhooks/{webhook_id}", operation_id = "change_webhook", tag = "webhooks",
    params(WebhookParameter),
    request_body(content((ChangeWebhook = "application/json"), (ChangeWebhook = "application/merge-patch+json"))),
    responses(
        (status = 200, description = "The webhook as it is now", body = Webhook),
        NotFoundProblems, ConflictProblems, SealingProblems, BodyProblems, CommonProblems,
    ),
    security(("bearer" = ["webhooks:manage"]))
)]
pub async fn change_webhook(
    state: web::Data<ApiState>,
    caller: Authorized<WebhooksManage>,
    webhook: WebhookPath,
    _query: StrictQuery<NoParameters>,
    body: JsonBody<ChangeWebhook>,
) -> Result<HttpResponse, ApiError> {
    let change = body.0.into_change()?;
    let changed = state.webhooks.change(caller.tenant.id(), webhook.0, &change).await?;
    Ok(HttpResponse::Ok().json(Webhook::new(changed, None, state.env.clock.now())))
}

/// Delete a webhook
///
/// With its deliveries and their attempts; of very many, some go a little later. Nothing more is sent to it, but for what
/// is on the wire at this moment.
#[utoipa::path(
    delete, path = "/v1/webhooks/{webhook_id}", operation_id = "delete_webhook", tag = "webhooks",
    params(WebhookParameter),
    responses((status = 204, description = "Deleted"), NotFoundProblems, CommonProblems),
    security(("bearer" = ["webhooks:manage"]))
)]
pub async fn delete_webhook(
    state: web::Data<ApiState>,
    caller: Authorized<WebhooksManage>,
    webhook: WebhookPath,
    _query: StrictQuery<NoParameters>,
) -> Result<HttpResponse, ApiError> {
    state.webhooks.delete(caller.tenant.id(), webhook.0).await?;
    Ok(HttpResponse::NoContent().finish())
}
