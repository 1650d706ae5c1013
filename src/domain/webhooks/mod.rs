//! Webhooks: registered receivers of a tenant's events, independent of the callbacks of submissions.
//!
//! The secrets and header values of a webhook are sealed before they reach the store.

mod headers;
mod health;
mod sealed;

pub use self::headers::{CustomHeaders, HeaderName, InvalidHeader};
pub use self::health::{DeliveryLimit, Health, LastFailure, WebhookOutcome};
pub use self::sealed::{ResealCount, SealedSecrets, WebhookSealer};
use super::callback_url::CallbackUrl;
use super::clock::Timestamp;
use super::event_payload::EventPayload;
use super::events::EventKind;
use super::filters::ContentFilter;
use super::ids::WebhookId;
use super::transforms::{DeliveryMethod, Transform};

/// Maximum number of webhooks per tenant.
pub const MAX_WEBHOOKS: usize = 50;

/// Types of events that a webhook receives: at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFilter(Vec<EventKind>);

impl EventFilter {
    /// Creates a filter that passes all types.
    pub fn all() -> Self {
        Self(EventKind::ALL.to_vec())
    }

    /// Creates a filter that passes these types. Returns `None` if the list is empty.
    pub fn new(kinds: &[EventKind]) -> Option<Self> {
        let kinds: Vec<_> = EventKind::ALL.into_iter().filter(|kind| kinds.contains(kind)).collect();
        if kinds.is_empty() { None } else { Some(Self(kinds)) }
    }

    /// Returns the types, in the order of [`EventKind::ALL`].
    pub fn kinds(&self) -> &[EventKind] {
        &self.0
    }

    /// Whether the filter passes this type.
    pub fn wants(&self, kind: EventKind) -> bool {
        self.0.contains(&kind)
    }

    /// Returns the string form for the store.
    pub fn to_text(&self) -> String {
        self.0.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// Parses the output of [`EventFilter::to_text`] and ignores unknown types of later versions. Returns `None` if
    /// no type remains.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::new(&text.split(' ').filter_map(EventKind::from_word).collect::<Vec<_>>())
    }
}

/// Why a webhook is disabled: `requested` by a caller, `gone` (the receiver answered 410) or `failing` (no success for five
/// days).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DisabledReason {
    /// A caller disabled it.
    Requested,
    /// The receiver answered 410.
    Gone,
    /// It had no success for five days.
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

/// Registered receiver of events.
#[derive(Debug, Clone, PartialEq)]
pub struct Webhook {
    /// Id of the webhook.
    pub id: WebhookId,
    /// URL of the receiver.
    pub url: CallbackUrl,
    /// Types of events that the webhook receives.
    pub events: EventFilter,
    /// Filter on the content of the events; `None` for all events of these types.
    pub filter: Option<ContentFilter>,
    /// How the body is made from the event; `None` sends the event.
    pub transform: Option<Transform>,
    /// HTTP method of the requests; `None` for that of the transform.
    pub method: Option<DeliveryMethod>,
    /// Payload of the events that the webhook receives. It has no effect on a webhook with a transform.
    pub payload: EventPayload,
    /// Description for people.
    pub description: Option<String>,
    /// Names of the custom headers.
    pub header_names: Vec<String>,
    /// Sealed secrets and header values.
    pub sealed: SealedSecrets,
    /// Reason and time if the webhook is disabled.
    pub disabled: Option<Disabled>,
    /// Time of the registration.
    pub created_at: Timestamp,
    /// Time of the last change by a caller or by the gateway.
    pub updated_at: Timestamp,
    /// Number of changes, for optimistic locking.
    pub version: u32,
    /// Health, derived from its deliveries.
    pub health: Health,
}

impl Webhook {
    /// Returns the HTTP method of the requests: its own, or that of the transform.
    pub fn method(&self) -> DeliveryMethod {
        Transform::method(self.method, self.transform.as_ref())
    }

    /// Enables the webhook and resets its health. Pending deliveries continue.
    pub fn enable(&mut self) {
        if self.disabled.take().is_some() {
            self.health.forgive();
        }
    }

    /// Disables the webhook, unless it is disabled already.
    pub fn disable(&mut self, reason: DisabledReason, at: Timestamp) {
        self.disabled.get_or_insert(Disabled { reason, at });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_parses_its_own_string_and_is_never_empty() {
        let some = EventFilter::new(&[
            EventKind::AnalysisUpdated,
            EventKind::AnalysisCompleted,
            EventKind::AnalysisUpdated,
        ])
        .unwrap();
        assert_eq!(some.to_text(), "analysis.completed analysis.updated");
        assert_eq!(EventFilter::from_text(&some.to_text()), Some(some.clone()));
        assert!(some.wants(EventKind::AnalysisUpdated) && !some.wants(EventKind::AnalysisFailed));
        assert_eq!(EventFilter::new(&[]), None);
        assert_eq!(EventFilter::from_text("later.thing"), None);
        assert_eq!(EventFilter::all().kinds(), EventKind::ALL);
    }
}
