//! Reads JSON without building a tree of values. A tree needs many times the memory of its text. A faulty vendor must
//! not determine how much memory the gateway uses.

mod visitors;

use serde::de::Deserializer;
use serde_json::de::StrRead;
use serde_json::value::RawValue;
use serde_json::{Deserializer as Reader, Value};

use self::visitors::{Members, Numbered, Objects, Text};
use crate::domain::answer_warnings::{AnswerWarnings, WarningCode};

/// Maximum depth of nested values. Deeper values are kept as text. Stored results nest these values a few levels deeper. The
/// parser of stored results has a much higher limit.
const MAX_LEVELS: usize = 64;

/// A JSON value, kept as its text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Json<'a>(&'a RawValue);

/// A list has too many elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

impl<'a> Json<'a> {
    /// Parses a document. Returns `None` if the text is not JSON.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok().map(Self)
    }

    /// Returns the members with these names; `None` if the value is not an object. If a name occurs twice, the last
    /// member counts, and a warning is added.
    pub(super) fn members<const N: usize>(
        self,
        names: [&str; N],
        warnings: &mut AnswerWarnings,
    ) -> Option<[Option<Self>; N]> {
        let (found, duplicates) = self.reader().deserialize_map(Members(names)).ok()?;
        warnings.add(WarningCode::DuplicateNames, duplicates);
        Some(found.map(|value| value.map(Self)))
    }

    /// Returns the elements that are objects, and the number of all elements; `None` if the value is not a list. An object whose
    /// names are numbers also counts as a list: PHP writes lists with gaps in that form.
    pub(super) fn objects(
        self,
        max: usize,
        warnings: &mut AnswerWarnings,
    ) -> Option<Result<(Vec<Self>, usize), TooMany>> {
        match self.0.get().as_bytes().first() {
            Some(b'[') => {
                let elements = self.reader().deserialize_seq(Objects { max }).map_err(|_| TooMany);
                Some(elements.map(|(objects, all)| (objects.into_iter().map(Self).collect(), all)))
            }
            Some(b'{') => {
                let mut numbered = self.reader().deserialize_map(Numbered { max }).ok()?;
                // PHP writes an empty list as `[]`, so an empty object is not a list.
                let too_many = numbered.len() > max;
                numbered.sort_by_key(|(number, _)| *number);
                let objects: Vec<Self> = numbered.into_iter().map(|(_, element)| Self(element)).collect();
                if objects.is_empty() {
                    return None;
                }
                warnings.add(WarningCode::ListsAsObjects, 1);
                let all = objects.len();
                Some(if too_many { Err(TooMany) } else { Ok((objects, all)) })
            }
            _ => None,
        }
    }

    /// Returns a string, or the JSON text of any other value except `null`.
    pub(super) fn text(self) -> Option<String> {
        match self.0.get() {
            "null" => None,
            other => Some(self.string().unwrap_or_else(|| other.to_owned())),
        }
    }

    /// Returns the content of a string; `None` for any other value. An unpaired surrogate, for example of a truncated emoji,
    /// becomes U+FFFD.
    pub(super) fn string(self) -> Option<String> {
        if !self.0.get().starts_with('"') {
            return None;
        }
        self.reader().deserialize_bytes(Text).ok()
    }

    /// Returns the value of a number, or of a string that contains a number.
    pub(super) fn number(self) -> Option<f64> {
        let text = self.string();
        let number = text.as_deref().map_or(self.0.get(), str::trim);
        number.parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// Returns the value. A value that [`Value`] cannot represent becomes its JSON text. A list or object also becomes its JSON
    /// text if it is nested too deeply or is larger than `nested_bytes`. Any other list or object reduces `nested_bytes` by its
    /// size.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json<'_> {
        Json::parse(text).unwrap()
    }

    /// Returns the members and the number of warnings about duplicates.
    fn members<'a, const N: usize>(
        json: Json<'a>,
        names: [&str; N],
    ) -> Option<([Option<Json<'a>>; N], usize)> {
        let mut warnings = AnswerWarnings::default();
        let members = json.members(names, &mut warnings)?;
        Some((members, warnings.into_list().len()))
    }

    fn objects(json: Json<'_>, max: usize) -> Option<Result<(Vec<Json<'_>>, usize), TooMany>> {
        json.objects(max, &mut AnswerWarnings::default())
    }

    #[test]
    fn members_are_found_by_name_and_the_last_one_is_taken() {
        let object = json(r#" {"a": 1, "x": {"a": 7}, "\u0062": [2], "a": 3, "\ud800": 4} "#);
        let ([a, b, c], duplicates) = members(object, ["a", "b", "c"]).unwrap();
        assert_eq!(duplicates, 1);
        assert_eq!((a.unwrap().0.get(), b.unwrap().0.get()), ("3", "[2]"));
        assert!(c.is_none());
        for other in ["1", "\"a\"", "[]", "null"] {
            assert!(members(json(other), ["a"]).is_none(), "{other}");
        }
        assert!(Json::parse("{").is_none() && Json::parse("[NaN]").is_none());
    }

    #[test]
    fn lists_are_counted_and_bounded() {
        let (elements, all) = objects(json("[{}, 1, {\"a\": []}]"), 3).unwrap().unwrap();
        assert_eq!((elements.len(), all), (2, 3));
        assert_eq!(objects(json("[1, 2, 3]"), 2).unwrap().unwrap_err(), TooMany);
    }

    #[test]
    fn an_object_with_numbers_as_names_is_a_list() {
        let numbered = json(r#"{"10": {"a": 10}, "2": {"a": 2}}"#);
        let (elements, all) = objects(numbered, 2).unwrap().unwrap();
        assert_eq!((elements[0].0.get(), elements[1].0.get(), all), (r#"{"a": 2}"#, r#"{"a": 10}"#, 2));
        assert_eq!(objects(numbered, 1).unwrap().unwrap_err(), TooMany);
        for other in ["{}", r#"{"a": {}}"#, r#"{"1": 1}"#, "1", "null", "\"[]\""] {
            assert!(objects(json(other), 9).is_none(), "{other}");
        }
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
