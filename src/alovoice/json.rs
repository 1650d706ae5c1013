//! Reads JSON without building a tree of values. A tree needs many times the memory of its text. A faulty vendor must
//! not determine how much memory the gateway uses.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::de::StrRead;
use serde_json::value::RawValue;
use serde_json::{Deserializer as Reader, Value};

/// Maximum nesting of values. Deeper values are kept as text. The limit is far below that of the parser that reads
/// stored results, in which these values are nested a few levels deeper.
const MAX_LEVELS: usize = 64;

/// A value as its JSON text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Json<'a>(&'a RawValue);

/// A list has too many elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

impl<'a> Json<'a> {
    /// Parses a document; `None` if it is not JSON in UTF-8.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(body).ok().map(Self)
    }

    /// Returns the members with these names; `None` if the value is not an object. If a name occurs twice, the last
    /// member counts.
    pub(super) fn members<const N: usize>(self, names: [&str; N]) -> Option<[Option<Self>; N]> {
        let found = self.reader().deserialize_map(Members(names)).ok()?;
        Some(found.map(|value| value.map(Self)))
    }

    /// Returns the elements that are objects, and the number of all elements; `None` if the value is not a list.
    pub(super) fn objects(self, max: usize) -> Option<Result<(Vec<Self>, usize), TooMany>> {
        let is_list = self.0.get().starts_with('[');
        is_list.then(|| self.reader().deserialize_seq(Objects { max }).map_err(|_| TooMany))
    }

    /// Returns a string, or the JSON text of any other value except `null`.
    pub(super) fn text(self) -> Option<String> {
        match self.0.get() {
            "null" => None,
            other => Some(self.string().unwrap_or_else(|| other.to_owned())),
        }
    }

    /// Returns a string. An unpaired surrogate, for example of a truncated emoji, becomes U+FFFD.
    pub(super) fn string(self) -> Option<String> {
        if !self.0.get().starts_with('"') {
            return None;
        }
        self.reader().deserialize_bytes(Text).ok()
    }

    /// Returns a number, or the number in a string.
    pub(super) fn number(self) -> Option<f64> {
        let text = self.string();
        let number = text.as_deref().map_or(self.0.get(), str::trim);
        number.parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// Returns the value. A value that cannot be represented becomes its JSON text. So does a list or object that is
    /// nested too deeply or exceeds `nested_bytes`, which is then reduced by the size of the value.
    pub(super) fn value(self, nested_bytes: &mut usize) -> Value {
        let text = self.0.get();
        if let Some(string) = self.string() {
            return Value::String(string);
        }
        let as_text = || Value::String(text.to_owned());
        if text.starts_with(['[', '{']) {
            if text.len() > *nested_bytes || levels(text) > MAX_LEVELS {
                return as_text();
            }
            *nested_bytes -= text.len();
        }
        serde_json::from_str(text).unwrap_or_else(|_| as_text())
    }

    fn reader(self) -> Reader<StrRead<'a>> {
        Reader::from_str(self.0.get())
    }
}

/// Returns the depth of nested lists and objects. Brackets in strings count too, so a string with many brackets is
/// kept as text.
fn levels(json: &str) -> usize {
    let (mut level, mut deepest) = (0_usize, 0);
    for byte in json.bytes() {
        match byte {
            b'[' | b'{' => level += 1,
            b']' | b'}' => level = level.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(level);
    }
    deepest
}

/// Finds members by name.
struct Members<'n, const N: usize>([&'n str; N]);

impl<'de, const N: usize> Visitor<'de> for Members<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(position) = map.next_key_seed(NamePosition(&self.0))? {
            match position {
                Some(position) => found[position] = Some(map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// Finds the position of a member's name in the list of names. It reads the name as bytes, because the name may
/// contain an unpaired surrogate.
struct NamePosition<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for NamePosition<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for NamePosition<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_bytes<E: Error>(self, name: &[u8]) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|known| known.as_bytes() == name))
    }
}

/// Collects the elements that are objects.
struct Objects {
    /// Maximum number of elements of the list.
    max: usize,
}

impl<'de> Visitor<'de> for Objects {
    type Value = (Vec<Json<'de>>, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let (mut objects, mut all) = (Vec::new(), 0);
        while let Some(element) = list.next_element::<&RawValue>()? {
            all += 1;
            if all > self.max {
                return Err(A::Error::custom("too many"));
            }
            if element.get().starts_with('{') {
                objects.push(Json(element));
            }
        }
        Ok((objects, all))
    }
}

/// A string, even if it is not valid Unicode.
struct Text;

impl Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_bytes<E: Error>(self, text: &[u8]) -> Result<String, E> {
        Ok(match std::str::from_utf8(text) {
            Ok(text) => text.to_owned(),
            // An unpaired surrogate arrives as three bytes that are not UTF-8.
            Err(_) => String::from_utf8_lossy(text).replace("\u{fffd}\u{fffd}\u{fffd}", "\u{fffd}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json<'_> {
        Json::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn members_are_found_by_name_and_the_last_one_is_taken() {
        let object = json(r#" {"a": 1, "x": {"a": 7}, "\u0062": [2], "a": 3, "\ud800": 4} "#);
        let [a, b, c] = object.members(["a", "b", "c"]).unwrap();
        assert_eq!((a.unwrap().0.get(), b.unwrap().0.get()), ("3", "[2]"));
        assert!(c.is_none());
        for other in ["1", "\"a\"", "[]", "null"] {
            assert!(json(other).members(["a"]).is_none(), "{other}");
        }
        assert!(Json::parse(b"{").is_none() && Json::parse(b"\"\xff\"").is_none());
    }

    #[test]
    fn lists_are_counted_and_bounded() {
        let (objects, all) = json("[{}, 1, {\"a\": []}]").objects(3).unwrap().unwrap();
        assert_eq!((objects.len(), all), (2, 3));
        assert_eq!(json("[1, 2, 3]").objects(2).unwrap().unwrap_err(), TooMany);
        assert!(json("{}").objects(9).is_none());
    }

    #[test]
    fn strings_and_numbers_are_read_leniently() {
        assert_eq!(json(r#""a\ud83d!""#).text().unwrap(), "a\u{fffd}!");
        assert_eq!(json(r#""\ud83d\ude00\u0000""#).text().unwrap(), "\u{1f600}\0");
        assert_eq!(json("1e400").text().unwrap(), "1e400");
        assert_eq!(json("null").text(), None);
        assert_eq!(json("[1, null]").text().unwrap(), "[1, null]");
        assert_eq!((json("\" 1.5 \"").number(), json("-2").number()), (Some(1.5), Some(-2.0)));
        for no_number in ["1e400", "\"inf\"", "\"NaN\"", "\"\"", "[1]", "true", "null"] {
            assert_eq!(json(no_number).number(), None, "{no_number}");
        }
    }

    #[test]
    fn values_are_built_within_the_size_limit() {
        let mut nested_bytes = 10;
        assert_eq!(json("[1,2,3]").value(&mut nested_bytes), serde_json::json!([1, 2, 3]));
        assert_eq!(nested_bytes, 3);
        assert_eq!(json("[1,2,3]").value(&mut nested_bytes), "[1,2,3]");
        assert_eq!(json("\"long enough\"").value(&mut nested_bytes), "long enough");
        assert_eq!(json("1e400").value(&mut nested_bytes), "1e400");
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(json(&deep).value(&mut usize::MAX.clone()), deep);
    }
}
