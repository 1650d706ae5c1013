//! Filters on the content of events: MongoDB-style conditions on the fields of an analysis.
//!
//! An object is a conjunction. Its keys are paths of fields (`tags.name`, relative to the object) and operators (`$gt`). The
//! value of a path is a value to compare with, an array of values that must all be contained, or an object with
//! operators and further paths.
//!
//! A path through an array leads to the values of all elements. A condition holds for several values if it holds for one of them.
//! The negations `$ne`, `$nin` and `$not` hold if the condition that they negate holds for none of the values. An object with
//! several paths holds for an array if a single element meets all of them.
//!
//! The format is that of Hookdeck's `simple-json-match`; the tests name the differences.

mod condition;
mod fields;
mod parser;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};
use unicode_normalization::{UnicodeNormalization, is_nfc};

use self::condition::Condition;
use super::field_problem::FieldProblem;

/// A filter that was checked against the fields of an analysis.
#[derive(Debug, Clone, PartialEq)]
pub struct ContentFilter {
    source: Map<String, Value>,
    condition: Condition,
}

/// The `data` of an event for filters. Its texts are in Unicode Normalization Form C, because `й` can be one character or two. One
/// event can have a long transcript that many filters examine, so the texts are normalized once.
#[derive(Debug, Clone, Default)]
pub struct FilterData(Value);

impl FilterData {
    /// Normalizes the `data` of an event.
    pub fn new(mut data: Value) -> Self {
        compose(&mut data);
        Self(data)
    }
}

/// Normalizes all texts of a value, but not the names of members.
fn compose(value: &mut Value) {
    match value {
        Value::String(text) if !is_nfc(text) => *text = text.nfc().collect(),
        Value::Array(items) => items.iter_mut().for_each(compose),
        Value::Object(members) => members.values_mut().for_each(compose),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

impl ContentFilter {
    /// Maximum size in bytes as compact JSON.
    pub const MAX_BYTES: usize = 4096;
    /// Maximum number of values that a filter compares with. This limit bounds the time of an evaluation.
    pub const MAX_VALUES: usize = 100;
    /// Maximum number of levels of objects and arrays.
    pub const MAX_DEPTH: usize = 8;

    /// Parses a filter.
    ///
    /// # Errors
    /// All problems, each with the JSON Pointer of its field.
    pub fn parse(object: Map<String, Value>) -> Result<Self, Vec<FieldProblem>> {
        let condition = parser::parse(&object, &fields::ANALYSIS)?;
        Ok(Self { source: object, condition })
    }

    /// Parses the output of [`ContentFilter::to_json`]. Returns `None` if this version cannot read it.
    pub fn from_json(json: &str) -> Option<Self> {
        Self::parse(serde_json::from_str(json).ok()?).ok()
    }

    /// Whether an event with this `data` passes the filter.
    pub fn passes(&self, data: &FilterData) -> bool {
        self.condition.holds(&[&data.0])
    }

    /// Returns the filter as the caller wrote it.
    pub const fn source(&self) -> &Map<String, Value> {
        &self.source
    }

    /// Returns the filter as compact JSON.
    pub fn to_json(&self) -> String {
        // A map with string keys always serializes.
        serde_json::to_string(&self.source).unwrap_or_default()
    }
}
