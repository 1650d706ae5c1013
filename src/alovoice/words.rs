//! The vendor's own words: the explanation in an answer without a result.
//!
//! The vendor documents no form of errors, so words are found in JSON of any structure, in HTML and in plain text.

mod leaves;
#[cfg(test)]
mod tests;

use self::leaves::{Leaf, Leaves};
use super::repair::repair;
use crate::domain::answer_warnings::AnswerWarnings;
use crate::domain::invisible::is_invisible;
use crate::domain::vendor_token::VendorToken;

/// Maximum length of the vendor's own words, in characters.
const MAX_CHARS: usize = 200;
/// Maximum number of characters of a text that are searched for words.
const MAX_TEXT_CHARS: usize = 16 << 10;
/// Maximum number of bytes of a body that are searched for words.
const MAX_BODY_BYTES: usize = 64 << 10;
/// Maximum length of a repaired body, in bytes.
const MAX_JSON_BYTES: usize = 4 * MAX_BODY_BYTES;

/// Returns the vendor's words in an error body: at most [`MAX_CHARS`] characters in one line, without control characters and
/// without the token.
pub(super) fn of_body(body: &str, token: &VendorToken) -> Option<String> {
    let body = body.trim_start();
    let body = &body[..body.floor_char_boundary(MAX_BODY_BYTES)];
    let words = if body.starts_with('<') {
        of_markup(body)
    } else if body.starts_with(['{', '[', '"', '\'']) {
        match repair(body, MAX_JSON_BYTES, &mut AnswerWarnings::default()) {
            Ok((json, _)) => Leaves::of(&json).words(),
            // The end of the body may be missing, or the body is a text such as "[error] no such call".
            Err(_) => Some(Leaves::of(body).words())
                .filter(|words| !words.is_empty())
                .unwrap_or_else(|| body.to_owned()),
        }
    } else {
        body.to_owned()
    };
    clean(&words, token)
}

/// Returns the vendor's words in JSON without a result. Returns `None` for an answer of the documented form that explains no
/// error.
pub(super) fn of_answer(json: &str, token: &VendorToken) -> Option<String> {
    let leaves = Leaves::of(json);
    let is_documented = leaves.0.iter().any(Leaf::is_documented);
    clean(&if is_documented { leaves.explanations() } else { leaves.words() }, token)
}

fn clean(words: &str, token: &VendorToken) -> Option<String> {
    let mut line = String::new();
    for c in words.chars().take(MAX_TEXT_CHARS).filter(|c| !is_invisible(*c)) {
        if c.is_whitespace() {
            if !line.ends_with(' ') {
                line.push(' ');
            }
        } else if !c.is_control() {
            line.push(c);
        }
    }
    // The token is removed again, because invisible characters in the token may have hidden it.
    let line = token.erased_from_text(line);
    let line = line.trim();
    let words = match line.char_indices().nth(MAX_CHARS) {
        Some(_) => line.chars().take(MAX_CHARS - 1).chain(['…']).collect(),
        None => line.to_owned(),
    };
    (!words.is_empty()).then_some(words)
}

/// Returns the vendor's words in JSON that reports an error in addition to its answer. Returns `None` if the JSON reports no
/// error.
pub(super) fn of_error(json: &str, token: &VendorToken) -> Option<String> {
    let leaves = Leaves::of(json);
    leaves.0.iter().find(|leaf| leaf.reports_error()).and_then(|first| {
        let explanations = leaves.explanations();
        clean(&if explanations.is_empty() { first.labelled() } else { explanations }, token)
    })
}

/// Returns the title of a page of HTML, or the text of any other markup.
fn of_markup(markup: &str) -> String {
    let lower = markup.to_ascii_lowercase();
    let title = lower.find("<title").and_then(|at| {
        let begin = at + lower[at..].find('>')? + 1;
        let end = begin + lower[begin..].find("</title")?;
        Some(&markup[begin..end])
    });
    match title.map(str::trim).filter(|title| !title.is_empty()) {
        Some(title) => unescaped(title),
        None => unescaped(&without_tags(markup, &lower)),
    }
}

/// Returns the text between the tags; scripts and styles are omitted. `lower` is the markup in lower case.
fn without_tags(markup: &str, lower: &str) -> String {
    let (mut text, mut at) = (String::new(), 0);
    while let Some(length) = markup[at..].find('<') {
        text.push_str(&markup[at..at + length]);
        text.push(' ');
        at += length;
        let hidden = ["script", "style"].into_iter().find(|name| lower[at + 1..].starts_with(name));
        if let Some(name) = hidden {
            at += lower[at..].find(&format!("</{name}")).unwrap_or(markup.len() - at);
        }
        at += markup[at..].find('>').map_or(markup.len() - at, |length| length + 1);
        if text.len() > MAX_TEXT_CHARS {
            return text;
        }
    }
    text.push_str(&markup[at..]);
    text
}

/// Returns the text with the usual entities replaced by their characters.
fn unescaped(text: &str) -> String {
    let names =
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&apos;", "'"), ("&nbsp;", " ")];
    let text = names.into_iter().fold(text.to_owned(), |text, (name, c)| text.replace(name, c));
    text.replace("&amp;", "&")
}
