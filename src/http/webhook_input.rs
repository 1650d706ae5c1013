//! Webhooks as callers describe them: the bodies of `create_webhook` and `change_webhook`.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

use super::body::JsonFields;
use super::exact_object::ExactObject;
use super::field_errors::FieldErrors;
use super::json::Object;
use super::problem::ApiError;
use super::webhook_schemas::{filter_schema, header_changes_schema, headers_schema};
use crate::analyses::{HeaderChanges, Registration, WebhookChange};
use crate::domain::callback_url::CallbackUrl;
use crate::domain::delivery_rate::{Burst, ChosenRate, PerSecond};
use crate::domain::event_payload::EventPayload;
use crate::domain::events::EventKind;
use crate::domain::field_problem::FieldProblem;
use crate::domain::filters::ContentFilter;
use crate::domain::secrets::CallbackSecret;
use crate::domain::transforms::{DeliveryMethod, Transform};
use crate::domain::webhooks::{CustomHeaders, EventFilter, HeaderName};

/// Maximum number of characters of a description.
const MAX_DESCRIPTION: usize = 256;

/// A webhook to register.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"url": "https://crm.example.uz/hooks/alovoice", "events": ["analysis.completed", "analysis.failed"]}))]
pub struct CreateWebhook {
    /// An `https` URL with a public address, of up to 2,048 bytes, without a user name, password or fragment. If the URL
    /// contains a secret, the URL is stored encrypted, and answers show `***` in place of the secret.
    #[schema(
        max_length = 2048,
        pattern = r"^https?://[^\s/?#@{}]+(/([^\s?#{}]|\{crm\.[A-Za-z0-9_.-]{1,64}\})*)?(\?[^\s#]*)?$",
        example = "https://crm.example.uz/hooks/alovoice"
    )]
    url: String,
    /// The types of events to receive. The default is all types; for a webhook with a `filter` or a `transform` it is all
    /// `analysis.*` types.
    #[serde(default)]
    #[schema(min_items = 1, max_items = 4)]
    events: Option<Vec<EventKind>>,
    #[serde(default)]
    #[schema(schema_with = filter_schema)]
    filter: Option<ExactObject>,
    /// The transform that makes the body from the event. Without a transform, the event itself is the body. With a transform,
    /// `payload` has no effect.
    #[serde(default)]
    #[schema(value_type = Option<Transform>)]
    transform: Option<Object<Transform>>,
    /// The HTTP method of the requests. The default is the method of the preset, or `POST` if there is no preset.
    #[serde(default)]
    method: Option<DeliveryMethod>,
    /// The maximum number of deliveries per second on average, over all replicas. Deliveries above the rate wait, and use up no
    /// attempts. The default is the rate of the preset. Without a preset, or if the preset has no rate, there is no limit.
    #[serde(default)]
    #[schema(value_type = Option<f64>, minimum = 0.01, maximum = 1000, example = 2)]
    rate: Option<PerSecond>,
    /// The number of deliveries that may be sent at once after a pause. If you omit `rate` too, the default is the burst of the
    /// preset. Otherwise the default is the number of deliveries that `rate` allows in one second. A burst needs a rate: your
    /// own rate or the rate of the preset.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 10000, example = 50)]
    burst: Option<Burst>,
    #[serde(default)]
    #[schema(schema_with = headers_schema)]
    headers: BTreeMap<String, String>,
    /// `full` sends the whole analysis. `thin` sends only the ids, the status, the revision and the URL of the analysis, for
    /// receivers that limit the size of a request: a transcript of three hours can have several megabytes. The default is `full`.
    #[serde(default)]
    payload: EventPayload,
    /// A description for people, of up to 256 characters.
    #[serde(default)]
    #[schema(max_length = 256)]
    description: Option<String>,
    /// Whether the webhook receives events from now on. The default is `true`.
    #[serde(default = "yes")]
    enabled: bool,
    /// The signing secret in the format of Standard Webhooks: `whsec_` and 24 to 64 bytes in base64. By default the gateway
    /// generates one.
    #[serde(default)]
    secret: Option<String>,
}

const fn yes() -> bool {
    true
}

/// A change of a webhook as a JSON Merge Patch (RFC 7396): omitted fields keep their values, `null` removes a value.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"events": ["analysis.failed"], "enabled": true}))]
pub struct ChangeWebhook {
    /// The new URL, also for pending deliveries. Omit the field to keep the current URL. A URL with `***` is refused, because
    /// `***` stands for a secret.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, nullable = false, max_length = 2048, pattern = r"^https?://[^\s/?#@{}]+(/([^\s?#{}]|\{crm\.[A-Za-z0-9_.-]{1,64}\})*)?(\?[^\s#]*)?$")]
    url: Option<String>,
    /// The types of events to receive from now on. `null` means all types; for a webhook with a `filter` or a `transform` it
    /// means all `analysis.*` types.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<EventKind>>, min_items = 1, max_items = 4)]
    events: Option<Option<Vec<EventKind>>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(schema_with = filter_schema)]
    filter: Option<Option<ExactObject>>,
    /// The transform that makes the body from the event. With `null`, the event itself is the body. The change also applies to
    /// pending deliveries.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Transform>)]
    transform: Option<Option<Object<Transform>>>,
    /// The HTTP method of the requests. `null` selects the method of the preset, or `POST` if there is no preset.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<DeliveryMethod>)]
    method: Option<Option<DeliveryMethod>>,
    /// The maximum number of deliveries per second. The change also applies to pending deliveries. `null` selects the rate of the
    /// preset, or no limit if the preset has no rate.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<f64>, minimum = 0.01, maximum = 1000)]
    rate: Option<Option<PerSecond>>,
    /// The number of deliveries that may be sent at once after a pause. `null` selects the default.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 10000)]
    burst: Option<Option<Burst>>,
    #[serde(default, deserialize_with = "given")]
    #[schema(schema_with = header_changes_schema)]
    headers: Option<Option<BTreeMap<String, Option<String>>>>,
    /// Payload of the events that the webhook receives. The change also applies to pending deliveries.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<EventPayload>, nullable = false)]
    payload: Option<EventPayload>,
    /// A description for people, of up to 256 characters.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, max_length = 256)]
    description: Option<Option<String>>,
    /// `true` enables the webhook: pending deliveries continue at once and the count of failures is reset. `false`
    /// disables it: nothing is sent, and new events create no deliveries for it. You can replay these events later.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<bool>, nullable = false)]
    enabled: Option<bool>,
}

