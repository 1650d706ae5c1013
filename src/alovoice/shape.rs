//! Derives the shape of an answer, and makes call ids for probes.

use std::collections::BTreeSet;

use serde_json::Value;

use super::document::document;
use super::encoding::decode;
use crate::domain::answer_shape::AnswerShape;
use crate::domain::answer_warnings::AnswerWarnings;
use crate::domain::clock::Entropy;
use crate::domain::ids::CallId;

/// Maximum size in bytes of an answer whose structure is derived. All larger answers have the structure `large`.
pub(super) const MAX_BYTES: usize = 64 << 10;
/// Maximum length of a word in characters. Longer words count as ids.
const MAX_WORD: usize = 24;
/// Integers below this limit count as codes. Other integers count as ids or times.
const MAX_CODE: u64 = 1000;
/// Names in times, such as those of RFC 9110. Months come before days.
const NAMES_IN_TIMES: [&str; 19] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", "mon", "tue", "wed",
    "thu", "fri", "sat", "sun",
];

/// Derives the shape of an answer about a call.
pub(super) fn shape_of(
    status: u16,
    content_type: Option<&str>,
    body: &[u8],
    call_id: &CallId,
) -> AnswerShape {
    let media_type = content_type.and_then(|value| value.split(';').next()).unwrap_or_default();
    let mut strings = Vec::new();
    let structure = if body.len() > MAX_BYTES {
        "large".to_owned()
    } else if body.trim_ascii().is_empty() {
        "empty".to_owned()
    } else {
        let mut warnings = AnswerWarnings::default();
        let text = decode(body, content_type, &mut warnings);
        let json = document(&text, MAX_BYTES, &mut warnings);
        if let Some(json) = json.and_then(|json| serde_json::from_str::<Value>(&json).ok()) {
            structure_of(&json, &mut strings)
        } else {
            strings.push(text.into_owned());
            "text".to_owned()
        }
    };
    let structure = format!("{} {structure}", media_type.trim().to_ascii_lowercase());
    let text = strings.join("\n").to_lowercase();
    AnswerShape::new(status, &structure, &words_of(&text, None), &words_of(&text, Some(call_id)))
}

