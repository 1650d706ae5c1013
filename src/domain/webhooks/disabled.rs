//! Disabled webhooks. A caller or the gateway disabled them, and they get no events.

use serde::Serialize;
use utoipa::ToSchema;

use super::Webhook;
use crate::domain::clock::{Entropy, Timestamp};
use crate::domain::events::Event;
use crate::domain::ids::TenantId;

/// The reason why a webhook is disabled: `requested` (a caller disabled the webhook), `gone` (the receiver answered 410) or
/// `failing` (failures for five days without a success).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DisabledReason {
    /// A caller disabled the webhook.
    Requested,
    /// The receiver answered 410.
    Gone,
    /// The webhook has failed for five days without a success.
    Failing,
}

impl DisabledReason {
    /// All reasons for disabling a webhook.
    pub const ALL: [Self; 3] = [Self::Requested, Self::Gone, Self::Failing];

    /// Returns the name in the API, the store and in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Gone => "gone",
            Self::Failing => "failing",
        }
    }

    /// Parses the output of [`DisabledReason::as_str`].
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

/// State of a disabled webhook. Its pending deliveries wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disabled {
    /// Reason why the webhook is disabled.
    pub reason: DisabledReason,
    /// Time when the webhook was disabled.
    pub at: Timestamp,
}

/// A webhook that the gateway disabled. The URL is left out, because it may contain a secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct DisabledWebhook {
    /// The id of the webhook.
    #[schema(example = "whk_018f95f4cd287c5b9a6f3b1f8f0a1d2e")]
    webhook: String,
    /// The description of the webhook.
    #[schema(required = true, max_length = 256)]
    description: Option<String>,
    /// The reason why the webhook is disabled: `gone` or `failing`.
    reason: DisabledReason,
    /// Time when the webhook was disabled.
    #[schema(value_type = String, format = DateTime)]
    disabled_at: Timestamp,
    /// The error of the last attempt.
    #[schema(required = true, example = "the receiver answered 410 and wants no more callbacks")]
    error: Option<String>,
}

impl Webhook {
    /// Creates the event of a webhook that the gateway disabled; `None` if the webhook is enabled.
    ///
    /// # Errors
    /// Returns an error if the event does not serialize, which would be a bug.
    pub fn disabled_event(
        &self,
        tenant: &TenantId,
        entropy: &dyn Entropy,
    ) -> Result<Option<Event>, serde_json::Error> {
        let Some(Disabled { reason, at }) = self.disabled else { return Ok(None) };
        let data = DisabledWebhook {
            webhook: self.id.to_string(),
            description: self.description.clone(),
            reason,
            disabled_at: at,
            error: self.health.last_failure.as_ref().map(|last| last.error.clone()),
        };
        Event::webhook_disabled(tenant.clone(), &data, at, entropy).map(Some)
    }
}
