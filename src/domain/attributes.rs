//! Attributes of analyses. An attribute is a name and a value from the call facts or the metadata. Lists of analyses can
//! filter by attributes.

use serde_json::Value;
use unicode_normalization::UnicodeNormalization;

use super::analysis::{Analysis, Metadata};
use super::call_facts::CallFacts;

/// A name and a value. Both are in Unicode Normalization Form C, because `й` can be one character or two.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attribute {
    name: String,
    value: String,
}

/// The source of an attribute. A query parameter for each source filters a list by the attribute. The variants with rare
/// values come first: a list applies its filters in the order of the variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttributeSource<'a> {
    /// Id of the call in a CRM.
    Crm(&'a str),
    /// Value in the metadata. The path consists of the names that lead to the value, joined by dots.
    Metadata(&'a str),
    /// Phone number of the client.
    Phone,
    /// Id or name of the agent.
    Agent,
    /// Queue of the call.
    Queue,
    /// Direction of the call.
    Direction,
}

/// Reason why a list cannot filter by an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAttribute {
    /// The name is blank or too long, or has a NUL.
    #[error("must have a name of 1 to {max} characters without NUL that is not blank", max = Attribute::MAX_NAME_CHARS)]
    Name,
    /// The value is blank or too long, or has a NUL.
    #[error("must have 1 to {max} characters without NUL and must not be blank", max = Attribute::MAX_VALUE_CHARS)]
    Value,
}

impl Attribute {
    /// Maximum length of a name in the metadata, in characters. Longer names are not indexed.
    pub const MAX_NAME_CHARS: usize = 128;
    /// Maximum length of a value in characters. Longer values are not indexed.
    pub const MAX_VALUE_CHARS: usize = 256;
    /// Maximum number of indexed metadata values per call. Further values are not indexed.
    pub const MAX_OF_METADATA: usize = 32;

    /// Creates an attribute.
    ///
    /// # Errors
    /// [`InvalidAttribute`] if no analysis can have the attribute, because the store does not index it.
    pub fn new(source: AttributeSource<'_>, value: &str) -> Result<Self, InvalidAttribute> {
        let name = match source {
            AttributeSource::Phone => "phone".to_owned(),
            AttributeSource::Crm(name) => {
                format!("crm.{}", bounded(name, Self::MAX_NAME_CHARS).ok_or(InvalidAttribute::Name)?)
            }
            AttributeSource::Metadata(path) => {
                format!("metadata.{}", bounded(path, Self::MAX_NAME_CHARS).ok_or(InvalidAttribute::Name)?)
            }
            AttributeSource::Agent => "agent".to_owned(),
            AttributeSource::Queue => "queue".to_owned(),
            AttributeSource::Direction => "direction".to_owned(),
        };
        let value = bounded(value, Self::MAX_VALUE_CHARS).ok_or(InvalidAttribute::Value)?;
        Ok(Self { name, value })
    }

    /// Returns the attributes of an analysis without duplicates.
    pub fn of(analysis: &Analysis) -> Vec<Self> {
        Self::all_of(&analysis.call, &analysis.metadata)
    }

    /// Returns the attributes of a call with these facts and this metadata, without duplicates.
    pub fn all_of(call: &CallFacts, metadata: &Metadata) -> Vec<Self> {
        let mut attributes = Vec::new();
        let mut add = |source, value: &str| attributes.extend(Self::new(source, value));
        let CallFacts { direction, agent, phone, queue, started_at: _, crm } = call;
        if let Some(direction) = direction {
            add(AttributeSource::Direction, direction.as_str());
        }
        for text in agent.iter().flat_map(|agent| [&agent.id, &agent.name]).flatten() {
            add(AttributeSource::Agent, text.as_str());
        }
        if let Some(phone) = phone {
            add(AttributeSource::Phone, phone.as_str());
        }
        if let Some(queue) = queue {
            add(AttributeSource::Queue, queue.as_str());
        }
        for (name, id) in crm.iter().flatten() {
            add(AttributeSource::Crm(name.as_str()), id.as_str());
        }
        let mut of_metadata = Vec::new();
        for (name, value) in metadata.members() {
            collect(name, value, &mut of_metadata);
        }
        attributes.append(&mut of_metadata);
        attributes.sort_unstable();
        attributes.dedup();
        attributes
    }

