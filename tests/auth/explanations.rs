//! Explanations of tokens for operators.

use alovoice_gateway::config::KeySource;
use jsonwebtoken::Algorithm::HS256;
use serde_json::{Value, json};

use crate::signer::Signer;
use crate::stage::{SECRET, Stage, claims_with, file, issuer, paths};

/// The explanation of a token, one line per step.
async fn explain(header: &Value, changes: &Value, signer: &Signer) -> String {
    let (_directory, path) = file(SECRET);
    let mut settings = issuer(&[HS256], KeySource::HmacSecretFile(path));
    settings.tenant_claim = paths(&["org.tenant", "tenant"]);
    let stage = Stage::new(vec![settings]);
    let token = signer.token(header, &claims_with(changes));
    let steps = stage.verifier.explain(&token).await;
    let lines: Vec<_> = steps
        .iter()
        .map(|step| format!("{} {}: {}", if step.passed { "ok" } else { "FAILED" }, step.name, step.detail))
        .collect();
    let text = lines.join("\n");
    let passes = steps.iter().all(|step| step.passed);
    assert_eq!(
        passes,
        stage.verifier.verify(&token).await.is_ok(),
        "the explanation agrees with the verification: {text}"
    );
    for segment in token.split('.').filter(|segment| !segment.is_empty()) {
        assert!(!text.contains(segment), "the token is not repeated: {text}");
    }
    text
}

fn secret() -> Signer {
    Signer::Hmac(SECRET.to_vec())
}

#[tokio::test]
async fn an_accepted_token_passes_every_step() {
    let changes = json!({"aud": ["account", "alovoice-gateway"], "scope": "openid analyses:read"});
    let text = explain(&json!({"alg": "HS256"}), &changes, &secret()).await;
    insta::assert_snapshot!(text, @r#"
    ok format: a signed JWT of 239 bytes, alg HS256
    ok issuer: iss is "https://issuer.test"
    ok algorithm: HS256; algorithms has HS256
    ok key: the token has no kid, so each key of its algorithm is tried
    ok signature: checked with the issuer's key
    ok times: exp 2024-05-21T12:20:17Z; it is 2024-05-20T12:20:17Z
    ok audience: aud is ["account","alovoice-gateway"]; audiences has "alovoice-gateway", "another-of-ours"
    ok tenant: tenant is "acme"
    ok scopes: scope is "openid analyses:read"
    "#);
}

#[tokio::test]
async fn every_fault_of_a_token_is_explained_at_once() {
    let changes = json!({"aud": "account", "exp": 1, "tenant": ["a", "b"], "scope": 7});
    let text = explain(&json!({"alg": "HS256", "kid": "k\n1"}), &changes, &Signer::Hmac(vec![9; 32])).await;
    insta::assert_snapshot!(text, @r#"
    ok format: a signed JWT of 193 bytes, alg HS256, kid "k\n1"
    ok issuer: iss is "https://issuer.test"
    ok algorithm: HS256; algorithms has HS256
    ok key: the issuer's key with the kid of the token
    FAILED signature: the signature of the token is not valid: checked with the issuer's key
    FAILED times: the token has expired: exp 1970-01-01T00:00:01Z; it is 2024-05-20T12:20:17Z
    FAILED audience: the audience of the token is not this service: aud is "account"; audiences has "alovoice-gateway", "another-of-ours"
    FAILED tenant: the token has no valid tenant claim: tenant is ["a","b"]
    FAILED scopes: the token is malformed: its scopes are neither a string nor a list of strings: scope is 7
    "#);
}

#[tokio::test]
async fn an_explanation_ends_where_no_further_step_is_possible() {
    let other = json!({"iss": "https://issuer.test/"});
    insta::assert_snapshot!(explain(&json!({"alg": "HS256"}), &other, &secret()).await, @r#"
    ok format: a signed JWT of 183 bytes, alg HS256
    FAILED issuer: the issuer of the token is not trusted: iss is "https://issuer.test/"; the settings have "https://issuer.test"
    "#);
    let text = explain(&json!({"alg": "HS256", "typ": "logout+jwt"}), &json!({}), &secret()).await;
    insta::assert_snapshot!(text.split_once(';').unwrap().0, @"FAILED format: the type of the token is neither JWT nor at+jwt");
    let text = explain(&json!({"alg": "HS512"}), &json!({"exp": null, "nbf": "soon"}), &secret()).await;
    insta::assert_snapshot!(text, @r#"
    ok format: a signed JWT of 219 bytes, alg HS512
    ok issuer: iss is "https://issuer.test"
    FAILED algorithm: the algorithm of the token is not allowed for its issuer and key: HS512; algorithms has HS256
    FAILED times: exp is missing, or one of exp, nbf, iat is not a number of seconds: exp is missing, nbf is "soon", iat is missing
    ok audience: aud is "alovoice-gateway"; audiences has "alovoice-gateway", "another-of-ours"
    ok tenant: tenant is "acme"
    ok scopes: the token has no claim scope
    "#);
}
