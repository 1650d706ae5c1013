//! The quality rules that matched, or did not.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One tag. The same name may come several times, once for each match.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Tag {
    /// The rule's name.
    #[schema(example = "Приветсвие")]
    pub name: String,
    /// What the vendor gives as its value: mostly a text, often empty; any JSON value is kept.
    #[schema(value_type = Option<Value>, example = "Приветствие")]
    pub value: serde_json::Value,
    /// Whether it is to be shown, as the vendor says it; `null` in all examples known.
    #[schema(value_type = Option<Value>, example = json!(null))]
    pub visible: serde_json::Value,
    /// The vendor's `tag_type`, such as `rule`.
    #[schema(example = "rule")]
    pub r#type: Option<String>,
    /// Begin of the match, in milliseconds from the start of the call.
    #[schema(example = 1120, minimum = 0)]
    pub begin_ms: Option<i64>,
    /// End of the match, in milliseconds from the start of the call.
    #[schema(example = 2960, minimum = 0)]
    pub end_ms: Option<i64>,
    /// The words that matched.
    #[schema(example = "assalomu alaykum")]
    pub match_text: Option<String>,
    /// The turn that matched.
    #[schema(example = "664b423209f8892adba7206f")]
    pub fragment_id: Option<String>,
}
