//! Valid and invalid tokens of callers.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use alovoice_gateway::domain::clock::{Clock, SystemClock};

use crate::stage::{AUDIENCE, HMAC_SECRET, ISSUER, SCOPES};

/// A token for a tenant, valid for an hour.
pub(crate) fn token_of(tenant: &str) -> String {
    signed(&json!({"alg": "HS256", "typ": "JWT"}), &claims(&json!({"tenant": tenant})))
}

/// Tokens that the gateway refuses, each for another reason, with the expected status.
pub(crate) fn refused_tokens() -> Vec<(String, u16)> {
    let now = SystemClock.now().as_seconds();
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let with_claims = |changes: Value| signed(&header, &claims(&changes));
    let with_header = |header: Value| signed(&header, &claims(&json!({})));
    let good = with_claims(json!({}));
    let (message, signature) = good.rsplit_once('.').unwrap();
    let reversed: String = signature.chars().rev().collect();
    let unauthorized = [
        with_claims(json!({"exp": now - 3600})),
        with_claims(json!({"exp": null})),
        with_claims(json!({"nbf": now + 3600})),
        with_claims(json!({"iat": now + 3600})),
        with_claims(json!({"aud": "somebody-else"})),
        with_claims(json!({"iss": "https://somebody-else.test"})),
        with_claims(json!({"tenant": null})),
        with_claims(json!({"padding": "x".repeat(9000)})),
        with_header(json!({"alg": "HS512"})),
        with_header(json!({"alg": "none"})),
        with_header(json!({"alg": "HS256", "typ": "dpop+jwt"})),
        with_header(json!({"alg": "HS256", "crit": ["exp"]})),
        format!("{message}.{reversed}"),
        format!("{message}."),
        message.to_owned(),
        format!("{good}.{signature}"),
        format!("{}\u{7f}", &good[..good.len() - 1]),
    ];
    let forbidden = [with_claims(json!({"scope": "audio:read"})), token_of("nobody")];
    let with = |status| move |token| (token, status);
    unauthorized.into_iter().map(with(401)).chain(forbidden.into_iter().map(with(403))).collect()
}

/// Valid claims with some replaced. `null` removes a claim.
fn claims(changes: &Value) -> Value {
    let now = SystemClock.now().as_seconds();
    let mut claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "tenant": "acme", "scope": SCOPES, "sub": "caller", "iat": now, "exp": now + 3600,
    });
    let object = claims.as_object_mut().unwrap();
    object.extend(changes.as_object().unwrap().clone());
    object.retain(|_, value| !value.is_null());
    claims
}

fn signed(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(header), encode(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, HMAC_SECRET.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()));
    format!("{message}.{signature}")
}
