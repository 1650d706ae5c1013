//! Handlers of `/v1/deliveries`.

use actix_web::HttpResponse;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::body::{NoFields, OptionalBody};
use super::field_errors::FieldErrors;
use super::problem::ApiError;
use super::query::NoQuery;
use super::request::ApiRequest;
use crate::analyses::DeliveryPage;
use crate::domain::clock::Timestamp;
use crate::domain::deliveries::{DeliveryFilter, DeliveryStatus};
use crate::domain::event_payload::EventPayload;
use crate::domain::ids::{CallId, DeliveryId, WebhookId};
use crate::store::{DeliveryWithAttempts, RecordedAttempt, RecordedDelivery};

const MAX_LIMIT: u32 = 200;
const DEFAULT_LIMIT: u32 = 50;

/// Filters and paging of a list of deliveries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListDeliveries {
    /// Filter by the id of a webhook.
    #[param(max_length = 36, pattern = "^whk_[0-9a-f]{32}$")]
    webhook: Option<String>,
    /// Filter by status.
    #[param(inline)]
    status: Option<DeliveryStatus>,
    /// Filter by the id of a call.
    #[param(min_length = 1, max_length = 128, pattern = r##"^[A-Za-z0-9._~:@+=!"#%'()*<>?\[\\\]`{}-]+$"##)]
    call_id: Option<String>,
    /// The `next_cursor` of the previous page. Use it with the same filters.
    #[param(min_length = 1, max_length = 256, pattern = r"^[A-Za-z0-9_-]+$")]
    cursor: Option<String>,
    /// Maximum number of deliveries on the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
}

impl ListDeliveries {
    fn into_filter(self) -> Result<(DeliveryFilter, Option<String>, usize), ApiError> {
        let mut errors = FieldErrors::default();
        let limit = errors.page_size(self.limit, DEFAULT_LIMIT, MAX_LIMIT);
        let webhook = self.webhook.as_deref().map(WebhookId::parse);
        if webhook == Some(None) {
            errors.add("?webhook", "must be the id of a webhook: whk_ and 32 hexadecimal digits");
        }
        let call_id = self.call_id.as_deref().and_then(|text| errors.take("?call_id", CallId::parse(text)));
        errors.check()?;
        let filter = DeliveryFilter { webhook: webhook.flatten(), status: self.status, call_id };
        Ok((filter, self.cursor, limit))
    }
}

/// One page of deliveries.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryList {
    /// The deliveries, newest first.
    #[schema(max_items = 200)]
    deliveries: Vec<DeliveryResource>,
    /// The ids of deliveries on this page that this version of the service cannot read, usually because a later version wrote
    /// them. Omitted if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, max_items = 200)]
    unreadable: Vec<String>,
    /// The cursor of the next page; `null` on the last page.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// The delivery of one event to one receiver.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Delivery)]
pub struct DeliveryResource {
    /// The id of the delivery.
    #[schema(example = "dlv_018f95f4cd287c5b9a6f3b1f8f0a1d2e")]
    id: String,
    /// The id of the webhook; `null` for the callback of a submission.
    #[schema(required = true, example = "whk_018f95f4cd287c5b9a6f3b1f8f0a1d2e")]
    webhook: Option<String>,
    /// The URL of the receiver, with `***` in place of its secrets. For a webhook it is the current URL.
    url: String,
    /// Form of the event's payload. For a webhook it is the current setting of the webhook.
    payload: EventPayload,
    /// The id of the event, sent as `webhook-id`.
    #[schema(example = "evt_018f95f4cd287c5b9a6f3b1f8f0a1d2e")]
    event: String,
    /// The type of the event.
    #[schema(example = "analysis.completed")]
    event_type: String,
    /// The call of the event; `null` for a test event and for `webhook.disabled`.
    #[schema(required = true, example = "1716207617.42")]
    call_id: Option<String>,
    /// The status of the delivery.
    #[schema(value_type = DeliveryStatus)]
    status: String,
    /// Number of started attempts.
    attempt_count: u32,
    /// Whether an attempt is in progress.
    under_way: bool,
    /// Time of the next attempt; `null` if none is planned. While the webhook is disabled or the receiver is paused, the attempt
    /// may come later.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    next_attempt_at: Option<Timestamp>,
    /// Time when the delivery was created.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Time when the delivery succeeded or failed permanently; `null` while it is pending.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
    /// The attempts, oldest first, at most the last 100. Lists omit this field.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false, max_items = 100)]
    attempts: Option<Vec<Attempt>>,
}

