//! Nested tokens, other kinds of tokens, duplicate claims, and tokens that are too deep or too large.

use alovoice_gateway::config::KeySource;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm::HS256;
use serde_json::json;

use crate::signer::Signer;
use crate::stage::{ISSUER, SECRET, Stage, claims, file, issuer};

fn encode(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

fn stage() -> Stage {
    let (_directory, path) = file(SECRET);
    let (_other_directory, other_path) = file([9; 32]);
    let mut other = issuer(&[HS256], KeySource::HmacSecretFile(other_path));
    other.issuer = "https://other.test".to_owned();
    Stage::new(vec![issuer(&[HS256], KeySource::HmacSecretFile(path)), other])
}

/// A correctly signed token with this header and payload.
fn signed(header: &str, payload: impl AsRef<[u8]>) -> String {
    Signer::Hmac(SECRET.to_vec()).sign("HS256", &format!("{}.{}", encode(header), encode(payload)))
}

const HEADER: &str = r#"{"alg":"HS256"}"#;

/// Valid claims followed by these JSON members.
fn with(members: &str) -> String {
    let claims = claims().to_string();
    format!("{},{members}}}", claims.strip_suffix('}').unwrap())
}

#[tokio::test]
async fn a_nested_token_is_refused() {
    let stage = stage();
    let inner = signed(HEADER, claims().to_string());
    assert_eq!(stage.verdict(&inner).await, "ok");
    for outer in [
        signed(r#"{"alg":"HS256","cty":"JWT"}"#, &inner),
        signed(HEADER, &inner),
        signed(HEADER, json!(inner).to_string()),
        signed(r#"{"alg":"HS256","cty":"JWT"}"#, json!([inner]).to_string()),
    ] {
        assert_eq!(stage.verdict(&outer).await, "malformed");
    }
    let carried = signed(HEADER, json!({"jwt": inner, "access_token": inner}).to_string());
    assert_eq!(stage.verdict(&carried).await, "unknown_issuer");
}

#[tokio::test]
async fn other_serializations_of_a_token_are_refused() {
    let stage = stage();
    let token = signed(HEADER, claims().to_string());
    let parts = token.split('.').collect::<Vec<_>>();
    let signature = json!({"protected": parts[0], "signature": parts[2]});
    let flattened = json!({"payload": parts[1], "protected": parts[0], "signature": parts[2]}).to_string();
    let encrypted = encode(r#"{"alg":"dir","enc":"A256GCM"}"#);
    for other in [
        // The JSON serializations (RFC 7515, 7.2), plain and as a header can carry them.
        flattened.clone(),
        json!({"payload": parts[1], "signatures": [signature]}).to_string(),
        encode(flattened),
        // Encrypted (RFC 7516, 7.1), detached (RFC 7515, appendix F), and with a disclosure (SD-JWT).
        format!("{encrypted}..{}.{}.{}", encode([0; 12]), encode(claims().to_string()), encode([0; 16])),
        format!("{encrypted}.{}.{}.{}.{}", encode([1]), encode([0; 12]), encode("e30"), encode([0; 16])),
        format!("{}..{}", parts[0], parts[2]),
        format!("{token}~"),
        format!("{token}~{}~", encode(r#"["salt","tenant","globex"]"#)),
        format!("{token},{token}"),
        format!("{token} {token}"),
        format!("{token}\n"),
        format!("{token}\0"),
        token.replace('.', ".."),
        token.replace('.', "%2E"),
    ] {
        assert_eq!(stage.verdict(&other).await, "malformed", "{other}");
    }
    assert_eq!(stage.verdict(&token).await, "ok");
}

/// RFC 7519, 4: every part of the verification uses the last one.
#[tokio::test]
async fn of_duplicate_claims_the_last_one_is_used() {
    let stage = stage();
    let caller = stage.verify(&signed(HEADER, with(r#""tenant":"globex""#))).await.unwrap();
    assert_eq!(caller.tenant.as_str(), "globex");
    for (members, verdict) in [
        (r#""exp":1"#, "expired"),
        (r#""aud":"elsewhere""#, "audience"),
        (r#""tenant":null"#, "tenant_claim"),
        (r#""\u0074enant":"a/b""#, "tenant_claim"),
        // The last `iss` selects the issuer, and the key of this issuer did not sign the token.
        (r#""iss":"https://other.test""#, "signature"),
        (r#""iss":"https://nobody.test""#, "unknown_issuer"),
    ] {
        assert_eq!(stage.verdict(&signed(HEADER, with(members))).await, verdict, "{members}");
    }
    for (header, verdict) in [
        (r#"{"alg":"none","alg":"HS256"}"#, "ok"),
        (r#"{"alg":"HS256","alg":"none"}"#, "algorithm"),
        (r#"{"alg":"HS256","typ":"JWT","typ":"logout+jwt"}"#, "typ"),
        (r#"{"alg":"HS256","\u0063rit":["exp"]}"#, "crit"),
    ] {
        assert_eq!(stage.verdict(&signed(header, claims().to_string())).await, verdict, "{header}");
    }
}

#[tokio::test]
async fn names_are_compared_exactly() {
    let stage = stage();
    for (name, verdict) in [("ISS", "unknown_issuer"), ("Iss", "unknown_issuer"), ("iss ", "unknown_issuer")]
    {
        let claims = claims().to_string().replace("\"iss\"", &format!("\"{name}\""));
        assert_eq!(stage.verdict(&signed(HEADER, claims)).await, verdict);
    }
    for issuer in
        [json!([ISSUER]), json!({"iss": ISSUER}), json!(format!("{ISSUER}\0")), json!(1), json!(null)]
    {
        let verdict = stage.verdict(&signed(HEADER, with(&format!("\"iss\":{issuer}")))).await;
        assert_eq!(verdict, "unknown_issuer", "{issuer}");
    }
    for header in [r#"{"ALG":"HS256"}"#, r#"{"alg":"HS256 "}"#, r#"{"alg":"HS256\u0000"}"#] {
        assert_eq!(stage.verdict(&signed(header, claims().to_string())).await, "algorithm", "{header}");
    }
}

#[tokio::test]
async fn deep_or_long_tokens_are_refused_early() {
    let stage = stage();
    let nested = |open: &str, close: &str, depth| {
        with(&format!("\"x\":{}0{}", open.repeat(depth), close.repeat(depth)))
    };
    for (payload, verdict) in [
        (nested("[", "]", 100), "ok"),
        (nested("[", "]", 2500), "malformed"),
        (nested("{\"a\":", "}", 100), "ok"),
        (nested("{\"a\":", "}", 1000), "malformed"),
        ("[".repeat(5000), "malformed"),
        (with(&format!("\"x\":{}", "9".repeat(5000))), "malformed"),
        (with("\"x\":0,".repeat(800).trim_end_matches(',')), "ok"),
        (format!("{}{}", " ".repeat(5000), claims()), "ok"),
        (format!("{}{}", claims(), "\0"), "malformed"),
        (with(&format!("\"x\":\"{}\"", "y".repeat(7000))), "too_large"),
    ] {
        let shown = &payload[..payload.len().min(200)];
        assert_eq!(stage.verdict(&signed(HEADER, &payload)).await, verdict, "{shown}");
    }
    assert_eq!(stage.verdict(&signed(HEADER, b"{\"iss\":\"\xff\"}")).await, "malformed");
    assert_eq!(stage.verdict(&".".repeat(8192)).await, "malformed");
    assert_eq!(stage.verdict(&".".repeat(8193)).await, "too_large");
}
