//! Replays past events to a webhook.

use super::{Webhooks, WebhooksError};
use crate::domain::clock::Timestamp;
use crate::domain::ids::{ReplayId, TenantId, WebhookId};
use crate::domain::replays::{Replay, ReplayCount, ReplaySpan};
use crate::domain::trace::TraceContext;
use crate::domain::webhooks::EventFilter;
use crate::store::ReplayBegin;

/// The events to replay.
#[derive(Debug, Clone)]
pub struct ReplayRequest {
    /// Start of the time span.
    pub since: Timestamp,
    /// End of the time span; `None` means the current time.
    pub until: Option<Timestamp>,
    /// Types of the events; `None` selects the types that the webhook receives.
    pub events: Option<EventFilter>,
}

impl Webhooks {
    /// Starts a replay, which continues in the background.
    ///
    /// # Errors
    /// Returns an error if the tenant has no such webhook, it is disabled, another replay to it is unfinished, or the store
    /// fails.
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
            delivered: 0,
            failed: 0,
            trace,
        };
        match self.store.begin_replay(tenant, replay.clone()).await? {
            ReplayBegin::Begun => Ok(replay),
            ReplayBegin::NotFound => Err(WebhooksError::NotFound("webhook")),
            ReplayBegin::Disabled => Err(WebhooksError::Disabled),
            ReplayBegin::UnderWay => Err(WebhooksError::ReplayUnderWay),
        }
    }

    /// Counts the events of a replay, including those that the filter of the webhook would drop.
    ///
    /// # Errors
    /// Returns an error if the tenant has no such webhook, or the store fails.
    pub async fn count_replay(
        &self,
        tenant: &TenantId,
        webhook: WebhookId,
        request: ReplayRequest,
    ) -> Result<ReplayCount, WebhooksError> {
        let span = self.span(tenant, webhook, request).await?;
        Ok(self.store.count_events(tenant, span).await?)
    }

    /// Returns the progress of a replay.
    ///
    /// # Errors
    /// Returns an error if there is no such replay to this webhook, or the store fails.
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
            events: request.events.unwrap_or_else(|| webhook.received_events()),
        })
    }
}
