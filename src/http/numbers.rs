//! Numbers in bodies.

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Number;

/// Up to here an `f64` tells one whole number from the next.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A whole number; its field may be left out. `60.0` is one, too: JSON has numbers alone, and JSON Schema (Core, 4.2.3) goes by
/// what they are and not by how they are written.
pub(super) fn whole_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let number = Number::deserialize(deserializer)?;
    let whole = number.as_u64().or_else(|| number.as_f64().and_then(written_otherwise));
    whole.map(Some).ok_or_else(|| D::Error::custom("must be a whole number"))
}

fn written_otherwise(number: f64) -> Option<u64> {
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
    fn a_whole_number_is_one_however_it_is_written() {
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