/// Parses a field that is present, so `None` means that the field was omitted. `null` is valid only if `T` is an `Option`.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Returns the filter for a list of event types. An error names `default`, the event types that apply without a list.
pub(super) fn event_filter(kinds: &[EventKind], default: &str) -> Result<EventFilter, String> {
    let most = EventKind::ALL.len();
    match EventFilter::new(kinds) {
        Some(filter) if kinds.len() <= most => Ok(filter),
        _ => Err(format!("must have 1 to {most} types; omit it for {default}")),
    }
}

/// Checks of single fields of webhooks.
impl FieldErrors {
    fn events(&mut self, kinds: Option<&[EventKind]>) -> Option<EventFilter> {
        let Some(kinds) = kinds else { return Some(EventFilter::all()) };
        self.take("#/events", event_filter(kinds, "all types"))
    }

    pub(super) fn filter(&mut self, filter: ExactObject) -> Option<ContentFilter> {
        let parsed = ContentFilter::parse(filter.0);
        let add = |problem: FieldProblem| self.add(format!("#/filter{}", problem.pointer), problem.detail);
        parsed.map_err(|problems| problems.into_iter().for_each(add)).ok()
    }

    fn description(&mut self, description: Option<&str>) {
        let Some(text) = description else { return };
        if text.chars().count() > MAX_DESCRIPTION || text.chars().any(char::is_control) {
            self.add(
                "#/description",
                format!("must have at most {MAX_DESCRIPTION} characters and no control characters"),
            );
        }
    }

    /// Checks the names and values of headers. Errors contain only the names, because the values are secret.
    fn headers(&mut self, given: BTreeMap<String, Option<String>>) -> Vec<(HeaderName, Option<String>)> {
        let mut checked: Vec<(HeaderName, Option<String>)> = Vec::new();
        for (text, value) in given {
            let shown: String = text.chars().take(HeaderName::MAX_LEN).collect();
            let pointer = format!("#/headers/{}", shown.replace('~', "~0").replace('/', "~1"));
            let Some(name) = self.take(&pointer, HeaderName::parse(&text)) else { continue };
            if checked.iter().any(|(before, _)| *before == name) {
                self.add(&pointer, "must be given once: the case of names does not matter");
            }
            let fits = value.as_ref().map(|value| CustomHeaders::default().set(name.clone(), value));
            if let Some(Err(error)) = fits {
                self.add(&pointer, error);
            }
            checked.push((name, value));
        }
        checked
    }
}

impl JsonFields for CreateWebhook {}

impl JsonFields for ChangeWebhook {}

impl CreateWebhook {
    pub(super) fn into_registration(self) -> Result<Registration, ApiError> {
        let mut errors = FieldErrors::default();
        let url = errors.take("#/url", CallbackUrl::parse(&self.url));
        let events = errors.events(self.events.as_deref());
        let filter = self.filter.and_then(|filter| errors.filter(filter));
        let transform = self.transform.and_then(|it| errors.transform("#/transform", it.0));
        errors.description(self.description.as_deref());
        let given = self.headers.into_iter().map(|(name, value)| (name, Some(value))).collect();
        let mut headers = CustomHeaders::default();
        for (name, value) in errors.headers(given) {
            // For an invalid value, `errors` already has an entry.
            let _ = headers.set(name, value.as_deref().unwrap_or_default());
        }
        let secret = self.secret.map(|text| errors.take("#/secret", CallbackSecret::parse(&text)));
        errors.check()?;
        match (url, events) {
            (Some(url), Some(events)) => Ok(Registration {
                url,
                events,
                filter,
                transform,
                method: self.method,
                rate: ChosenRate { rate: self.rate, burst: self.burst },
                payload: self.payload,
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
    pub(super) fn into_change(self) -> Result<WebhookChange, ApiError> {
        let mut errors = FieldErrors::default();
        let url = self.url.and_then(|url| errors.take("#/url", CallbackUrl::parse(&url)));
        let events = self.events.and_then(|events| errors.events(events.as_deref()));
        let filter = self.filter.map(|filter| filter.and_then(|filter| errors.filter(filter)));
        let transform = self.transform.map(|it| it.and_then(|it| errors.transform("#/transform", it.0)));
        errors.description(self.description.as_ref().and_then(Option::as_deref));
        let headers = match self.headers {
            None => HeaderChanges::None,
            Some(None) => HeaderChanges::Clear,
            Some(Some(headers)) => HeaderChanges::Merge(errors.headers(headers)),
        };
        errors.check()?;
        Ok(WebhookChange {
            url,
            events,
            filter,
            transform,
            method: self.method,
            rate: self.rate,
            burst: self.burst,
            payload: self.payload,
            headers,
            description: self.description,
            enabled: self.enabled,
        })
    }
}
