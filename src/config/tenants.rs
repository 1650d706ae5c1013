//! `[tenants.<id>]`: who the callers work for.

use std::collections::BTreeMap;

use super::reader::Section;
use super::rules::{file, integer, variable};
use super::sections::{CONCURRENCY, RATE};
use super::settings::{RateLimitSettings, SecretSource, TenantSettings};
use crate::domain::ids::TenantId;

/// All of `[tenants]`; `common` is `[rate_limit]`, if it could be read.
pub(super) fn tenants(
    s: &mut Section<'_>,
    common: Option<&RateLimitSettings>,
) -> Option<BTreeMap<TenantId, TenantSettings>> {
    let tenants = s.named_sections(|id, s| {
        let id =
            TenantId::parse(id).map_err(|error| s.own_problem(format!("the tenant's name {error}"))).ok();
        let tenant = tenant(s, common);
        Some((id?, tenant?))
    })?;
    if tenants.is_empty() {
        s.own_problem("at least one tenant is needed");
    }
    Some(tenants.into_iter().collect())
}

fn tenant(s: &mut Section<'_>, common: Option<&RateLimitSettings>) -> Option<TenantSettings> {
    let has_token = s.is_set("vendor_token_file") || s.is_set("vendor_token_env");
    if !has_token {
        s.own_problem("needs vendor_token_file or vendor_token_env");
    }
    let vendor_token = secret(s, "vendor_token_file", "vendor_token_env");
    let callback_secret = secret(s, "callback_secret_file", "callback_secret_env");
    let rate_limit = rate_limit(s, common);
    let max_concurrency = s.optional("max_concurrency", integer(CONCURRENCY));
    Some(TenantSettings {
        vendor_token: vendor_token??,
        callback_secret: callback_secret?,
        rate_limit: rate_limit?,
        max_concurrency: max_concurrency?,
    })
}

#[expect(clippy::option_option, reason = "outside: could it be read; inside: was it set")]
fn secret(
    s: &mut Section<'_>,
    file_key: &'static str,
    env_key: &'static str,
) -> Option<Option<SecretSource>> {
    if s.is_set(file_key) && s.is_set(env_key) {
        s.own_problem(format!("must have one of {file_key} and {env_key}, not both"));
    }
    let in_file = s.optional(file_key, file);
    let in_variable = s.optional(env_key, variable);
    Some(in_file?.map(SecretSource::File).or(in_variable?.map(SecretSource::Env)))
}

/// The tenant's own limit; what it does not say is as for all.
#[expect(clippy::option_option, reason = "outside: could it be read; inside: was it set")]
fn rate_limit(s: &mut Section<'_>, common: Option<&RateLimitSettings>) -> Option<Option<RateLimitSettings>> {
    let requests_per_second = s.optional("requests_per_second", integer(RATE));
    let burst = s.optional("burst", integer(RATE));
    match (requests_per_second?, burst?) {
        (None, None) => Some(None),
        (requests_per_second, burst) => Some(Some(RateLimitSettings {
            requests_per_second: requests_per_second.or(common.map(|common| common.requests_per_second))?,
            burst: burst.or(common.map(|common| common.burst))?,
        })),
    }
}
