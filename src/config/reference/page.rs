//! `docs/settings.md`: the reference of all settings.

use std::fmt::Write as _;

use super::declared_settings;
use crate::config::declared::{DeclaredKey, DeclaredTable, Presence, Shape};

const PREFACE: &str = "\
<!-- Generated from src/config. CONTRIBUTING.md, section \"Generated files\", says how to regenerate this page. -->

# Settings

The gateway reads a TOML file. Name the file with `--config FILE` or with the environment variable `GATEWAY_CONFIG`. The file is optional:
an environment variable can set each key, and it overrides the file. The tables below name the variable of each key.
The file `config.example.toml` of the project is a complete example.

- `alovoice-gateway check` reports all errors at once, each with the path of its key. An unknown key is an error.
- A **duration** is a whole number and a unit: `200ms`, `15s`, `5m`, `24h`, `90d`.
- A **size** is a whole number and a unit: `512B`, `64KiB`, `16MiB`, `1GiB`.
- A **list** in a variable is written with commas, `10.0.0.0/8,fd00::/8`, or as in TOML.
- A **path** of a file is relative to the working directory unless it is absolute. A line break at the end of a secret file is ignored.
- The variable of an issuer has its index, and the variable of a tenant has its name: `GATEWAY_AUTH__ISSUERS__1__ISSUER`,
  `GATEWAY_TENANTS__ACME__BURST`.
";

/// Returns the text of `docs/settings.md`.
pub fn reference_page() -> String {
    let mut page = PREFACE.to_owned();
    for table in declared_settings().with_keys() {
        let heading = match table.shape {
            Shape::Named(_) => format!("[{}.NAME]", table.path),
            Shape::Single | Shape::List => table.header(),
        };
        let _ = write!(page, "\n## `{heading}`\n\n{}\n\n", escaped(table.about));
        page.push_str("| key | type | default | description |\n| --- | --- | --- | --- |\n");
        for key in &table.keys {
            let _ = writeln!(page, "{}", row(table, key));
        }
    }
    page
}

fn row(table: &DeclaredTable, key: &DeclaredKey) -> String {
    let bounds = key.accepts.bounds().map(|bounds| format!(": {bounds}")).unwrap_or_default();
    let (default, example) = match &key.presence {
        Presence::Default(default) => (format!("`{default}`"), false),
        Presence::Optional => ("none".to_owned(), true),
        Presence::Required => ("required".to_owned(), true),
        Presence::OneOf(_) => ("one is required".to_owned(), true),
    };
    let example = key.example.as_ref().filter(|_| example).map(|example| format!(" Example: `{example}`."));
    format!(
        "| `{}`<br>`{}` | {}{} | {default} | {}{} |",
        key.name,
        table.variable(key),
        key.accepts.type_name(),
        escaped(&bounds),
        escaped(&key.text),
        example.unwrap_or_default(),
    )
}

/// Escapes the characters that Markdown would interpret.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '|' | '<' | '*' | '[' | ']' | '`') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}
