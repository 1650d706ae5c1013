//! `/v1/deliveries`

use std::sync::Arc;

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::authorized::{Authorized, WebhooksManage};
use super::idempotency::Idempotency;
use super::input::{DeliveryPath, NoFields, NoParameters, OptionalBody, StrictQuery};
use super::parameters::{DeliveryParameter, RequestKey};
use super::problem::{ApiError, FieldError};
use super::problem_responses::{
    BodyProblems, CommonProblems, ConflictProblems, KeyProblems, NotFoundProblems,
};
use super::state::ApiState;
use crate::analyses::DeliveryWithAttempts;
use crate::domain::clock::Timestamp;
use crate::domain::deliveries::{DeliveryFilter, DeliveryStatus};
use crate::domain::idempotency::Subject;
use crate::domain::ids::{CallId, WebhookId};
use crate::store::{RecordedAttempt, RecordedDelivery};

const MAX_LIMIT: u32 = 200;
const DEFAULT_LIMIT: u32 = 50;

/// Which deliveries to list: those that are all of it.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListDeliveries {
    /// To this webhook.
    #[param(max_length = 36, pattern = "^whk_[0-9a-f]{32}$")]
    webhook: Option<String>,
    /// That have come so far.
    #[param(inline)]
    status: Option<DeliveryStatus>,
    /// That tell of this call.
    #[param(min_length = 1, max_length = 128, pattern = r"^[A-Za-z0-9._~:@+=-]+$")]
    call_id: Option<String>,
    /// The `next_cursor` of the page before, with the same filters.
    #[param(min_length = 1, max_length = 256, pattern = r"^[A-Za-z0-9_-]+$")]
    cursor: Option<String>,
    /// The most deliveries on the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
}

impl ListDeliveries {
    fn into_filter(self) -> Result<(DeliveryFilter, Option<String>, usize), ApiError> {
        let mut errors = Vec::new();
        let mut wrong =
            |name: &str, detail: String| errors.push(FieldError { pointer: format!("?{name}"), detail });
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            wrong("limit", format!("must be 1 to {MAX_LIMIT}"));
        }
        let webhook = self.webhook.as_deref().map(WebhookId::parse);
        if webhook == Some(None) {
            wrong("webhook", "must be the id of a webhook: whk_ and 32 hexadecimal digits".to_owned());
        }
        let call_id = self.call_id.as_deref().map(CallId::parse).transpose();
        let call_id = call_id.map_err(|error| wrong("call_id", error.to_string())).ok();
        if !errors.is_empty() {
            return Err(ApiError::invalid(errors));
        }
        let filter =
            DeliveryFilter { webhook: webhook.flatten(), status: self.status, call_id: call_id.flatten() };
        Ok((filter, self.cursor, limit as usize))
    }
}

/// A page of deliveries.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveryList {
    /// The newest first.
    #[schema(max_items = 200)]
    deliveries: Vec<Delivery>,
    /// For the next page; `null` on the last.
    #[schema(required = true)]
    next_cursor: Option<String>,
}

/// One event on its way to one URL.
#[derive(Debug, Serialize, ToSchema)]
pub struct Delivery {
    /// Its id.
    #[schema(example = "dlv_018f95f4cd287c5b9a6f3b1f8f0a1d2e")]
    id: String,
    /// The webhook; `null` for the callback of a submission.
    #[schema(required = true, example = "whk_018f95f4cd287c5b9a6f3b1f8f0a1d2e")]
    webhook: Option<String>,
    /// Where it goes; a webhook's URL as it is now.
    url: String,
    /// The event, which is the `webhook-id`.
    #[schema(example = "evt_018f95f4cd287c5b9a6f3b1f8f0a1d2e")]
    event: String,
    /// What happened.
    #[schema(example = "analysis.completed")]
    event_type: String,
    /// The call that the event tells of; `null` for a test.
    #[schema(required = true, example = "1716207617.42")]
    call_id: Option<String>,
    /// How far it has come.
    #[schema(value_type = DeliveryStatus)]
    status: String,
    /// Attempts that were begun.
    attempt_count: u32,
    /// Whether one is under way at this moment.
    under_way: bool,
    /// When the next is due, if one is to come; one to a webhook that is disabled or paused may wait longer.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    next_attempt_at: Option<Timestamp>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it arrived or was given up.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
    /// Every attempt, the first one first; of more than 100, those that came last. Not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, nullable = false, max_items = 100)]
    attempts: Option<Vec<Attempt>>,
}

