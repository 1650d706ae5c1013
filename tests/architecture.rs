//! Work flows one way, and a forbidden import fails here.
//!
//! ```text
//! domain ← {store, alovoice, callbacks, auth} ← analyses ← {workers, http} ← app ← {commands, sandbox} ← main
//! ```
//!
//! The rules stand in the tables below; a new part of the house has to be entered there. The second half proves that
//! the checker sees what it is meant to see.

#![expect(clippy::unwrap_used, reason = "what fails while the sources are read fails the test")]

#[path = "architecture/mentions.rs"]
mod mentions;

use std::fs;
use std::path::{Path, PathBuf};

use mentions::Source;

/// The modules of the crate, and the modules that each may import.
const MODULES: &[(&str, &[&str])] = &[
    ("domain", &[]),
    // Leaves that the layers share.
    ("config", &["domain"]),
    ("http_client", &[]),
    ("secrets", &["domain", "config"]),
    ("tenants", &["domain", "config", "secrets"]),
    ("telemetry", &["domain", "config", "http_client", "secrets"]),
    ("env", &["domain", "telemetry"]),
    // What touches the outside; siblings.
    ("store", &["domain", "config", "env", "telemetry", "tenants"]),
    ("alovoice", &["domain", "config", "env", "http_client", "telemetry", "tenants"]),
    ("callbacks", &["domain", "config", "env", "http_client", "telemetry", "tenants"]),
    ("auth", &["domain", "config", "env", "http_client", "telemetry", "secrets", "tenants"]),
    // The use cases.
    (
        "analyses",
        &[
            "domain",
            "config",
            "env",
            "telemetry",
            "secrets",
            "tenants",
            "store",
            "alovoice",
            "callbacks",
            "auth",
        ],
    ),
    // What sets them going; siblings.
    (
        "workers",
        &[
            "domain",
            "config",
            "env",
            "telemetry",
            "secrets",
            "tenants",
            "store",
            "alovoice",
            "callbacks",
            "auth",
            "analyses",
        ],
    ),
    (
        "http",
        &[
            "domain",
            "config",
            "env",
            "telemetry",
            "secrets",
            "tenants",
            "store",
            "alovoice",
            "callbacks",
            "auth",
            "analyses",
        ],
    ),
    // The composition root.
    (
        "app",
        &[
            "domain",
            "config",
            "env",
            "telemetry",
            "secrets",
            "tenants",
            "store",
            "alovoice",
            "callbacks",
            "auth",
            "analyses",
            "workers",
            "http",
        ],
    ),
    // The commands.
    // The stand-in of the vendor and the receiver know the domain alone.
    ("sandbox", &["domain"]),
    ("cli", &["domain", "config"]),
    (
        "commands",
        &[
            "domain",
            "config",
            "telemetry",
            "http_client",
            "store",
            "callbacks",
            "auth",
            "http",
            "app",
            "cli",
            "sandbox",
        ],
    ),
];

/// Crates that have one home: only files whose path under `src/` begins so may name them.
const HOMES: &[(&str, &[&str])] = &[
    ("actix_web", &["http/", "app.rs", "app/"]),
    ("utoipa_swagger_ui", &["http/"]),
    ("rusqlite", &["store/"]),
    ("tokio_postgres", &["store/"]),
    ("deadpool_postgres", &["store/"]),
    (
        "reqwest",
        &["http_client.rs", "alovoice/", "callbacks/", "auth/", "telemetry/spans/", "commands/health.rs"],
    ),
    ("tracing_opentelemetry", &["telemetry/spans/"]),
    ("tracing_subscriber", &["telemetry/", "config/log_filter.rs"]),
    ("opentelemetry", &["telemetry/spans/"]),
    ("opentelemetry_sdk", &["telemetry/spans/"]),
    ("opentelemetry_otlp", &["telemetry/spans/"]),
    ("opentelemetry_http", &["telemetry/spans/"]),
    ("prometheus", &["telemetry/"]),
    ("clap", &["cli.rs", "cli/", "main.rs"]),
];

/// The dependencies that the domain may name: they compute and nothing else. All others are forbidden there.
const PURE: &[&str] = &[
    "aws_lc_rs",
    "base64",
    "bytes",
    "httpdate",
    "ipnet",
    "jiff",
    "rand",
    "secrecy",
    "serde",
    "serde_json",
    "thiserror",
    "unicode_normalization",
    "unicode_segmentation",
    "url",
    "utoipa",
    "uuid",
];

/// The parts of `std` that the domain may not name.
const IMPURE_STD: &[&str] = &["env", "fs", "os", "process", "thread"];

