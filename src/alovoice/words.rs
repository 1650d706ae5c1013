//! The vendor's own words: the explanation in an answer without a result.
//!
//! The vendor documents no form of errors, so words are found in JSON of any structure, in HTML and in plain text.

#[cfg(test)]
mod tests;

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::repair::repair;
use crate::domain::answer_warnings::AnswerWarnings;
use crate::domain::invisible::is_invisible;
use crate::domain::vendor_token::VendorToken;

/// Maximum length of the words, in characters.
const MAX_CHARS: usize = 200;
/// Maximum number of characters of a text that are searched for words.
const MAX_TEXT_CHARS: usize = 16 << 10;
/// Maximum number of bytes of a body that are searched for words.
const MAX_BODY_BYTES: usize = 64 << 10;
/// Maximum length of a repaired body, in bytes.
const MAX_JSON_BYTES: usize = 4 * MAX_BODY_BYTES;
/// Maximum number of values of a JSON document that are read.
const MAX_LEAVES: usize = 64;
/// Parts of names whose values explain an error.
const EXPLANATIONS: [&str; 10] =
    ["error", "message", "msg", "detail", "descr", "reason", "cause", "exception", "fault", "warning"];
/// Parts of names whose values identify an error.
const CODES: [&str; 2] = ["code", "status"];
/// Members of a documented answer. They do not explain an error.
const DOCUMENTED: [&str; 5] = ["begin_time", "aicallid", "stalk", "tags", "stereoaudio"];

/// Returns the words of the body of an error: at most [`MAX_CHARS`] characters in one line, without control characters and without
/// the token.
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

/// Returns the words of JSON without a result. The documented form of an answer that is not ready has none.
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
    // The token is removed again: invisible characters in it may have hidden it.
    let line = token.erased_from_text(line);
    let line = line.trim();
    let words = match line.char_indices().nth(MAX_CHARS) {
        Some(_) => line.chars().take(MAX_CHARS - 1).chain(['…']).collect(),
        None => line.to_owned(),
    };
    (!words.is_empty()).then_some(words)
}

/// Returns the words of JSON that reports an error beside its answer; `None` if it reports no error.
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

/// A string, number or boolean of a document.
struct Leaf {
    /// The names of the members that lead to the value.
    path: Vec<String>,
    value: String,
    is_text: bool,
}

impl Leaf {
    /// Whether one of the names contains one of the parts.
    fn is_named(&self, parts: &[&str]) -> bool {
        self.path.iter().any(|name| {
            let name = name.to_lowercase();
            parts.iter().any(|part| name.contains(part))
        })
    }

    fn is_documented(&self) -> bool {
        matches!(&self.path[..], [answer, name, ..] if answer == "answer" && DOCUMENTED.contains(&&name[..]))
    }

    /// Whether the value shows that the request failed.
    fn reports_error(&self) -> bool {
        let is_named = |names: &[&str]| {
            self.path.iter().any(|name| names.iter().any(|it| name.eq_ignore_ascii_case(it)))
        };
        let is_failure = is_named(&["success", "ok"]) && self.value == "false";
        !self.is_documented()
            && (is_failure || self.is_text && is_named(&["error", "errors", "exception", "fault"]))
    }

    /// Whether the value identifies an error.
    fn is_code(&self) -> bool {
        self.path.last().is_some_and(|name| {
            let name = name.to_lowercase();
            CODES.iter().any(|part| name.contains(part))
        })
    }

    /// Returns the value; a number or a code has its name in front.
    fn labelled(&self) -> String {
        match self.path.last() {
            Some(name) if !self.is_text || self.is_code() => format!("{name}: {}", self.value),
            _ => self.value.clone(),
        }
    }
}

/// The first values of a document, in their order.
struct Leaves(Vec<Leaf>);

impl Leaves {
    /// Reads the values up to the first error in the document.
    fn of(json: &str) -> Self {
        let (mut leaves, mut path) = (Vec::new(), Vec::new());
        let collector = Collector { leaves: &mut leaves, path: &mut path };
        // The document ends at an error. The values before it are used.
        let _ = collector.deserialize(&mut serde_json::Deserializer::from_str(json));
        Self(leaves)
    }

    /// Returns the values that explain an error, and its code if there is one; else all values.
    fn words(&self) -> String {
        let explanations = self.explanations();
        if explanations.is_empty() { joined(self.0.iter()) } else { explanations }
    }

    /// Returns the values that explain an error, and its code if there is one.
    fn explanations(&self) -> String {
        let own = || self.0.iter().filter(|leaf| !leaf.is_documented());
        let explains =
            |leaf: &&Leaf| leaf.is_named(&EXPLANATIONS) && !leaf.is_code() && leaf.value != "false";
        if own().all(|leaf| !explains(&leaf)) {
            return String::new();
        }
        joined(own().filter(explains).chain(own().filter(|leaf| leaf.is_code())))
    }
}

fn joined<'a>(leaves: impl Iterator<Item = &'a Leaf>) -> String {
    let mut words: Vec<String> = leaves.map(Leaf::labelled).collect();
    words.dedup();
    words.join("; ")
}

/// Collects the values of a document.
struct Collector<'a> {
    leaves: &'a mut Vec<Leaf>,
    path: &'a mut Vec<String>,
}

impl Collector<'_> {
    fn add<E: Error>(self, value: String, is_text: bool) -> Result<(), E> {
        if self.leaves.len() >= MAX_LEAVES {
            return Err(E::custom("too many values"));
        }
        let leaf = Leaf { path: self.path.clone(), value, is_text };
        // One documented value suffices to recognize a documented answer. More of them would displace words.
        let is_needless = leaf.is_documented() && self.leaves.iter().any(Leaf::is_documented);
        if !leaf.value.trim().is_empty() && !is_needless {
            self.leaves.push(leaf);
        }
        Ok(())
    }

    fn inner(&mut self) -> Collector<'_> {
        Collector { leaves: self.leaves, path: self.path }
    }
}

impl<'de> DeserializeSeed<'de> for Collector<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Collector<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.add(value.to_string(), false)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.add(value.to_string(), false)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.add(value.to_string(), false)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.add(value.to_string(), false)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.add(value.chars().take(MAX_TEXT_CHARS).collect(), true)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(self.inner())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            self.path.push(name);
            let value = map.next_value_seed(self.inner());
            self.path.pop();
            value?;
        }
        Ok(())
    }
}
