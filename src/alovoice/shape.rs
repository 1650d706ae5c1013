//! Derives the shape of an answer, and makes call ids for probes.

#[cfg(test)]
mod tests;

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
/// Integers closer to zero than this limit count as codes. Other integers count as ids or times.
const MAX_CODE: u64 = 1000;
/// Names of months and days, `am` and `pm`: words in dates and times.
const NAMES_IN_TIMES: [&str; 21] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", "mon", "tue", "wed",
    "thu", "fri", "sat", "sun", "am", "pm",
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
            structure_of(&json, call_id, &mut strings)
        } else {
            strings.push(text.into_owned());
            "text".to_owned()
        }
    };
    let structure = format!("{} {structure}", media_type.trim().to_ascii_lowercase());
    let text = strings.join("\n").to_lowercase();
    AnswerShape::new(status, &structure, &words_of(&text, None), &words_of(&text, Some(call_id)))
}

/// Returns the structure of a value: names, types and truth values. Appends strings and codes to `strings` in their order.
fn structure_of(value: &Value, call_id: &CallId, strings: &mut Vec<String>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(boolean) => boolean.to_string(),
        Value::Number(number) => {
            let code = number.as_i64().filter(|code| code.unsigned_abs() < MAX_CODE);
            // Letters replace the digits, because words with digits count as ids.
            let letter = |byte: u8| if byte == b'-' { 'z' } else { char::from(byte - b'0' + b'a') };
            strings.extend(code.map(|code| code.to_string().bytes().map(letter).collect()));
            "number".to_owned()
        }
        Value::String(text) => {
            strings.push(text.clone());
            "string".to_owned()
        }
        Value::Array(items) => {
            let items: BTreeSet<_> = items.iter().map(|item| structure_of(item, call_id, strings)).collect();
            format!("[{}]", Vec::from_iter(items).join(","))
        }
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| {
                format!("{}:{}", without_ids(name, call_id), structure_of(value, call_id, strings))
            };
            let mut members: Vec<_> = members.iter().map(member).collect();
            // The members are sorted again, because their previous order depends on the ids.
            members.sort();
            format!("{{{}}}", members.join(","))
        }
    }
}

/// Returns the name of a member, or `#` if it is an id.
fn without_ids<'a>(name: &'a str, call_id: &CallId) -> &'a str {
    /// Minimum number of digits of a name that counts as an id. Names of parameters have fewer digits.
    const DIGITS_OF_ID: usize = 8;
    let digits = name.bytes().filter(u8::is_ascii_digit).count();
    let is_id = name.eq_ignore_ascii_case(call_id.as_str()) || digits >= DIGITS_OF_ID;
    if is_id { "#" } else { name }
}

/// Returns the words of `text`, which is in lower case. Ids, times and `call_id` become `#`.
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

/// Returns whether the word is `am`, `pm`, or the name of a month or a day, in full or in three letters.
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
        // An id that begins with seconds since 1970 then has a time in the year 2255 or later.
        b'0'..=b'9' if std::mem::take(&mut is_first) => '9',
        b'0'..=b'9' => char::from(b'0' + random % 10),
        b'a'..=b'f' if is_hexadecimal(form) => char::from(b'a' + random % 6),
        b'A'..=b'F' if is_hexadecimal(form) => char::from(b'A' + random % 6),
        other => char::from(other),
    });
    // All characters are valid in an id, so parsing does not fail.
    CallId::parse(&id.collect::<String>()).unwrap_or_else(|_| like.clone())
}

/// Returns whether the id has only hexadecimal digits and hyphens, such as a UUID.
fn is_hexadecimal(id: &str) -> bool {
    id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}
