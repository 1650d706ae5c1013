//! The transcript of a call.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::clock::Timestamp;
use super::ids::CallId;

/// The transcript of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// The call.
    pub call_id: CallId,
    /// Which state of the result.
    pub revision: u32,
    /// When the call began.
    pub begin_time: Option<Timestamp>,
    /// Who said what, in the order of time.
    pub turns: Vec<Turn>,
}

/// A side of the conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speaker {
    /// The CRM user.
    Operator,
    /// The other party of the call.
    Client,
    /// Any other value of the vendor, unchanged. Empty if there is none.
    #[serde(untagged)]
    Other(String),
}

impl Speaker {
    /// From the vendor's `direction`.
    pub fn from_word(word: &str) -> Self {
        match word {
            "operator" => Self::Operator,
            "client" => Self::Client,
            other => Self::Other(other.to_owned()),
        }
    }

    /// The word as callers see it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Operator => "operator",
            Self::Client => "client",
            Self::Other(word) => word,
        }
    }
}

/// A turn: one fragment of speech.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Turn {
    /// The id of the fragment at AloVoice. Tags refer to it.
    #[schema(required = true, example = "664b423209f8892adba7206f")]
    pub fragment_id: Option<String>,
    /// The speaker: `operator`, `client`, or another value of AloVoice.
    #[schema(value_type = String, example = "operator")]
    pub speaker: Speaker,
    /// Start in milliseconds from the start of the call.
    #[schema(example = 1120)]
    pub begin_ms: i64,
    /// End in milliseconds from the start of the call.
    #[schema(example = 2960)]
    pub end_ms: i64,
    /// The recognized text.
    #[schema(example = "assalomu alaykum")]
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speaker_is_one_word_in_json_both_ways() {
        for word in ["operator", "client", "robot", ""] {
            let json = serde_json::to_value(Speaker::from_word(word)).unwrap();
            assert_eq!(json, word);
            assert_eq!(serde_json::from_value::<Speaker>(json).unwrap(), Speaker::from_word(word));
        }
    }
}
