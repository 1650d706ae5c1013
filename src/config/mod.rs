//! The settings: what can be set, what it means, and what stands if nothing is said.
//!
//! [`load`] reads them from a TOML file and the environment; every other module takes the part it needs. Whoever mends a
//! configuration wants to know all that is wrong with it and not the first thing only. So the file is not decoded by serde,
//! which stops at the first error, but read key by key (`reader`) by rules (`rules`) that note each problem and go on.
//! What each section holds, with its defaults and bounds, is in `sections`, `issuers` and `tenants`.
//!
//! No secret is part of the settings, but for a password in `store.url`, and no problem repeats a value that might hold one.

mod environment;
mod issuers;
mod log_filter;
mod problems;
mod reader;
mod rules;
mod sections;
mod settings;
mod store_url;
mod tenants;
#[cfg(test)]
mod tests;
pub mod units;

use std::path::Path;

pub use environment::process_environment;
pub use log_filter::{InvalidLogFilter, parse_log_filter};
pub use problems::{Problem, Problems};
pub(crate) use reader::key_path;
pub use settings::{
    AuthSettings, CacheSettings, CallbackSettings, CorsSettings, EncryptionSettings, EventSettings,
    IssuerSettings, KeySource, LogFormat, LogSettings, PostgresUrl, RateLimitSettings, SecretSource,
    ServerSettings, Settings, StoreSettings, StoreUrl, TenantSettings, TracesSettings, VendorSettings,
};
pub use store_url::InvalidStoreUrl;

/// Reads the settings: a variable of the `environment` stands over the `file`, and the file over the defaults.
///
/// `GATEWAY_STORE__URL` is the key `store.url`: the prefix, then the levels, parted by two underscores. A list is written
/// with commas or as a TOML array; one of several issuers is named by its index: `GATEWAY_AUTH__ISSUERS__0__JWKS_URL`.
///
/// # Errors
/// [`Problems`] has everything that is wrong, not just the first thing.
pub fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Settings, Problems> {
    let mut problems = Vec::new();
    let mut table = file.map_or_else(toml::Table::new, |file| {
        read_file(file).unwrap_or_else(|problem| {
            problems.push(problem);
            toml::Table::new()
        })
    });
    // Without the file, all that it sets would be called missing: noise around the one real problem.
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let origins = environment::overlay(&mut table, environment, &mut problems);
    let report = reader::Report::new(origins, problems);
    let settings = report.read(table, sections::settings);
    match (settings, report.into_problems()) {
        (Some(settings), problems) if problems.is_empty() => Ok(settings),
        (_, problems) => Err(Problems(problems)),
    }
}

fn read_file(file: &Path) -> Result<toml::Table, Problem> {
    let problem = |detail| Problem { path: file.display().to_string(), detail };
    let text = std::fs::read_to_string(file).map_err(|error| problem(format!("cannot be read: {error}")))?;
    text.parse().map_err(|error: toml::de::Error| {
        // Not the error's Display: it quotes the line, and the line may hold a password.
        let before = &text[..error.span().map_or(0, |span| span.start.min(text.len()))];
        let line = before.matches('\n').count() + 1;
        problem(format!("line {line} is not valid TOML: {}", error.message()))
    })
}
