//! The `config` part of `helm/values.schema.json`.

use serde_json::{Map, Value, json};

use super::declared_settings;
use crate::config::accepts::Accepts;
use crate::config::declared::{DeclaredKey, DeclaredTable, Presence, Shape};

/// Keys that the chart derives from its value `database`.
const FROM_DATABASE: [(&str, &str); 2] = [("store", "url"), ("store", "password_file")];

/// Returns an object with the JSON Schema of each table of settings. The keys of the object are the names of the tables in the
/// chart's value `config`.
pub fn chart_schema() -> Value {
    let settings = declared_settings();
    Value::Object(settings.tables.iter().map(|table| (table.path.clone(), of_table(table))).collect())
}

fn of_table(table: &DeclaredTable) -> Value {
    let one = of_one_table(table);
    match table.shape {
        Shape::Single => one,
        Shape::List => json!({"type": "array", "items": one}),
        Shape::Named(_) => json!({
            "type": "object",
            "propertyNames": {"pattern": "^[A-Za-z0-9._-]{1,64}$"},
            "additionalProperties": one,
        }),
    }
}

fn of_one_table(table: &DeclaredTable) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    let mut one_of = Vec::new();
    let mut about = table.about.to_owned();
    for key in &table.keys {
        if FROM_DATABASE.contains(&(table.path.as_str(), key.name)) {
            about.push_str(&format!(" The chart derives {} from the value database.", key.name));
            continue;
        }
        match key.presence {
            Presence::Required => required.push(key.name),
            Presence::OneOf(_) => one_of.push(json!({"required": [key.name]})),
            Presence::Default(_) | Presence::Optional => {}
        }
        properties.insert(key.name.to_owned(), of_key(key));
    }
    for inner in &table.tables {
        let name = inner.path.rsplit('.').next().unwrap_or_default();
        properties.insert(name.to_owned(), of_table(inner));
    }
    let mut schema = json!({
        "description": about,
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if !one_of.is_empty() {
        schema["oneOf"] = json!(one_of);
    }
    schema
}

fn of_key(key: &DeclaredKey) -> Value {
    let mut schema = of_value(&key.accepts);
    schema["description"] = json!(key.text);
    if let Presence::Default(default) = &key.presence {
        schema["default"] = json!(default);
    }
    schema["examples"] = json!([key.sample()]);
    schema
}

fn of_value(accepts: &Accepts) -> Value {
    let pattern = |pattern: &str| json!({"type": "string", "pattern": pattern});
    match accepts {
        Accepts::Boolean => json!({"type": "boolean"}),
        Accepts::Integer(bounds) => {
            json!({"type": "integer", "minimum": bounds.start(), "maximum": bounds.end()})
        }
        Accepts::Number(bounds) => {
            json!({"type": "number", "minimum": bounds.start(), "maximum": bounds.end()})
        }
        Accepts::Duration(_) => pattern("^[0-9]+(ms|s|m|h|d)$"),
        Accepts::Size(_) => pattern("^([0-9]+(B|KiB|MiB|GiB)|0)$"),
        Accepts::Words(words) => json!({"type": "string", "enum": words}),
        Accepts::Text | Accepts::LogFilter | Accepts::ProxyUrl | Accepts::StoreUrl | Accepts::PostgresUrl => {
            json!({"type": "string", "minLength": 1})
        }
        // In draft 7, other keywords next to `$ref` are ignored.
        Accepts::File => json!({"allOf": [{"$ref": "#/definitions/file"}]}),
        Accepts::Variable => pattern("^[A-Za-z_][A-Za-z0-9_]*$"),
        Accepts::Url => pattern("^https?://"),
        Accepts::Origin => pattern("^https?://[^/?#@]+$"),
        Accepts::Network => pattern("/[0-9]+$"),
        Accepts::Region => pattern("^[A-Z]{2}$"),
        Accepts::Address => pattern(":[0-9]+$"),
        Accepts::List { of, least, most, or_one } => {
            let mut schema = json!({"type": "array", "items": of_value(of)});
            if *least > 0 {
                schema["minItems"] = json!(least);
            }
            if let Some(most) = most {
                schema["maxItems"] = json!(most);
            }
            if *or_one { json!({"anyOf": [of_value(of), schema]}) } else { schema }
        }
    }
}