/// The only files that show a secret, outside of tests, and in how many places.
const EXPOSURES: &[(&str, usize)] = &[
    // The definition.
    ("domain/secrets.rs", usize::MAX),
    ("domain/sealing.rs", usize::MAX),
    // An endpoint's secret and headers, on their way to be sealed and when they were opened.
    ("domain/webhooks/headers.rs", 2),
    ("domain/webhooks/sealed.rs", 3),
    // The database's URL, which may hold a password: the definition, and where it is read.
    ("config/settings.rs", 1),
    ("store/postgres/connect.rs", 1),
    // The vendor token, in the vendor's URL.
    ("alovoice/client.rs", 1),
    // An endpoint's new secret, in the one answer that shows it.
    ("http/webhooks.rs", 1),
    // The value of an endpoint's header, on its way out.
    ("callbacks/send.rs", 1),
    // The key of a callback's signature.
    ("callbacks/sign.rs", 1),
    // What a link to a recording holds, on its way to be parsed.
    ("domain/audio_link.rs", 1),
    // An answer that was sealed, on its way to whom it is for.
    ("http/idempotency/mod.rs", 1),
    // A header of the collector's: whether it changed, and on its way out.
    ("telemetry/spans/headers.rs", 1),
    // The content of a secret's file, before it is parsed.
    ("secrets/watched.rs", 1),
];

/// What a line of SQL begins with.
const SQL: &[&str] =
    &["SELECT ", "INSERT INTO ", "INSERT OR ", "UPDATE ", "DELETE FROM ", "CREATE TABLE ", "PRAGMA "];

/// Everything that is wrong with the text of `file`, a path under `src/`.
fn faults(file: &str, text: &str) -> Vec<String> {
    let module = module_of(file);
    let source = Source::read(text, &module);
    let mut faults = Vec::new();
    let mut fault = |line: usize, what: String| faults.push(format!("src/{file}:{line}: {what}"));
    let part = module.first().copied();
    if let Some(part) = part.filter(|part| MODULES.iter().all(|(name, _)| name != part)) {
        fault(1, format!("`{part}` is not in the table of modules"));
    }
    for mention in &source.mentions {
        let path = mention.path.iter().map(String::as_str).collect::<Vec<_>>();
        let shown = path.join("::");
        if let Some(why) = part.and_then(|part| wrong_direction(part, &path)) {
            fault(mention.line, format!("{shown}: {why}"));
        }
        let home = HOMES.iter().find(|(name, _)| *name == path[0]);
        if let Some((name, homes)) =
            home.filter(|(_, homes)| !homes.iter().any(|home| file.starts_with(home)))
        {
            fault(mention.line, format!("{shown}: `{name}` belongs to {}", homes.join(", ")));
        }
        let builds_client = path.ends_with(&["Client", "builder"]) || path.contains(&"ClientBuilder");
        if builds_client && part != Some("http_client") {
            fault(mention.line, format!("{shown}: HTTP clients start from http_client::builder"));
        }
        if part == Some("domain") && is_impure(&path) {
            fault(mention.line, format!("{shown}: the domain is pure"));
        }
    }
    let exposures = source.identifiers.iter().filter(|(_, name)| name == "expose" || name == "expose_secret");
    let allowed = EXPOSURES.iter().find(|(name, _)| *name == file).map_or(0, |(_, count)| *count);
    for (line, name) in exposures.skip(allowed) {
        fault(*line, format!("{name}: a secret is shown in a place that is not in the table"));
    }
    if part != Some("store") {
        for (line, _) in source.texts.iter().filter(|(_, text)| is_sql(text)) {
            fault(*line, "SQL belongs to store/".to_owned());
        }
    }
    faults
}

/// Why `part` may not name this path, if so.
fn wrong_direction(part: &str, path: &[&str]) -> Option<String> {
    if path[0] != "crate" && path[0] != "alovoice_gateway" {
        return None;
    }
    let imported = match path.get(1).copied() {
        None | Some("*" | "self") => {
            return Some("a name for the whole house hides who imports whom".to_owned());
        }
        Some(imported) => imported,
    };
    let below = MODULES.iter().find(|(name, _)| *name == part).map_or(&[][..], |(_, below)| below);
    (imported != part && !below.contains(&imported)).then(|| format!("`{part}` may import {below:?} alone"))
}

fn is_impure(path: &[&str]) -> bool {
    let impure_std = path[0] == "std" && path.get(1).is_some_and(|name| IMPURE_STD.contains(name));
    impure_std || (!PURE.contains(&path[0]) && dependencies().iter().any(|name| name == path[0]))
}

