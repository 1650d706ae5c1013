//! Checks the rules about the structure of the source code.
//!
//! ```text
//! domain ← {store, alovoice, callbacks, auth} ← analyses ← {workers, http} ← app ← {commands, sandbox} ← main
//! ```
//!
//! The tables below hold the rules: which module may import which, where a crate may be used, where a secret may be exposed. A new
//! module must be added to [`MODULES`]. Modules have no import cycles, and no type name is declared twice. The tests at the end prove
//! that the checks find violations.

#![expect(clippy::unwrap_used, reason = "an error while the sources are read fails the test")]

#[path = "architecture/cycles.rs"]
mod cycles;
#[path = "architecture/mentions.rs"]
mod mentions;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cycles::{File, cycles};
use mentions::Source;

/// Modules that most layers may import.
const SHARED: &[&str] = &["domain", "config", "env", "telemetry", "secrets", "tenants"];

/// Modules that talk to the outside world. They never import each other.
const ADAPTERS: &[&str] = &["store", "alovoice", "callbacks", "auth"];

/// The modules of the crate, each with the modules that it may import.
const MODULES: &[(&str, &[&[&str]])] = &[
    ("domain", &[]),
    ("config", &[&["domain"]]),
    ("certificates", &[]),
    ("secrets", &[&["domain", "config"]]),
    ("http_client", &[&["domain", "certificates", "config", "secrets"]]),
    ("tenants", &[&["domain", "config", "secrets"]]),
    ("telemetry", &[&["domain", "config", "http_client", "secrets"]]),
    ("env", &[&["domain", "secrets", "telemetry"]]),
    ("store", &[&["domain", "certificates", "config", "env", "secrets", "telemetry", "tenants"]]),
    ("alovoice", &[&["domain", "config", "env", "http_client", "telemetry", "tenants"]]),
    ("callbacks", &[&["domain", "config", "env", "http_client", "telemetry", "tenants"]]),
    ("auth", &[&["domain", "config", "env", "http_client", "telemetry", "secrets", "tenants"]]),
    ("analyses", &[SHARED, ADAPTERS]),
    // Siblings: they never import each other.
    ("workers", &[SHARED, ADAPTERS, &["analyses"]]),
    ("http", &[SHARED, ADAPTERS, &["analyses"]]),
    ("app", &[SHARED, ADAPTERS, &["analyses", "http_client", "workers", "http"]]),
    ("sandbox", &[&["domain"]]),
    (
        "commands",
        &[
            &[
                "domain",
                "config",
                "telemetry",
                "http_client",
                "secrets",
                "store",
                "alovoice",
                "callbacks",
                "auth",
            ],
            &["http", "app", "sandbox"],
        ],
    ),
];

/// Crates that only some files may use: those whose path under `src/` begins as listed.
const HOMES: &[(&str, &[&str])] = &[
    ("actix_web", &["http/", "app.rs", "app/"]),
    ("actix_http", &["app/"]),
    ("actix_service", &["app/"]),
    ("utoipa_swagger_ui", &["http/"]),
    ("rusqlite", &["store/"]),
    ("tokio_postgres", &["store/"]),
    ("deadpool_postgres", &["store/"]),
    (
        "reqwest",
        &[
            "http_client.rs",
            "http_client/",
            "alovoice/",
            "callbacks/",
            "auth/",
            "telemetry/spans/",
            "commands/health.rs",
            "commands/sandbox/forwarding.rs",
        ],
    ),
    ("rustls_native_certs", &["http_client/"]),
    ("tracing_opentelemetry", &["telemetry/spans/"]),
    ("tracing_subscriber", &["telemetry/", "config/log_filter.rs"]),
    ("opentelemetry", &["telemetry/spans/"]),
    ("opentelemetry_sdk", &["telemetry/spans/"]),
    ("opentelemetry_otlp", &["telemetry/spans/"]),
    ("opentelemetry_http", &["telemetry/spans/"]),
    ("prometheus", &["telemetry/"]),
    ("clap", &["commands/arguments.rs", "commands/arguments/", "main.rs"]),
];

