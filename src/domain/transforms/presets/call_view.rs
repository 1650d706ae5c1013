//! The data of an event, as presets read it.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Need;
use crate::domain::call_facts::CallFacts;
use crate::domain::clock::Timestamp;
use crate::domain::transcript::Turn;

/// The data of an event, and the values of the transform. The view also collects the problems that occur during a rendering.
pub(super) struct CallView<'a> {
    data: &'a Value,
    values: &'a Map<String, Value>,
    /// Link to the analysis.
    pub(super) link: &'a str,
    /// Turns of the call; empty without a result.
    pub(super) turns: Vec<Turn>,
    /// Facts of the call.
    pub(super) call: CallFacts,
    problems: Vec<String>,
}

impl<'a> CallView<'a> {
    pub(super) fn new(data: &'a Value, values: &'a Map<String, Value>, link: &'a str) -> Self {
        let turns = Vec::deserialize(&data["transcript"]).unwrap_or_default();
        let call = CallFacts::deserialize(&data["call"]).unwrap_or_default();
        Self { data, values, link, turns, call, problems: Vec::new() }
    }

    /// Returns the problems of the rendering.
    pub(super) fn into_problems(self) -> Vec<String> {
        self.problems
    }

    /// Adds a problem if the value that the preset needs is missing.
    pub(super) fn require(&mut self, need: &Need) {
        if self.value(need.name).is_none() {
            let (name, description) = (need.name, need.description);
            self.problems.push(format!(
                "{name} is missing ({description}): send it in call.crm.{name} or metadata.{name} of the submission, or set it in values of \
                 the transform"
            ));
        }
    }

    /// Adds a problem if the analysis has no transcript.
    pub(super) fn require_transcript(&mut self) {
        if !self.data["transcript"].is_array() {
            let status = self.data["status"].as_str().unwrap_or("unknown");
            self.problems.push(format!("the analysis has no transcript (status {status})"));
        }
    }

    /// Returns the value with this name as text. The `values` of the transform come first, then the facts of the call, then the
    /// metadata.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        let call = &self.data["call"];
        let fact = match name {
            "agent_id" => &call["agent"]["id"],
            "agent_name" => &call["agent"]["name"],
            "direction" | "phone" | "queue" => &call[name],
            _ => &call["crm"][name],
        };
        let candidates = [self.values.get(name), Some(fact), self.data["metadata"].get(name)];
        candidates.into_iter().flatten().find_map(|value| match value {
            Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
    }

    /// Returns the value with this name as text. The text is empty if there is no such value.
    pub(super) fn text(&self, name: &str) -> String {
        self.value(name).unwrap_or_default()
    }

    /// Returns the value with this name as a whole number. Adds a problem if the value is not a whole number.
    pub(super) fn number(&mut self, name: &str) -> Option<i64> {
        let text = self.value(name)?;
        let number = text.trim().parse().ok();
        if number.is_none() {
            self.problems.push(format!("{name} must be a whole number"));
        }
        number
    }

    /// Returns the value with this name, which must be one of `words`. Adds a problem if the value is another word.
    pub(super) fn word(&mut self, name: &str, words: &[&'static str]) -> Option<&'static str> {
        let text = self.value(name)?;
        let word = words.iter().copied().find(|word| *word == text);
        if word.is_none() {
            self.problems.push(format!("{name} must be {}", words.join(" or ")));
        }
        word
    }

    /// Returns the string at this JSON pointer in the analysis.
    pub(super) fn string(&self, pointer: &str) -> Option<&'a str> {
        self.data.pointer(pointer)?.as_str()
    }

    /// Returns the id of the call.
    pub(super) fn call_id(&self) -> &'a str {
        self.string("/call_id").unwrap_or_default()
    }

    /// Returns the start of the call.
    pub(super) fn begin_time(&self) -> Option<Timestamp> {
        let facts = self.data.pointer("/call/started_at").and_then(|time| Timestamp::deserialize(time).ok());
        Timestamp::deserialize(&self.data["begin_time"]).ok().or(facts)
    }

    /// Returns the duration of the call in milliseconds; 0 without a result.
    pub(super) fn duration_ms(&self) -> i64 {
        self.data.pointer("/talk_metrics/duration_ms").and_then(Value::as_i64).unwrap_or(0)
    }

    /// Returns the duration of the call in whole seconds, rounded up.
    pub(super) fn duration_s(&self) -> i64 {
        seconds_up(self.duration_ms())
    }

    /// Returns each tag with its value as text, without duplicates.
    pub(super) fn tags(&self) -> Vec<String> {
        let mut tags: Vec<String> = Vec::new();
        for tag in self.data["tags"].as_array().into_iter().flatten() {
            let name = tag["name"].as_str().unwrap_or_default().trim();
            let value = tag["value"].as_str().unwrap_or_default().trim();
            let text =
                if value.is_empty() || value == name { name.to_owned() } else { format!("{name}: {value}") };
            if !text.is_empty() && !tags.contains(&text) {
                tags.push(text);
            }
        }
        tags
    }
}

/// Converts milliseconds to whole seconds, rounded up. A negative time becomes 0.
pub(super) const fn seconds_up(ms: i64) -> i64 {
    if ms > 0 { (ms - 1) / 1000 + 1 } else { 0 }
}
