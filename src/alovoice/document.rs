//! Finds the JSON document in the text of an answer.

use std::borrow::Cow;

use super::json::Json;
use super::repair::repair;
use crate::domain::answer_warnings::{AnswerWarnings, WarningCode};

/// Maximum length of the text before a document, in bytes. Some warnings of PHP are long.
const MAX_TEXT_BEFORE: usize = 64 << 10;
/// Maximum number of positions at which the search tries to read a document.
const MAX_PLACES: usize = 8;

/// Finds the document in a text and returns it as valid JSON. Returns `None` if the text has no document, or may have several. A
/// document that must be repaired may have at most `max_bytes`.
pub(super) fn document<'a>(
    text: &'a str,
    max_bytes: usize,
    warnings: &mut AnswerWarnings,
) -> Option<Cow<'a, str>> {
    let json = if Json::parse(text).is_some() {
        Cow::Borrowed(text)
    } else if let Some(json) = whole(text, max_bytes, warnings) {
        Cow::Owned(json)
    } else {
        Cow::Owned(embedded(text, max_bytes, warnings)?)
    };
    // A document that the vendor encoded twice is a string.
    match Json::parse(&json).and_then(|json| nested(json, max_bytes, warnings)) {
        Some(inner) => Some(Cow::Owned(inner)),
        None => Some(json),
    }
}

/// Returns the JSON text of the list or object that a JSON string contains. Returns `None` if the value is not such a string.
pub(super) fn nested(string: Json<'_>, max_bytes: usize, warnings: &mut AnswerWarnings) -> Option<String> {
    let text = string.string().filter(|text| text.trim_start().starts_with(['{', '[']))?;
    let json = if Json::parse(&text).is_some() { text } else { whole(&text, max_bytes, warnings)? };
    warnings.add(WarningCode::NestedJson, 1);
    Some(json)
}

/// Repairs a text that is a single document with errors. Returns `None` if the text is anything else.
fn whole(text: &str, max_bytes: usize, warnings: &mut AnswerWarnings) -> Option<String> {
    let mut tried = warnings.clone();
    let (json, rest) = repair(text, max_bytes, &mut tried).ok()?;
    if !rest.trim().is_empty() {
        return None;
    }
    *warnings = tried;
    Some(json)
}

/// Returns the object in a text that has a member `answer`. Returns `None` if the text has no such object, or may have several.
fn embedded(text: &str, max_bytes: usize, warnings: &mut AnswerWarnings) -> Option<String> {
    let places = text.match_indices('{').map(|(at, _)| at).take_while(|at| *at < MAX_TEXT_BEFORE);
    // Each failed attempt reads a part of the text. The budget bounds the total.
    let mut budget = 2 * text.len() + MAX_TEXT_BEFORE;
    for at in places.take(MAX_PLACES) {
        let mut tried = warnings.clone();
        let (json, rest) = match repair(&text[at..], max_bytes, &mut tried) {
            Ok(repaired) => repaired,
            Err(read) => {
                budget = budget.checked_sub(read)?;
                continue;
            }
        };
        let found =
            Json::parse(&json).and_then(|json| json.members(["answer"], &mut AnswerWarnings::default()));
        if let Some([Some(_)]) = found {
            if rest.contains("answer") {
                return None;
            }
            tried.add(WarningCode::SurroundingText, 1);
            *warnings = tried;
            return Some(json);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the document and the codes of the warnings.
    fn found(text: &str) -> Option<(String, Vec<&'static str>)> {
        let mut warnings = AnswerWarnings::default();
        let json = document(text, 1 << 20, &mut warnings)?.into_owned();
        Some((json, warnings.into_list().iter().map(|warning| warning.code.as_str()).collect()))
    }

    #[test]
    fn a_document_is_found_between_other_text() {
        let json = r#"{"answer":{"stalk":[]}}"#;
        for text in [
            format!("<br />\n<b>Warning</b>: Undefined index {{x}} in /a.php on line 3<br />\n{json}"),
            format!("callback({json});"),
            format!(")]}}',\n{json}"),
            format!("{json}\nNotice: {{closure}} failed"),
            format!("{json}\0\0"),
        ] {
            assert_eq!(found(&text), Some((json.to_owned(), vec!["surrounding_text"])), "{text}");
        }
    }

    #[test]
    fn a_document_that_was_encoded_twice_is_decoded() {
        let json = r#"{"answer": null}"#;
        let twice = serde_json::to_string(json).unwrap();
        assert_eq!(found(&twice), Some((json.to_owned(), vec!["nested_json"])));
        assert_eq!(found("\"wait\""), Some(("\"wait\"".to_owned(), vec![])));
    }

    #[test]
    fn a_text_with_several_documents_or_none_is_refused() {
        for text in [
            "",
            "<html><script>var x = {a: 1}</script></html>",
            r#"{"answer": null}{"answer": {"stalk": []}}"#,
            r#"x {"answer": {"stalk": [{"text": "cut"#,
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
