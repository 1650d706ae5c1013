//! `[auth]`: whose tokens are taken. What is contradictory here would be a hole later, so the rules are strict.

use jsonwebtoken::{Algorithm, AlgorithmFamily};
use url::{Host, Url};

use super::reader::Section;
use super::rules::{Given, Misfit, duration, file, http_url, one_of, text};
use super::sections::{DAY, MILLISECOND};
use super::settings::{AuthSettings, IssuerSettings, KeySource};
use super::units::HumanDuration;

const ALGORITHMS: [(&str, Algorithm); 12] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
];

const KEY_SOURCES: [&str; 4] = ["jwks_url", "jwks_file", "public_key_file", "hmac_secret_file"];
const JWKS_TIMES: [&str; 3] = ["jwks_refresh", "jwks_max_stale", "jwks_refetch_pause"];

/// `[auth]`
pub(super) fn auth(s: &mut Section<'_>) -> Option<AuthSettings> {
    let has_none = !s.is_set("issuers");
    let mut names = Vec::new();
    let issuers = s.sections("issuers", |s| issuer(s, &mut names));
    if has_none || issuers.as_ref().is_some_and(Vec::is_empty) {
        s.problem("issuers", "at least one issuer is needed");
    }
    Some(AuthSettings { issuers: issuers? })
}

/// One of `[[auth.issuers]]`; `names` are those of the issuers before it, with their paths.
fn issuer(s: &mut Section<'_>, names: &mut Vec<(String, String)>) -> Option<IssuerSettings> {
    let issuer = s.required("issuer", text);
    let audiences = filled_list(s, "audiences", text);
    let algorithms = filled_list(s, "algorithms", algorithm);
    let keys = key_source(s);
    let tenant_claim = s.read("tenant_claim", "tenant", text);
    let scope_claim = s.read("scope_claim", "scope", text);
    if let Some(issuer) = &issuer {
        // A token names its issuer and nothing else: with two of a name it would be chance whose keys and rules apply.
        match names.iter().find(|(name, _)| name == issuer) {
            Some((_, path)) => s.problem("issuer", format!("is the same as that of {path}")),
            None => names.push((issuer.clone(), s.path().to_owned())),
        }
    }
    if let (Some(algorithms), Some(keys)) = (&algorithms, &keys) {
        check_families(s, algorithms, keys);
    }
    Some(IssuerSettings {
        issuer: issuer?,
        audiences: audiences?,
        algorithms: algorithms?,
        keys: keys?,
        tenant_claim: tenant_claim?,
        scope_claim: scope_claim?,
    })
}

fn filled_list<T>(
    s: &mut Section<'_>,
    key: &'static str,
    rule: impl Fn(Given<'_>) -> Result<T, Misfit>,
) -> Option<Vec<T>> {
    let is_set = s.is_set(key);
    let list = s.list(key, &[], rule)?;
    if list.is_empty() {
        s.problem(key, if is_set { "must name at least one" } else { "is missing" });
        return None;
    }
    Some(list)
}

fn algorithm(given: Given<'_>) -> Result<Algorithm, Misfit> {
    if given.value.as_str().is_some_and(|name| name.eq_ignore_ascii_case("none")) {
        return Err(Misfit::because("\"none\" is never allowed: such tokens are not signed"));
    }
    one_of(&ALGORITHMS)(given)
}

/// A public key that also passed for an HMAC secret would let anybody sign (CVE-2015-9235), so the kinds never mix.
fn check_families(s: &Section<'_>, algorithms: &[Algorithm], keys: &KeySource) {
    let is_hmac = |algorithm: &Algorithm| algorithm.family() == AlgorithmFamily::Hmac;
    let family = algorithms.first().map(|algorithm| algorithm.family());
    let detail = match keys {
        KeySource::HmacSecretFile(_) if !algorithms.iter().all(is_hmac) => {
            "must be HS256, HS384 or HS512 alone: the key is a shared secret (hmac_secret_file)"
        }
        KeySource::JwksUrl { .. } | KeySource::JwksFile(_) | KeySource::PublicKeyFile(_)
            if algorithms.iter().any(is_hmac) =>
        {
            "must not have HS256, HS384 or HS512: the keys are public, and these need hmac_secret_file"
        }
        KeySource::PublicKeyFile(_) if algorithms.iter().any(|one| Some(one.family()) != family) => {
            "must be of one family (RS and PS, ES, or EdDSA): public_key_file holds one key"
        }
        _ => return,
    };
    s.problem("algorithms", detail);
}

fn key_source(s: &mut Section<'_>) -> Option<KeySource> {
    let set: Vec<_> = KEY_SOURCES.into_iter().filter(|key| s.is_set(key)).collect();
    for key in JWKS_TIMES.into_iter().filter(|key| s.is_set(key)) {
        if !set.contains(&"jwks_url") {
            s.problem(key, "means nothing without jwks_url");
        }
    }
    if set.len() != 1 {
        let found = if set.is_empty() { "none".to_owned() } else { set.join(" and ") };
        s.own_problem(format!("needs exactly one of {}; has {found}", KEY_SOURCES.join(", ")));
    }
    let jwks_url = jwks_url(s);
    let jwks_file = s.optional("jwks_file", file);
    let public_key_file = s.optional("public_key_file", file);
    let hmac_secret_file = s.optional("hmac_secret_file", file);
    jwks_url?
        .or(jwks_file?.map(KeySource::JwksFile))
        .or(public_key_file?.map(KeySource::PublicKeyFile))
        .or(hmac_secret_file?.map(KeySource::HmacSecretFile))
}

#[expect(clippy::option_option, reason = "outside: could it be read; inside: was it set")]
fn jwks_url(s: &mut Section<'_>) -> Option<Option<KeySource>> {
    let url = s.optional("jwks_url", |given| {
        let url = http_url(given)?;
        if url.scheme() == "https" || is_loopback(&url) {
            return Ok(url);
        }
        Err(Misfit::because(
            "must be an https URL: whoever changes the keys on their way can sign for anybody",
        ))
    });
    let refresh = s.read("jwks_refresh", "5m", duration(MILLISECOND..=30 * DAY));
    let max_stale = s.read("jwks_max_stale", "24h", duration(MILLISECOND..=365 * DAY));
    let refetch_pause = s.read("jwks_refetch_pause", "30s", duration(std::time::Duration::ZERO..=DAY));
    if let (Some(refresh), Some(max_stale)) = (refresh, max_stale)
        && max_stale < refresh
    {
        let (refresh, max_stale) = (HumanDuration(refresh), HumanDuration(max_stale));
        let detail = format!("must be at least jwks_refresh, which is \"{refresh}\"; got \"{max_stale}\"");
        s.problem("jwks_max_stale", detail);
    }
    let (refresh, max_stale, refetch_pause) = (refresh?, max_stale?, refetch_pause?);
    Some(url?.map(|url| KeySource::JwksUrl { url, refresh, max_stale, refetch_pause }))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
