//! `token`: creates a development token with the secret of an HMAC issuer.

use std::path::Path;

use secrecy::zeroize::Zeroizing;

use super::arguments::TokenArgs;
use super::{Failed, load, print};
use crate::auth::DevelopmentToken;
use crate::config::{IssuerSettings, KeySource, Settings};
use crate::domain::clock::{Clock, SystemClock};

pub(super) fn run(arguments: &TokenArgs) -> Result<(), Failed> {
    let settings = load(&arguments.config)?;
    let (issuer, path) = hmac_issuer(&settings, arguments.issuer.as_deref())?;
    let secret = std::fs::read(path)
        .map(Zeroizing::new)
        .map_err(|error| Failed::usage(format!("cannot read {}: {error}", path.display())))?;
    let (Some(algorithm), Some(audience)) = (issuer.algorithms.first(), issuer.audiences.first()) else {
        return Err(Failed::usage("the issuer has no algorithm or no audience"));
    };
    let token = DevelopmentToken {
        algorithm: *algorithm,
        issuer: &issuer.issuer,
        audience,
        tenant_claim: &issuer.tenant_claim,
        tenant: &arguments.tenant,
        scope_claim: &issuer.scope_claim,
        scopes: &arguments.scope,
        subject: Some(&arguments.subject),
        lifetime: arguments.expires_in,
    };
    print(&token.mint(&secret, SystemClock.now()).map_err(Failed::usage)?)
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
