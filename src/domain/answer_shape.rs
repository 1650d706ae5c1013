//! The shape of an answer of the vendor: its status, its structure and its words, without ids, times and other values.
//!
//! The vendor documents no answer for a call that it does not know, or for a result that is not ready. The gateway recognizes
//! such answers by their shape ([`learned_answers`](super::learned_answers)).

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// Shape of an answer. A shape holds only hashes, so its size is bounded, and it reveals nothing about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AnswerShape {
    status: u16,
    structure: u64,
    /// The words of the answer. `None` if the answers to probes have different words. Any words then match this shape.
    words: Option<ShapeWords>,
}

/// Hashes of the words in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ShapeWords {
    /// Hash of all words.
    plain: u32,
    /// Hash of the words after the id of the call was removed from them. The shape keeps both hashes, because an id such
    /// as `a` may also be a word of the text.
    without_id: u32,
}

/// Error for a string that is not a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a shape of an answer")]
pub struct InvalidShape;

impl AnswerShape {
    /// Creates a shape from the parts of an answer. `without_id` has the words without the id of the call.
    pub fn new(status: u16, structure: &str, words: &str, without_id: &str) -> Self {
        let short = |text| u32::try_from(hash(text) >> 32).unwrap_or(u32::MAX);
        let words = ShapeWords { plain: short(words), without_id: short(without_id) };
        Self { status, structure: hash(structure), words: Some(words) }
    }

    /// Returns the HTTP status of the answer.
    pub const fn status(self) -> u16 {
        self.status
    }

    /// Whether the vendor answered with a server error.
    pub const fn is_server_error(self) -> bool {
        self.status >= 500
    }

    /// Whether the two answers have the same status and structure. Their words may differ.
    pub fn is_alike(self, other: Self) -> bool {
        (self.status, self.structure) == (other.status, other.structure)
    }

    /// Whether an answer of this shape has the same meaning as an answer of the shape `probed`, which a probe got. A probe
    /// requests the result of a call that does not exist. The comparison ignores ids and times in the words.
    pub fn matches(self, probed: Self) -> bool {
        let has_words = |wanted: ShapeWords| {
            self.words.is_some_and(|words| [words.plain, words.without_id].contains(&wanted.without_id))
        };
        self.is_alike(probed) && probed.words.is_none_or(has_words)
    }

    /// Merges two [alike](Self::is_alike) shapes of answers to probes. Both answers match the merged shape.
    pub fn merged(self, other: Self) -> Self {
        Self { words: self.words.filter(|_| self.matches(other)), ..self }
    }
}

/// Returns the first eight bytes of SHA-256. The hash is stored, so it must not depend on the version of the program.
fn hash(text: &str) -> u64 {
    let digest = digest(&SHA256, text.as_bytes());
    digest.as_ref().iter().take(8).fold(0, |hash, byte| (hash << 8) | u64::from(*byte))
}

impl fmt::Display for AnswerShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, structure, words } = self;
        match words {
            Some(ShapeWords { plain, without_id }) => {
                write!(f, "{status}-{structure:016x}-{plain:08x}-{without_id:08x}")
            }
            None => write!(f, "{status}-{structure:016x}"),
        }
    }
}

impl FromStr for AnswerShape {
    type Err = InvalidShape;

    fn from_str(text: &str) -> Result<Self, InvalidShape> {
        let short = |text: &str| u32::from_str_radix(text, 16).map_err(|_| InvalidShape);
        let (status, structure, words) = match text.split('-').collect::<Vec<_>>()[..] {
            [status, structure] => (status, structure, None),
            [status, structure, plain, without_id] => {
                (status, structure, Some(ShapeWords { plain: short(plain)?, without_id: short(without_id)? }))
            }
            _ => return Err(InvalidShape),
        };
        let status = status.parse().map_err(|_| InvalidShape)?;
        let structure = u64::from_str_radix(structure, 16).map_err(|_| InvalidShape)?;
        Ok(Self { status, structure, words })
    }
}

impl TryFrom<String> for AnswerShape {
    type Error = InvalidShape;

    fn try_from(text: String) -> Result<Self, InvalidShape> {
        text.parse()
    }
}

impl From<AnswerShape> for String {
    fn from(shape: AnswerShape) -> Self {
        shape.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_parses_its_own_string() {
        let shape = AnswerShape::new(404, "{error:s}", "call x not found", "call # not found");
        for shape in [shape, shape.merged(AnswerShape::new(404, "{error:s}", "busy", "busy"))] {
            assert_eq!(shape.to_string().parse(), Ok(shape));
            assert!(shape.to_string().len() <= 40);
        }
        for bad in ["", "404", "404-x", "404-1-2", "404-1-2-3-4", "x-1"] {
            assert_eq!(bad.parse::<AnswerShape>(), Err(InvalidShape), "{bad}");
        }
    }

    #[test]
    fn answers_match_by_status_structure_and_words() {
        let probed = AnswerShape::new(200, "{e:s}", "call # not found", "call # not found");
        let echo = AnswerShape::new(200, "{e:s}", "call abc not found", "call # not found");
        // The id of the call is `call`.
        let coincidence = AnswerShape::new(200, "{e:s}", "call # not found", "# # not found");
        assert!(echo.matches(probed) && coincidence.matches(probed) && probed.matches(probed));
        let other_words = AnswerShape::new(200, "{e:s}", "busy", "busy");
        assert!(other_words.is_alike(probed) && !other_words.matches(probed));
        for other in [
            AnswerShape::new(404, "{e:s}", "call # not found", "call # not found"),
            AnswerShape::new(200, "{f:s}", "call # not found", "call # not found"),
        ] {
            assert!(!other.matches(probed) && !other.is_alike(probed));
        }
    }

    #[test]
    fn two_probes_with_different_words_match_any_words() {
        let first = AnswerShape::new(200, "{e:s}", "ref qwerty", "ref qwerty");
        let second = AnswerShape::new(200, "{e:s}", "ref asdfgh", "ref asdfgh");
        let third = AnswerShape::new(200, "{e:s}", "ref zxcvbn", "ref zxcvbn");
        assert!(!third.matches(first) && third.matches(first.merged(second)));
        assert_eq!(first.merged(first), first);
        assert!(third.matches(first.merged(second).merged(first)));
    }
}
