//! Which tokens are accepted when their key is known.

use std::time::Duration;

use alovoice_gateway::config::KeySource;
use jsonwebtoken::Algorithm::{self, HS256, HS384, HS512, RS256};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::signer::{Signer, unsigned};
use crate::stage::{AUDIENCE, ISSUER, NOW, SECRET, Stage, claims, claims_with, file, issuer, paths};

fn stage_with_secret(algorithms: &[Algorithm]) -> (Stage, TempDir) {
    let (directory, path) = file(SECRET);
    (Stage::new(vec![issuer(algorithms, KeySource::HmacSecretFile(path))]), directory)
}

fn secret() -> Signer {
    Signer::Hmac(SECRET.to_vec())
}

async fn verdict_on(claims: &Value) -> &'static str {
    let (stage, _directory) = stage_with_secret(&[HS256]);
    stage.verdict(&secret().token(&json!({"alg": "HS256"}), claims)).await
}

#[tokio::test]
async fn a_valid_token_identifies_its_caller() {
    let (stage, _directory) = stage_with_secret(&[HS256]);
    let claims = claims_with(&json!({"sub": "crm", "scope": "analyses:read analyses:write"}));
    let token = secret().token(&json!({"alg": "HS256", "typ": "JWT", "kid": "any"}), &claims);
    let caller = stage.verify(&token).await.unwrap();
    assert_eq!(caller.subject.as_deref(), Some("crm"));
    assert_eq!(caller.tenant.as_str(), "acme");
    assert_eq!(caller.scopes.iter().collect::<Vec<_>>(), ["analyses:read", "analyses:write"]);
    assert!(caller.scopes.contains("analyses:read") && !caller.scopes.contains("analyses"));
    assert_eq!(caller.expires_at.as_seconds(), NOW + 86_400);
    assert_eq!(caller.issuer, ISSUER);
}

#[tokio::test]
async fn scopes_are_a_string_or_a_list() {
    let (stage, _directory) = stage_with_secret(&[HS256]);
    for (scope, expected) in [
        (json!("  b  a b "), vec!["a", "b"]),
        (json!(["b", "a"]), vec!["a", "b"]),
        (json!(""), vec![]),
        (json!([]), vec![]),
        (Value::Null, vec![]),
    ] {
        let token = secret().token(&json!({"alg": "HS256"}), &claims_with(&json!({"scope": scope})));
        let caller = stage.verify(&token).await.unwrap();
        assert_eq!(caller.scopes.iter().collect::<Vec<_>>(), expected, "{scope}");
    }
    for scope in [json!(1), json!({"a": 1}), json!(["a", 1])] {
        assert_eq!(verdict_on(&claims_with(&json!({"scope": scope}))).await, "malformed", "{scope}");
    }
}

#[tokio::test]
async fn required_claims_are_required() {
    assert_eq!(verdict_on(&claims()).await, "ok");
    for (claim, reason) in
        [("exp", "time_claim"), ("iss", "unknown_issuer"), ("aud", "audience"), ("tenant", "tenant_claim")]
    {
        assert_eq!(verdict_on(&claims_with(&json!({claim: null}))).await, reason);
        assert_eq!(verdict_on(&claims_with(&json!({claim: {"a": 1}}))).await, reason);
        assert_eq!(verdict_on(&claims_with(&json!({claim: true}))).await, reason);
    }
    for issuer in ["", "https://issuer.test/", "HTTPS://issuer.test", "https://other.test"] {
        assert_eq!(verdict_on(&claims_with(&json!({"iss": issuer}))).await, "unknown_issuer");
    }
    for tenant in ["", "..", "a/b", "a b", &"x".repeat(65)] {
        assert_eq!(verdict_on(&claims_with(&json!({"tenant": tenant}))).await, "tenant_claim", "{tenant:?}");
    }
}

#[tokio::test]
async fn the_audience_must_be_configured() {
    for audience in
        [json!(AUDIENCE), json!("another-of-ours"), json!(["elsewhere", AUDIENCE]), json!([1, AUDIENCE])]
    {
        assert_eq!(verdict_on(&claims_with(&json!({"aud": audience}))).await, "ok", "{audience}");
    }
    for audience in [
        json!("elsewhere"),
        json!([]),
        json!(["elsewhere"]),
        json!(""),
        json!("alovoice-gateway "),
        json!([[AUDIENCE]]),
    ] {
        assert_eq!(verdict_on(&claims_with(&json!({"aud": audience}))).await, "audience", "{audience}");
    }
}

