//! JSON that is looked at and not built: a tree of values costs many times the text it is made of, and a vendor that
//! runs wild must not choose how much memory that is.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::de::StrRead;
use serde_json::value::RawValue;
use serde_json::{Deserializer as Reader, Value};

/// Deeper values are kept as text. Far under what the reader of a stored result takes, which finds them some levels
/// further down.
const MOST_LEVELS: usize = 64;

/// A value, as text that is known to be JSON.
#[derive(Debug, Clone, Copy)]
pub(super) struct Json<'a>(&'a RawValue);

/// A list is longer than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

impl<'a> Json<'a> {
    /// A whole document; `None` if it is not JSON in UTF-8.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(body).ok().map(Self)
    }

    /// The members of these names; `None` if it is no object. Of two with one name the last counts.
    pub(super) fn members<const N: usize>(self, names: [&str; N]) -> Option<[Option<Self>; N]> {
        let found = self.reader().deserialize_map(Members(names)).ok()?;
        Some(found.map(|value| value.map(Self)))
    }

    /// The elements that are objects, and how many there are in all; `None` if it is no list.
    pub(super) fn objects(self, most: usize) -> Option<Result<(Vec<Self>, usize), TooMany>> {
        let is_list = self.0.get().starts_with('[');
        is_list.then(|| self.reader().deserialize_seq(Objects(most)).map_err(|_| TooMany))
    }

    /// A text, or anything else but `null` in its JSON form.
    pub(super) fn text(self) -> Option<String> {
        match self.0.get() {
            "null" => None,
            other => Some(self.string().unwrap_or_else(|| other.to_owned())),
        }
    }

    /// A text. Half a surrogate pair, which is left of an emoji that was cut in two, becomes U+FFFD.
    pub(super) fn string(self) -> Option<String> {
        if !self.0.get().starts_with('"') {
            return None;
        }
        self.reader().deserialize_bytes(Text).ok()
    }

    /// A number, or a text that is one.
    pub(super) fn number(self) -> Option<f64> {
        let text = self.string();
        let number = text.as_deref().map_or(self.0.get(), str::trim);
        number.parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// The value itself; what cannot be one, or is a list or an object for which there is no `room`, as its text.
    pub(super) fn value(self, room: &mut usize) -> Value {
        let text = self.0.get();
        if let Some(string) = self.string() {
            return Value::String(string);
        }
        let as_text = || Value::String(text.to_owned());
        if text.starts_with(['[', '{']) {
            if text.len() > *room || levels(text) > MOST_LEVELS {
                return as_text();
            }
            *room -= text.len();
        }
        serde_json::from_str(text).unwrap_or_else(|_| as_text())
    }

    fn reader(self) -> Reader<StrRead<'a>> {
        Reader::from_str(self.0.get())
    }
}

/// How deep lists and objects lie in one another. Brackets in texts count too: whoever writes 64 of them there gets
/// a text.
fn levels(json: &str) -> usize {
    let (mut level, mut most) = (0_usize, 0);
    for byte in json.bytes() {
        match byte {
            b'[' | b'{' => level += 1,
            b']' | b'}' => level = level.saturating_sub(1),
            _ => {}
        }
        most = most.max(level);
    }
    most
}

/// Finds the members of some names.
struct Members<'n, const N: usize>([&'n str; N]);

impl<'de, const N: usize> Visitor<'de> for Members<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(place) = map.next_key_seed(Place(&self.0))? {
            match place {
                Some(place) => found[place] = Some(map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// A member's name as its place among those that are wanted. Read as bytes: a name may be half an emoji.
struct Place<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Place<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_bytes<E: Error>(self, name: &[u8]) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|known| known.as_bytes() == name))
    }
}

/// Keeps the elements that are objects.
struct Objects(usize);

impl<'de> Visitor<'de> for Objects {
    type Value = (Vec<Json<'de>>, usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let (mut objects, mut all) = (Vec::new(), 0);
        while let Some(element) = list.next_element::<&RawValue>()? {
            all += 1;
            if all > self.0 {
                return Err(A::Error::custom("too many"));
            }
            if element.get().starts_with('{') {
                objects.push(Json(element));
            }
        }
        Ok((objects, all))
    }
}

/// A text, whatever stands in it.
struct Text;

impl Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_bytes<E: Error>(self, text: &[u8]) -> Result<String, E> {
        Ok(match std::str::from_utf8(text) {
            Ok(text) => text.to_owned(),
            // Half a pair comes as three bytes that are no UTF-8.
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
    fn members_are_found_by_name_and_the_last_one_counts() {
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
    fn lists_are_counted_and_have_an_end() {
        let (objects, all) = json("[{}, 1, {\"a\": []}]").objects(3).unwrap().unwrap();
        assert_eq!((objects.len(), all), (2, 3));
        assert_eq!(json("[1, 2, 3]").objects(2).unwrap().unwrap_err(), TooMany);
        assert!(json("{}").objects(9).is_none());
    }

    #[test]
    fn texts_and_numbers_are_taken_from_whatever_they_are_in() {
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
    fn values_are_built_only_as_far_as_there_is_room() {
        let mut room = 10;
        assert_eq!(json("[1,2,3]").value(&mut room), serde_json::json!([1, 2, 3]));
        assert_eq!(room, 3);
        assert_eq!(json("[1,2,3]").value(&mut room), "[1,2,3]");
        assert_eq!(json("\"long enough\"").value(&mut room), "long enough");
        assert_eq!(json("1e400").value(&mut room), "1e400");
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(json(&deep).value(&mut usize::MAX.clone()), deep);
    }
}
