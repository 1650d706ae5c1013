//! The tenants of the settings: their limits and their secrets.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{
    CALLBACK_SECRET, RateLimitSettings, SecretKeys, SecretSource, SettingsProblem, SettingsProblems,
    TenantSettings, VENDOR_TOKEN, key_path,
};
use crate::domain::ids::TenantId;
use crate::domain::phone::Region;
use crate::domain::secrets::{CallbackSecret, InvalidSecret};
use crate::domain::vendor_token::VendorToken;
use crate::secrets::{ReloadableSecrets, SecretKind, Watched, utf8};

/// The limits that apply if the settings of a tenant do not set them.
#[derive(Debug, Clone)]
pub struct DefaultLimits {
    /// Maximum number of concurrent requests to the vendor (`vendor.max_concurrency`).
    pub max_concurrency: usize,
    /// The rate limit of the API (`[rate_limit]`).
    pub rate_limit: RateLimitSettings,
}

/// All configured tenants.
#[derive(Debug)]
pub struct Tenants {
    by_id: BTreeMap<TenantId, Arc<Tenant>>,
}

/// A customer with one vendor token.
#[derive(Debug)]
pub struct Tenant {
    id: TenantId,
    max_concurrency: usize,
    rate_limit: RateLimitSettings,
    default_region: Region,
    vendor_token: Arc<Watched<VendorToken>>,
    callback_secrets: Option<Arc<Watched<Vec<CallbackSecret>>>>,
}

impl Tenants {
    /// Reads the secrets of all tenants. The function `variable` looks up an environment variable.
    ///
    /// # Errors
    /// [`SettingsProblems`] lists every secret that cannot be used, by settings key.
    pub fn load(
        tenants: &BTreeMap<TenantId, TenantSettings>,
        defaults: &DefaultLimits,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingsProblems> {
        let (mut by_id, mut problems) = (BTreeMap::new(), Vec::new());
        for (id, settings) in tenants {
            match Tenant::load(id, settings, defaults, &variable) {
                Ok(tenant) => {
                    by_id.insert(id.clone(), Arc::new(tenant));
                }
                Err(SettingsProblems(found)) => problems.extend(found),
            }
        }
        if problems.is_empty() { Ok(Self { by_id }) } else { Err(SettingsProblems(problems)) }
    }

    /// Returns the tenant with this id, or `None` if the tenant is not configured.
    pub fn get(&self, id: &TenantId) -> Option<Arc<Tenant>> {
        self.by_id.get(id).cloned()
    }

    /// Returns all tenants, ordered by id.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        self.by_id.values()
    }

    /// Returns the secrets of all tenants. They may change while the process runs.
    pub fn secrets(&self) -> ReloadableSecrets {
        self.by_id.values().flat_map(|tenant| tenant.secrets()).collect()
    }
}

impl Tenant {
    fn load(
        id: &TenantId,
        settings: &TenantSettings,
        defaults: &DefaultLimits,
        variable: &impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingsProblems> {
        let load_token = || {
            let (kind, source) = (SecretKind::VendorToken, &settings.vendor_token);
            load_secret(kind, id, &VENDOR_TOKEN, source, variable, VendorToken::parse)
        };
        let load_secrets = |source| {
            let kind = SecretKind::CallbackSecret;
            load_secret(kind, id, &CALLBACK_SECRET, source, variable, parse_callback_secrets)
        };
        match (load_token(), settings.callback_secret.as_ref().map(load_secrets).transpose()) {
            (Ok(vendor_token), Ok(callback_secrets)) => Ok(Self {
                id: id.clone(),
                max_concurrency: settings.max_concurrency.unwrap_or(defaults.max_concurrency),
                rate_limit: settings.rate_limit(&defaults.rate_limit),
                default_region: settings.default_region,
                vendor_token,
                callback_secrets,
            }),
            (token, secrets) => Err(SettingsProblems(token.err().into_iter().chain(secrets.err()).collect())),
        }
    }

    /// Returns the id of the tenant.
    pub fn id(&self) -> &TenantId {
        &self.id
    }

    /// Returns the maximum number of concurrent requests to the vendor.
    pub fn max_concurrency(&self) -> usize {
        self.max_concurrency
    }

    /// Returns the rate limit of the API.
    pub fn rate_limit(&self) -> &RateLimitSettings {
        &self.rate_limit
    }

    /// Returns the region of phone numbers without a country code.
    pub fn default_region(&self) -> Region {
        self.default_region
    }

    /// Returns the current vendor token. Callers must call this method again for each request, because the token may change.
    pub fn vendor_token(&self) -> Arc<VendorToken> {
        self.vendor_token.current()
    }

    /// Returns the secrets that sign callbacks: the current secret first, then the secrets that also sign during a rotation. The
    /// list is empty if no secret is configured.
    pub fn callback_secrets(&self) -> Vec<CallbackSecret> {
        self.callback_secrets.as_ref().map_or_else(Vec::new, |secrets| secrets.current().as_ref().clone())
    }

    fn secrets(&self) -> ReloadableSecrets {
        let mut secrets: ReloadableSecrets = vec![self.vendor_token.clone()];
        secrets.extend(self.callback_secrets.iter().map(|secrets| secrets.clone() as _));
        secrets
    }
}

/// Loads a secret from its file or environment variable.
fn load_secret<T: 'static>(
    kind: SecretKind,
    tenant: &TenantId,
    keys: &SecretKeys,
    source: &SecretSource,
    variable: &impl Fn(&str) -> Option<String>,
    parse: fn(&str) -> Result<T, InvalidSecret>,
) -> Result<Arc<Watched<T>>, SettingsProblem> {
    let path = |key| key_path(&key_path("tenants", tenant.as_str()), key);
    match source {
        SecretSource::File(file) => Watched::from_file(kind, path(keys.file_key()), file, utf8(parse)),
        SecretSource::Env(name) => {
            Watched::from_variable(kind, path(keys.env_key()), variable(name), utf8(parse))
        }
    }
}

/// Parses one or more callback secrets, separated by white space.
fn parse_callback_secrets(text: &str) -> Result<Vec<CallbackSecret>, InvalidSecret> {
    let secrets = text.split_whitespace().map(CallbackSecret::parse).collect::<Result<Vec<_>, _>>()?;
    if secrets.is_empty() { Err(InvalidSecret::Empty) } else { Ok(secrets) }
}

#[cfg(test)]
mod tests;
