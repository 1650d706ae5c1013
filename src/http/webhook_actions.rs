//! What is done with a webhook: try it out, rotate its secret, send it again what happened.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::authorized::{Authorized, WebhooksManage};
use super::idempotency::Idempotency;
use super::input::{JsonBody, NoFields, NoParameters, OptionalBody, ReplayPath, StrictQuery, WebhookPath};
use super::numbers::whole_number;
use super::observe::RequestTrace;
use super::parameters::{ReplayParameter, RequestKey, WebhookParameter};
use super::problem::ApiError;
use super::problem_responses::{
    BodyProblems, CommonProblems, ConflictProblems, KeyProblems, NotFoundProblems, SealingProblems,
};
use super::state::ApiState;
use super::webhooks::{Webhook, secretive};
use crate::analyses::ReplayRequest;
use crate::domain::clock::Timestamp;
use crate::domain::events::EventKind;
use crate::domain::idempotency::Subject;
use crate::domain::replays::{Replay as RecordedReplay, ReplayCount};
use crate::domain::secrets::CallbackSecret;
use crate::domain::webhooks::EventFilter;

const DEFAULT_OVERLAP: u64 = 24 * 60 * 60;
const MAX_OVERLAP: u64 = 7 * 24 * 60 * 60;

/// How to rotate.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateSecret {
    /// For so many seconds the secret that is rotated away signs too, so that the receiver can be changed in between;
    /// 86,400 (a day) if it is left out, 0 if it has leaked.
    #[schema(nullable = false, minimum = 0, maximum = 604_800, default = 86_400)]
    #[serde(default, deserialize_with = "whole_number")]
    overlap_seconds: Option<u64>,
    /// The new secret; one is made if it is left out.
    #[serde(default)]
    secret: Option<String>,
}

/// Something was put on its way.
#[derive(Debug, Serialize, ToSchema)]
pub struct Accepted {
    /// The delivery: `GET /v1/deliveries/{delivery_id}` tells what became of it.
    #[schema(example = "dlv_018f95f4cd287c5b9a6f3b1f8f0a1d2e")]
    delivery: String,
}

/// What to send again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"since": "2026-11-20T00:00:00Z", "dry_run": true}))]
pub struct ReplayEvents {
    /// What happened from this moment on.
    #[schema(value_type = String, format = DateTime, max_length = 40)]
    since: Timestamp,
    /// Up to this moment, included; up to now if it is left out.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime, max_length = 40)]
    until: Option<Timestamp>,
    /// Of these types; of those that the webhook gets if it is left out.
    #[serde(default)]
    #[schema(min_items = 1, max_items = 3)]
    events: Option<Vec<EventKind>>,
    /// Only to count.
    #[serde(default)]
    dry_run: bool,
}

/// How many events would be sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReplayEstimate {
    /// Events, as far as they were counted.
    #[schema(example = 1250)]
    events: u64,
    /// Whether there may be more: after 100,000 events the count ends.
    more: bool,
}

/// A replay.
#[derive(Debug, Serialize, ToSchema)]
pub struct Replay {
    /// Its id.
    #[schema(example = "rpl_018f95f4cd287c5b9a6f3b1f8f0a1d2e")]
    id: String,
    /// The webhook.
    #[schema(example = "whk_018f95f4cd287c5b9a6f3b1f8f0a1d2e")]
    webhook: String,
    /// From when.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// Up to when.
    #[schema(value_type = String, format = DateTime)]
    until: Timestamp,
    /// Of which types.
    #[schema(max_items = 3)]
    events: Vec<EventKind>,
    /// Events that were put on their way so far.
    sent: u64,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When the last event was put on its way; `null` until then.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
}

impl From<RecordedReplay> for Replay {
    fn from(replay: RecordedReplay) -> Self {
        Self {
            id: replay.id.to_string(),
            webhook: replay.webhook.to_string(),
            since: replay.span.since,
            until: replay.span.until,
            events: replay.span.events.kinds().to_vec(),
            sent: replay.sent,
            created_at: replay.created_at,
            finished_at: replay.finished_at,
        }
    }
}

