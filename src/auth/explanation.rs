//! Explains step by step why a token passes or fails, for an operator who connects an identity provider.
//!
//! The steps use the rules of [`Verifier::verify`], but a failed step does not end the explanation. An explanation never repeats
//! the token, but it quotes claims. So the explanation is for the operator only.

use serde_json::Value;

use super::claims::Claims;
use super::jws::Jws;
use super::rejection::Rejection;
use super::verifier::{Issuer, Verifier, parse};
use crate::config::claim_names;
use crate::domain::claim_path::ClaimPath;

/// Maximum number of characters of a claim in an explanation. Longer claims are cut.
const MAX_CLAIM_CHARS: usize = 200;

/// One step of the verification of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenCheck {
    /// Name of the step.
    pub name: &'static str,
    /// Whether the token passes this step.
    pub passed: bool,
    /// The checked values; for a failed step also the reason.
    pub detail: String,
}

impl TokenCheck {
    /// Creates a step from its outcome. `detail` describes a passed step; a failed step shows its reason and
    /// `detail`.
    fn new(name: &'static str, outcome: Result<(), Rejection>, detail: impl Into<String>) -> Self {
        let (passed, detail) = match outcome {
            Ok(()) => (true, detail.into()),
            Err(rejection) => (false, format!("{rejection}: {}", detail.into())),
        };
        Self { name, passed, detail }
    }
}

impl Verifier {
    /// Explains each step of the verification of a token. Ends early if a failed step makes the next steps impossible.
    ///
    /// The function loads the keys of the token's issuer, and compares times with the clock of this verifier.
    pub async fn explain(&self, token: &str) -> Vec<TokenCheck> {
        let (jws, claims) = match parse(token) {
            Ok(parsed) => parsed,
            Err(rejection) => {
                let detail = format!("{rejection}; it has {} bytes", token.len());
                return vec![TokenCheck { name: "format", passed: false, detail }];
            }
        };
        let key_id = jws
            .key_id
            .as_ref()
            .map_or(String::new(), |id| format!(", kid {}", shown(&Value::from(id.as_str()))));
        let format = format!("a signed JWT of {} bytes, alg {:?}{key_id}", token.len(), jws.algorithm);
        let mut steps = vec![TokenCheck::new("format", Ok(()), format)];
        let iss = named("iss", claims.get("iss"));
        let Some(issuer) = self.issuer_of(&claims) else {
            let known = format!("{iss}; the settings have {}", quoted(self.issuers()));
            steps.push(TokenCheck::new("issuer", Err(Rejection::UnknownIssuer), known));
            return steps;
        };
        steps.push(TokenCheck::new("issuer", Ok(()), iss));
        steps.extend(signature_steps(issuer, &jws).await);
        steps.extend(self.claim_steps(issuer, &claims));
        steps
    }

    fn claim_steps(&self, issuer: &Issuer, claims: &Claims) -> [TokenCheck; 4] {
        let (settings, now) = (&issuer.settings, self.now());
        let validity = claims.validity();
        let times =
            validity.as_ref().map_err(|rejection| *rejection).and_then(|validity| validity.check(now));
        let times_shown = match &validity {
            Ok(validity) => {
                let more = [("nbf", validity.not_before), ("iat", validity.issued_at)].into_iter();
                let more = more.filter_map(|(name, time)| Some(format!(", {name} {}", time?)));
                format!("exp {}{}; it is {now}", validity.expires_at, more.collect::<String>())
            }
            Err(_) => ["exp", "nbf", "iat"].map(|name| named(name, claims.get(name))).join(", "),
        };
        let audience = format!(
            "{}; audiences has {}",
            named("aud", claims.get("aud")),
            quoted(settings.audiences.iter().map(String::as_str))
        );
        let (tenant, scopes) = (claims.tenant(&settings.tenant_claim), claims.scopes(&settings.scope_claim));
        [
            TokenCheck::new("times", times, times_shown),
            TokenCheck::new("audience", claims.check_audience(&settings.audiences), audience),
            TokenCheck::new("tenant", tenant.map(drop), present(claims, &settings.tenant_claim)),
            TokenCheck::new("scopes", scopes.map(drop), present(claims, &settings.scope_claim)),
        ]
    }
}

/// Returns the steps `algorithm`, `key` and `signature`, up to the first failure.
async fn signature_steps(issuer: &Issuer, jws: &Jws<'_>) -> Vec<TokenCheck> {
    let settings = &issuer.settings;
    let outcome = issuer.check_signature(jws).await.map(drop);
    let allowed: Vec<_> = settings.algorithms.iter().map(|algorithm| format!("{algorithm:?}")).collect();
    let algorithm = format!("{:?}; algorithms has {}", jws.algorithm, allowed.join(", "));
    let key = match &jws.key_id {
        Some(_) => "the issuer's key with the kid of the token",
        None => "the token has no kid, so each key of its algorithm is tried",
    };
    let mut steps = Vec::new();
    match outcome {
        Err(Rejection::Algorithm) => steps.push(TokenCheck::new("algorithm", outcome, algorithm)),
        Err(Rejection::UnknownKey | Rejection::KeysUnavailable) => {
            steps.push(TokenCheck::new("algorithm", Ok(()), algorithm));
            steps.push(TokenCheck::new("key", outcome, key));
        }
        _ => {
            steps.push(TokenCheck::new("algorithm", Ok(()), algorithm));
            steps.push(TokenCheck::new("key", Ok(()), key));
            steps.push(TokenCheck::new("signature", outcome, "checked with the issuer's key"));
        }
    }
    steps
}

/// Describes the claims that the settings name and the token has.
fn present(claims: &Claims, paths: &[ClaimPath]) -> String {
    let found: Vec<_> =
        claims.present(paths).map(|(path, value)| named(path.as_str(), Some(value))).collect();
    match found.is_empty() {
        true => format!("the token has no claim {}", claim_names(paths)),
        false => found.join(", "),
    }
}

fn named(name: &str, value: Option<&Value>) -> String {
    value.map_or_else(|| format!("{name} is missing"), |value| format!("{name} is {}", shown(value)))
}

/// Returns a value as JSON, which escapes control characters.
fn shown(value: &Value) -> String {
    let json = value.to_string();
    match json.char_indices().nth(MAX_CLAIM_CHARS) {
        Some((end, _)) => format!("{}…", &json[..end]),
        None => json,
    }
}

fn quoted<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    texts.map(|text| format!("{text:?}")).collect::<Vec<_>>().join(", ")
}
