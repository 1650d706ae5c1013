//! Handlers of `/v1/webhooks` and `/v1/webhooks/{webhook_id}`.

use actix_web::HttpResponse;
use actix_web::http::header;

use super::body::JsonBody;
use super::problem::ApiError;
use super::query::NoQuery;
use super::request::ApiRequest;
use super::webhook_input::{ChangeWebhook, CreateWebhook};
use super::webhook_resource::{WebhookList, WebhookResource, not_cached};
use crate::domain::ids::WebhookId;

/// Registers a webhook. Only this answer contains the secret of the webhook.
pub(super) async fn create_webhook(
    request: ApiRequest<(), NoQuery, JsonBody<CreateWebhook>>,
) -> Result<HttpResponse, ApiError> {
    let ApiRequest { state, tenant, body, .. } = request;
    let registration = body.0.into_registration()?;
    let (created, secret) = state.webhooks.create(tenant.id(), registration).await?;
    let location = state.env.public_url.link(&format!("/v1/webhooks/{}", created.webhook.id));
    let webhook = WebhookResource::new(created, Some(&secret), state.env.clock.now());
    Ok(not_cached(HttpResponse::Created()).insert_header((header::LOCATION, location)).json(webhook))
}

/// Lists all webhooks of the tenant.
pub(super) async fn list_webhooks(request: ApiRequest) -> Result<HttpResponse, ApiError> {
    let (states, unreadable) = request.state.webhooks.list(request.tenant.id()).await?;
    let now = request.state.env.clock.now();
    let webhooks = states.into_iter().map(|state| WebhookResource::new(state, None, now)).collect();
    Ok(HttpResponse::Ok().json(WebhookList { webhooks, unreadable }))
}

/// Returns one webhook with its health.
pub(super) async fn get_webhook(request: ApiRequest<WebhookId>) -> Result<HttpResponse, ApiError> {
    let found = request.state.webhooks.get(request.tenant.id(), request.path).await?;
    Ok(HttpResponse::Ok().json(WebhookResource::new(found, None, request.state.env.clock.now())))
}

/// Applies a merge patch to a webhook.
pub(super) async fn change_webhook(
    request: ApiRequest<WebhookId, NoQuery, JsonBody<ChangeWebhook>>,
) -> Result<HttpResponse, ApiError> {
    let ApiRequest { state, tenant, path: webhook, body, .. } = request;
    let change = body.0.into_change()?;
    let changed = state.webhooks.change(tenant.id(), webhook, &change).await?;
    Ok(HttpResponse::Ok().json(WebhookResource::new(changed, None, state.env.clock.now())))
}

/// Deletes a webhook with its deliveries.
pub(super) async fn delete_webhook(request: ApiRequest<WebhookId>) -> Result<HttpResponse, ApiError> {
    request.state.webhooks.delete(request.tenant.id(), request.path).await?;
    Ok(HttpResponse::NoContent().finish())
}
