//! The HTTP method of a delivery.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// The HTTP method of a delivery: `POST`, `PUT` or `PATCH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum DeliveryMethod {
    /// `POST`, the default: for receivers that add an entry, or that accept events.
    #[default]
    Post,
    /// `PUT`: for receivers that replace a resource.
    Put,
    /// `PATCH`: for receivers that change a resource.
    Patch,
}

impl DeliveryMethod {
    /// Returns the name in the API, the store and the request.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
        }
    }

    /// Parses the output of [`DeliveryMethod::as_str`].
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Post, Self::Put, Self::Patch].into_iter().find(|method| method.as_str() == word)
    }
}

impl<'de> Deserialize<'de> for DeliveryMethod {
    /// Reads a string first. Derived code would report a value of another type as malformed JSON.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        Self::from_word(&word).ok_or_else(|| D::Error::unknown_variant(&word, &["POST", "PUT", "PATCH"]))
    }
}
