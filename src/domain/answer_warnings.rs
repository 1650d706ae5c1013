//! Deviations of a vendor's answer from its documentation, which the gateway tolerated when it read the answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

macro_rules! codes {
    ($($variant:ident $name:literal $description:literal)*) => {
        /// The kind of deviation.
        #[doc = concat!($("\n- `", $name, "`: ", $description,)*)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum WarningCode {
            $(#[doc = $description] $variant,)*
        }

        impl WarningCode {
            /// All kinds of deviations.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Returns the name in the API, which is also the label `code` in metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

codes! {
    ByteOrderMark "byte_order_mark" "The answer began with a byte-order mark."
    Encoding "encoding" "The answer was not in UTF-8 but in the encoding of its byte-order mark or `Content-Type`."
    InvalidCharacters "invalid_characters" "Texts have U+FFFD instead of bytes or escapes that are not characters."
    SurroundingText "surrounding_text" "Text before or after the JSON was ignored, for example a warning of PHP."
    NestedJson "nested_json" "The JSON was encoded twice, so it was a string."
    Syntax "syntax" "The JSON had unambiguous errors, such as a comma at the end of a list."
    InvalidNumbers "invalid_numbers" "`NaN`, `Infinity` and other words instead of numbers count as missing."
    DuplicateNames "duplicate_names" "An object had a name twice. The last value counts."
    ListsAsObjects "lists_as_objects" "A list was an object with numbers as names."
    UnknownTimes "unknown_times" "Turns had no readable begin or end. Such a turn has no length and keeps its place."
    OmittedTurns "omitted_turns" "Elements of the transcript that were not objects were omitted."
    OmittedTags "omitted_tags" "Elements of the tags that were not objects were omitted."
}

/// A deviation of the answer of AloVoice that the gateway tolerated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AnswerWarning {
    /// The kind of deviation.
    pub code: WarningCode,
    /// Number of occurrences.
    #[schema(minimum = 1, example = 2)]
    pub count: u32,
}

/// Counts the deviations of one answer.
#[derive(Debug, Clone, Default)]
pub struct AnswerWarnings(BTreeMap<WarningCode, u32>);

impl AnswerWarnings {
    /// Adds `times` occurrences of a deviation.
    pub fn add(&mut self, code: WarningCode, times: usize) {
        if times > 0 {
            let count = self.0.entry(code).or_default();
            *count = count.saturating_add(u32::try_from(times).unwrap_or(u32::MAX));
        }
    }

    /// Returns the deviations, each once.
    pub fn into_list(self) -> Vec<AnswerWarning> {
        self.0.into_iter().map(|(code, count)| AnswerWarning { code, count }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_api() {
        for code in WarningCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }
}