#[tokio::test]
async fn times_are_checked_with_the_given_clock() {
    for (change, reason) in [
        (json!({"exp": NOW - 29}), "ok"),
        (json!({"exp": NOW - 30}), "expired"),
        (json!({"exp": f64::from(i32::try_from(NOW).unwrap()) - 29.5}), "ok"),
        (json!({"nbf": NOW + 30}), "ok"),
        (json!({"nbf": NOW + 31}), "not_yet_valid"),
        (json!({"iat": NOW + 30}), "ok"),
        (json!({"iat": NOW + 31}), "issued_in_future"),
        (json!({"exp": (NOW + 60).to_string()}), "time_claim"),
        (json!({"nbf": "0"}), "time_claim"),
        (json!({"iat": [0]}), "time_claim"),
    ] {
        assert_eq!(verdict_on(&claims_with(&change)).await, reason, "{change}");
    }
}

#[tokio::test]
async fn the_times_of_a_cached_token_are_checked_again() {
    let (stage, _directory) = stage_with_secret(&[HS256]);
    let token = secret().token(&json!({"alg": "HS256"}), &claims_with(&json!({"exp": NOW + 60})));
    let first = stage.verify(&token).await.unwrap();
    let second = stage.verify(&token).await.unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &second), "the second answer comes from the cache");
    stage.clock.advance(Duration::from_secs(89));
    assert_eq!(stage.verdict(&token).await, "ok");
    stage.clock.advance(Duration::from_secs(1));
    assert_eq!(stage.verdict(&token).await, "expired");
}

#[tokio::test]
async fn tokens_over_8_kib_are_refused() {
    let (stage, _directory) = stage_with_secret(&[HS256]);
    let sized = |padding: usize| {
        let claims = claims_with(&json!({"padding": "x".repeat(padding)}));
        secret().token(&json!({"alg": "HS256"}), &claims)
    };
    // Base64 encodes three bytes as four characters, so one more byte adds one or two characters.
    let largest = (5_000..7_000).rev().map(sized).find(|token| token.len() <= 8192).unwrap();
    assert!(largest.len() >= 8191);
    assert_eq!(stage.verdict(&largest).await, "ok");
    assert_eq!(stage.verdict(&format!("{largest}{}", "A".repeat(8193 - largest.len()))).await, "too_large");
    assert_eq!(stage.verdict(&"x".repeat(1 << 20)).await, "too_large");
}

#[tokio::test]
async fn a_token_has_three_base64url_segments_with_objects() {
    let (stage, _directory) = stage_with_secret(&[HS256]);
    let good = secret().token(&json!({"alg": "HS256"}), &claims());
    for bad in [
        String::new(),
        "é".to_owned(),
        "....".to_owned(),
        format!("{good}.e30"),
        format!("{good}.e30.e30"),
        format!("{good}="),
        format!(" {good}"),
        secret().sign("HS256", "e30.e30").replace("e30.e30", "bm8.e30"),
        secret().token(&json!({"alg": "HS256"}), &json!([claims()])),
        secret().token(&json!({"alg": "HS256"}), &json!("text")),
        secret().token(&json!([{"alg": "HS256"}]), &claims()),
        secret().token(&json!({"alg": "HS256"}), &nested(200)),
    ] {
        assert_eq!(stage.verdict(&bad).await, "malformed", "{bad}");
    }
}

fn nested(depth: usize) -> Value {
    let mut claims = claims();
    claims["x"] = (0..depth).fold(json!(1), |inner, _| json!([inner]));
    claims
}

#[tokio::test]
async fn extensions_and_other_kinds_of_token_are_refused() {
    let (stage, _directory) = stage_with_secret(&[HS256]);
    for (header, verdict) in [
        (json!({"alg": "HS256", "crit": ["exp"], "exp": 1}), "crit"),
        (json!({"alg": "HS256", "crit": []}), "crit"),
        (json!({"alg": "HS256", "b64": false, "crit": ["b64"]}), "crit"),
        (json!({"alg": "HS256", "typ": "at+jwt"}), "ok"),
        (json!({"alg": "HS256", "typ": "application/AT+JWT"}), "ok"),
        (json!({"alg": "HS256", "typ": "logout+jwt"}), "typ"),
        (json!({"alg": "HS256", "kid": {"a": 1}}), "malformed"),
        (json!({"alg": "HS256", "kid": "../../etc/passwd"}), "ok"),
    ] {
        assert_eq!(stage.verdict(&secret().token(&header, &claims())).await, verdict, "{header}");
    }
}

