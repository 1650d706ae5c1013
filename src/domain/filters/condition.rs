//! Evaluates the conditions of a filter.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde::Deserialize;
use serde_json::{Number, Value};
use unicode_normalization::{UnicodeNormalization, is_nfc};

use crate::domain::clock::Timestamp;

/// Size in bytes up to which a text is compared as a whole.
const MAX_WHOLE: usize = 256;

/// A conjunction: the members of one object of a filter.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Condition {
    /// Conditions on fields, each with its path.
    pub(super) fields: Vec<(Vec<String>, Self)>,
    /// Predicates, all of which hold for one value.
    pub(super) predicates: Vec<Predicate>,
    /// Whether a value must exist or must be absent; `null` counts as a value. `None` allows both.
    pub(super) exist: Option<bool>,
    /// Conditions that hold for no value.
    pub(super) none: Vec<Self>,
    /// Conditions that all hold.
    pub(super) all: Vec<Self>,
    /// Conditions of which one holds.
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
    /// A text in Unicode Normalization Form C, because `й` can be one character or two.
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

    /// Whether the parts without a path hold for `values`. `elements` has the same values, and for each array also its elements.
    fn holds_together(&self, values: &[&Value], elements: &[&Value]) -> bool {
        let compares = |element: &&Value| self.predicates.iter().all(|predicate| predicate.holds(element));
        self.exist.is_none_or(|exist| exist != values.is_empty())
            && (self.predicates.is_empty() || elements.iter().any(compares))
            && !self.none.iter().any(|condition| condition.holds(values))
            && self.all.iter().all(|condition| condition.holds(values))
            && self.any.as_ref().is_none_or(|any| any.iter().any(|condition| condition.holds(values)))
    }
}

/// Returns the values, and for each array also its elements.
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
        let text = value.as_str();
        match self {
            Self::In(operands) => {
                let longest = operands.iter().map(Operand::text_bytes).max();
                let text = text.map(|text| beginning(text, longest.unwrap_or_default()));
                operands.iter().any(|operand| operand.equals(value, text.as_deref()))
            }
            Self::Order(relation, operand) => {
                let text = text.map(|text| beginning(text, operand.text_bytes()));
                operand.compare(value, text.as_deref()).is_some_and(|order| relation.includes(order))
            }
            Self::StartsWith(beginnings) => text.is_some_and(|text| {
                let longest = beginnings.iter().map(String::len).max();
                let text = beginning(text, longest.unwrap_or_default());
                beginnings.iter().any(|it| text.starts_with(it.as_str()))
            }),
            Self::Contains(parts) => text.is_some_and(|text| {
                let text = composed(text);
                parts.iter().any(|it| text.contains(it.as_str()))
            }),
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

    /// Returns the size in bytes of the text that the operand compares with; 0 for an operand without a text.
    const fn text_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Time(_) | Self::Number(_) | Self::Other(_) => 0,
        }
    }

    /// Whether a value equals this operand. `text` is the [`beginning`] of a text.
    fn equals(&self, value: &Value, text: Option<&str>) -> bool {
        match self {
            Self::Other(other) => value == other,
            Self::Text(operand) => text == Some(operand),
            Self::Time(_) | Self::Number(_) => self.compare(value, text) == Some(Ordering::Equal),
        }
    }

    /// Returns the order of a value relative to this operand; `None` if they have different types. `text` is the [`beginning`] of a
    /// text.
    fn compare(&self, value: &Value, text: Option<&str>) -> Option<Ordering> {
        match self {
            Self::Time(time) => Some(Timestamp::deserialize(value).ok()?.cmp(time)),
            Self::Text(operand) => Some(text?.cmp(operand)),
            Self::Number(number) => compare_numbers(value.as_number()?, number),
            Self::Other(_) => None,
        }
    }
}

/// Returns a text in Unicode Normalization Form C.
fn composed(text: &str) -> Cow<'_, str> {
    if is_nfc(text) { Cow::Borrowed(text) } else { Cow::Owned(text.nfc().collect()) }
}

/// Returns the beginning of a text in Unicode Normalization Form C. The beginning is long enough for each comparison with an
/// operand of up to `bytes` bytes: it is the whole text, or has more characters than such an operand. The rest is left out,
/// because the event can have a long transcript, which many filters examine inside of one transaction.
fn beginning(text: &str, bytes: usize) -> Cow<'_, str> {
    if text.len() <= MAX_WHOLE { composed(text) } else { Cow::Owned(text.nfc().take(bytes + 1).collect()) }
}

fn compare_numbers(one: &Number, other: &Number) -> Option<Ordering> {
    match (one.as_i128(), other.as_i128()) {
        (Some(one), Some(other)) => Some(one.cmp(&other)),
        _ => one.as_f64()?.partial_cmp(&other.as_f64()?),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Pattern of texts with composed and decomposed characters. Composition (NFC) changes the order of some marks, and replaces
    /// one of the characters by two.
    const TEXT: &str = "[aй\u{438}\u{306}\u{323}\u{307}\u{958}\u{1100}\u{1161}\u{11a8}]{0,6}";

    proptest! {
        #[test]
        fn a_long_text_is_compared_like_its_whole_composed_form(
            text in TEXT,
            repeats in prop::sample::select(vec![1_usize, 300]),
            operands in prop::collection::vec(TEXT, 1..4),
            is_whole_text in any::<bool>(),
        ) {
            let text = text.repeat(repeats);
            let mut operands = operands;
            if is_whole_text {
                operands.push(text.clone());
            }
            let whole: String = text.nfc().collect();
            let composed: Vec<String> = operands.iter().map(|operand| operand.nfc().collect()).collect();
            let value = Value::String(text);
            let texts = || operands.iter().map(|operand| Operand::text(operand));
            prop_assert_eq!(Predicate::In(texts().collect()).holds(&value), composed.contains(&whole));
            let starts = composed.iter().any(|operand| whole.starts_with(operand.as_str()));
            prop_assert_eq!(Predicate::StartsWith(composed.clone()).holds(&value), starts);
            for (operand, composed) in texts().zip(&composed) {
                prop_assert_eq!(Predicate::Order(Relation::Less, operand.clone()).holds(&value), whole < *composed);
                prop_assert_eq!(Predicate::Order(Relation::GreaterOrEqual, operand).holds(&value), whole >= *composed);
            }
        }
    }

    #[test]
    fn a_long_text_is_composed_only_as_far_as_an_operand_reaches() {
        let text = "\u{438}\u{306}".repeat(100_000);
        assert_eq!(beginning(&text, "й".len()), "ййй");
    }
}
