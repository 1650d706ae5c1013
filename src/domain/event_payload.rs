//! Payload of an event: the whole analysis, or only the members that a receiver needs to read it.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// Payload of an event: `full` (the whole analysis) or `thin` (the ids, the status, the revision and the URL of the
/// analysis).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventPayload {
    /// The whole analysis.
    #[default]
    Full,
    /// The ids, the status, the revision and the URL of the analysis.
    Thin,
}

impl EventPayload {
    /// Returns the name in the API and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Thin => "thin",
        }
    }

    /// Parses the output of [`EventPayload::as_str`].
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Full, Self::Thin].into_iter().find(|payload| payload.as_str() == word)
    }
}

impl<'de> Deserialize<'de> for EventPayload {
    /// Reads a string first, because the derived code would report a value of another type as malformed JSON.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        Self::from_word(&word).ok_or_else(|| D::Error::unknown_variant(&word, &["full", "thin"]))
    }
}
