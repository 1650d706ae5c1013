//! Webhooks as the API returns them.

use actix_web::HttpResponseBuilder;
use actix_web::http::header::{self, HeaderValue};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::Map;
use utoipa::ToSchema;

use super::merged_schema::MergedSchema;
use crate::analyses::WebhookState;
use crate::domain::clock::Timestamp;
use crate::domain::event_payload::EventPayload;
use crate::domain::events::EventKind;
use crate::domain::secrets::CallbackSecret;
use crate::domain::transforms::{DeliveryMethod, Transform};
use crate::domain::webhooks::DisabledReason;

/// A registered webhook.
#[derive(Serialize, ToSchema)]
#[schema(as = Webhook)]
pub struct WebhookResource {
    /// The id of the webhook.
    #[schema(example = "whk_018f95f4cd287c5b9a6f3b1f8f0a1d2e")]
    id: String,
    /// The URL that receives events, with `***` in place of its secrets: the query, and each part of the path that may be a
    /// secret, because it does not look like words, numbers or versions.
    #[schema(example = "https://crm.example.uz/hooks/alovoice")]
    url: String,
    /// The types of events that the webhook receives.
    #[schema(max_items = 4)]
    events: Vec<EventKind>,
    /// The filter on the content of events; `null` if the webhook receives all events of these types.
    #[schema(required = true, value_type = Option<HashMap<String, Value>>)]
    filter: Option<Map<String, serde_json::Value>>,
    /// The transform that makes the body from the event; `null` if the event itself is the body.
    #[schema(required = true)]
    transform: Option<Transform>,
    /// The HTTP method of the requests.
    method: DeliveryMethod,
    /// The maximum number of deliveries per second on average: the webhook's own rate, or the rate of the preset. `null` if
    /// there is no limit.
    #[schema(required = true, minimum = 0.01, maximum = 1000, example = 2)]
    rate: Option<f64>,
    /// The number of deliveries that may be sent at once after a pause; `null` if there is no limit.
    #[schema(required = true, minimum = 1, maximum = 10000, example = 50)]
    burst: Option<u32>,
    /// Payload of the events that the webhook receives.
    payload: EventPayload,
    /// The names of the custom headers, in lower case. Their values are secret and never returned.
    #[schema(max_items = 16, example = json!(["authorization"]))]
    header_names: Vec<String>,
    /// A description for people.
    #[schema(required = true)]
    description: Option<String>,
    /// Whether the webhook receives events.
    enabled: bool,
    /// The reason why the webhook is disabled: `requested` (by a caller), `gone` (the receiver answered 410) or `failing`
    /// (failures for five days without a success).
    #[schema(required = true)]
    disabled_reason: Option<DisabledReason>,
    /// Time when the webhook was disabled; `null` while it is enabled.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    disabled_at: Option<Timestamp>,
    /// Time until which deliveries are also signed with the previous secret; `null` if they are not.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    previous_secret_until: Option<Timestamp>,
    /// Time of registration.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Time of the last change through this API.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// The health of the webhook.
    health: WebhookHealth,
    /// The secret that the request created; `None` in other answers. [`CreatedSecret`] describes the field.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(ignore)]
    secret: Option<String>,
}

/// Schema of an answer that contains the secret.
pub type WebhookWithSecret = MergedSchema<WebhookResource, CreatedSecret>;

/// A webhook with its secret.
#[derive(ToSchema)]
#[schema(as = WebhookWithSecret)]
#[expect(dead_code, reason = "only its schema is used")]
pub struct CreatedSecret {
    /// The secret that signs deliveries. The API returns it only when the webhook is created or the secret is rotated, so
    /// store it.
    #[schema(example = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")]
    secret: String,
}

/// The health of a webhook, from its recent deliveries.
#[derive(Serialize, ToSchema)]
pub struct WebhookHealth {
    /// The share of `attempts` with the outcome `delivered`; `null` if there are no attempts.
    #[schema(required = true, example = 0.98)]
    success_rate: Option<f64>,
    /// Number of recent attempts that have ended, except for those with the outcome `unsigned`. Only the 100 newest deliveries
    /// count, each with at most its last ten attempts.
    attempts: u64,
    /// Number of pending deliveries, counted up to 1,000.
    pending: u64,
    /// Whether more than 1,000 deliveries are pending.
    more_pending: bool,
    /// Time of the last success, with a precision of one second.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    last_success_at: Option<Timestamp>,
    /// The last failed attempt.
    #[schema(required = true)]
    last_failure: Option<WebhookFailure>,
    /// Number of consecutive failed attempts.
    consecutive_failures: u32,
    /// Time of the first of the consecutive failures; `null` if there are none.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    failing_since: Option<Timestamp>,
    /// End of the current pause; `null` if there is none. A webhook is paused after five consecutive failures, or if its
    /// deliveries cannot be signed. When the pause ends, one delivery probes the webhook; if it succeeds, the others follow.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    paused_until: Option<Timestamp>,
    /// Time since which deliveries cannot be signed, because the gateway has no key that decrypts the secret, the
    /// headers or the URL; `last_failure` says which. No delivery is lost: the gateway tries again every minute. If the
    /// operator cannot restore the key, rotate the secret, and set the headers and the URL again.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    unsigned_since: Option<Timestamp>,
}

/// A failed attempt.
#[derive(Serialize, ToSchema)]
pub struct WebhookFailure {
    /// Time of the attempt.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The HTTP status of the receiver, if it answered.
    #[schema(required = true)]
    status: Option<u16>,
    /// A description of the error.
    #[schema(example = "the receiver answered with status 500")]
    error: String,
}

/// All webhooks of a tenant.
#[derive(Serialize, ToSchema)]
pub struct WebhookList {
    /// The webhooks, oldest first.
    #[schema(max_items = 50)]
    pub(super) webhooks: Vec<WebhookResource>,
    /// The ids of webhooks that this version of the service cannot read, usually because a later version wrote them. Their
    /// deliveries are created, and wait if this version cannot send them. `DELETE` works. Omitted if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, max_items = 50)]
    pub(super) unreadable: Vec<String>,
}

impl WebhookResource {
    /// Creates the public view of a webhook. `secret` is the new secret, if the request created one.
    pub(super) fn new(state: WebhookState, secret: Option<&CallbackSecret>, now: Timestamp) -> Self {
        let WebhookState { webhook, activity } = state;
        let previous = webhook.sealed.previous_secret.as_ref().map(|(_, until)| *until);
        let (method, events, rate) = (webhook.method(), webhook.received_events(), webhook.rate());
        let health = webhook.health;
        #[expect(clippy::cast_precision_loss, reason = "a few hundred attempts")]
        let success_rate =
            (activity.attempts > 0).then(|| activity.delivered as f64 / activity.attempts as f64);
        Self {
            id: webhook.id.to_string(),
            url: webhook.url.masked().as_str().to_owned(),
            events: events.kinds().to_vec(),
            filter: webhook.filter.map(|filter| filter.source().clone()),
            method,
            rate: rate.map(|rate| rate.per_second.into()),
            burst: rate.map(|rate| rate.burst.into()),
            transform: webhook.transform,
            payload: webhook.payload,
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

/// Forbids caches to store the answer, because the answer contains a secret.
pub(super) fn not_cached(mut response: HttpResponseBuilder) -> HttpResponseBuilder {
    response.insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-store")));
    response
}