/// One try.
#[derive(Debug, Serialize, ToSchema)]
pub struct Attempt {
    /// Counted from 1.
    number: u32,
    /// When it began. It is written down before anything is sent.
    #[schema(value_type = String, format = DateTime)]
    started_at: Timestamp,
    /// How it ended: `delivered`, `refused`, `gone`, `timeout`, `connect`, `dns`, `tls`, `closed`, `protocol`, `forbidden`,
    /// `unsigned` or `request`; `null` while it is under way, or if its end was lost with its process.
    #[schema(required = true, example = "refused")]
    outcome: Option<String>,
    /// The receiver's status, if it gave one.
    #[schema(required = true, example = 500)]
    status: Option<u16>,
    /// From the first byte to the last, in milliseconds.
    #[schema(required = true, example = 42)]
    latency_ms: Option<u64>,
    /// What went wrong.
    #[schema(required = true, example = "the receiver answered with status 500")]
    error: Option<String>,
    /// The first 4 KiB of the receiver's answer; what is not UTF-8 in it is replaced.
    response: String,
}

impl From<RecordedDelivery> for Delivery {
    fn from(delivery: RecordedDelivery) -> Self {
        let is_pending = delivery.status == DeliveryStatus::Pending.as_str();
        let under_way = is_pending && delivery.leased;
        Self {
            id: delivery.id.to_string(),
            webhook: delivery.webhook.map(|webhook| webhook.to_string()),
            url: delivery.url,
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

impl From<DeliveryWithAttempts> for Delivery {
    fn from(DeliveryWithAttempts { delivery, attempts }: DeliveryWithAttempts) -> Self {
        let attempts = attempts.into_iter().map(Attempt::from).collect();
        Self { attempts: Some(attempts), ..Self::from(delivery) }
    }
}

/// List deliveries
///
/// Of webhooks and of the callbacks of submissions, the newest first. They are kept as long as their events.
#[utoipa::path(
    get, path = "/v1/deliveries", operation_id = "list_deliveries", tag = "webhooks",
    params(ListDeliveries),
    responses((status = 200, description = "A page", body = DeliveryList), CommonProblems),
    security(("bearer" = ["webhooks:manage"]))
)]
pub async fn list_deliveries(
    state: web::Data<ApiState>,
    caller: Authorized<WebhooksManage>,
    query: StrictQuery<ListDeliveries>,
) -> Result<HttpResponse, ApiError> {
    let (filter, cursor, limit) = query.0.into_filter()?;
    let list = state.webhooks.deliveries(caller.tenant.id(), filter, cursor.as_deref(), limit).await?;
    let deliveries = list.deliveries.into_iter().map(Delivery::from).collect();
    Ok(HttpResponse::Ok().json(DeliveryList { deliveries, next_cursor: list.next_cursor }))
}

/// Get a delivery with every attempt
///
/// What was sent when, and what the receiver answered.
#[utoipa::path(
    get, path = "/v1/deliveries/{delivery_id}", operation_id = "get_delivery", tag = "webhooks",
    params(DeliveryParameter),
    responses((status = 200, description = "The delivery", body = Delivery), NotFoundProblems, CommonProblems),
    security(("bearer" = ["webhooks:manage"]))
)]
pub async fn get_delivery(
    state: web::Data<ApiState>,
    caller: Authorized<WebhooksManage>,
    delivery: DeliveryPath,
    _query: StrictQuery<NoParameters>,
) -> Result<HttpResponse, ApiError> {
    let found = state.webhooks.delivery(caller.tenant.id(), delivery.0).await?;
    Ok(HttpResponse::Ok().json(Delivery::from(found)))
}

/// Send a delivery again
///
/// Now, whatever became of it, under the same `webhook-id`; its earlier attempts stay on record, and the pauses between the
/// next ones begin anew. One that is being attempted at this moment is left alone.
#[utoipa::path(
    post, path = "/v1/deliveries/{delivery_id}/redeliver", operation_id = "redeliver", tag = "webhooks",
    params(DeliveryParameter, RequestKey),
    responses(
        (status = 202, description = "On its way", body = Delivery,
            headers(("Idempotency-Replayed" = bool, description = "`true`: the first answer to this `Idempotency-Key`, again"))),
        NotFoundProblems, KeyProblems, ConflictProblems, BodyProblems, CommonProblems,
    ),
    security(("bearer" = ["webhooks:manage"]))
)]
pub async fn redeliver(
    state: web::Data<ApiState>,
    caller: Authorized<WebhooksManage>,
    delivery: DeliveryPath,
    idempotency: Idempotency,
    _query: StrictQuery<NoParameters>,
    _body: OptionalBody<NoFields>,
) -> Result<HttpResponse, ApiError> {
    let (keyed, tenant) = (Arc::clone(&state.keyed), caller.tenant.id().clone());
    let work = async move {
        let due = state.webhooks.redeliver(caller.tenant.id(), delivery.0).await?;
        Ok(HttpResponse::Accepted().json(Delivery::from(due)))
    };
    // It tells of a call and of what was answered about it: not to outlive a deletion.
    idempotency.once(&keyed, &tenant, Subject::Calls, work).await
}
