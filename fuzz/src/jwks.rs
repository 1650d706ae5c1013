//! Key sets.

use alovoice_gateway::config::KeySource;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::FutureExt;
use jsonwebtoken::Algorithm;
use serde_json::Value;

use super::signers::{Issuer, NOW, SECRET, Signer, public_key, verifier};

const ALGORITHMS: &[Algorithm] = &[
    Algorithm::HS256,
    Algorithm::HS384,
    Algorithm::HS512,
    Algorithm::RS256,
    Algorithm::PS256,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// A key set is accepted or refused. It verifies only tokens that one of its keys signed.
pub fn check(input: &[u8]) {
    let issuer = "issuer";
    let set = Issuer { name: issuer, algorithms: ALGORITHMS, source: KeySource::JwksFile, content: input };
    let Ok(verifier) = verifier(&[set]) else { return };
    for (signer, key) in [(Signer::Hmac, SECRET.to_vec()), (Signer::Ed25519, public_key())] {
        let header = format!(r#"{{"alg":"{}","kid":"1"}}"#, signer.algorithm());
        let claims =
            format!(r#"{{"iss":"{issuer}","aud":"alovoice-gateway","tenant":"acme","exp":{}}}"#, NOW + 60);
        let verdict = verifier.verify(&signer.token(header.as_bytes(), claims.as_bytes())).now_or_never();
        if verdict.expect("keys from a file need no wait").is_ok() {
            let set = serde_json::from_slice(input).unwrap();
            assert!(holds(&set, &key), "{signer:?} verified by {set}");
        }
    }
}

/// Whether a string in the document is this key.
fn holds(value: &Value, key: &[u8]) -> bool {
    match value {
        Value::String(text) => {
            URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).is_ok_and(|bytes| bytes == key)
        }
        Value::Array(values) => values.iter().any(|value| holds(value, key)),
        Value::Object(members) => members.values().any(|value| holds(value, key)),
        _ => false,
    }
}
