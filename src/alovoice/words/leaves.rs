//! Reads the values of a JSON document, and finds those that describe an error.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::MAX_TEXT_CHARS;

/// Maximum number of values of a JSON document that are read.
const MAX_LEAVES: usize = 64;
/// Parts of member names. The value of a member whose name contains one of these parts explains an error.
const EXPLANATIONS: [&str; 10] =
    ["error", "message", "msg", "detail", "descr", "reason", "cause", "exception", "fault", "warning"];
/// Parts of member names. The value of a member whose name contains one of these parts identifies an error.
const CODES: [&str; 2] = ["code", "status"];
/// Names of the members of a documented answer. These members do not explain an error.
const DOCUMENTED: [&str; 5] = ["begin_time", "aicallid", "stalk", "tags", "stereoaudio"];

/// A string, number or boolean of a document.
pub(super) struct Leaf {
    /// The names of the members that lead to the value.
    path: Vec<String>,
    value: String,
    is_text: bool,
}

impl Leaf {
    /// Whether one of the names in the path contains one of `parts`.
    fn is_named(&self, parts: &[&str]) -> bool {
        self.path.iter().any(|name| {
            let name = name.to_lowercase();
            parts.iter().any(|part| name.contains(part))
        })
    }

    pub(super) fn is_documented(&self) -> bool {
        matches!(&self.path[..], [answer, name, ..] if answer == "answer" && DOCUMENTED.contains(&&name[..]))
    }

    /// Whether the value shows that the request failed.
    pub(super) fn reports_error(&self) -> bool {
        let is_one_of = |text: &str, known: &[&str]| known.iter().any(|it| text.eq_ignore_ascii_case(it));
        let is_named = |names: &[&str]| self.path.iter().any(|name| is_one_of(name, names));
        let ends_with = |names: &[&str]| self.path.last().is_some_and(|name| is_one_of(name, names));
        let has_value = |values: &[&str]| is_one_of(self.value.trim(), values);
        let is_failure = is_named(&["success", "ok"]) && has_value(&["false", "0", "no"]);
        let is_error = is_named(&["error", "errors", "exception", "fault"])
            && !has_value(&["false", "0", "none", "null", "ok", "success"]);
        let is_state = ends_with(&["status", "state", "result"])
            && has_value(&["error", "fail", "failed", "failure", "not_found", "not found"]);
        let is_code = ends_with(&["code", "status", "statuscode", "status_code"])
            && self.value.trim().parse().is_ok_and(|code: u16| (400..600).contains(&code));
        !self.is_documented() && (is_failure || is_error || is_state || is_code)
    }

    /// Whether the value identifies an error.
    fn is_code(&self) -> bool {
        self.path.last().is_some_and(|name| {
            let name = name.to_lowercase();
            CODES.iter().any(|part| name.contains(part))
        })
    }

    /// Returns the value as text. The name precedes a value that is not a string or that identifies an error: `code: 17`.
    pub(super) fn labelled(&self) -> String {
        match self.path.last() {
            Some(name) if !self.is_text || self.is_code() => format!("{name}: {}", self.value),
            _ => self.value.clone(),
        }
    }
}

/// The first values of a document, in their order.
pub(super) struct Leaves(pub(super) Vec<Leaf>);

impl Leaves {
    /// Reads the values up to the first syntax error or the maximum number of values.
    pub(super) fn of(json: &str) -> Self {
        let (mut leaves, mut path) = (Vec::new(), Vec::new());
        let collector = Collector { leaves: &mut leaves, path: &mut path };
        // Reading stops at the first error in the document. The values before the error are used.
        let _ = collector.deserialize(&mut serde_json::Deserializer::from_str(json));
        Self(leaves)
    }

    /// Returns the values that explain an error, and the code of the error if there is one. If no value explains an error,
    /// returns all values.
    pub(super) fn words(&self) -> String {
        let explanations = self.explanations();
        if explanations.is_empty() { joined(self.0.iter()) } else { explanations }
    }

    /// Returns the values that explain an error, and the code of the error if there is one. The text is empty if no value
    /// explains an error.
    pub(super) fn explanations(&self) -> String {
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
