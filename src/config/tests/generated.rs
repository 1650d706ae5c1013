//! Tests that the generated files match the declared settings.
//!
//! `RECORD_SETTINGS=1 cargo test --lib config::tests::generated` writes the files.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::config::reference::{chart_schema, example_file, reference_page};

#[test]
fn config_example_toml_is_generated() {
    compare("config.example.toml", &example_file());
}

#[test]
fn the_settings_reference_is_generated() {
    compare("docs/settings.md", &reference_page());
}

#[test]
fn the_schema_of_the_chart_is_generated() {
    let path = "helm/values.schema.json";
    let current = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let (before, rest) = current.split_once("\n  \"config\": {\n").unwrap();
    let (own, rest) = rest.split_once("\n   \"properties\": {\n").unwrap();
    let (_, after) = rest.split_once("\n   }").unwrap();
    let generated = indented(&chart_schema()).replace('\n', "\n   ");
    compare(path, &format!("{before}\n  \"config\": {{\n{own}\n   \"properties\": {generated}{after}"));
}

/// Without an example for a key, the tests of the chart could not set the key.
#[test]
fn every_key_has_an_example_that_differs_from_its_default() {
    fn check(path: &str, schema: &Value) {
        if let Some(properties) = schema.get("properties").or_else(|| schema.pointer("/items/properties")) {
            for (name, property) in properties.as_object().unwrap() {
                check(&format!("{path}.{name}"), property);
            }
        } else if let Some(named) = schema.get("additionalProperties") {
            check(&format!("{path}.NAME"), named);
        } else {
            let example = &schema["examples"][0];
            assert!(!example.is_null(), "{path}: add .example(…) to the declaration");
            assert_ne!(Some(example), schema.get("default"), "{path}");
        }
    }
    for (name, table) in chart_schema().as_object().unwrap() {
        check(name, table);
    }
}

/// Compares the committed file with the generated text, or writes the file if `RECORD_SETTINGS` is set.
fn compare(path: &str, expected: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("RECORD_SETTINGS").is_some() {
        return std::fs::write(&file, expected).unwrap();
    }
    let current = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        current == expected,
        "{path} is outdated: run RECORD_SETTINGS=1 cargo test --lib config::tests::generated"
    );
}

fn indented(value: &Value) -> String {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter)).unwrap();
    String::from_utf8(text).unwrap()
}
