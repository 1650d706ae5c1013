//! `token`: creates a development token with the secret of an HMAC issuer.

use std::path::Path;

use secrecy::zeroize::Zeroizing;

use super::arguments::TokenArgs;
use super::{Failed, load, print};
use crate::auth::{DevelopmentToken, Scope};
use crate::config::{IssuerSettings, KeySource, Settings};
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::ids::TenantId;

pub(super) fn run(arguments: &TokenArgs) -> Result<(), Failed> {
    let settings = load(&arguments.config)?;
    check_tenant(&settings, arguments)?;
    check_scopes(&arguments.scope)?;
    let (issuer, path) = hmac_issuer(&settings, arguments.issuer.as_deref())?;
    let secret = std::fs::read(path)
        .map(Zeroizing::new)
        .map_err(|error| Failed::usage(format!("cannot read {}: {error}", path.display())))?;
    let (Some(algorithm), Some(audience)) = (issuer.algorithms.first(), issuer.audiences.first()) else {
        return Err(Failed::usage("the issuer has no algorithm or no audience"));
    };
    let (Some(tenant_claim), Some(scope_claim)) = (issuer.tenant_claim.first(), issuer.scope_claim.first())
    else {
        return Err(Failed::usage("the issuer has no tenant_claim or no scope_claim"));
    };
    let token = DevelopmentToken {
        algorithm: *algorithm,
        issuer: &issuer.issuer,
        audience,
        tenant_claim: tenant_claim.as_str(),
        tenant: &arguments.tenant,
        scope_claim: scope_claim.as_str(),
        scopes: &arguments.scope,
        subject: Some(&arguments.subject),
        lifetime: arguments.expires_in,
    };
    print(&token.mint(&secret, SystemClock.now()).map_err(Failed::usage)?)
}

/// Refuses a tenant that is not in the settings, because the gateway would refuse its token.
fn check_tenant(settings: &Settings, arguments: &TokenArgs) -> Result<(), Failed> {
    let tenant = &arguments.tenant;
    if settings.tenants.contains_key(tenant) {
        return Ok(());
    }
    let known: Vec<_> = settings.tenants.keys().map(TenantId::as_str).collect();
    Err(Failed::usage(format!("unknown tenant {tenant}; the settings have: {}", known.join(", "))))
}

/// Refuses an empty list, and scopes that no operation needs.
fn check_scopes(scopes: &str) -> Result<(), Failed> {
    let known = Scope::ALL.map(Scope::as_str);
    let unknown: Vec<_> = scopes.split_whitespace().filter(|scope| !known.contains(scope)).collect();
    let problem = match unknown.as_slice() {
        [] if scopes.trim().is_empty() => "a token needs at least one scope".to_owned(),
        [] => return Ok(()),
        [one] => format!("unknown scope {one:?}"),
        several => format!("unknown scopes {several:?}"),
    };
    Err(Failed::usage(format!("{problem}; the scopes are: {}", known.join(", "))))
}

/// Returns the only issuer with an HMAC secret, or the one named by `--issuer`.
fn hmac_issuer<'a>(
    settings: &'a Settings,
    wanted: Option<&str>,
) -> Result<(&'a IssuerSettings, &'a Path), Failed> {
    let fits = |issuer: &&IssuerSettings| wanted.is_none_or(|wanted| issuer.issuer == wanted);
    let mut candidates = settings.auth.issuers.iter().filter(fits).filter_map(|issuer| match &issuer.keys {
        KeySource::HmacSecretFile(path) => Some((issuer, path.as_path())),
        KeySource::JwksUrl { .. } | KeySource::JwksFile(_) | KeySource::PublicKeyFile(_) => None,
    });
    match (candidates.next(), candidates.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => {
            Err(Failed::usage("no matching issuer has hmac_secret_file, which is needed to create tokens"))
        }
        (Some(_), Some(_)) => {
            Err(Failed::usage("several issuers have hmac_secret_file: choose one with --issuer"))
        }
    }
}
