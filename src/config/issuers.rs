//! `[[auth.issuers]]`: the issuers of tokens. The rules are strict, because a contradiction here could become a
//! security hole.

use std::path::PathBuf;
use std::time::Duration;

use jsonwebtoken::{Algorithm, AlgorithmFamily};
use url::Url;

use super::declare::settings;
use super::keys::{Contents, inline, list_of, one_or_more};
use super::loopback::is_loopback;
use super::reader::Section;
use super::rules::{InvalidValue, ValueRule, duration, file, http_url, one_of, text};
use super::units::{DAY, HumanDuration, MILLISECOND};
use crate::domain::claim_path::ClaimPath;

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

settings! {
    /// An issuer, usually an identity provider, signs tokens. At least one issuer is needed. Each issuer has exactly one source
    /// of keys.
    struct IssuerSettings {
        /// Value of the iss claim in the issuer's tokens. Each issuer needs a different value.
        issuer: String = text().required().example("https://sso.example.uz/realms/crm"),
        /// Audiences of this gateway. The aud claim of a token must name one of them.
        audiences: Vec<String> = list_of(text()).not_empty().required().example(vec!["alovoice-gateway"]),
        /// Algorithms with which the issuer may sign tokens. HS256, HS384 and HS512 need hmac_secret_file and exclude all
        /// others.
        algorithms: Vec<Algorithm> = list_of(algorithm()).not_empty().required().example(vec!["RS256"]),
        /// Source of the issuer's keys.
        keys: KeySource = inline(),
        /// Claim that names the tenant, or a list of claims. The gateway uses the first of these claims that the token has. Each
        /// claim is written as a name, a JSON Pointer (/app/tenant) or names joined by dots (app.tenant). The value of the claim
        /// is a string, a whole number, a list with one such element, or an object with one key: the key is the tenant, and its
        /// value is an object.
        tenant_claim: Vec<ClaimPath> = one_or_more(claim_path()).default("tenant").example("https://example.uz/tenant"),
        /// Claim with the scopes, or a list of claims. The gateway uses the first of these claims that has a scope of this API.
        /// Each claim is written as in tenant_claim. The value of the claim is a list, or a string with spaces between the
        /// scopes.
        scope_claim: Vec<ClaimPath> = one_or_more(claim_path()).default("scope").example(vec!["scp", "realm_access.roles"]),
    }
    check |section| {
        if let (Some(algorithms), Some(keys)) = (&algorithms, &keys) {
            check_families(section, algorithms, keys);
        }
    }
}

/// Joins the names of claims for a message.
pub fn claim_names(paths: &[ClaimPath]) -> String {
    paths.iter().map(ClaimPath::as_str).collect::<Vec<_>>().join(", ")
}

/// Source of an issuer's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A JWK Set, fetched over HTTP and refreshed.
    JwksUrl {
        /// URL of the JWK Set.
        url: Url,
        /// Interval of the refresh.
        refresh: Duration,
        /// Maximum age of the last good set while fetches fail.
        max_stale: Duration,
        /// Minimum pause between two fetches that tokens with an unknown `kid` cause.
        refetch_pause: Duration,
        /// Deadline of a fetch. Tests set a longer deadline than [`JWKS_TIMEOUT`], because the machine may be busy.
        timeout: Duration,
    },
    /// A JWK Set in a file, re-read when the file changes.
    JwksFile(PathBuf),
    /// A public key in a PEM file, re-read when the file changes.
    PublicKeyFile(PathBuf),
    /// A shared secret in a file, re-read when the file changes.
    HmacSecretFile(PathBuf),
}

/// Deadline for fetching a JWK Set: connection, headers and body together.
pub const JWKS_TIMEOUT: Duration = Duration::from_secs(10);

const KEY_SOURCES: [&str; 4] = ["jwks_url", "jwks_file", "public_key_file", "hmac_secret_file"];
const JWKS_TIMES: [&str; 3] = ["jwks_refresh", "jwks_max_stale", "jwks_refetch_pause"];

