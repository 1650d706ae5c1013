//! Tags: the results of quality rules.

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;
use utoipa::ToSchema;

/// The name of a quality rule in the form that filters compare. The key is in Unicode Normalization Form C, because a text can
/// contain `й` as one character or as two.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TagKey(String);

impl TagKey {
    /// Returns the key of a name.
    pub fn of(name: &str) -> Self {
        Self(name.nfc().collect())
    }

    /// Returns the key as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One result of a quality rule. A rule with several matches has several tags of the same name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Tag {
    /// The name of the rule.
    #[schema(example = "Приветсвие")]
    pub name: String,
    /// The value that AloVoice reports: any JSON value, usually a string, often empty.
    #[schema(required = true, value_type = Option<Value>, example = "Приветствие")]
    pub value: serde_json::Value,
    /// The `visible` flag of AloVoice; usually `null`.
    #[schema(required = true, value_type = Option<Value>, example = json!(null))]
    pub visible: serde_json::Value,
    /// The `tag_type` of AloVoice, for example `rule`.
    #[schema(required = true, example = "rule")]
    pub r#type: Option<String>,
    /// Start of the match in milliseconds from the start of the call.
    #[schema(required = true, example = 1120)]
    pub begin_ms: Option<i64>,
    /// End of the match in milliseconds from the start of the call.
    #[schema(required = true, example = 2960)]
    pub end_ms: Option<i64>,
    /// The matched words.
    #[schema(required = true, example = "assalomu alaykum")]
    pub match_text: Option<String>,
    /// The `fragment_id` of the matched turn.
    #[schema(required = true, example = "664b423209f8892adba7206f")]
    pub fragment_id: Option<String>,
}
