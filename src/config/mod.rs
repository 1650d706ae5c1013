//! The settings: every key, its meaning, its default and its bounds.
//!
//! [`load`] reads the settings from a TOML file and the environment. Every other module gets the part that it needs. Each
//! key is declared once, by the macro in `declare`. The declaration defines the struct, its documentation, the reader,
//! and the files that [`mod@reference`] generates: `config.example.toml`, `docs/settings.md` and a part of
//! `helm/values.schema.json`.
//!
//! An operator wants to see all mistakes at once. serde stops at the first error, so `reader` reads the file key by
//! key. It records each problem and continues. `rules` checks the values.
//!
//! The settings contain no secret except passwords in the URLs of the store and of proxies. No problem repeats a value
//! that might contain a secret.

mod accepts;
mod declare;
mod declared;
mod environment;
mod issuers;
mod keys;
mod log_filter;
mod loopback;
mod network;
mod postgres_url;
mod problems;
mod proxy_url;
mod rate_limit;
mod reader;
pub mod reference;
mod rules;
mod server;
mod service_links;
mod settings;
mod store;
mod store_url;
mod tenants;
#[cfg(test)]
mod tests;
pub mod units;
mod vendor;

use std::path::Path;

pub use environment::process_environment;
pub use issuers::{IssuerSettings, JWKS_TIMEOUT, KeySource, claim_names};
use keys::SettingsTable;
pub use log_filter::{InvalidLogFilter, parse_log_filter};
pub use network::NetworkSettings;
pub use postgres_url::{ConnectionParameters, InvalidPostgresUrl, PostgresUrl};
pub(crate) use problems::key_path;
pub use problems::{SettingsProblem, SettingsProblems};
pub use proxy_url::{InvalidProxyUrl, ProxyUrl};
pub use rate_limit::RateLimitSettings;
pub use server::ServerSettings;
pub use settings::{
    AuthSettings, CacheSettings, CallbackSettings, CorsSettings, EncryptionSettings, EventSettings,
    LogFormat, LogSettings, Settings, TracesSettings,
};
pub use store::StoreSettings;
pub use store_url::{InvalidStoreUrl, StoreUrl};
pub(crate) use tenants::{CALLBACK_SECRET, SecretKeys, VENDOR_TOKEN};
pub use tenants::{SecretSource, TenantSettings};
pub use vendor::VendorSettings;

/// Reads the settings. An environment variable overrides the file, and the file overrides the defaults.
///
/// The variable `GATEWAY_STORE__URL` sets the key `store.url`. Two underscores separate the levels of a key. The value of
/// a list has commas between the elements, or is a TOML array. A number selects an issuer, for example 0 in
/// `GATEWAY_AUTH__ISSUERS__0__JWKS_URL`. The function ignores variables that Kubernetes or Docker set for a Service or link
/// named `gateway`.
///
/// # Errors
/// [`SettingsProblems`] has all mistakes, not only the first one.
pub fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Settings, SettingsProblems> {
    // If the file is unreadable, only this problem is reported. Otherwise every key that the file sets would be reported as
    // missing.
    let mut table =
        file.map_or(Ok(toml::Table::new()), read_file).map_err(|problem| SettingsProblems(vec![problem]))?;
    let mut problems = Vec::new();
    let origins = environment::overlay(&mut table, environment, &mut problems);
    let reader = reader::Reader::new(origins, problems);
    let settings = reader.read(table, Settings::read);
    match (settings, reader.into_problems()) {
        (Some(settings), problems) if problems.is_empty() => Ok(settings),
        (_, problems) => Err(SettingsProblems(problems)),
    }
}

fn read_file(file: &Path) -> Result<toml::Table, SettingsProblem> {
    let problem = |detail| SettingsProblem { path: file.display().to_string(), detail };
    let text = std::fs::read_to_string(file).map_err(|error| problem(format!("cannot be read: {error}")))?;
    text.parse().map_err(|error: toml::de::Error| {
        // The `Display` of the error is not used, because it quotes the line, which may contain a password.
        let before = &text[..error.span().map_or(0, |span| span.start.min(text.len()))];
        let line = before.matches('\n').count() + 1;
        problem(format!("line {line} is not valid TOML: {}", error.message()))
    })
}
