//! `config.example.toml`: every key with its description and its default.

use std::fmt::Write as _;

use toml::Value;

use super::declared_settings;
use crate::config::declared::{DeclaredKey, Presence};

const WIDTH: usize = 120;

const PREFACE: &str = "\
# The settings of alovoice-gateway: every key, with its default or an example. Generated from src/config.
#
# Name this file with `--config FILE` or with the environment variable GATEWAY_CONFIG. An environment variable overrides
# a key of the file: GATEWAY_STORE__URL is `url` in [store], GATEWAY_AUTH__ISSUERS__0__JWKS_URL is `jwks_url` of the first
# issuer, GATEWAY_TENANTS__ACME__BURST is `burst` in [tenants.acme]. A list in a variable is written with commas
# (10.0.0.0/8,fd00::/8) or as in this file ([\"10.0.0.0/8\"]).
#
# A duration is a whole number and a unit: ms, s, m, h or d. A size is a whole number and a unit: B, KiB, MiB or GiB.
# A relative path starts at the working directory. Unknown keys are errors. `alovoice-gateway check` reports all errors
# at once.
";

/// Returns the text of `config.example.toml`.
pub fn example_file() -> String {
    let mut text = PREFACE.to_owned();
    for table in declared_settings().with_keys() {
        text.push('\n');
        comment(&mut text, table.about);
        let _ = writeln!(text, "{}", table.header());
        for key in &table.keys {
            comment(&mut text, &format!("{} {}", key.text, note(key)));
            let (is_set, value) = example_of(key);
            let _ = writeln!(text, "{}{} = {value}", if is_set { "" } else { "# " }, key.name);
        }
    }
    text
}

/// Returns the bounds of a key and whether it must be set, as sentences.
fn note(key: &DeclaredKey) -> String {
    let presence = match key.presence {
        Presence::Default(_) => None,
        Presence::Optional => Some("Optional.".to_owned()),
        Presence::Required => Some("Required.".to_owned()),
        Presence::OneOf(keys) => Some(format!("Exactly one of {} is required.", keys.join(", "))),
    };
    let bounds = key.accepts.bounds().map(|bounds| format!("Values: {bounds}."));
    [bounds, presence].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Returns the value of a key, and whether the example file sets the key. The file sets keys with a default, required
/// keys, and the first of several alternatives.
fn example_of(key: &DeclaredKey) -> (bool, Value) {
    let example = || key.example.clone().unwrap_or_else(|| Value::String(String::new()));
    match &key.presence {
        Presence::Default(default) => (true, default.clone()),
        Presence::Optional => (false, example()),
        Presence::Required => (true, example()),
        Presence::OneOf(keys) => (keys.first() == Some(&key.name), example()),
    }
}

/// Appends the text as comment lines.
fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(out, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}