settings! {
    /// Source of an issuer's keys.
    keys of KeySource {
        /// URL of a JWK Set. It must be an https:// URL unless the host is a loopback address.
        jwks_url: Option<Url> = jwks_url().one_of(&KEY_SOURCES).example("https://sso.example.uz/realms/crm/protocol/openid-connect/certs"),
        /// Interval at which the JWK Set is fetched. Only with jwks_url.
        jwks_refresh: Duration = duration(MILLISECOND..=30 * DAY).default("5m"),
        /// Time for which the last good JWK Set is used while fetches fail. At least jwks_refresh. Only with
        /// jwks_url.
        jwks_max_stale: Duration = duration(MILLISECOND..=365 * DAY).default("24h"),
        /// Minimum pause between two extra fetches. A token with an unknown key causes an extra fetch. Only with
        /// jwks_url.
        jwks_refetch_pause: Duration = duration(Duration::ZERO..=DAY).default("30s"),
        /// Path of a file with a JWK Set. The gateway re-reads the file when it changes.
        jwks_file: Option<PathBuf> = file().one_of(&KEY_SOURCES).example("/etc/alovoice/jwks.json"),
        /// Path of a PEM file with one public key. The gateway re-reads the file when it changes.
        public_key_file: Option<PathBuf> = file().one_of(&KEY_SOURCES).example("/etc/alovoice/issuer.pem"),
        /// Path of a file with a secret that the gateway and the issuer share. The gateway re-reads the file when it changes.
        hmac_secret_file: Option<PathBuf> = file().one_of(&KEY_SOURCES).example("/run/secrets/alovoice/issuer"),
    }
    build |section| {
        let set: Vec<_> = KEY_SOURCES.into_iter().filter(|key| section.is_set(key)).collect();
        for key in JWKS_TIMES.into_iter().filter(|key| section.is_set(key)) {
            if !set.contains(&"jwks_url") {
                section.problem(key, "has no effect without jwks_url");
            }
        }
        if set.len() != 1 {
            let found = if set.is_empty() { "none".to_owned() } else { set.join(" and ") };
            section.own_problem(format!("needs exactly one of {}; has {found}", KEY_SOURCES.join(", ")));
        }
        if let (Some(refresh), Some(max_stale)) = (jwks_refresh, jwks_max_stale)
            && max_stale < refresh
        {
            let (refresh, max_stale) = (HumanDuration(refresh), HumanDuration(max_stale));
            let detail = format!("must be at least jwks_refresh, which is \"{refresh}\"; got \"{max_stale}\"");
            section.problem("jwks_max_stale", detail);
        }
        let (refresh, max_stale, refetch_pause) = (jwks_refresh?, jwks_max_stale?, jwks_refetch_pause?);
        let by_url = jwks_url?.map(|url| KeySource::JwksUrl {
            url,
            refresh,
            max_stale,
            refetch_pause,
            timeout: JWKS_TIMEOUT,
        });
        by_url
            .or(jwks_file?.map(KeySource::JwksFile))
            .or(public_key_file?.map(KeySource::PublicKeyFile))
            .or(hmac_secret_file?.map(KeySource::HmacSecretFile))
    }
}

fn claim_path() -> ValueRule<ClaimPath> {
    text().and(|path| {
        ClaimPath::parse(&path).map_err(|error| InvalidValue::because(format!("{path:?} {error}")))
    })
}

fn algorithm() -> ValueRule<Algorithm> {
    one_of(&ALGORITHMS).refuse(|given| {
        let is_none = given.value.as_str().is_some_and(|name| name.eq_ignore_ascii_case("none"));
        is_none.then(|| {
            InvalidValue::because("\"none\" is never allowed: tokens without a signature prove nothing")
        })
    })
}

fn jwks_url() -> ValueRule<Url> {
    http_url().and(|url| {
        if url.scheme() == "https" || is_loopback(&url) {
            return Ok(url);
        }
        Err(InvalidValue::because(
            "must be an https URL: an attacker who replaces the keys in transit can sign any token",
        ))
    })
}

/// Checks that HMAC algorithms and public keys are not mixed. If a public key were accepted as an HMAC secret, anyone
/// could sign tokens (CVE-2015-9235).
fn check_families(section: &Section<'_>, algorithms: &[Algorithm], keys: &KeySource) {
    let is_hmac = |algorithm: &Algorithm| algorithm.family() == AlgorithmFamily::Hmac;
    let family = algorithms.first().map(|algorithm| algorithm.family());
    let detail = match keys {
        KeySource::HmacSecretFile(_) if !algorithms.iter().all(is_hmac) => {
            "must be only HS256, HS384 or HS512: the key is a shared secret (hmac_secret_file)"
        }
        KeySource::JwksUrl { .. } | KeySource::JwksFile(_) | KeySource::PublicKeyFile(_)
            if algorithms.iter().any(is_hmac) =>
        {
            "must not have HS256, HS384 or HS512: they need hmac_secret_file, and these keys are public"
        }
        KeySource::PublicKeyFile(_) if algorithms.iter().any(|one| Some(one.family()) != family) => {
            "must be of one family (RS and PS, ES, or EdDSA): public_key_file holds one key"
        }
        _ => return,
    };
    section.problem("algorithms", detail);
}
