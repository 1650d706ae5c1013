//! Webhooks: registered receivers of a tenant's events, independent of the callbacks of submissions.
//!
//! The secrets and header values of a webhook, and a URL with a secret, are sealed before they reach the store.

mod disabled;
mod headers;
mod health;
mod sealed;

pub use self::disabled::{Disabled, DisabledReason, DisabledWebhook};
pub use self::headers::{CustomHeaders, HeaderName, InvalidHeader};
pub use self::health::{DeliveryLimit, Health, LastFailure, WebhookOutcome};
pub use self::sealed::{ResealCount, SealedSecrets, WebhookSealer};
use super::clock::Timestamp;
use super::delivery_rate::{ChosenRate, DeliveryRate};
use super::event_payload::EventPayload;
use super::events::EventKind;
use super::filters::ContentFilter;
use super::ids::WebhookId;
use super::receiver_url::ReceiverUrl;
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

    /// Returns the types that a webhook receives. `refers_to_analysis` is true for a webhook with a filter or a transform,
    /// because both refer to an analysis. The event `webhook.disabled` has no analysis. A webhook with a filter or a transform
    /// receives this event only if the caller chose types and included this type. A list of all types does not count as a choice.
    #[must_use]
    pub fn of_webhook(&self, refers_to_analysis: bool) -> Self {
        let is_default = self.0.len() == EventKind::ALL.len();
        let receives = |kind: &EventKind| kind.has_analysis() || !(refers_to_analysis && is_default);
        Self(self.0.iter().copied().filter(receives).collect())
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

/// Registered receiver of events.
#[derive(Debug, Clone, PartialEq)]
pub struct Webhook {
    /// Id of the webhook.
    pub id: WebhookId,
    /// URL of the receiver, sealed if it has a secret.
    pub url: ReceiverUrl,
    /// Types of events that the webhook receives.
    pub events: EventFilter,
    /// Filter on the content of the events. With `None`, all events of these types pass.
    pub filter: Option<ContentFilter>,
    /// How the body is made from the event. With `None`, the body is the event itself.
    pub transform: Option<Transform>,
    /// HTTP method of the requests. With `None`, the transform determines the method.
    pub method: Option<DeliveryMethod>,
    /// The chosen parts of the rate of deliveries.
    pub chosen_rate: ChosenRate,
    /// Payload of the events that the webhook receives. The payload has no effect on a webhook with a transform.
    pub payload: EventPayload,
    /// Description of the webhook for people.
    pub description: Option<String>,
    /// Names of the custom headers.
    pub header_names: Vec<String>,
    /// Sealed secrets and header values.
    pub sealed: SealedSecrets,
    /// Reason and time if the webhook is disabled.
    pub disabled: Option<Disabled>,
    /// Time of the registration.
    pub created_at: Timestamp,
    /// Time of the last change by a caller.
    pub updated_at: Timestamp,
    /// Number of changes, for optimistic locking.
    pub version: u32,
    /// Health of the webhook, derived from the deliveries.
    pub health: Health,
}

impl Webhook {
    /// Returns the HTTP method of the requests: the webhook's own method, or the method of the transform.
    pub fn method(&self) -> DeliveryMethod {
        Transform::method(self.method, self.transform.as_ref())
    }

    /// Returns the rate of deliveries: the webhook's own rate, or the rate of the preset. `None` means that there is no limit.
    pub fn rate(&self) -> Option<DeliveryRate> {
        Transform::rate(self.chosen_rate, self.transform.as_ref())
    }

    /// Returns the types of the events that the webhook receives.
    pub fn received_events(&self) -> EventFilter {
        self.events.of_webhook(self.filter.is_some() || self.transform.is_some())
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

    #[test]
    fn a_webhook_with_a_filter_or_transform_gets_webhook_disabled_only_by_choice() {
        let gets = |filter: &EventFilter, refers| filter.of_webhook(refers).wants(EventKind::WebhookDisabled);
        let chosen = EventFilter::new(&[EventKind::WebhookDisabled, EventKind::AnalysisFailed]).unwrap();
        assert_eq!((gets(&EventFilter::all(), false), gets(&EventFilter::all(), true)), (true, false));
        assert_eq!((gets(&chosen, false), gets(&chosen, true)), (true, true));
        assert_eq!(EventFilter::all().of_webhook(true).kinds(), &EventKind::ALL[..3]);
    }
}