    /// Returns the name. Names of ids in CRMs begin with `crm.`, and names of metadata values begin with `metadata.`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the value.
    pub fn value(&self) -> &str {
        &self.value
    }
}

/// Returns the text in Normalization Form C; `None` if it is blank, is too long or has a NUL, which PostgreSQL cannot store.
fn bounded(text: &str, max_chars: usize) -> Option<String> {
    let text: String = text.nfc().collect();
    let fits = !text.trim().is_empty() && text.chars().nth(max_chars).is_none() && !text.contains('\0');
    fits.then_some(text)
}

/// Collects the values at and below a path of the metadata. The elements of an array have the path of the array.
fn collect(path: &str, value: &Value, found: &mut Vec<Attribute>) {
    if found.len() == Attribute::MAX_OF_METADATA {
        return;
    }
    let mut add = |text: &str| found.extend(Attribute::new(AttributeSource::Metadata(path), text));
    match value {
        Value::Null => {}
        Value::String(text) => add(text),
        Value::Number(number) => add(&number.to_string()),
        Value::Bool(boolean) => add(if *boolean { "true" } else { "false" }),
        Value::Array(elements) => elements.iter().for_each(|element| collect(path, element, found)),
        Value::Object(members) => {
            members.iter().for_each(|(name, member)| collect(&format!("{path}.{name}"), member, found));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn attributes(call: Value, metadata: &Value) -> Vec<(String, String)> {
        let call = serde_json::from_value(call).unwrap();
        let metadata = Metadata::parse(metadata.as_object().unwrap().clone()).unwrap();
        Attribute::all_of(&call, &metadata).into_iter().map(|found| (found.name, found.value)).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn every_fact_but_the_time_is_an_attribute() {
        let call = json!({
            "direction": "outbound", "agent": {"id": "17", "name": "Dilnoza"}, "phone": "+998901234567",
            "queue": "support", "started_at": "2024-05-20T12:20:17Z", "crm": {"lead": "1"},
        });
        let expected = [
            ("agent", "17"),
            ("agent", "Dilnoza"),
            ("crm.lead", "1"),
            ("direction", "outbound"),
            ("phone", "+998901234567"),
            ("queue", "support"),
        ];
        assert_eq!(attributes(call, &json!({})), pairs(&expected));
        assert_eq!(
            attributes(json!({"agent": {"id": "Ali", "name": "Ali"}}), &json!({})),
            pairs(&[("agent", "Ali")])
        );
    }

    #[test]
    fn values_of_metadata_are_attributes_by_their_path() {
        let metadata = json!({
            "ticket": "T-1", "n": 2, "x": 1.5, "vip": true, "none": null, "empty": "",
            "client": {"id": 7, "tags": ["a", {"b": "c"}, "a"]},
        });
        let expected = [
            ("metadata.client.id", "7"),
            ("metadata.client.tags", "a"),
            ("metadata.client.tags.b", "c"),
            ("metadata.n", "2"),
            ("metadata.ticket", "T-1"),
            ("metadata.vip", "true"),
            ("metadata.x", "1.5"),
        ];
        assert_eq!(attributes(json!({}), &metadata), pairs(&expected));
    }

    #[test]
    fn the_number_and_the_size_of_attributes_are_bounded() {
        let many: serde_json::Map<_, _> = (0..200).map(|n| (format!("n{n}"), json!(n))).collect();
        assert_eq!(attributes(json!({}), &many.into()).len(), Attribute::MAX_OF_METADATA);
        let many = json!({"list": (0..200).collect::<Vec<_>>()});
        assert_eq!(attributes(json!({}), &many).len(), Attribute::MAX_OF_METADATA);
        let unfit = json!({"a": "x".repeat(257), "y".repeat(129): "1", "b": "\0", "c\0": "1", "": "1"});
        assert_eq!(attributes(json!({}), &unfit), []);
    }

    #[test]
    fn spellings_of_one_text_are_one_attribute() {
        let of = |value| Attribute::new(AttributeSource::Agent, value);
        assert_eq!(of("Сергей"), of("Сергеи\u{306}"));
        assert_eq!(of(""), Err(InvalidAttribute::Value));
        assert_eq!(Attribute::new(AttributeSource::Crm(""), "1"), Err(InvalidAttribute::Name));
    }
}
