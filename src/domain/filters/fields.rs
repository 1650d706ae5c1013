//! The fields of an analysis, read from the schema of the API, so that a filter can use exactly the fields that an event has.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value};
use utoipa::{PartialSchema, ToSchema};

use crate::domain::resource::AnalysisResource;

/// The fields of an analysis.
pub(super) static ANALYSIS: LazyLock<Field> = LazyLock::new(|| {
    let mut components = Vec::new();
    AnalysisResource::schemas(&mut components);
    let json = |schema| serde_json::to_value(schema).unwrap_or_default();
    let components = components.into_iter().map(|(name, schema)| (name, json(schema))).collect();
    Field::of(&json(AnalysisResource::schema()), &components)
});

/// The kind of value at a path of a filter. An array has the kind of its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    /// An object with these fields.
    Object(BTreeMap<String, Self>),
    /// An object with any names.
    Map(Box<Self>),
    /// A string with any content.
    Text,
    /// A string that is one of these words.
    Word(Vec<String>),
    /// A time in the format of RFC 3339.
    Time,
    /// An integer or a fraction.
    Number,
    /// A boolean: `true` or `false`.
    Boolean,
    /// A value with any JSON content.
    Any,
}

impl Field {
    fn of(schema: &Value, components: &Map<String, Value>) -> Self {
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.rsplit('/').next().unwrap_or_default();
            return components.get(name).map_or(Self::Any, |schema| Self::of(schema, components));
        }
        if let Some(alternatives) = ["oneOf", "anyOf", "allOf"].iter().find_map(|key| schema[*key].as_array())
        {
            let mut others = alternatives.iter().filter(|schema| schema["type"] != "null");
            return match (others.next(), others.next()) {
                (Some(only), None) => Self::of(only, components),
                _ => Self::Any,
            };
        }
        match kind(schema) {
            Some("array") => Self::of(&schema["items"], components),
            Some("object") => Self::of_object(schema, components),
            Some("string") => match (schema["enum"].as_array(), schema["format"].as_str()) {
                (Some(words), _) => {
                    Self::Word(words.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect())
                }
                (None, Some("date-time")) => Self::Time,
                _ => Self::Text,
            },
            Some("integer" | "number") => Self::Number,
            Some("boolean") => Self::Boolean,
            _ => Self::Any,
        }
    }

    fn of_object(schema: &Value, components: &Map<String, Value>) -> Self {
        match (&schema["properties"], &schema["additionalProperties"]) {
            (Value::Object(properties), _) => {
                let fields = properties.iter();
                Self::Object(
                    fields.map(|(name, schema)| (name.clone(), Self::of(schema, components))).collect(),
                )
            }
            (_, Value::Object(values)) => {
                Self::Map(Box::new(Self::of(&Value::Object(values.clone()), components)))
            }
            _ => Self::Any,
        }
    }

    /// Splits a path into names. In a [`Self::Map`] whose values have no fields, such as `call.crm`, the rest of the path is one
    /// name, which may have dots.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let (name, rest) = path.split_once('.').unwrap_or((path, ""));
        let is_whole = |field: &Self| !matches!(field, Self::Object(_) | Self::Map(_) | Self::Any);
        match self {
            Self::Map(values) if is_whole(values) => vec![path.to_owned()],
            _ if rest.is_empty() => path.split('.').map(str::to_owned).collect(),
            _ => {
                let field = self.field(name).unwrap_or(&Self::Any);
                std::iter::once(name.to_owned()).chain(field.names(rest)).collect()
            }
        }
    }

    /// Returns the field with this name. The error explains why there is no such field.
    pub(super) fn field(&self, name: &str) -> Result<&Self, String> {
        match self {
            Self::Object(fields) => fields.get(name).ok_or_else(|| {
                let known = fields.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                format!("is not a field: {name:?} does not exist; the fields are {known}")
            }),
            Self::Map(field) => Ok(field),
            Self::Any => Ok(self),
            _ => Err(format!(
                "is not a field: {name:?} does not exist, because the value before it has no fields"
            )),
        }
    }
}

/// Returns the type of a schema. Returns `None` if the schema has no type or several types besides `null`.
fn kind(schema: &Value) -> Option<&str> {
    match &schema["type"] {
        Value::String(kind) => Some(kind),
        Value::Array(kinds) => {
            let mut others = kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null");
            others.next().filter(|_| others.next().is_none())
        }
        _ => None,
    }
}