/// Returns the structure of a value: names, types and truth values. Collects strings and codes in order.
fn structure_of(value: &Value, strings: &mut Vec<String>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(boolean) => boolean.to_string(),
        Value::Number(number) => {
            let code = number.as_u64().filter(|code| *code < MAX_CODE);
            // Letters replace the digits, because words with digits count as ids.
            strings.extend(
                code.map(|code| code.to_string().bytes().map(|b| char::from(b - b'0' + b'a')).collect()),
            );
            "number".to_owned()
        }
        Value::String(text) => {
            strings.push(text.clone());
            "string".to_owned()
        }
        Value::Array(items) => {
            let items: BTreeSet<_> = items.iter().map(|item| structure_of(item, strings)).collect();
            format!("[{}]", Vec::from_iter(items).join(","))
        }
        Value::Object(members) => {
            let members =
                members.iter().map(|(name, value)| format!("{name}:{}", structure_of(value, strings)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
    }
}

/// Returns the words of a text in lower case. Ids and times become `#`.
fn words_of(text: &str, call_id: Option<&CallId>) -> String {
    let is_separator = |c: char| !(c.is_alphanumeric() || "#_~:@+=-.%".contains(c));
    let without_id = call_id.map(|id| without(text, &id.as_str().to_lowercase()));
    let text = without_id.as_deref().unwrap_or(text);
    let word = |word: &str| {
        let word = word.trim_matches(|c: char| ".:=-".contains(c));
        // An escaped character of an id (%3A) has a digit too.
        let has_digit = word.chars().any(char::is_numeric);
        let is_id = has_digit || word.chars().count() > MAX_WORD;
        (if is_id || is_name_in_time(word) { "#" } else { word }).to_owned()
    };
    let words = text.split(is_separator).map(word).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// Replaces an id with `#`, except inside a longer word.
fn without(text: &str, id: &str) -> String {
    let is_in_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let (mut replaced, mut end) = (String::with_capacity(text.len()), 0);
    for (at, _) in text.match_indices(id) {
        let after = at + id.len();
        if is_in_word(text[..at].chars().next_back()) || is_in_word(text[after..].chars().next()) {
            continue;
        }
        replaced.push_str(&text[end..at]);
        replaced.push('#');
        end = after;
    }
    replaced + &text[end..]
}

/// Returns whether the word is the name of a month or a day, in full or in three letters.
fn is_name_in_time(word: &str) -> bool {
    const FULL: [&str; 19] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
    ];
    NAMES_IN_TIMES.contains(&word) || FULL.contains(&word)
}

/// Makes the id of a call that cannot exist, in the form of an existing call. The vendor may treat ids of other forms
/// differently.
pub(super) fn impossible_call(like: &CallId, entropy: &dyn Entropy) -> CallId {
    /// Number of digits that make a collision with an existing call improbable (one in 10^12).
    const ENOUGH_DIGITS: usize = 12;
    /// Form of the ids in the vendor's documentation: seconds since 1970, a dot and a number.
    const TELEPHONE: &str = "0000000000.000000";
    let digits = |text: &str| text.bytes().filter(u8::is_ascii_digit).count();
    let form = if digits(like.as_str()) >= ENOUGH_DIGITS { like.as_str() } else { TELEPHONE };
    let mut random = vec![0; form.len()];
    entropy.fill(&mut random);
    let mut is_first = true;
    let id = form.bytes().zip(random).map(|(byte, random)| match byte {
        // As seconds since 1970, the time is after the year 2255.
        b'0'..=b'9' if std::mem::take(&mut is_first) => '9',
        b'0'..=b'9' => char::from(b'0' + random % 10),
        b'a'..=b'f' if is_hexadecimal(form) => char::from(b'a' + random % 6),
        b'A'..=b'F' if is_hexadecimal(form) => char::from(b'A' + random % 6),
        other => char::from(other),
    });
    // The characters are those of an id.
    CallId::parse(&id.collect::<String>()).unwrap_or_else(|_| like.clone())
}

/// Returns whether the id has only hexadecimal digits and hyphens, such as a UUID.
fn is_hexadecimal(id: &str) -> bool {
    id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::clock::SystemEntropy;

    const JSON: Option<&str> = Some("application/json; charset=utf-8");

    fn id(text: &str) -> CallId {
        CallId::parse(text).unwrap()
    }

    fn json(status: u16, body: &str, call: &str) -> AnswerShape {
        shape_of(status, JSON, body.as_bytes(), &id(call))
    }

    /// The id of a probe.
    const PROBE: &str = "9876543210.123456";

    #[test]
    fn answers_about_two_calls_have_the_same_shape() {
        let pairs = [
            (r#"{"error": "call not found"}"#, r#"{"error":"call not found"}"#),
            (r#"{"error": "call 9876543210.123456 not found"}"#, r#"{"error": "call abc not found"}"#),
            (r#"{"error": "No call: 9876543210.123456."}"#, r#"{"error": "No call: abc."}"#),
            (r#"{"answer": {"call": "9876543210.123456"}}"#, r#"{"answer": {"call": "abc"}}"#),
            (r#"{"a": null, "request": "f81d4fae-7dec"}"#, r#"{"a": null, "request": "0b1c2d3e-11aa"}"#),
            (r#"{"at": "Mon, 20 May 2024 12:20:17 GMT"}"#, r#"{"at": "Tue, 01 Dec 2026 09:00:00 GMT"}"#),
            (r#"{"at": 1716207617, "code": 404}"#, r#"{"at": 1796207617, "code": 404}"#),
            (r#"{"at": "2024-05-20T12:20:17.042Z"}"#, r#"{"at": "2026-12-01T09:00:00+05:00"}"#),
            (r#"{"answer": {"stalk": [], "tags": []}}"#, r#"{"answer": {"tags": [], "stalk": []}}"#),
            (
                "Cannot GET /callgetairesult/[token]/9876543210.123456",
                "Cannot GET /callgetairesult/[token]/abc",
            ),
            ("", " \n"),
        ];
        for (probe, answer) in pairs {
            for status in [200, 400] {
                assert!(json(status, answer, "abc").matches(json(status, probe, PROBE)), "{probe} {answer}");
            }
        }
        // The id of the call is also a word of the text.
        let probed = json(200, r#"{"error": "a call was not found"}"#, PROBE);
        assert!(json(200, r#"{"error": "a call was not found"}"#, "a").matches(probed));
        // The id has characters that separate words.
        let probed = json(404, "no <9876543210.123456> here", PROBE);
        assert!(json(404, "no <q\"x y@z\"> here", "q\"x").matches(json(
            404,
            "no <9876543210.123456 y@z\"> here",
            PROBE
        )));
        assert!(json(404, "no <a*(b)> here", "a*(b)").matches(probed));
        // Characters of the id are encoded.
        let probed = json(404, "no 9876543210.123456", PROBE);
        assert!(json(404, "no a%3Ab%40c", "a:b@c").matches(probed));
    }

    #[test]
    fn answers_that_differ_in_more_than_ids_and_times_have_other_shapes() {
        let shapes = [
            json(200, r#"{"answer": null}"#, "1"),
            json(200, r#"{"answer": {}}"#, "1"),
            json(200, r#"{"answer": []}"#, "1"),
            json(200, r#"{"answer": "processing"}"#, "1"),
            json(200, r#"{"answer": "not found"}"#, "1"),
            json(200, r#"{"answer": {"stalk": [], "tags": []}}"#, "1"),
            json(200, r#"{"answer": {"stalk": [], "tags": [], "begin_time": 1716207617}}"#, "1"),
            json(200, r#"{"success": true}"#, "1"),
            json(200, r#"{"success": false}"#, "1"),
            json(200, r#"{"code": 404}"#, "1"),
            json(200, r#"{"code": 102}"#, "1"),
            json(200, "not found", "1"),
            json(200, "", "1"),
            json(204, "", "1"),
            json(400, r#"{"answer": null}"#, "1"),
            shape_of(200, Some("text/html"), b"not found", &id("1")),
            shape_of(200, None, &[b' '; MAX_BYTES + 1], &id("1")),
        ];
        for (index, one) in shapes.iter().enumerate() {
            assert!(shapes[index + 1..].iter().all(|other| !other.matches(*one)), "{index}");
        }
    }

    proptest! {
        #[test]
        fn every_answer_has_a_shape_of_bounded_size(
            status in 200..500_u16, body in prop::collection::vec(any::<u8>(), 0..200), json in "[{}\\[\\]\":,a0 ]{0,40}",
        ) {
            for body in [&body[..], json.as_bytes()] {
                let shape = shape_of(status, JSON, body, &id("a:1"));
                prop_assert!(shape.to_string().len() <= 40);
                prop_assert!(shape.matches(shape_of(status, JSON, body, &id(PROBE))) || !body.is_empty());
                prop_assert_eq!(shape.to_string().parse(), Ok(shape));
            }
        }
    }

    #[test]
    fn a_deeply_nested_answer_has_a_shape() {
        let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
        assert!(json(200, &deep, "1").matches(json(200, &deep, "2")));
    }

    #[test]
    fn a_probe_has_an_id_of_the_form_of_the_call_and_never_the_same_id() {
        let form = |id: &str| {
            let class = |c: char| if c.is_ascii_digit() { '0' } else { c };
            id.chars().map(class).collect::<String>()
        };
        for like in ["1716207617.424242", "queue-1716207617.42", "x", "17"] {
            let (one, other) =
                (impossible_call(&id(like), &SystemEntropy), impossible_call(&id(like), &SystemEntropy));
            assert_ne!(one, other);
            assert!(
                one.as_str().contains('9') && one.as_str().bytes().filter(u8::is_ascii_digit).count() >= 12
            );
            let is_like = form(one.as_str()) == form(like);
            assert_eq!(is_like, like.contains("1716207617"), "{one}");
        }
        let uuid = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6";
        let probe = impossible_call(&id(uuid), &SystemEntropy);
        assert!(is_hexadecimal(probe.as_str()) && probe.as_str() != uuid, "{probe}");
        assert_eq!(probe.as_str().match_indices('-').count(), 4);
    }
}
