//! Handlers of actions on a webhook: send a test event, rotate the secret.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::header;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::{JsonFields, NoFields, OptionalBody};
use super::numbers::whole_number;
use super::problem::ApiError;
use super::query::NoQuery;
use super::request::ApiRequest;
use super::webhook_resource::{WebhookResource, not_cached};
use crate::domain::ids::WebhookId;
use crate::domain::secrets::CallbackSecret;

const DEFAULT_OVERLAP: u64 = 24 * 60 * 60;
const MAX_OVERLAP: u64 = 7 * 24 * 60 * 60;

/// Options of a rotation.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateSecret {
    /// Number of seconds for which deliveries are also signed with the previous secret, so that you can update the receiver. The
    /// default is 86,400 (one day). Use 0 if the previous secret has leaked.
    #[schema(nullable = false, minimum = 0, maximum = 604_800)]
    #[serde(default, deserialize_with = "whole_number")]
    overlap_seconds: Option<u64>,
    /// The new secret. By default the gateway generates one.
    #[serde(default)]
    secret: Option<String>,
}

impl JsonFields for RotateSecret {}

/// The answer to a request that scheduled a delivery.
#[derive(Debug, Serialize, ToSchema)]
pub struct Accepted {
    /// The id of the delivery. `GET /v1/deliveries/{delivery_id}` returns its outcome.
    #[schema(example = "dlv_018f95f4cd287c5b9a6f3b1f8f0a1d2e")]
    delivery: String,
}

impl RotateSecret {
    fn overlap(&self) -> Result<Duration, ApiError> {
        let overlap = self.overlap_seconds.unwrap_or(DEFAULT_OVERLAP);
        if overlap > MAX_OVERLAP {
            return Err(ApiError::invalid_field("#/overlap_seconds", &format!("must be 0 to {MAX_OVERLAP}")));
        }
        Ok(Duration::from_secs(overlap))
    }

    fn secret(&self) -> Result<Option<CallbackSecret>, ApiError> {
        let parse = |text: &String| {
            CallbackSecret::parse(text).map_err(|error| ApiError::invalid_field("#/secret", &error))
        };
        self.secret.as_ref().map(parse).transpose()
    }
}

/// Schedules a test event.
pub(super) async fn test_webhook(
    request: ApiRequest<WebhookId, NoQuery, OptionalBody<NoFields>>,
) -> Result<HttpResponse, ApiError> {
    let ApiRequest { state, tenant, trace, path: webhook, .. } = request;
    let delivery = state.webhooks.test(tenant.id(), webhook, trace).await?;
    let location = state.env.public_url.link(&format!("/v1/deliveries/{delivery}"));
    let accepted = Accepted { delivery: delivery.to_string() };
    Ok(HttpResponse::Accepted().insert_header((header::LOCATION, location)).json(accepted))
}

/// Replaces the secret. Only this answer contains the new secret.
pub(super) async fn rotate_webhook_secret(
    request: ApiRequest<WebhookId, NoQuery, OptionalBody<RotateSecret>>,
) -> Result<HttpResponse, ApiError> {
    let ApiRequest { state, tenant, path: webhook, body, .. } = request;
    let (overlap, secret) = (body.0.overlap()?, body.0.secret()?);
    let (rotated, secret) = state.webhooks.rotate(tenant.id(), webhook, secret, overlap).await?;
    Ok(not_cached(HttpResponse::Ok()).json(WebhookResource::new(
        rotated,
        Some(&secret),
        state.env.clock.now(),
    )))
}
