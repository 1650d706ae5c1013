//! The transcript of a call.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::call_facts::CallFacts;
use super::clock::Timestamp;
use super::ids::CallId;

/// The transcript of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// Id of the call.
    pub call_id: CallId,
    /// Revision of the result.
    pub revision: u32,
    /// Start of the call.
    pub begin_time: Option<Timestamp>,
    /// Facts of the call from its submissions.
    pub call: CallFacts,
    /// Turns of the conversation, sorted by time.
    pub turns: Vec<Turn>,
}

/// Speaker of a turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speaker {
    /// The CRM user.
    Operator,
    /// The other party of the call.
    Client,
    /// Any other value of the vendor, unchanged. The text is empty if the vendor sent no value.
    #[serde(untagged)]
    Other(String),
}

impl Speaker {
    /// Parses the vendor's field `direction`.
    pub fn from_word(word: &str) -> Self {
        match word {
            "operator" => Self::Operator,
            "client" => Self::Client,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Returns the name in the API.
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
    /// The id of the fragment at AloVoice. Tags refer to this id.
    #[schema(required = true, example = "664b423209f8892adba7206f")]
    pub fragment_id: Option<String>,
    /// The speaker: `operator`, `client`, or another value that AloVoice sends.
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
    fn a_speaker_serializes_as_one_word() {
        for word in ["operator", "client", "robot", ""] {
            let json = serde_json::to_value(Speaker::from_word(word)).unwrap();
            assert_eq!(json, word);
            assert_eq!(serde_json::from_value::<Speaker>(json).unwrap(), Speaker::from_word(word));
        }
    }
}
