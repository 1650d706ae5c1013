//! Sending an endpoint again what happened before.

use super::{Webhooks, WebhooksError};
use crate::domain::clock::Timestamp;
use crate::domain::ids::{ReplayId, TenantId, WebhookId};
use crate::domain::replays::{Replay, ReplayCount, ReplaySpan};
use crate::domain::trace::TraceContext;
use crate::domain::webhooks::EventFilter;
use crate::store::ReplayBegin;

/// Which events to send again.
#[derive(Debug, Clone)]
pub struct ReplayRequest {
    /// From this moment on.
    pub since: Timestamp,
    /// Up to this moment; up to now if there is none.
    pub until: Option<Timestamp>,
    /// Of these types; of those that the endpoint wants if there are none.
    pub events: Option<EventFilter>,
}

impl Webhooks {
    /// Begins a replay, which goes on by itself.
    ///
    /// # Errors
    /// If the tenant has no such endpoint, it is disabled, or another replay to it is not finished.
    pub async fn replay(
        &self,
        tenant: &TenantId,
        webhook: WebhookId,
        request: ReplayRequest,
        trace: TraceContext,
    ) -> Result<Replay, WebhooksError> {
        let span = self.span(tenant, webhook, request).await?;
        let now = self.env.clock.now();
        let replay = Replay {
            id: ReplayId::generate(now, &*self.env.entropy),
            webhook,
            span,
            created_at: now,
            finished_at: None,
            sent: 0,
            trace,
        };
        match self.store.begin_replay(tenant, replay.clone()).await? {
            ReplayBegin::Begun => Ok(replay),
            ReplayBegin::NotFound => Err(WebhooksError::NotFound("webhook")),
            ReplayBegin::Disabled => Err(WebhooksError::Disabled),
            ReplayBegin::UnderWay => Err(WebhooksError::ReplayUnderWay),
        }
    }

    /// How many events a replay would send.
    ///
    /// # Errors
    /// If the tenant has no such endpoint.
    pub async fn count_replay(
        &self,
        tenant: &TenantId,
        webhook: WebhookId,
        request: ReplayRequest,
    ) -> Result<ReplayCount, WebhooksError> {
        let span = self.span(tenant, webhook, request).await?;
        Ok(self.store.count_events(tenant, span).await?)
    }

    /// How far a replay is.
    ///
    /// # Errors
    /// If there is no such replay to this endpoint.
    pub async fn find_replay(
        &self,
        tenant: &TenantId,
        webhook: WebhookId,
        replay: ReplayId,
    ) -> Result<Replay, WebhooksError> {
        let found = self.store.find_replay(tenant, webhook, replay).await?;
        found.ok_or(WebhooksError::NotFound("replay"))
    }

    async fn span(
        &self,
        tenant: &TenantId,
        webhook: WebhookId,
        request: ReplayRequest,
    ) -> Result<ReplaySpan, WebhooksError> {
        let webhook = self.find(tenant, webhook).await?;
        Ok(ReplaySpan {
            since: request.since,
            until: request.until.unwrap_or_else(|| self.env.clock.now()),
            events: request.events.unwrap_or(webhook.events),
        })
    }
}
