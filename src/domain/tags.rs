//! Tags: matches of the vendor's quality rules.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Match of a quality rule. A rule with several matches has several tags.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Tag {
    /// Name of the rule.
    #[schema(example = "Приветсвие")]
    pub name: String,
    /// Value from the vendor: usually a string, often empty. Other JSON values are kept unchanged.
    #[schema(required = true, value_type = Option<Value>, example = "Приветствие")]
    pub value: serde_json::Value,
    /// The vendor's visibility flag. It is `null` in all known examples.
    #[schema(required = true, value_type = Option<Value>, example = json!(null))]
    pub visible: serde_json::Value,
    /// Type of the tag from the vendor, such as `rule`.
    #[schema(required = true, example = "rule")]
    pub r#type: Option<String>,
    /// Start of the match, in milliseconds from the start of the call.
    #[schema(required = true, example = 1120)]
    pub begin_ms: Option<i64>,
    /// End of the match, in milliseconds from the start of the call.
    #[schema(required = true, example = 2960)]
    pub end_ms: Option<i64>,
    /// Text that matched.
    #[schema(required = true, example = "assalomu alaykum")]
    pub match_text: Option<String>,
    /// Fragment id of the turn that matched.
    #[schema(required = true, example = "664b423209f8892adba7206f")]
    pub fragment_id: Option<String>,
}