impl ReplayEvents {
    fn into_request(self, now: Timestamp) -> Result<ReplayRequest, ApiError> {
        if self.since > self.until.unwrap_or(now) {
            return Err(ApiError::invalid_field("#/since", "must not be after `until`, nor in the future"));
        }
        let events = match self.events {
            None => None,
            Some(kinds) => Some(EventFilter::new(&kinds).ok_or_else(|| {
                ApiError::invalid_field(
                    "#/events",
                    "must name one type at least; leave it out for the webhook's",
                )
            })?),
        };
        Ok(ReplayRequest { since: self.since, until: self.until, events })
    }
}

/// Try a webhook out
///
/// Sends it an event of the type `webhook.test`, whose `data` has `is_test: true` and tells of no call, on the same way as
/// any other: signed, recorded, tried again.
#[utoipa::path(
    post, path = "/v1/webhooks/{webhook_id}/test", operation_id = "test_webhook", tag = "webhooks",
    params(WebhookParameter, RequestKey),
    responses(
        (status = 202, description = "On its way", body = Accepted,
            headers(("Location" = String, description = "Where the delivery is"),
                ("Idempotency-Replayed" = bool, description = "`true`: the first answer to this `Idempotency-Key`, again"))),
        NotFoundProblems, KeyProblems, ConflictProblems, BodyProblems, CommonProblems,
    ),
    security(("bearer" = ["webhooks:manage"]))
)]
pub async fn test_webhook(
    state: web::Data<ApiState>,
    caller: Authorized<WebhooksManage>,
    trace: RequestTrace,
    webhook: WebhookPath,
    idempotency: Idempotency,
    _query: StrictQuery<NoParameters>,
    _body: OptionalBody<NoFields>,
) -> Result<HttpResponse, ApiError> {
    let (keyed, tenant) = (Arc::clone(&state.keyed), caller.tenant.id().clone());
    let work = async move {
        let delivery = state.webhooks.test(caller.tenant.id(), webhook.0, trace.0).await?;
        let location = format!("/v1/deliveries/{delivery}");
        let accepted = Accepted { delivery: delivery.to_string() };
        Ok(HttpResponse::Accepted().insert_header((header::LOCATION, location)).json(accepted))
    };
    idempotency.once(&keyed, &tenant, Subject::Plain, work).await
}

/// Rotate a webhook's secret
///
/// The answer shows the new secret, once. Until the overlap ends, deliveries carry two signatures, by the new secret and by
/// the one that was in force; a secret from before that one signs no more.
#[utoipa::path(
    post, path = "/v1/webhooks/{webhook_id}/rotate-secret", operation_id = "rotate_webhook_secret", tag = "webhooks",
    params(WebhookParameter, RequestKey), request_body = Option<RotateSecret>,
    responses(
        (status = 200, description = "The webhook with its new secret", body = Webhook,
            headers(("Idempotency-Replayed" = bool, description = "`true`: the first answer to this `Idempotency-Key`, again"))),
        NotFoundProblems, KeyProblems, SealingProblems, BodyProblems, CommonProblems,
    ),
    security(("bearer" = ["webhooks:manage"]))
)]
pub async fn rotate_webhook_secret(
    state: web::Data<ApiState>,
    caller: Authorized<WebhooksManage>,
    webhook: WebhookPath,
    idempotency: Idempotency,
    _query: StrictQuery<NoParameters>,
    body: OptionalBody<RotateSecret>,
) -> Result<HttpResponse, ApiError> {
    let RotateSecret { overlap_seconds, secret } = body.0;
    let overlap = overlap_seconds.unwrap_or(DEFAULT_OVERLAP);
    if overlap > MAX_OVERLAP {
        return Err(ApiError::invalid_field("#/overlap_seconds", &format!("must be 0 to {MAX_OVERLAP}")));
    }
    let parse = |text: String| {
        CallbackSecret::parse(&text).map_err(|error| ApiError::invalid_field("#/secret", &error))
    };
    let secret = secret.map(parse).transpose()?;
    let overlap = Duration::from_secs(overlap);
    let (keyed, tenant) = (Arc::clone(&state.keyed), caller.tenant.id().clone());
    let work = async move {
        let (rotated, secret) = state.webhooks.rotate(caller.tenant.id(), webhook.0, secret, overlap).await?;
        Ok(secretive(HttpResponse::Ok()).json(Webhook::new(rotated, Some(&secret), state.env.clock.now())))
    };
    idempotency.once(&keyed, &tenant, Subject::Secret, work).await
}

