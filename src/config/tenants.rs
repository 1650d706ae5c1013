//! `[tenants.NAME]`: the tenants.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::accepts::Accepts;
use super::declare::settings;
use super::declared::{DeclaredKey, DeclaredTable, Presence, Shape};
use super::keys::{Contents, FieldSource, SettingsTable, describe};
use super::rate_limit::{RATE, RateLimitSettings};
use super::reader::Section;
use super::rules::{InvalidValue, ValueRule, file, integer, variable};
use super::vendor::CONCURRENCY;
use crate::domain::ids::TenantId;
use crate::domain::phone::Region;

settings! {
    /// A tenant is a customer with its own vendor token. Its name is the value of the tenant claim in its tokens. At least one
    /// tenant is needed.
    struct TenantSettings {
        /// Vendor token of the tenant.
        vendor_token: SecretSource = RequiredSecret(&VENDOR_TOKEN),
        /// Secret that signs the callbacks of the tenant's submissions: "whsec_" and the base64 form of 24 to 64 bytes. To
        /// rotate it, list several secrets, separated by white space, newest first. Each callback then has one signature for
        /// each secret. Without a secret, submissions with a callback are refused.
        callback_secret: Option<SecretSource> = CALLBACK_SECRET,
        /// Sustained number of requests per second. It overrides rate_limit.requests_per_second.
        requests_per_second: Option<u32> = integer(RATE).optional().example(50),
        /// Number of requests that may arrive at once. It overrides rate_limit.burst.
        burst: Option<u32> = integer(RATE).optional().example(150),
        /// Maximum number of submits and polls in flight. It overrides vendor.max_concurrency.
        max_concurrency: Option<usize> = integer(CONCURRENCY).optional().example(16),
        /// Region that completes phone numbers without a country code in submissions and filters: an ISO 3166-1 code.
        default_region: Region = region().default("UZ").example("KZ"),
    }
}

impl TenantSettings {
    /// Returns the tenant's rate limit. Keys that the tenant does not set come from `[rate_limit]`.
    pub fn rate_limit(&self, common: &RateLimitSettings) -> RateLimitSettings {
        RateLimitSettings {
            requests_per_second: self.requests_per_second.unwrap_or(common.requests_per_second),
            burst: self.burst.unwrap_or(common.burst),
        }
    }
}

/// Creates the rule for a region of phone numbers.
fn region() -> ValueRule<Region> {
    ValueRule::new(Accepts::Region, |given| {
        let region = Region::parse(given.text().unwrap_or_default());
        region.map_err(|_| InvalidValue::must_be(Accepts::Region))
    })
}

/// Location of a secret. The settings never hold the secret itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file, which is re-read when it changes.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

/// The settings keys for the vendor token of a tenant.
pub(crate) static VENDOR_TOKEN: SecretKeys = SecretKeys {
    names: ["vendor_token_file", "vendor_token_env"],
    examples: ["/run/secrets/alovoice/acme", "ACME_VENDOR_TOKEN"],
};

/// The settings keys for the callback secret of a tenant.
pub(crate) static CALLBACK_SECRET: SecretKeys = SecretKeys {
    names: ["callback_secret_file", "callback_secret_env"],
    examples: ["/run/secrets/alovoice/acme-callbacks", "ACME_CALLBACK_SECRET"],
};

/// Two alternative keys for the location of a secret: the path of a file, or the name of an environment variable.
#[derive(Debug)]
pub(crate) struct SecretKeys {
    names: [&'static str; 2],
    examples: [&'static str; 2],
}

impl SecretKeys {
    /// Returns the settings key for the path of the file.
    pub(crate) fn file_key(&self) -> &'static str {
        self.names[0]
    }

    /// Returns the settings key for the name of the environment variable.
    pub(crate) fn env_key(&self) -> &'static str {
        self.names[1]
    }

    fn declare(&self, table: &mut DeclaredTable, text: &str, presence: &Presence) {
        let texts = [
            format!("{text} This key is the path of a file, which the gateway re-reads when it changes."),
            format!("Name of an environment variable with the same content, instead of {}.", self.file_key()),
        ];
        let accepts = [Accepts::File, Accepts::Variable];
        for (((name, example), text), accepts) in
            self.names.into_iter().zip(self.examples).zip(texts).zip(accepts)
        {
            table.add(DeclaredKey {
                name,
                text,
                accepts,
                presence: presence.clone(),
                example: Some(example.into()),
            });
        }
    }
}

impl FieldSource<Option<SecretSource>> for SecretKeys {
    fn read(&self, section: &mut Section<'_>, _name: &'static str) -> Option<Option<SecretSource>> {
        let [file_key, env_key] = self.names;
        let in_file = file().optional().read(section, file_key);
        let in_variable = variable().optional().read(section, env_key);
        if section.is_set(file_key) && section.is_set(env_key) {
            section.own_problem(format!("must have only one of {file_key} and {env_key}"));
        }
        Some(in_file?.map(SecretSource::File).or(in_variable?.map(SecretSource::Env)))
    }

    fn describe(&self, table: &mut DeclaredTable, _name: &'static str, text: &str) {
        self.declare(table, text, &Presence::Optional);
    }
}

/// A secret that the tenant must have.
struct RequiredSecret(&'static SecretKeys);

impl FieldSource<SecretSource> for RequiredSecret {
    fn read(&self, section: &mut Section<'_>, name: &'static str) -> Option<SecretSource> {
        let source: Option<Option<SecretSource>> = self.0.read(section, name);
        let [file_key, env_key] = self.0.names;
        if !section.is_set(file_key) && !section.is_set(env_key) {
            section.own_problem(format!("needs {file_key} or {env_key}"));
        }
        source?
    }

    fn describe(&self, table: &mut DeclaredTable, _name: &'static str, text: &str) {
        self.0.declare(table, text, &Presence::OneOf(&self.0.names));
    }
}

/// The table of tenants, of which at least one is needed.
pub(super) struct TenantTables;

impl FieldSource<BTreeMap<TenantId, TenantSettings>> for TenantTables {
    fn read(
        &self,
        section: &mut Section<'_>,
        name: &'static str,
    ) -> Option<BTreeMap<TenantId, TenantSettings>> {
        let tenants = section.named_tables(name, |id, tenant| {
            let id =
                TenantId::parse(id).map_err(|error| tenant.own_problem(format!("the tenant's name {error}")));
            let settings = TenantSettings::read(tenant);
            Some((id.ok()?, settings?))
        })?;
        if tenants.is_empty() {
            section.problem(name, "at least one tenant is needed");
        }
        Some(tenants.into_iter().collect())
    }

    fn describe(&self, table: &mut DeclaredTable, name: &'static str, _text: &str) {
        table.add_table(describe::<TenantSettings>(table.path_of(name), Shape::Named("acme")));
    }
}
