//! Bearer tokens. The input has three lines: the signer, the header and the claims. The check signs them, because a fuzzer that
//! cannot sign would never get past the signature check.

use std::sync::LazyLock;

use alovoice_gateway::auth::Verifier;
use alovoice_gateway::config::KeySource;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::FutureExt;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::signers::{AUDIENCE, Issuer, NOW, SECRET, Signer, public_key, verifier};

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let key = json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(public_key())});
    let keys = json!({"keys": [key]}).to_string();
    verifier(&[
        Issuer {
            name: Signer::Hmac.issuer(),
            algorithms: &[Algorithm::HS256],
            source: KeySource::HmacSecretFile,
            content: SECRET,
        },
        Issuer {
            name: Signer::Ed25519.issuer(),
            algorithms: &[Algorithm::EdDSA],
            source: KeySource::JwksFile,
            content: keys.as_bytes(),
        },
    ])
    .unwrap()
});

/// An accepted token is signed by its issuer, has the right audience, and is valid now.
pub fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let signed = || {
        let mut lines = text.splitn(3, '\n');
        let signer =
            Signer::ALL.into_iter().find(|signer| Some(signer.algorithm()) == lines.clone().next())?;
        lines.next();
        Some(signer.token(lines.next()?.as_bytes(), lines.next()?.as_bytes()))
    };
    let token = signed().unwrap_or_else(|| text.to_owned());
    let Some(Ok(caller)) = VERIFIER.verify(&token).now_or_never() else { return };

    let signer =
        Signer::ALL.into_iter().find(|signer| signer.issuer() == caller.issuer).expect("a known issuer");
    let (message, signature) = token.rsplit_once('.').unwrap();
    assert_eq!(
        URL_SAFE_NO_PAD.decode(signature).unwrap(),
        signer.signature(message),
        "the token is signed: {token}"
    );
    let (header, claims) = message.split_once('.').unwrap();
    let object =
        |text: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap();
    let (header, claims) = (object(header), object(claims));
    assert_eq!(header["alg"], signer.algorithm());
    assert!(header["crit"].is_null() && header["b64"].is_null(), "{header}");
    let audience = &claims["aud"];
    let is_ours =
        audience == AUDIENCE || audience.as_array().is_some_and(|all| all.iter().any(|it| it == AUDIENCE));
    assert!(is_ours && claims["iss"] == signer.issuer(), "{claims}");
    let tenant = match &claims["tenant"] {
        Value::Array(only) => only[0].clone(),
        tenant => tenant.clone(),
    };
    assert_eq!(tenant.as_str().map_or_else(|| tenant.to_string(), str::to_owned), caller.tenant.as_str());
    let now = NOW as f64;
    assert!(claims["exp"].as_f64().unwrap() > now - 31.0, "{claims}");
    for begin in ["nbf", "iat"] {
        assert!(claims[begin].as_f64().is_none_or(|begin| begin < now + 31.0), "{claims}");
    }
}