fn is_sql(literal: &str) -> bool {
    let text = literal.trim_start_matches(['r', '#', 'b']).trim_start_matches('"').trim_start();
    SQL.iter().any(|begin| text.starts_with(begin))
}

/// The crates of `[dependencies]`, as code names them.
fn dependencies() -> Vec<String> {
    let manifest: toml::Table = include_str!("../Cargo.toml").parse().expect("the manifest is TOML");
    let names = manifest["dependencies"].as_table().expect("a table").keys();
    names.map(|name| name.replace('-', "_")).collect()
}

/// `store/sqlite/mod.rs` is the module `store::sqlite`; the two roots are no part.
fn module_of(file: &str) -> Vec<&str> {
    let path = file.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == "lib" || path == "main" { Vec::new() } else { path.split('/').collect() }
}

/// The sources, as paths under `src/`.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                sources.push((name, fs::read_to_string(path).unwrap()));
            }
        }
    }
    sources.sort();
    sources
}

#[test]
fn work_flows_one_way() {
    let sources = sources();
    assert!(sources.len() > 50, "the sources were not found");
    let faults = sources.iter().flat_map(|(file, text)| faults(file, text)).collect::<Vec<_>>();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn every_module_in_the_table_exists() {
    let sources = sources();
    for (part, below) in MODULES {
        assert!(sources.iter().any(|(file, _)| module_of(file).first() == Some(part)), "{part}");
        for name in *below {
            assert!(
                MODULES.iter().any(|(part, _)| part == name),
                "{part} may import {name}, which is not there"
            );
        }
    }
}

/// What [`faults`] finds, each as `line: path`.
fn found(file: &str, text: &str) -> Vec<String> {
    let short = |fault: String| {
        let fault = fault.strip_prefix(&format!("src/{file}:")).unwrap().to_owned();
        fault.split(": ").take(2).collect::<Vec<_>>().join(": ")
    };
    faults(file, text).into_iter().map(short).collect()
}

#[test]
fn imports_against_the_flow_are_found_however_they_are_written() {
    let none: [&str; 0] = [];
    for (file, text, expected) in [
        // Upwards, sideways, and into the domain's purity.
        ("domain/ids.rs", "use crate::store::Store;", &["1: crate::store::Store"][..]),
        ("store/mod.rs", "use crate::alovoice::VendorClient;", &["1: crate::alovoice::VendorClient"]),
        ("workers/mod.rs", "use crate::http::state::ApiState;", &["1: crate::http::state::ApiState"]),
        ("analyses/mod.rs", "use crate::app;", &["1: crate::app"]),
        (
            "domain/ids.rs",
            "use crate::telemetry::metrics::Metrics;",
            &["1: crate::telemetry::metrics::Metrics"],
        ),
        ("telemetry/metrics.rs", "use crate::store::Store;", &["1: crate::store::Store"]),
        ("app.rs", "use crate::sandbox::stand_in;", &["1: crate::sandbox::stand_in"]),
        // In groups, nested and renamed.
        (
            "alovoice/mod.rs",
            "use crate::{domain::ids, store::{self, sqlite}, http as web};",
            &["1: crate::store", "1: crate::store::sqlite", "1: crate::http"],
        ),
        // Where it is used, in macros, in attributes and visibilities.
        ("store/mod.rs", "fn f() { crate::http::configure() }", &["1: crate::http::configure"]),
        (
            "auth/mod.rs",
            "fn f() {\n tokio::select! { _ = crate::workers::run() => {} }\n}",
            &["2: crate::workers::run"],
        ),
        ("auth/mod.rs", "macro_rules! m { () => { $crate::app::start() } }", &["1: crate::app::start"]),
        ("domain/ids.rs", "#[derive(crate::http::Magic)] struct S;", &["1: crate::http::Magic"]),
        // By way of parents.
        ("alovoice/mod.rs", "use super::store::Store;", &["1: crate::store::Store"]),
        ("store/sqlite/mod.rs", "use super::super::http;", &["1: crate::http"]),
        ("store/mod.rs", "mod tests { use super::super::workers::run; }", &["1: crate::workers::run"]),
        // Under a name for the whole.
        ("store/mod.rs", "use crate::*;", &["1: crate::*"]),
        ("store/mod.rs", "use crate as house;", &["1: crate"]),
        ("store/sqlite/mod.rs", "use super::super as house;", &["1: crate"]),
        ("store/mod.rs", "use alovoice_gateway::http;", &["1: alovoice_gateway::http"]),
        // A part nobody knows.
        ("utils.rs", "", &["1: `utils` is not in the table of modules"]),
        // What is allowed.
        ("http/mod.rs", "use crate::{analyses::Analyses, domain::ids::{CallId, TenantId}};", &none),
        ("store/sqlite/mod.rs", "use super::Queue; mod tests { use super::*; }", &none),
        ("store/mod.rs", "pub(crate) mod a; pub(in crate::store) fn f() -> impl Sized + use<> {}", &none),
        (
            "domain/ids.rs",
            "/// As [`crate::store::Store`].\n// crate::http\nconst A: &str = \"crate::app::x\";",
            &none,
        ),
        ("sandbox/http/mod.rs", "use crate::sandbox::http::Body;", &none),
    ] {
        assert_eq!(found(file, text), expected, "{file}: {text}");
    }
}

#[test]
fn crates_away_from_home_are_found() {
    let none: [&str; 0] = [];
    for (file, text, expected) in [
        ("workers/mod.rs", "use actix_web::web;", &["1: actix_web::web"][..]),
        ("sandbox/http/mod.rs", "fn f() { actix_web::http::f() }", &["1: actix_web::http::f"]),
        (
            "analyses/mod.rs",
            "use rusqlite::{Connection, params};",
            &["1: rusqlite::Connection", "1: rusqlite::params"],
        ),
        ("http/mod.rs", "use ::reqwest::Client;", &["1: reqwest::Client"]),
        ("http/mod.rs", "use reqwest as r;", &["1: reqwest"]),
        ("auth/mod.rs", "fn f() { reqwest::Client::builder() }", &["1: reqwest::Client::builder"]),
        ("http/mod.rs", "use prometheus::Counter;", &["1: prometheus::Counter"]),
        ("domain/clock.rs", "async fn f() { tokio::time::sleep(d).await }", &["1: tokio::time::sleep"]),
        ("domain/clock.rs", "use {tracing::info, serde::Serialize};", &["1: tracing::info"]),
        ("domain/clock.rs", "use async_trait::async_trait;", &["1: async_trait::async_trait"]),
        ("domain/clock.rs", "use moka::sync::Cache;", &["1: moka::sync::Cache"]),
        (
            "domain/clock.rs",
            "#[actix_web::get(\"/\")] fn f() {}",
            &["1: actix_web::get", "1: actix_web::get"],
        ),
        ("domain/clock.rs", "use std::{fs::File, time::Duration};", &["1: std::fs::File"]),
        ("http/mod.rs", "const Q: &str = \"SELECT * FROM analyses\";", &["1: SQL belongs to store/"]),
        ("store/mod.rs", "const Q: &str = r#\"\n  SELECT 1\"#; use rusqlite::Row;", &none),
        ("alovoice/mod.rs", "use reqwest::Client;", &none),
        ("domain/clock.rs", "use serde::Serialize; use std::time::Duration;", &none),
        ("app.rs", "use actix_web::App;", &none),
    ] {
        assert_eq!(found(file, text), expected, "{file}: {text}");
    }
}

#[test]
fn a_secret_shown_once_more_is_found() {
    let once = "fn f() { url.push(token.expose()) }";
    let twice = "fn f() {\n url.push(token.expose());\n println!(\"{}\", token.expose());\n}";
    let tested = "#[cfg(test)]\nmod tests { fn f() { token.expose() } }";
    let none: [&str; 0] = [];
    assert_eq!(found("alovoice/client.rs", once), none);
    assert_eq!(found("alovoice/client.rs", &format!("{once}\n{tested}")), none);
    assert_eq!(found("alovoice/client.rs", twice), ["3: expose"]);
    assert_eq!(found("alovoice/answer.rs", once), ["1: expose"]);
    assert_eq!(found("http/mod.rs", "fn f() { s.map(VendorToken::expose) }"), ["1: expose"]);
    // What follows a test is none.
    assert_eq!(found("alovoice/answer.rs", &format!("{tested}\n{once}")), ["3: expose"]);
}

/// The threat model says what proves it: what it leads to is there.
#[test]
fn what_the_threat_model_leads_to_is_there() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(home.join("SECURITY.md")).unwrap();
    let targets = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
    let files = targets.filter(|target| !target.starts_with("https://")).collect::<Vec<_>>();
    assert!(files.len() > 20, "{files:?}");
    let missing = files.into_iter().filter(|file| !home.join(file).is_file()).collect::<Vec<_>>();
    assert!(missing.is_empty(), "{missing:?}");
}
