//! The tenants that the settings name, each with its limits and its secrets as they are now.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{
    CALLBACK_SECRET, Problem, Problems, RateLimitSettings, SecretKeys, SecretSource, TenantSettings,
    VENDOR_TOKEN, key_path,
};
use crate::domain::ids::TenantId;
use crate::domain::secrets::{CallbackSecret, VendorToken};
use crate::secrets::{Reload, UnusableSecret, Watched};

/// The limits of a tenant that has none of its own.
#[derive(Debug, Clone)]
pub struct DefaultLimits {
    /// Requests under way at the vendor (`vendor.max_concurrency`).
    pub max_concurrency: usize,
    /// Requests to the API (`[rate_limit]`).
    pub rate_limit: RateLimitSettings,
}

/// Every configured tenant.
#[derive(Debug)]
pub struct Tenants {
    by_id: BTreeMap<TenantId, Arc<Tenant>>,
}

/// One customer with one vendor token.
#[derive(Debug)]
pub struct Tenant {
    id: TenantId,
    max_concurrency: usize,
    rate_limit: RateLimitSettings,
    vendor_token: Watched<VendorToken>,
    callback_secrets: Option<Watched<Vec<CallbackSecret>>>,
}

impl Tenants {
    /// Reads every tenant's secrets; `variable` looks up an environment variable.
    ///
    /// # Errors
    /// [`Problems`] names every secret that cannot be read or is malformed, by the settings key that leads to it.
    pub fn load(
        tenants: &BTreeMap<TenantId, TenantSettings>,
        defaults: &DefaultLimits,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let by_id = tenants
            .iter()
            .filter_map(|(id, settings)| {
                let tenant = Tenant::load(id, settings, defaults, &variable, &mut problems)?;
                Some((id.clone(), Arc::new(tenant)))
            })
            .collect();
        if problems.is_empty() { Ok(Self { by_id }) } else { Err(Problems(problems)) }
    }

    /// The tenant of that name.
    pub fn get(&self, id: &TenantId) -> Option<Arc<Tenant>> {
        self.by_id.get(id).cloned()
    }

    /// Every tenant, in the order of their names.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        self.by_id.values()
    }

    /// How many vendor tokens' files could not be used at the last look, and how many callback secrets'.
    pub fn failing(&self) -> (usize, usize) {
        let tenants = || self.by_id.values();
        let tokens = tenants().filter(|tenant| tenant.vendor_token.is_failing()).count();
        let secrets = tenants().filter_map(|tenant| tenant.callback_secrets.as_ref());
        (tokens, secrets.filter(|secrets| secrets.is_failing()).count())
    }

    /// Looks at every secret file again and takes what is new; tells what changed, newly fails, or is well again.
    ///
    /// It reads small files and so blocks: call it off the async threads, every few seconds. It compares contents, for
    /// neither inode nor time of change tells: Kubernetes swaps a symlink two levels up, and a watch on the file would sleep
    /// through that.
    pub fn reload_once(&self) -> Vec<Reload> {
        self.by_id.values().flat_map(|tenant| tenant.reload_once()).collect()
    }
}

impl Tenant {
    fn load(
        id: &TenantId,
        settings: &TenantSettings,
        defaults: &DefaultLimits,
        variable: &impl Fn(&str) -> Option<String>,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let mut note = |keys: &SecretKeys, source: &SecretSource, error: &UnusableSecret| {
            let key = match source {
                SecretSource::File(_) => keys.file_key(),
                SecretSource::Env(_) => keys.env_key(),
            };
            problems.push(Problem { path: path_of(id, key), detail: error.to_string() });
        };
        let vendor_token = Watched::load(&settings.vendor_token, variable)
            .map_err(|error| note(&VENDOR_TOKEN, &settings.vendor_token, &error));
        let callback_secrets = settings
            .callback_secret
            .as_ref()
            .map(|source| {
                Watched::load(source, variable).map_err(|error| note(&CALLBACK_SECRET, source, &error))
            })
            .transpose();
        Some(Self {
            id: id.clone(),
            max_concurrency: settings.max_concurrency.unwrap_or(defaults.max_concurrency),
            rate_limit: settings.rate_limit(&defaults.rate_limit),
            vendor_token: vendor_token.ok()?,
            callback_secrets: callback_secrets.ok()?,
        })
    }

    /// Its name.
    pub fn id(&self) -> &TenantId {
        &self.id
    }

    /// How many requests it may have under way at the vendor.
    pub fn max_concurrency(&self) -> usize {
        self.max_concurrency
    }

    /// How much it may ask of the API.
    pub fn rate_limit(&self) -> &RateLimitSettings {
        &self.rate_limit
    }

    /// What opens the vendor's door for it now. Not to be kept: the next request asks again.
    pub fn vendor_token(&self) -> VendorToken {
        self.vendor_token.current().as_ref().clone()
    }

    /// What signs its callbacks now: the first is the current secret, the others still sign during a rotation.
    /// Empty if none is configured.
    pub fn callback_secrets(&self) -> Vec<CallbackSecret> {
        self.callback_secrets.as_ref().map_or_else(Vec::new, |secrets| secrets.current().as_ref().clone())
    }

    fn reload_once(&self) -> Vec<Reload> {
        let vendor_token = self.vendor_token.reload();
        let callback_secrets = self.callback_secrets.as_ref().and_then(Watched::reload);
        [(&VENDOR_TOKEN, vendor_token), (&CALLBACK_SECRET, callback_secrets)]
            .into_iter()
            .filter_map(|(keys, outcome)| {
                Some(Reload { key: path_of(&self.id, keys.file_key()), outcome: outcome? })
            })
            .collect()
    }
}

/// The path of a tenant's setting.
fn path_of(id: &TenantId, key: &str) -> String {
    key_path(&key_path("tenants", id.as_str()), key)
}

#[cfg(test)]
mod tests;
