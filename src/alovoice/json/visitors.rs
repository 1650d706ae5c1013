//! Visitors that find the parts of a JSON value without building a tree.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Finds members of an object by name.
pub(super) struct Members<'n, const N: usize>(pub(super) [&'n str; N]);

impl<'de, const N: usize> Visitor<'de> for Members<'_, N> {
    /// The value for each name, and the number of duplicate members. If a name occurs twice, the last value counts.
    type Value = ([Option<&'de RawValue>; N], usize);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut found, mut duplicates) = ([None; N], 0);
        while let Some(position) = map.next_key_seed(NamePosition(&self.0))? {
            match position {
                Some(position) => {
                    let earlier = found[position].replace(map.next_value()?);
                    duplicates += usize::from(earlier.is_some());
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok((found, duplicates))
    }
}

/// Finds the position of a member's name in the list of names. Reads the name as bytes, because the name may contain an unpaired
/// surrogate.
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
pub(super) struct Objects {
    /// Maximum number of elements of the list.
    pub(super) max: usize,
}

impl<'de> Visitor<'de> for Objects {
    /// The objects, and the number of all elements.
    type Value = (Vec<&'de RawValue>, usize);

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
                objects.push(element);
            }
        }
        Ok((objects, all))
    }
}

/// Collects the members of an object. Each name must be a number and each value an object; any other member is an error.
pub(super) struct Numbered {
    /// Maximum number of elements. One more element is kept, so that the caller can detect that there are too many elements.
    pub(super) max: usize,
}

impl<'de> Visitor<'de> for Numbered {
    type Value = Vec<(u64, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with numbers as names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut numbered = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            let number = name.parse().map_err(|_| A::Error::custom("a name is not a number"))?;
            let element = map.next_value::<&RawValue>()?;
            if !element.get().starts_with('{') {
                return Err(A::Error::custom("an element is not an object"));
            }
            if numbered.len() <= self.max {
                numbered.push((number, element));
            }
        }
        Ok(numbered)
    }
}

/// A string, even if it is not valid Unicode.
pub(super) struct Text;

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
