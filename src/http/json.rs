//! Strict parser of JSON from callers, with an error text for each mistake.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::problem::{ApiError, MALFORMED_BODY};

/// The byte order mark of UTF-8. Some clients begin a body with it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// The rule for a text that has only half of a surrogate pair, for example half of an emoji.
const LONE_SURROGATE: &str =
    "has half of a surrogate pair, which is not a character: send the whole pair or leave it out";

/// Advice for a caller who sends an unknown field at a JSON pointer.
type Advice = fn(&str) -> Option<&'static str>;

/// Parses a body in UTF-8. A byte order mark at its beginning is ignored.
///
/// # Errors
/// `malformed_body` for a text that is not JSON in UTF-8; `invalid_request`, with the JSON pointer and the rule, for JSON that
/// does not fit the type `T`.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8], advice: Advice) -> Result<T, ApiError> {
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    if let Some(encoding) = wide_encoding(body) {
        let detail = format!("the body is encoded in {encoding}: send it in UTF-8");
        return Err(ApiError::new(MALFORMED_BODY, detail));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| invalid(body, &pointer(error.path()), error.inner(), advice))?;
    deserializer.end().map_err(|error| malformed(&error))?;
    Ok(value)
}

/// Returns the problem of a body whose parsing failed at `pointer`.
fn invalid(body: &[u8], pointer: &str, error: &serde_json::Error, advice: Advice) -> ApiError {
    let message = error.to_string();
    let is = |text: &str| message.starts_with(text);
    if error.is_data() {
        let rule = without_position(&message);
        match advice(pointer).filter(|_| is("unknown field")) {
            Some(advice) => ApiError::invalid_field(shortened(pointer), &format!("{rule}: {advice}")),
            None => ApiError::invalid_field(shortened(pointer), &rule),
        }
    } else if is("lone leading surrogate in hex escape") || is("unexpected end of hex escape") {
        // JSON can express half of a surrogate pair, but a string cannot hold it.
        ApiError::invalid_field(shortened(pointer), LONE_SURROGATE)
    } else if is("number out of range") {
        ApiError::invalid_field(shortened(pointer), "has a number that is too large")
    } else if is("invalid unicode code point") {
        let detail = format!("{} {}", shortened(pointer), encoding_rule(body));
        ApiError::new(MALFORMED_BODY, detail)
    } else {
        malformed(error)
    }
}

fn malformed(error: &serde_json::Error) -> ApiError {
    // The messages of serde_json contain a position and at most one key of the text.
    ApiError::new(MALFORMED_BODY, format!("the body is not valid JSON: {error}"))
}

/// Returns the encoding of a text in UTF-16 or UTF-32; `None` for other texts. The byte order mark, or an ASCII
/// character at the beginning, shows the encoding.
fn wide_encoding(body: &[u8]) -> Option<&'static str> {
    match body {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => Some("UTF-32"),
        [0, 0, 0, 1..=127, ..] | [1..=127, 0, 0, 0, ..] => Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, 1..=127, ..] | [1..=127, 0, ..] => Some("UTF-16"),
        _ => None,
    }
}

/// Returns the rule that a text breaks if it is not in UTF-8.
fn encoding_rule(body: &[u8]) -> &'static str {
    let invalid = std::str::from_utf8(body).err().map(|error| &body[error.valid_up_to()..]);
    match invalid {
        // A surrogate, encoded like a character.
        Some([0xed, 0xa0..=0xbf, ..]) => LONE_SURROGATE,
        _ => "is not encoded in UTF-8",
    }
}

/// Returns the JSON pointer (RFC 6901) of a path, in the fragment form that RFC 9457 uses.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = "#".to_owned();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Enum { variant } => pointer.push_str(&format!("/{variant}")),
            Segment::Unknown => {}
        }
    }
    pointer
}

fn without_position(message: &str) -> String {
    shortened(&readable_rule(message.split(" at line ").next().unwrap_or_default()))
}

/// Returns a rule for callers in place of a message of serde that only Rust programmers understand. Returns other messages
/// unchanged.
pub(super) fn readable_rule(message: &str) -> String {
    if let Some((_, known)) =
        message.strip_prefix("unknown variant `").and_then(|rest| rest.split_once("`, expected "))
    {
        return format!("must be {known}");
    }
    match message {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            "must be a whole number".to_owned()
        }
        "number too large to fit in target type" => "is too large".to_owned(),
        "unsupported value" => "must be given once".to_owned(),
        other => other.to_owned(),
    }
}

/// Cuts an error text to 200 characters, because it may repeat input of the caller.
pub(super) fn shortened(text: &str) -> String {
    const MAX_CHARS: usize = 200;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A JSON object. Without this type, serde would also accept an array with the fields of a struct in order.
#[derive(Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}
