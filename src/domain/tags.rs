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
    #[schema(required = true, value_type = Option<Value>, example = "Приветствие")]
    pub value: serde_json::Value,
    /// Whether it is to be shown, as the vendor says it; `null` in all examples known.
    #[schema(required = true, value_type = Option<Value>, example = json!(null))]
    pub visible: serde_json::Value,
    /// The vendor's `tag_type`, such as `rule`.
    #[schema(required = true, example = "rule")]
    pub r#type: Option<String>,
    /// Begin of the match, in milliseconds from the start of the call.
    #[schema(required = true, example = 1120)]
    pub begin_ms: Option<i64>,
    /// End of the match, in milliseconds from the start of the call.
    #[schema(required = true, example = 2960)]
    pub end_ms: Option<i64>,
    /// The words that matched.
    #[schema(required = true, example = "assalomu alaykum")]
    pub match_text: Option<String>,
    /// The turn that matched.
    #[schema(required = true, example = "664b423209f8892adba7206f")]
    pub fragment_id: Option<String>,
}