/// Crates that the domain may use. They compute and do no I/O.
const PURE: &[&str] = &[
    "aws_lc_rs",
    "base64",
    "bytes",
    "httpdate",
    "ipnet",
    "jiff",
    "minijinja",
    "percent_encoding",
    "phonenumber",
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

/// Modules of `std` that the domain may not use.
const IMPURE_STD: &[&str] = &["env", "fs", "os", "process", "thread"];

/// Files that expose a secret outside of tests, with the number of places.
const EXPOSURES: &[(&str, usize)] = &[
    // The definitions.
    ("domain/secrets.rs", usize::MAX),
    ("domain/vendor_token.rs", usize::MAX),
    ("domain/sealing.rs", usize::MAX),
    // The secret and the headers of a webhook, before sealing and after opening.
    ("domain/webhooks/headers.rs", 2),
    ("domain/webhooks/sealed.rs", 3),
    // The URL of a webhook or callback, after opening.
    ("domain/url_sealer.rs", 1),
    // The database URL, which may hold a password: the definition and the reader.
    ("config/postgres_url.rs", 2),
    ("store/postgres/parameters.rs", 1),
    // The URL of a proxy, which may hold a password: the definition, and the clients that use it.
    ("config/proxy_url.rs", 1),
    ("http_client/proxies.rs", 1),
    // The vendor token, in the vendor's URL.
    ("alovoice/client.rs", 1),
    // A new webhook secret, in the one response that shows it.
    ("http/webhook_resource.rs", 1),
    // The value of a custom header, in the request to the webhook.
    ("callbacks/send.rs", 1),
    // The signing key of a callback.
    ("callbacks/sign.rs", 1),
    // The contents of a link to a recording, before parsing.
    ("domain/audio_link.rs", 1),
    // A stored response, replayed to the caller it belongs to.
    ("http/idempotency/mod.rs", 1),
    // A header for the collector, in the request to it.
    ("telemetry/spans/headers.rs", 1),
    // The content of a secret file, before parsing.
    ("secrets/watched.rs", 1),
];

/// Beginnings of SQL statements.
const SQL: &[&str] =
    &["SELECT ", "INSERT INTO ", "INSERT OR ", "UPDATE ", "DELETE FROM ", "CREATE TABLE ", "PRAGMA "];

/// Lists the violations in the text of `file`, a path under `src/`.
fn violations(file: &str, text: &str) -> Vec<String> {
    let module = module_of(file);
    let source = Source::read(text, &module);
    let mut violations = Vec::new();
    let mut add = |line: usize, text: String| violations.push(format!("src/{file}:{line}: {text}"));
    let top = module.first().copied();
    if let Some(top) = top.filter(|top| MODULES.iter().all(|(name, _)| name != top)) {
        add(1, format!("`{top}` is not in the table of modules"));
    }
    for mention in &source.mentions {
        let path = mention.path.iter().map(String::as_str).collect::<Vec<_>>();
        let shown = path.join("::");
        if let Some(reason) = top.and_then(|top| forbidden_import(top, &path)) {
            add(mention.line, format!("{shown}: {reason}"));
        }
        let home = HOMES.iter().find(|(name, _)| *name == path[0]);
        if let Some((name, homes)) =
            home.filter(|(_, homes)| !homes.iter().any(|home| file.starts_with(home)))
        {
            add(mention.line, format!("{shown}: `{name}` belongs to {}", homes.join(", ")));
        }
        let builds_client = path.ends_with(&["Client", "builder"]) || path.contains(&"ClientBuilder");
        if builds_client && top != Some("http_client") {
            add(mention.line, format!("{shown}: HTTP clients start from http_client::builder"));
        }
        let needs_stack = file == LARGE_STACK && path.starts_with(&["std", "thread"]);
        if top == Some("domain") && is_impure(&path) && !needs_stack {
            add(mention.line, format!("{shown}: the domain does no I/O"));
        }
    }
    let exposures = source.identifiers.iter().filter(|(_, name)| name == "expose" || name == "expose_secret");
    let allowed = EXPOSURES.iter().find(|(name, _)| *name == file).map_or(0, |(_, count)| *count);
    for (line, name) in exposures.skip(allowed) {
        add(*line, format!("{name}: the table EXPOSURES does not list this place"));
    }
    if top != Some("store") {
        for (line, _) in source.literals.iter().filter(|(_, text)| is_sql(text)) {
            add(*line, "SQL belongs to store/".to_owned());
        }
    }
    violations
}

/// The reason why files of module `top` may not import this path, if there is one.
fn forbidden_import(top: &str, path: &[&str]) -> Option<String> {
    if path[0] != "crate" && path[0] != "alovoice_gateway" {
        return None;
    }
    let imported = match path.get(1).copied() {
        None | Some("*" | "self") => {
            return Some("an import of the whole crate hides its direction".to_owned());
        }
        Some(imported) => imported,
    };
    let allowed = MODULES.iter().find(|(name, _)| *name == top).map_or(Vec::new(), |(_, sets)| sets.concat());
    (imported != top && !allowed.contains(&imported)).then(|| format!("`{top}` may import only {allowed:?}"))
}

/// The file of the domain that starts threads. The template engine recurses and needs a large stack, and a thread alone does no I/O.
const LARGE_STACK: &str = "domain/transforms/template.rs";

fn is_impure(path: &[&str]) -> bool {
    let impure_std = path[0] == "std" && path.get(1).is_some_and(|name| IMPURE_STD.contains(name));
    impure_std || (!PURE.contains(&path[0]) && dependencies().iter().any(|name| name == path[0]))
}

fn is_sql(literal: &str) -> bool {
    let text = literal.trim_start_matches(['r', '#', 'b']).trim_start_matches('"').trim_start();
    SQL.iter().any(|begin| text.starts_with(begin))
}

/// The crates in `[dependencies]`, spelled as in code.
fn dependencies() -> Vec<String> {
    let manifest: toml::Table = include_str!("../Cargo.toml").parse().expect("the manifest is TOML");
    let names = manifest["dependencies"].as_table().expect("a table").keys();
    names.map(|name| name.replace('-', "_")).collect()
}

/// The module of a file: `store::sqlite` for `store/sqlite/mod.rs`, and the root for `lib.rs` and `main.rs`.
fn module_of(file: &str) -> Vec<&str> {
    let path = file.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == "lib" || path == "main" { Vec::new() } else { path.split('/').collect() }
}

/// Every source file: its path under `src/` and its text.
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
fn the_source_code_follows_the_rules() {
    let sources = sources();
    assert!(sources.len() > 50, "the sources were not found");
    let violations = sources.iter().flat_map(|(file, text)| violations(file, text)).collect::<Vec<_>>();
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

#[test]
fn every_module_in_the_table_exists() {
    let sources = sources();
    for (module, allowed) in MODULES {
        assert!(sources.iter().any(|(file, _)| module_of(file).first() == Some(module)), "{module}");
        for name in allowed.concat() {
            assert!(MODULES.iter().any(|(module, _)| *module == name), "{module} may import {name}");
        }
    }
}

/// The import cycles among `files`, pairs of a path under `src/` and a text.
fn cycles_among(files: &[(String, String)]) -> Vec<String> {
    let sources = files.iter().map(|(name, text)| Source::read(text, &module_of(name))).collect::<Vec<_>>();
    let pairs = files.iter().zip(&sources);
    let files = pairs.map(|((name, _), source)| File { name, module: module_of(name), source });
    cycles(&files.collect::<Vec<_>>())
}

#[test]
fn modules_have_no_import_cycle() {
    let cycles = cycles_among(&sources());
    assert!(cycles.is_empty(), "\n{}\n", cycles.join("\n"));
}

#[test]
fn no_type_name_is_declared_twice() {
    let mut places = BTreeMap::<String, Vec<String>>::new();
    for (file, text) in sources() {
        for (line, name) in Source::read(&text, &module_of(&file)).types {
            places.entry(name).or_default().push(format!("src/{file}:{line}"));
        }
    }
    places.retain(|_, places| places.len() > 1);
    assert!(places.is_empty(), "{places:#?}");
}

#[test]
fn import_cycles_are_found() {
    let files = |texts: &[(&str, &str)]| {
        texts.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    // Directly, and by way of a child module and of a re-export.
    let direct = files(&[("a.rs", "use crate::b::B;"), ("b.rs", "fn f() { crate::a::A::new() }")]);
    assert_eq!(cycles_among(&direct), ["crate: a → b (a.rs:1)", "crate: b → a (b.rs:1)"]);
    let by_child = files(&[
        ("x/mod.rs", ""),
        ("x/a/mod.rs", "pub use self::c::C;"),
        ("x/a/c.rs", "use super::super::b;"),
        ("x/b.rs", "use super::a::C;"),
        ("x/d.rs", "use super::b::B;"),
    ]);
    assert_eq!(cycles_among(&by_child), ["x: a → b (x/a/c.rs:1)", "x: b → a (x/b.rs:1)"]);
    let by_re_export = files(&[
        ("x/mod.rs", "pub use self::b::B;"),
        ("x/a.rs", "use super::B;"),
        ("x/b.rs", "use super::a::A;"),
    ]);
    assert_eq!(cycles_among(&by_re_export), ["x: a → b (x/a.rs:1)", "x: b → a (x/b.rs:1)"]);
    // A parent and its children are one unit, and tests may import anything.
    let allowed = files(&[
        ("a/mod.rs", "pub use self::b::B; pub struct A;"),
        ("a/b.rs", "use super::A;"),
        ("a/c.rs", "use super::B;\n#[cfg(test)]\nmod tests { use crate::d::D; }"),
        ("d.rs", "use crate::a::A;"),
    ]);
    assert_eq!(cycles_among(&allowed), none);
}

/// The result of [`violations`], each as `line: path`.
fn found(file: &str, text: &str) -> Vec<String> {
    let short = |violation: String| {
        let violation = violation.strip_prefix(&format!("src/{file}:")).unwrap().to_owned();
        violation.split(": ").take(2).collect::<Vec<_>>().join(": ")
    };
    violations(file, text).into_iter().map(short).collect()
}

#[test]
fn forbidden_imports_are_found_in_every_spelling() {
    let none: [&str; 0] = [];
    for (file, text, expected) in [
        // To a higher layer, to a sibling, and out of the domain.
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
        // In expressions, macros and attributes.
        ("store/mod.rs", "fn f() { crate::http::configure() }", &["1: crate::http::configure"]),
        (
            "auth/mod.rs",
            "fn f() {\n tokio::select! { _ = crate::workers::run() => {} }\n}",
            &["2: crate::workers::run"],
        ),
        ("auth/mod.rs", "macro_rules! m { () => { $crate::app::start() } }", &["1: crate::app::start"]),
        ("domain/ids.rs", "#[derive(crate::http::Magic)] struct S;", &["1: crate::http::Magic"]),
        // Through parents.
        ("alovoice/mod.rs", "use super::store::Store;", &["1: crate::store::Store"]),
        ("store/sqlite/mod.rs", "use super::super::http;", &["1: crate::http"]),
        ("store/mod.rs", "mod tests { use super::super::workers::run; }", &["1: crate::workers::run"]),
        // Through an import of the whole crate.
        ("store/mod.rs", "use crate::*;", &["1: crate::*"]),
        ("store/mod.rs", "use crate as gateway;", &["1: crate"]),
        ("store/sqlite/mod.rs", "use super::super as gateway;", &["1: crate"]),
        ("store/mod.rs", "use alovoice_gateway::http;", &["1: alovoice_gateway::http"]),
        // In a module that is not in the table.
        ("utils.rs", "", &["1: `utils` is not in the table of modules"]),
        // Allowed imports.
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
fn forbidden_crates_and_sql_are_found() {
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
fn an_unlisted_exposure_of_a_secret_is_found() {
    let once = "fn f() { url.push(token.expose()) }";
    let twice = "fn f() {\n url.push(token.expose());\n println!(\"{}\", token.expose());\n}";
    let tested = "#[cfg(test)]\nmod tests { fn f() { token.expose() } }";
    let none: [&str; 0] = [];
    assert_eq!(found("alovoice/client.rs", once), none);
    assert_eq!(found("alovoice/client.rs", &format!("{once}\n{tested}")), none);
    assert_eq!(found("alovoice/client.rs", twice), ["3: expose"]);
    assert_eq!(found("alovoice/answer.rs", once), ["1: expose"]);
    assert_eq!(found("http/mod.rs", "fn f() { s.map(VendorToken::expose) }"), ["1: expose"]);
    // Code after a test module counts.
    assert_eq!(found("alovoice/answer.rs", &format!("{tested}\n{once}")), ["3: expose"]);
}

/// The threat model in `docs/security.md` names the files that prove each row, relative to `tests/` or to the repository.
#[test]
fn tests_named_by_the_threat_model_exist() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(home.join("docs/security.md")).unwrap();
    let threats = text.split("\n## ").find(|chapter| chapter.starts_with("Threats")).unwrap();
    let proofs = threats.lines().filter_map(|row| row.split(" | ").nth(2));
    let quoted = proofs.flat_map(|proof| proof.split('`').skip(1).step_by(2));
    let files = quoted.filter(|name| name.contains(['/', '.'])).collect::<Vec<_>>();
    assert!(files.len() > 20, "{files:?}");
    let exists = |file: &&str| home.join(file).exists() || home.join("tests").join(file).exists();
    let missing = files.into_iter().filter(|file| !exists(file)).collect::<Vec<_>>();
    assert!(missing.is_empty(), "{missing:?}");
}
