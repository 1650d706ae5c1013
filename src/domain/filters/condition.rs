//! Evaluates the conditions of a filter.

use std::cmp::Ordering;

use serde::Deserialize;
use serde_json::{Number, Value};
use unicode_normalization::UnicodeNormalization;

use crate::domain::clock::Timestamp;

/// A conjunction: the members of one object of a filter.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Condition {
    /// Conditions on fields, each with its path.
    pub(super) fields: Vec<(Vec<String>, Self)>,
    /// Predicates. At least one value must meet all of them.
    pub(super) predicates: Vec<Predicate>,
    /// With `true`, a value must exist. With `false`, no value may exist. `null` counts as a value. `None` allows both.
    pub(super) exist: Option<bool>,
    /// Conditions that must not hold for any value.
    pub(super) none: Vec<Self>,
    /// Conditions that must all hold.
    pub(super) all: Vec<Self>,
    /// Conditions of which at least one must hold.
    pub(super) any: Option<Vec<Self>>,
}

/// A comparison of one value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Predicate {
    /// The value equals one of these operands.
    In(Vec<Operand>),
    /// The value has this order relative to the operand.
    Order(Relation, Operand),
    /// The value is a text that starts with one of these texts.
    StartsWith(Vec<String>),
    /// The value is a text that contains one of these texts.
    Contains(Vec<String>),
}

/// An order relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

/// A value to compare with.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    Time(Timestamp),
    /// A text in Unicode Normalization Form C, like the texts of the data.
    Text(String),
    Number(Number),
    Other(Value),
}

impl Condition {
    /// Whether the condition holds for the values at a path: one value, or the values of all elements of an array.
    pub(super) fn holds(&self, values: &[&Value]) -> bool {
        let elements = elements(values);
        if self.fields.is_empty() {
            return self.holds_together(values, &elements);
        }
        // The paths of one object must lead into one element, not into several elements of an array.
        elements.iter().filter(|element| !element.is_array()).any(|element| {
            let has_fields = self.fields.iter().all(|(path, condition)| condition.holds(&at(element, path)));
            has_fields && self.holds_together(&[*element], &[*element])
        })
    }

    /// Whether all parts except [`Condition::fields`] hold for `values`. `elements` has the same values, and
    /// also the elements of each array.
    fn holds_together(&self, values: &[&Value], elements: &[&Value]) -> bool {
        let compares = |element: &&Value| self.predicates.iter().all(|predicate| predicate.holds(element));
        self.exist.is_none_or(|exist| exist != values.is_empty())
            && (self.predicates.is_empty() || elements.iter().any(compares))
            && !self.none.iter().any(|condition| condition.holds(values))
            && self.all.iter().all(|condition| condition.holds(values))
            && self.any.as_ref().is_none_or(|any| any.iter().any(|condition| condition.holds(values)))
    }
}

/// Returns the values, and also the elements of each array.
fn elements<'a>(values: &[&'a Value]) -> Vec<&'a Value> {
    let mut elements = Vec::with_capacity(values.len());
    let mut pending: Vec<&Value> = values.iter().rev().copied().collect();
    while let Some(value) = pending.pop() {
        elements.push(value);
        if let Value::Array(items) = value {
            pending.extend(items.iter().rev());
        }
    }
    elements
}

/// Returns the values at a path. Arrays on the path lead to the values of all elements.
fn at<'a>(value: &'a Value, path: &[String]) -> Vec<&'a Value> {
    path.iter().fold(vec![value], |values, name| {
        elements(&values).into_iter().filter_map(|value| value.as_object()?.get(name)).collect()
    })
}

impl Predicate {
    fn holds(&self, value: &Value) -> bool {
        let is_text = |test: &dyn Fn(&str) -> bool| value.as_str().is_some_and(test);
        match self {
            Self::In(operands) => operands.iter().any(|operand| operand.equals(value)),
            Self::Order(relation, operand) => {
                operand.compare(value).is_some_and(|order| relation.includes(order))
            }
            Self::StartsWith(beginnings) => {
                is_text(&|text| beginnings.iter().any(|it| text.starts_with(it.as_str())))
            }
            Self::Contains(parts) => is_text(&|text| parts.iter().any(|it| text.contains(it.as_str()))),
        }
    }
}

impl Relation {
    /// Whether a value with this order relative to the operand meets the relation.
    const fn includes(self, order: Ordering) -> bool {
        match self {
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
        }
    }
}

impl Operand {
    /// Creates the operand for a text.
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.nfc().collect())
    }

    /// Whether a value equals this operand.
    fn equals(&self, value: &Value) -> bool {
        match self {
            Self::Other(other) => value == other,
            Self::Text(operand) => value == operand,
            Self::Time(_) | Self::Number(_) => self.compare(value) == Some(Ordering::Equal),
        }
    }

    /// Returns the order of a value relative to this operand; `None` if they have different types.
    fn compare(&self, value: &Value) -> Option<Ordering> {
        match self {
            Self::Time(time) => Some(Timestamp::deserialize(value).ok()?.cmp(time)),
            Self::Text(operand) => Some(value.as_str()?.cmp(operand)),
            Self::Number(number) => compare_numbers(value.as_number()?, number),
            Self::Other(_) => None,
        }
    }
}

fn compare_numbers(one: &Number, other: &Number) -> Option<Ordering> {
    match (one.as_i128(), other.as_i128()) {
        (Some(one), Some(other)) => Some(one.cmp(&other)),
        _ => one.as_f64()?.partial_cmp(&other.as_f64()?),
    }
}
