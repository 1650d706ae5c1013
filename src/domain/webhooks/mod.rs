//! Registered endpoints: where a tenant's events go, however their calls were submitted.
//!
//! An endpoint's secrets and header values are sealed before they come near a store; here they are bytes.

mod headers;
mod health;
mod sealed;

pub use self::headers::{CustomHeaders, HeaderName, InvalidHeader};
pub use self::health::{DeliveryLimit, EndpointOutcome, Health, LastFailure};
pub use self::sealed::{ResealCount, SealedSecrets, WebhookSealer};
use super::callback_url::CallbackUrl;
use super::clock::Timestamp;
use super::events::EventKind;
use super::ids::WebhookId;

/// The most endpoints a tenant may register.
pub const MAX_WEBHOOKS: usize = 50;

/// Which types of events an endpoint wants: at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFilter(Vec<EventKind>);

impl EventFilter {
    /// Everything.
    pub fn all() -> Self {
        Self(EventKind::ALL.to_vec())
    }

    /// These types, in whatever order and however often; `None` if there are none.
    pub fn new(kinds: &[EventKind]) -> Option<Self> {
        let kinds: Vec<_> = EventKind::ALL.into_iter().filter(|kind| kinds.contains(kind)).collect();
        if kinds.is_empty() { None } else { Some(Self(kinds)) }
    }

    /// The types, in the order of [`EventKind::ALL`].
    pub fn kinds(&self) -> &[EventKind] {
        &self.0
    }

    /// Whether it lets an event through.
    pub fn wants(&self, kind: EventKind) -> bool {
        self.0.contains(&kind)
    }

    /// As a text, for the store.
    pub fn to_text(&self) -> String {
        self.0.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// Reads [`EventFilter::to_text`] back; `None` if it is not one. Types of a later version are passed over.
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
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::Requested, Self::Gone, Self::Failing];

    /// The word in the store and in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Gone => "gone",
            Self::Failing => "failing",
        }
    }

    /// Reads [`DisabledReason::as_str`] back.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

/// That an endpoint gets nothing. What was on its way waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disabled {
    /// Why.
    pub reason: DisabledReason,
    /// Since when.
    pub at: Timestamp,
}

/// A registered endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Webhook {
    /// Its id.
    pub id: WebhookId,
    /// Where events go.
    pub url: CallbackUrl,
    /// Which.
    pub events: EventFilter,
    /// For people.
    pub description: Option<String>,
    /// What the custom headers are called.
    pub header_names: Vec<String>,
    /// Its secrets and the values of its headers.
    pub sealed: SealedSecrets,
    /// Whether it gets nothing.
    pub disabled: Option<Disabled>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it was last changed, by whomever.
    pub updated_at: Timestamp,
    /// Counts its changes, so that none overwrites another.
    pub version: u32,
    /// How its deliveries went.
    pub health: Health,
}

impl Webhook {
    /// Enables it: what was on its way goes on, and what went wrong is forgotten.
    pub fn enable(&mut self) {
        if self.disabled.take().is_some() {
            self.health.forgive();
        }
    }

    /// Disables it, if it is not.
    pub fn disable(&mut self, reason: DisabledReason, at: Timestamp) {
        self.disabled.get_or_insert(Disabled { reason, at });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_reads_back_and_is_never_empty() {
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
