//! Parses integers in JSON bodies.

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Number;

/// An `f64` represents each integer up to this value exactly.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Parses an integer in an optional field. `60.0` is an integer too, because JSON Schema (Core, 4.2.3) compares
/// values, not spellings.
pub(super) fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let number = Number::deserialize(deserializer)?;
    let whole = number.as_u64().or_else(|| number.as_f64().and_then(from_float));
    whole.map(Some).ok_or_else(|| D::Error::custom("must be a whole number"))
}

fn from_float(number: f64) -> Option<u64> {
    let is_whole = number.fract() == 0.0 && (0.0..=EXACT).contains(&number);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is whole and within bounds"
    )]
    is_whole.then_some(number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_is_accepted_in_every_spelling() {
        let read = |text: &str| whole_number(&mut serde_json::Deserializer::from_str(text));
        let good = [("60", Some(60)), ("60.0", Some(60)), ("6e1", Some(60)), ("-0.0", Some(0))];
        for (text, number) in good {
            assert_eq!(read(text).unwrap(), number, "{text}");
        }
        assert_eq!(read("18446744073709551615").unwrap(), Some(u64::MAX));
        for text in ["60.5", "-1", "-1.0", "1e300", "\"60\"", "true", "[60]", "null"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
