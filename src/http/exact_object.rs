//! JSON objects that are returned unchanged. An object that would lose data during parsing is refused.

use std::fmt;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// serde_json parses integers outside this range as floating-point numbers, which would lose digits.
const INTEGERS: std::ops::Range<f64> = -9_223_372_036_854_775_808.0..18_446_744_073_709_551_616.0;

/// An object that was parsed without loss. It has no duplicate keys on any level and no integers of more than 64 bits.
#[derive(Debug)]
pub(super) struct ExactObject(pub(super) Map<String, Value>);

impl<'de> Deserialize<'de> for ExactObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Map<String, Value>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                members(map)
            }
        }

        deserializer.deserialize_map(Object).map(Self)
    }
}

fn members<'de, A: MapAccess<'de>>(mut map: A) -> Result<Map<String, Value>, A::Error> {
    let mut object = Map::new();
    while let Some(key) = map.next_key::<String>()? {
        let value = map.next_value::<Exact>()?;
        if object.contains_key(&key) {
            return Err(A::Error::custom(format!("has the key {key:?} twice")));
        }
        object.insert(key, value.0);
    }
    Ok(object)
}

/// A JSON value that was parsed without loss, by the rules of [`ExactObject`].
struct Exact(Value);

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E: Error>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
                // serde_json parses the smallest 64-bit integer as an integer. So the floating-point number of this value is a
                // smaller integer that was rounded.
                if !INTEGERS.contains(&value) || value == INTEGERS.start {
                    return Err(E::custom(
                        "has a number of more than 64 bits, which would lose digits; send it as a string",
                    ));
                }
                Ok(value.into())
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
                let mut values = Vec::new();
                while let Some(Exact(value)) = list.next_element()? {
                    values.push(value);
                }
                Ok(values.into())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
                members(map).map(Value::Object)
            }
        }

        deserializer.deserialize_any(Any).map(Self)
    }
}