/// Send a webhook again what happened
///
/// Every event since a moment, each under the `webhook-id` it has anyway: also those that arrived, and those that happened
/// while the webhook was disabled. What is on its way is not sent twice. The replay goes on by itself, through restarts, as
/// fast as the webhook takes its deliveries; `Location` says where its progress is. With `dry_run` the answer is 200 and
/// only tells how many events there are.
#[utoipa::path(
    post, path = "/v1/webhooks/{webhook_id}/replay", operation_id = "replay_webhook", tag = "webhooks",
    params(WebhookParameter, RequestKey), request_body = ReplayEvents,
    responses(
        (status = 200, description = "How many events there are: with `dry_run`", body = ReplayEstimate),
        (status = 202, description = "Begun", body = Replay,
            headers(("Location" = String, description = "Where the replay is"),
                ("Idempotency-Replayed" = bool, description = "`true`: the first answer to this `Idempotency-Key`, again"))),
        NotFoundProblems, KeyProblems, ConflictProblems, BodyProblems, CommonProblems,
    ),
    security(("bearer" = ["webhooks:manage"]))
)]
pub async fn replay_webhook(
    state: web::Data<ApiState>,
    caller: Authorized<WebhooksManage>,
    trace: RequestTrace,
    webhook: WebhookPath,
    idempotency: Idempotency,
    _query: StrictQuery<NoParameters>,
    body: JsonBody<ReplayEvents>,
) -> Result<HttpResponse, ApiError> {
    let (tenant, dry_run) = (caller.tenant.id(), body.0.dry_run);
    let request = body.0.into_request(state.env.clock.now())?;
    if dry_run {
        let ReplayCount { events, more } = state.webhooks.count_replay(tenant, webhook.0, request).await?;
        return Ok(HttpResponse::Ok().json(ReplayEstimate { events, more }));
    }
    let (keyed, tenant) = (Arc::clone(&state.keyed), tenant.clone());
    let work = async move {
        let replay = state.webhooks.replay(caller.tenant.id(), webhook.0, request, trace.0).await?;
        let location = format!("/v1/webhooks/{}/replays/{}", replay.webhook, replay.id);
        Ok(HttpResponse::Accepted().insert_header((header::LOCATION, location)).json(Replay::from(replay)))
    };
    idempotency.once(&keyed, &tenant, Subject::Plain, work).await
}

/// Get how far a replay is
///
/// It is kept as long as `store.retention` says after its end.
#[utoipa::path(
    get, path = "/v1/webhooks/{webhook_id}/replays/{replay_id}", operation_id = "get_replay", tag = "webhooks",
    params(WebhookParameter, ReplayParameter),
    responses((status = 200, description = "The replay", body = Replay), NotFoundProblems, CommonProblems),
    security(("bearer" = ["webhooks:manage"]))
)]
pub async fn get_replay(
    state: web::Data<ApiState>,
    caller: Authorized<WebhooksManage>,
    webhook: WebhookPath,
    replay: ReplayPath,
    _query: StrictQuery<NoParameters>,
) -> Result<HttpResponse, ApiError> {
    let found = state.webhooks.find_replay(caller.tenant.id(), webhook.0, replay.0).await?;
    Ok(HttpResponse::Ok().json(Replay::from(found)))
}
