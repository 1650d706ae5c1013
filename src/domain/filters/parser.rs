//! Parses and checks filters.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::condition::{Condition, Operand, Predicate, Relation};
use super::fields::Field;
use super::{ContentFilter, FilterData};
use crate::domain::clock::Timestamp;
use crate::domain::field_problem::FieldProblem;

/// All operators, for error texts.
const OPERATORS: &str =
    "$eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exist, $startsWith, $contains, $or, $and and $not";

/// Parses a filter on values with these fields.
pub(super) fn parse(filter: &Map<String, Value>, field: &Field) -> Result<Condition, Vec<FieldProblem>> {
    let mut parser = FilterParser::default();
    let size = serde_json::to_string(filter).map_or(usize::MAX, |json| json.len());
    if size > ContentFilter::MAX_BYTES {
        let rule =
            format!("must have at most {} bytes as compact JSON, has {size}", ContentFilter::MAX_BYTES);
        return Err(vec![FieldProblem { pointer: String::new(), detail: rule }]);
    }
    let condition = parser.object("", filter, field, 1);
    if parser.values > ContentFilter::MAX_VALUES {
        let rule = format!("must have at most {} values, has {}", ContentFilter::MAX_VALUES, parser.values);
        parser.add("", rule);
    }
    if parser.problems.is_empty() { Ok(condition) } else { Err(parser.problems) }
}

#[derive(Default)]
struct FilterParser {
    problems: Vec<FieldProblem>,
    values: usize,
}

impl FilterParser {
    fn add(&mut self, pointer: &str, detail: impl Into<String>) {
        self.problems.push(FieldProblem { pointer: pointer.to_owned(), detail: detail.into() });
    }

    /// Parses the value of a path, or a part of `$and`, `$or` or `$not`.
    fn condition(&mut self, pointer: &str, value: &Value, field: &Field, depth: usize) -> Condition {
        match value {
            Value::Object(object) => self.object(pointer, object, field, depth + 1),
            Value::Array(_) => {
                let all = self.conditions(pointer, value, field, depth + 1);
                Condition { all, ..Condition::default() }
            }
            _ => {
                let operand = self.operand(pointer, value, field);
                let predicates = operand.into_iter().map(|operand| Predicate::In(vec![operand])).collect();
                Condition { predicates, ..Condition::default() }
            }
        }
    }

    /// Parses a list of conditions.
    fn conditions(&mut self, pointer: &str, value: &Value, field: &Field, depth: usize) -> Vec<Condition> {
        let items = self.list(pointer, value);
        let parsed = items.iter().enumerate();
        parsed
            .map(|(index, item)| self.condition(&format!("{pointer}/{index}"), item, field, depth))
            .collect()
    }