/// One HTTP request of a delivery.
#[derive(Debug, Serialize, ToSchema)]
pub struct Attempt {
    /// Number of the attempt, from 1.
    number: u32,
    /// Start time. The attempt is recorded before the request is sent.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// The outcome: `delivered`, `refused` (a status other than 2xx and 410), `declined` (a preset knows from the answer that the
    /// receiver does not accept the event now), `rejected` (a preset knows that the receiver will never accept the request),
    /// `gone` (410), `timeout`, `connect`, `dns`, `tls`, `closed`, `protocol`, `proxy`, `forbidden` (the address is not allowed),
    /// `transform` (the event could not be rendered), `unknown` (this attempt sent nothing, because the previous attempt
    /// may have arrived and `on_unknown` is `give_up`), `unsigned` (the secret is missing, or the secret, the headers or the URL
    /// cannot be decrypted) or `request` (the request could not be built). The outcome is `null` while the attempt is in
    /// progress, or if the gateway crashed during the attempt.
    #[schema(required = true, example = "refused")]
    outcome: Option<String>,
    /// The HTTP status of the receiver, if it answered.
    #[schema(required = true, example = 500)]
    status: Option<u16>,
    /// Duration of the attempt in milliseconds.
    #[schema(required = true, example = 42)]
    latency_ms: Option<u64>,
    /// A description of the error.
    #[schema(required = true, example = "the receiver answered with status 500")]
    error: Option<String>,
    /// The first 4 KiB of the answer of the receiver. Invalid UTF-8 is replaced.
    response: String,
}

impl From<RecordedDelivery> for DeliveryResource {
    fn from(delivery: RecordedDelivery) -> Self {
        let is_pending = delivery.status == DeliveryStatus::Pending.as_str();
        let under_way = is_pending && delivery.leased;
        Self {
            id: delivery.id.to_string(),
            webhook: delivery.webhook.map(|webhook| webhook.to_string()),
            url: delivery.url,
            payload: delivery.payload,
            event: delivery.event_id.to_string(),
            event_type: delivery.kind,
            call_id: delivery.call_id.map(String::from),
            status: delivery.status,
            attempt_count: delivery.attempts,
            under_way,
            next_attempt_at: (is_pending && !under_way).then_some(delivery.due_at),
            created_at: delivery.created_at,
            finished_at: delivery.finished_at,
            attempts: None,
        }
    }
}

impl From<RecordedAttempt> for Attempt {
    fn from(attempt: RecordedAttempt) -> Self {
        let latency = attempt.latency.map(|latency| latency.as_millis());
        Self {
            number: attempt.number,
            started_at: attempt.started_at,
            outcome: attempt.outcome,
            status: attempt.status,
            latency_ms: latency.map(|latency| u64::try_from(latency).unwrap_or(u64::MAX)),
            error: attempt.detail,
            response: String::from_utf8_lossy(&attempt.response).into_owned(),
        }
    }
}

impl From<DeliveryWithAttempts> for DeliveryResource {
    fn from(DeliveryWithAttempts { delivery, attempts }: DeliveryWithAttempts) -> Self {
        let attempts = attempts.into_iter().map(Attempt::from).collect();
        Self { attempts: Some(attempts), ..Self::from(delivery) }
    }
}

/// Lists the deliveries that match all filters.
pub(super) async fn list_deliveries(
    request: ApiRequest<(), ListDeliveries>,
) -> Result<HttpResponse, ApiError> {
    let ApiRequest { state, tenant, query, .. } = request;
    let (filter, cursor, limit) = query.into_filter()?;
    let list = state.webhooks.deliveries(tenant.id(), filter, cursor.as_deref(), limit).await?;
    let DeliveryPage { deliveries, unreadable, next_cursor } = list;
    let deliveries = deliveries.into_iter().map(DeliveryResource::from).collect();
    Ok(HttpResponse::Ok().json(DeliveryList { deliveries, unreadable, next_cursor }))
}

/// Returns one delivery with its attempts.
pub(super) async fn get_delivery(request: ApiRequest<DeliveryId>) -> Result<HttpResponse, ApiError> {
    let found = request.state.webhooks.delivery(request.tenant.id(), request.path).await?;
    Ok(HttpResponse::Ok().json(DeliveryResource::from(found)))
}

/// Schedules a new attempt of a delivery.
pub(super) async fn redeliver(
    request: ApiRequest<DeliveryId, NoQuery, OptionalBody<NoFields>>,
) -> Result<HttpResponse, ApiError> {
    let due = request.state.webhooks.redeliver(request.tenant.id(), request.path).await?;
    Ok(HttpResponse::Accepted().json(DeliveryResource::from(due)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::call_id_schema::call_id_schema;

    /// A parameter with `schema_with` has no description in the document, so the parameter repeats the schema.
    #[test]
    fn the_filter_by_call_has_the_schema_of_call_ids() {
        let parameters = serde_json::to_value(ListDeliveries::into_params(|| None)).unwrap();
        let of_call = parameters.as_array().unwrap().iter().find(|parameter| parameter["name"] == "call_id");
        let (schema, rule) =
            (&of_call.unwrap()["schema"], serde_json::to_value(call_id_schema().build()).unwrap());
        for keyword in ["minLength", "maxLength", "pattern"] {
            assert_eq!(schema[keyword], rule[keyword], "{keyword}");
        }
    }
}