#[tokio::test]
async fn a_token_cannot_bring_its_own_key() {
    let (_directory, path) = file(Signer::rsa().public_pem());
    let stage = Stage::new(vec![issuer(&[RS256, Algorithm::ES256], KeySource::PublicKeyFile(path))]);
    let stranger = Signer::p256();
    let own = stranger.jwk(&json!({"alg": "ES256", "use": "sig"}));
    let header = json!({"alg": "ES256", "jwk": own, "jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/",
        "x5c": ["AA=="]});
    assert_eq!(stage.verdict(&stranger.token(&header, &claims())).await, "unknown_key");
    // The same header fields in any form do not affect a correctly signed token.
    let header = json!({"alg": "RS256", "jwk": 1, "jku": {}, "x5u": null, "x5c": "x"});
    assert_eq!(stage.verdict(&Signer::rsa().token(&header, &claims())).await, "ok");
}

#[tokio::test]
async fn the_algorithm_is_pinned_by_the_key() {
    let rsa = Signer::rsa();
    let (_directory, path) = file(rsa.public_pem());
    // Even an issuer that allows too many algorithms is not tricked into HMAC with its public key as the secret.
    let stage = Stage::new(vec![issuer(&[RS256, HS256], KeySource::PublicKeyFile(path.clone()))]);
    assert_eq!(stage.verdict(&rsa.token(&json!({"alg": "RS256"}), &claims())).await, "ok");
    for public in [rsa.public_pem(), rsa.public_pem().trim_end().to_owned()] {
        let forger = Signer::Hmac(public.into_bytes());
        let plain = forger.token(&json!({"alg": "HS256"}), &claims());
        assert_eq!(stage.verdict(&plain).await, "unknown_key");
        let named = forger.token(&json!({"alg": "HS256", "kid": "k"}), &claims());
        assert_eq!(stage.verdict(&named).await, "algorithm");
    }
    let stage = Stage::new(vec![issuer(&[RS256], KeySource::PublicKeyFile(path))]);
    for algorithm in ["RS512", "PS256", "HS256"] {
        let verdict = stage.verdict(&rsa.token(&json!({"alg": algorithm}), &claims())).await;
        assert_eq!(verdict, "algorithm", "{algorithm}");
    }
    // A signature of another algorithm with an allowed name.
    let message = unsigned(&json!({"alg": "RS256"}), &claims());
    assert_eq!(stage.verdict(&rsa.sign("PS256", &message)).await, "signature");
    assert_eq!(stage.verdict(&rsa.sign("RS384", &message)).await, "signature");
}

#[tokio::test]
async fn the_algorithm_none_is_refused() {
    let (stage, _directory) = stage_with_secret(&[HS256, HS384, HS512]);
    for algorithm in ["none", "None", "NONE", ""] {
        let message = unsigned(&json!({"alg": algorithm}), &claims());
        assert_eq!(stage.verdict(&format!("{message}.")).await, "algorithm");
        assert_eq!(stage.verdict(&secret().sign("HS256", &message)).await, "algorithm");
    }
    let message = unsigned(&json!({"alg": "HS256"}), &claims());
    assert_eq!(stage.verdict(&format!("{message}.")).await, "signature");
    let other = Signer::Hmac(vec![7; 64]);
    assert_eq!(stage.verdict(&other.token(&json!({"alg": "HS256"}), &claims())).await, "signature");
}

#[tokio::test]
async fn an_issuer_cannot_sign_for_another() {
    let (_first, first) = file(SECRET);
    let (_second, second) = file([9; 32]);
    let mut other = issuer(&[HS256], KeySource::HmacSecretFile(second));
    other.issuer = "https://other.test".to_owned();
    other.tenant_claim = paths(&["org"]);
    other.scope_claim = paths(&["scp"]);
    let stage = Stage::new(vec![issuer(&[HS256], KeySource::HmacSecretFile(first)), other]);
    let header = json!({"alg": "HS256"});
    let theirs = claims_with(&json!({"iss": "https://other.test", "org": "globex", "scp": ["a"]}));
    assert_eq!(stage.verdict(&secret().token(&header, &theirs)).await, "signature");
    let caller = stage.verify(&Signer::Hmac(vec![9; 32]).token(&header, &theirs)).await.unwrap();
    assert_eq!((caller.tenant.as_str(), caller.scopes.contains("a")), ("globex", true));
}
