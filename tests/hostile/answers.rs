//! Vendor answers with the right outline and arbitrary content.

use proptest::prelude::*;
use proptest::sample::select;

use crate::checks::vendor_answer::check;

/// Values of unexpected types.
const ODD: &[&str] = &[
    "null",
    "true",
    "0",
    "-0",
    "-1",
    "1.5",
    "1e400",
    "-1e400",
    "1e-400",
    "9007199254740991",
    "9007199254740993",
    "-9223372036854775809",
    "99999999999999999999999999999999",
    "\"\"",
    "\"NaN\"",
    "\"-inf\"",
    "\" 12 \"",
    "\"1e999\"",
    "\"operator\"",
    "\"client\"",
    r#""\ud83d""#,
    r#""\udc00\ud83d""#,
    r#""\u0000""#,
    "\"//evil.example/x\"",
    "\"/stereo/1?x#y\"",
    "[]",
    "{}",
    "[1,[2,[3]]]",
    r#"{"a":1,"a":{"b":null}}"#,
];

const OF_FRAGMENTS: &[&str] = &["begin", "end", "direction", "text", "fragment_id", "x"];
const OF_TAGS: &[&str] =
    &["name", "value", "visible", "tag_type", "begin", "end", "match_text", "fragment_id", "x"];
const OF_ANSWERS: &[&str] = &["aicallid", "begin_time", "stereoaudio", "x"];

/// Parts of texts that are almost JSON.
const SIGNS: &[&str] = &[
    "{\"answer\":{\"stalk\":[",
    "]}}",
    "{\"text\":",
    "{'begin':",
    "}",
    "{",
    "[",
    "]",
    ",",
    ":",
    "'",
    "\"",
    "\\",
    "\\u",
    "\\x4",
    "NaN",
    "-Infinity",
    "1.#QNAN",
    "None",
    "undefined",
    "007",
    "+",
    "-",
    "1e999",
    "answer",
    "\u{feff}",
    "\0",
    "\n",
    "Ж",
    "</",
    "x(",
];

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(ODD).prop_map(str::to_owned),
        3 => any::<i32>().prop_map(|number| number.to_string()),
        2 => any::<f64>().prop_map(|number| format!("{number:e}")),
        2 => ".{0,20}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        1 => (1_usize..200).prop_map(|depth| "[".repeat(depth) + &"]".repeat(depth)),
    ]
}

/// An object in which keys may be missing or repeated.
fn object(keys: &'static [&'static str]) -> impl Strategy<Value = String> {
    let member = (select(keys), value()).prop_map(|(key, value)| format!("\"{key}\":{value}"));
    prop::collection::vec(member, 0..8).prop_map(|members| format!("{{{}}}", members.join(",")))
}

fn list(keys: &'static [&'static str]) -> impl Strategy<Value = String> {
    let element = prop_oneof![6 => object(keys), 1 => value()];
    let list = prop::collection::vec(element, 0..6).prop_map(|elements| format!("[{}]", elements.join(",")));
    prop_oneof![6 => list, 1 => value()]
}

fn answer() -> impl Strategy<Value = String> {
    (list(OF_FRAGMENTS), list(OF_TAGS), object(OF_ANSWERS)).prop_map(|(stalk, tags, rest)| {
        let comma = if rest == "{}" { "" } else { "," };
        format!(r#"{{"answer":{{"stalk":{stalk},"tags":{tags}{comma}{}}}"#, &rest[1..])
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1500) })]

    #[test]
    fn an_answer_is_accepted_or_refused(answer in answer()) {
        check(answer.as_bytes());
    }

    #[test]
    fn an_answer_with_changed_bytes_is_accepted_or_refused(
        answer in answer(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        before in select(vec![&b""[..], b"\xef\xbb\xbf", b"\xff\xfe", b"<b>Warning</b> {x}\n", b"f(", b"\"", b"\0"]),
    ) {
        let mut bytes = [before, answer.as_bytes()].concat();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        check(&bytes);
    }

    #[test]
    fn an_answer_of_words_and_signs_is_accepted_or_refused(
        parts in prop::collection::vec(select(SIGNS), 0..40),
    ) {
        check(parts.concat().as_bytes());
    }

    #[test]
    fn a_truncated_answer_is_accepted_or_refused(answer in answer(), share in 0.0..1.0_f64) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in a short text")]
        let end = (answer.len() as f64 * share) as usize;
        check(&answer.as_bytes()[..end]);
    }
}