    /// Returns the items of a list, which must not be empty.
    fn list<'a>(&mut self, pointer: &str, value: &'a Value) -> &'a [Value] {
        match value {
            Value::Array(items) if !items.is_empty() => items,
            _ => {
                self.add(pointer, "must be an array of at least one item");
                &[]
            }
        }
    }

    fn object(
        &mut self,
        pointer: &str,
        object: &Map<String, Value>,
        field: &Field,
        depth: usize,
    ) -> Condition {
        let mut condition = Condition::default();
        if depth > ContentFilter::MAX_DEPTH {
            self.add(pointer, format!("must have at most {} levels", ContentFilter::MAX_DEPTH));
            return condition;
        }
        if object.is_empty() {
            self.add(pointer, "must have at least one field or operator");
        }
        for (key, value) in object {
            let pointer = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
            if key.starts_with('$') {
                self.operator(&pointer, key, value, field, depth, &mut condition);
            } else if let Some((path, field)) = self.path(&pointer, key, field) {
                condition.fields.push((path, self.condition(&pointer, value, field, depth)));
            }
        }
        condition
    }

    /// Returns the names in a path, and the field at the end of the path.
    fn path<'a>(&mut self, pointer: &str, path: &str, field: &'a Field) -> Option<(Vec<String>, &'a Field)> {
        let names = field.names(path);
        if names.iter().any(String::is_empty) {
            self.add(pointer, "must be names separated by single dots");
            return None;
        }
        match names.iter().try_fold(field, |field, name| field.field(name)) {
            Ok(field) => Some((names, field)),
            Err(rule) => {
                self.add(pointer, rule);
                None
            }
        }
    }

    fn operator(
        &mut self,
        pointer: &str,
        operator: &str,
        value: &Value,
        field: &Field,
        depth: usize,
        condition: &mut Condition,
    ) {
        let predicate = match operator {
            "$eq" | "$ne" => self.operand(pointer, value, field).map(|operand| Predicate::In(vec![operand])),
            "$in" | "$nin" => Some(Predicate::In(self.operands(pointer, value, field))),
            "$gt" => self.order(pointer, Relation::Greater, value, field),
            "$gte" => self.order(pointer, Relation::GreaterOrEqual, value, field),
            "$lt" => self.order(pointer, Relation::Less, value, field),
            "$lte" => self.order(pointer, Relation::LessOrEqual, value, field),
            "$startsWith" => self.texts(pointer, value, field).map(Predicate::StartsWith),
            "$contains" => self.texts(pointer, value, field).map(Predicate::Contains),
            "$exist" => return self.exist(pointer, value, condition),
            "$and" => return condition.all.extend(self.conditions(pointer, value, field, depth)),
            "$or" => return condition.any = Some(self.conditions(pointer, value, field, depth)),
            "$not" => return condition.none.push(self.condition(pointer, value, field, depth)),
            _ => return self.add(pointer, format!("is not an operator; the operators are {OPERATORS}")),
        };
        let Some(predicate) = predicate else { return };
        if matches!(operator, "$ne" | "$nin") {
            condition.none.push(Condition { predicates: vec![predicate], ..Condition::default() });
        } else {
            condition.predicates.push(predicate);
        }
    }

    fn exist(&mut self, pointer: &str, value: &Value, condition: &mut Condition) {
        self.values += 1;
        condition.exist = value.as_bool();
        if condition.exist.is_none() {
            self.add(pointer, "must be true or false");
        }
    }

    fn operands(&mut self, pointer: &str, value: &Value, field: &Field) -> Vec<Operand> {
        let items = self.list(pointer, value).iter().enumerate();
        items.filter_map(|(index, item)| self.operand(&format!("{pointer}/{index}"), item, field)).collect()
    }

    /// Parses a value to compare with. `null` can be compared with every field.
    fn operand(&mut self, pointer: &str, value: &Value, field: &Field) -> Option<Operand> {
        self.values += 1;
        let rule = match (field, value) {
            (Field::Any | Field::Text, Value::String(text)) => return Some(Operand::text(text)),
            (Field::Any | Field::Number, Value::Number(number)) => {
                return Some(Operand::Number(number.clone()));
            }
            (Field::Any, other) if has_operator(other) => "must not have operators inside a value".to_owned(),
            (Field::Any, other) | (_, other @ Value::Null) | (Field::Boolean, other @ Value::Bool(_)) => {
                return Some(Operand::Other(FilterData::new(other.clone()).0));
            }
            (Field::Time, value) => match Timestamp::deserialize(value) {
                Ok(time) => return Some(Operand::Time(time)),
                Err(_) => "must be a time with its offset, such as 2026-11-01T00:00:00Z".to_owned(),
            },
            (Field::Word(words), value) => match value.as_str() {
                Some(text) if words.iter().any(|word| word == text) => return Some(Operand::text(text)),
                _ => format!("must be {}", words.join(", ")),
            },
            (Field::Text, _) => "must be a string".to_owned(),
            (Field::Number, _) => "must be a number".to_owned(),
            (Field::Boolean, _) => "must be true or false".to_owned(),
            (Field::Object(_) | Field::Map(_), _) => {
                "must be null or an object with fields, because the field is an object".to_owned()
            }
        };
        self.add(pointer, rule);
        None
    }

    fn order(
        &mut self,
        pointer: &str,
        relation: Relation,
        value: &Value,
        field: &Field,
    ) -> Option<Predicate> {
        match self.operand(pointer, value, field)? {
            Operand::Other(_) => {
                self.add(pointer, "must be a number, a string or a time");
                None
            }
            operand => Some(Predicate::Order(relation, operand)),
        }
    }

    /// Parses a text or a list of texts. One text of the list must match.
    fn texts(&mut self, pointer: &str, value: &Value, field: &Field) -> Option<Vec<String>> {
        if !matches!(field, Field::Text | Field::Word(_) | Field::Any) {
            self.add(pointer, "is an operator for text, but the field is not text");
            return None;
        }
        let texts = match value {
            Value::String(_) => std::slice::from_ref(value),
            _ => self.list(pointer, value),
        };
        self.values += texts.len();
        let texts = texts.iter().map(|text| match text.as_str().map(Operand::text) {
            Some(Operand::Text(text)) if !text.is_empty() => Some(text),
            _ => None,
        });
        let parsed: Option<Vec<String>> = texts.collect();
        if parsed.is_none() {
            self.add(pointer, "must be a string that is not empty, or an array of such strings");
        }
        parsed
    }
}

/// Whether an object inside the value has a member with the name of an operator. Such a value is a mistake, because a filter
/// would compare the value literally.
fn has_operator(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(has_operator),
        Value::Object(members) => {
            members.iter().any(|(name, value)| name.starts_with('$') || has_operator(value))
        }
        _ => false,
    }
}
