//! Handlers of replays of past events to a webhook.

use actix_web::HttpResponse;
use actix_web::http::header;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::{JsonBody, JsonFields};
use super::problem::ApiError;
use super::query::NoQuery;
use super::request::ApiRequest;
use super::webhook_input::event_filter;
use crate::analyses::ReplayRequest;
use crate::domain::clock::Timestamp;
use crate::domain::events::EventKind;
use crate::domain::ids::{ReplayId, WebhookId};
use crate::domain::replays::{Replay, ReplayCount};

/// The period and the types of the events to replay.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"since": "2026-11-20T00:00:00Z", "dry_run": true}))]
pub struct ReplayEvents {
    /// Start of the period, inclusive.
    #[schema(value_type = String, format = DateTime, max_length = 40)]
    since: Timestamp,
    /// End of the period, inclusive. The default is now.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime, max_length = 40)]
    until: Option<Timestamp>,
    /// The types of events to replay. The default is the types that the webhook receives.
    #[serde(default)]
    #[schema(min_items = 1, max_items = 4)]
    events: Option<Vec<EventKind>>,
    /// Whether to only count the events, without sending them.
    #[serde(default)]
    dry_run: bool,
}

/// The number of events of a replay, including those that the filter of the webhook would drop.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReplayEstimate {
    /// Number of counted events.
    #[schema(example = 1250)]
    events: u64,
    /// Whether there may be more events. The count stops at 100,000.
    more: bool,
}

/// A replay of past events to a webhook.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Replay)]
pub struct ReplayResource {
    /// The id of the replay.
    #[schema(example = "rpl_018f95f4cd287c5b9a6f3b1f8f0a1d2e")]
    id: String,
    /// The id of the webhook.
    #[schema(example = "whk_018f95f4cd287c5b9a6f3b1f8f0a1d2e")]
    webhook: String,
    /// Start of the period, inclusive.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// End of the period, inclusive.
    #[schema(value_type = String, format = DateTime)]
    until: Timestamp,
    /// The types of events.
    #[schema(max_items = 4)]
    events: Vec<EventKind>,
    /// Number of events replayed so far. For each event, a delivery was created, or an earlier delivery was restarted.
    sent: u64,
    /// Number of deliveries of the replay that have succeeded. The remaining `sent` - `delivered` deliveries are pending,
    /// have failed or were deleted.
    delivered: u64,
    /// Number of deliveries of the replay that have failed and are not retried. A later redelivery does not change this number.
    failed: u64,
    /// Time of the request.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Time when the delivery of the last event was created; `null` before that. Deliveries may still be pending then.
    #[schema(required = true, value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
}

impl From<Replay> for ReplayResource {
    fn from(replay: Replay) -> Self {
        Self {
            id: replay.id.to_string(),
            webhook: replay.webhook.to_string(),
            since: replay.span.since,
            until: replay.span.until,
            events: replay.span.events.kinds().to_vec(),
            sent: replay.sent,
            delivered: replay.delivered,
            failed: replay.failed,
            created_at: replay.created_at,
            finished_at: replay.finished_at,
        }
    }
}

impl JsonFields for ReplayEvents {
    fn is_dry_run(&self) -> bool {
        self.dry_run
    }
}

impl ReplayEvents {
    fn into_request(self, now: Timestamp) -> Result<ReplayRequest, ApiError> {
        if self.since > self.until.unwrap_or(now) {
            return Err(ApiError::invalid_field(
                "#/since",
                "must not be later than `until` or in the future",
            ));
        }
        let events = self.events.map(|kinds| event_filter(&kinds, "the types of the webhook")).transpose();
        let events = events.map_err(|rule| ApiError::invalid_field("#/events", &rule))?;
        Ok(ReplayRequest { since: self.since, until: self.until, events })
    }
}

/// Starts a replay, or counts its events for a dry run.
pub(super) async fn replay_webhook(
    request: ApiRequest<WebhookId, NoQuery, JsonBody<ReplayEvents>>,
) -> Result<HttpResponse, ApiError> {
    let ApiRequest { state, tenant, trace, path: webhook, body, .. } = request;
    let dry_run = body.0.dry_run;
    let events = body.0.into_request(state.env.clock.now())?;
    if dry_run {
        let ReplayCount { events, more } = state.webhooks.count_replay(tenant.id(), webhook, events).await?;
        return Ok(HttpResponse::Ok().json(ReplayEstimate { events, more }));
    }
    let replay = state.webhooks.replay(tenant.id(), webhook, events, trace).await?;
    let path = format!("/v1/webhooks/{}/replays/{}", replay.webhook, replay.id);
    let location = state.env.public_url.link(&path);
    Ok(HttpResponse::Accepted()
        .insert_header((header::LOCATION, location))
        .json(ReplayResource::from(replay)))
}

/// Returns the progress of a replay.
pub(super) async fn get_replay(request: ApiRequest<(WebhookId, ReplayId)>) -> Result<HttpResponse, ApiError> {
    let (webhook, replay) = request.path;
    let found = request.state.webhooks.find_replay(request.tenant.id(), webhook, replay).await?;
    Ok(HttpResponse::Ok().json(ReplayResource::from(found)))
}
