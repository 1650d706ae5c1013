//! Choosing a key from a set.

use alovoice_gateway::config::KeySource;
use jsonwebtoken::Algorithm::{self, ES256, ES384, EdDSA, HS256, PS256, RS256};
use serde_json::{Value, json};

use crate::jwks_server::JwksServer;
use crate::signer::Signer;
use crate::stage::{SECRET, Stage, claims, file, issuer, jwks_url};

fn stage_with_set(algorithms: &[Algorithm], keys: &[Value]) -> Stage {
    let (_directory, path) = file(json!({ "keys": keys }).to_string());
    Stage::new(vec![issuer(algorithms, KeySource::JwksFile(path))])
}

#[tokio::test]
async fn the_kid_names_the_key() {
    let (first, second) = (Signer::p256(), Signer::p256());
    let keys = [first.jwk(&json!({"kid": "first"})), second.jwk(&json!({"kid": "second"}))];
    let stage = stage_with_set(&[ES256, RS256], &keys);
    for (kid, verdict) in
        [("first", "ok"), ("second", "signature"), ("third", "unknown_key"), ("", "unknown_key")]
    {
        let token = first.token(&json!({"alg": "ES256", "kid": kid}), &claims());
        assert_eq!(stage.verdict(&token).await, verdict, "{kid:?}");
    }
    let token = Signer::rsa().token(&json!({"alg": "RS256", "kid": "first"}), &claims());
    assert_eq!(stage.verdict(&token).await, "algorithm", "the named key is of another kind");
}

#[tokio::test]
async fn without_a_kid_the_fitting_keys_are_tried_up_to_eight() {
    let header = json!({"alg": "ES256"});
    let signers = (0..9).map(|_| Signer::p256()).collect::<Vec<_>>();
    let keys = signers.iter().enumerate().map(|(number, it)| it.jwk(&json!({"kid": number.to_string()})));
    let mut keys = keys.collect::<Vec<_>>();
    keys.insert(0, Signer::p384().jwk(&json!({})));
    let stage = stage_with_set(&[ES256, ES384, RS256], &keys);
    assert_eq!(stage.verdict(&signers[0].token(&header, &claims())).await, "ok");
    assert_eq!(stage.verdict(&signers[7].token(&header, &claims())).await, "ok");
    assert_eq!(stage.verdict(&signers[8].token(&header, &claims())).await, "signature");
    let token = Signer::rsa().token(&json!({"alg": "RS256"}), &claims());
    assert_eq!(stage.verdict(&token).await, "unknown_key");
    // A key without a name answers to any.
    let stage = stage_with_set(&[ES256], &[signers[0].jwk(&json!({}))]);
    let token = signers[0].token(&json!({"alg": "ES256", "kid": "anything"}), &claims());
    assert_eq!(stage.verdict(&token).await, "ok");
}

#[tokio::test]
async fn a_key_says_what_it_may_be_used_for() {
    let rsa = Signer::rsa();
    for (extra, algorithm, verdict) in [
        (json!({}), "RS256", "ok"),
        (json!({"use": "sig", "key_ops": ["verify"]}), "PS256", "ok"),
        (json!({"alg": "RS256"}), "RS256", "ok"),
        (json!({"alg": "RS256"}), "PS256", "algorithm"),
        (json!({"alg": "RS512"}), "RS256", "unknown_key"),
        (json!({"alg": "RSA-OAEP"}), "RS256", "unknown_key"),
        (json!({"alg": "ES256"}), "RS256", "unknown_key"),
        (json!({"alg": "none"}), "RS256", "unknown_key"),
        (json!({"use": "enc"}), "RS256", "unknown_key"),
        (json!({"use": "SIG"}), "RS256", "unknown_key"),
        (json!({"key_ops": ["sign", "encrypt"]}), "RS256", "unknown_key"),
        (json!({"key_ops": []}), "RS256", "unknown_key"),
        (json!({"kty": "EC"}), "RS256", "unknown_key"),
        (json!({"n": "AQAB"}), "RS256", "unknown_key"),
        (json!({"e": "AQ"}), "RS256", "unknown_key"),
        (json!({"e": "AA"}), "RS256", "unknown_key"),
        (json!({"n": "not base64!"}), "RS256", "unknown_key"),
        (json!({"kid": 7}), "RS256", "unknown_key"),
    ] {
        // A usable neighbour, so that the set as a whole is good.
        let neighbour = Signer::p256().jwk(&json!({"kid": "neighbour"}));
        let mut other = json!({"kid": "k"});
        other.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let stage = stage_with_set(
            &[ES256, RS256, PS256],
            &[json!({"odd": 1}), json!(7), rsa.jwk(&other), neighbour],
        );
        let token = rsa.token(&json!({"alg": algorithm, "kid": "k"}), &claims());
        assert_eq!(stage.verdict(&token).await, verdict, "{extra} {algorithm}");
    }
}

#[tokio::test]
async fn curves_do_not_mix() {
    let (p256, p384) = (Signer::p256(), Signer::p384());
    let foreign = p256.jwk(&json!({"kid": "k", "crv": "P-384"}));
    let off_curve = p256.jwk(&json!({"kid": "k", "y": p256.jwk(&json!({}))["x"]}));
    let edwards = p256.jwk(&json!({"kid": "k", "kty": "OKP"}));
    for bad in [foreign, off_curve, edwards] {
        let stage = stage_with_set(&[ES256, ES384], &[bad, p384.jwk(&json!({"kid": "good"}))]);
        let token = p256.token(&json!({"alg": "ES256", "kid": "k"}), &claims());
        assert_eq!(stage.verdict(&token).await, "unknown_key");
    }
}

#[tokio::test]
async fn a_key_in_another_wrapping_is_no_key() {
    let signer = Signer::ed25519();
    let wrapped = signer.public_pem().lines().filter(|line| !line.starts_with('-')).collect::<String>();
    let wrapped = wrapped.trim_end_matches('=').replace('+', "-").replace('/', "_");
    for (x, verdict) in [(signer.jwk(&json!({}))["x"].clone(), "ok"), (json!(wrapped), "unknown_key")] {
        let keys =
            [signer.jwk(&json!({"kid": "k", "x": x})), Signer::p256().jwk(&json!({"kid": "neighbour"}))];
        let stage = stage_with_set(&[EdDSA, ES256], &keys);
        let token = signer.token(&json!({"alg": "EdDSA", "kid": "k"}), &claims());
        assert_eq!(stage.verdict(&token).await, verdict);
    }
}

#[tokio::test]
async fn a_published_secret_is_no_secret() {
    let secret = Signer::Hmac(SECRET.to_vec());
    let short = Signer::Hmac(SECRET[..31].to_vec());
    let token = secret.token(&json!({"alg": "HS256", "kid": "k"}), &claims());
    let stage =
        stage_with_set(&[HS256], &[secret.jwk(&json!({"kid": "k"})), short.jwk(&json!({"kid": "s"}))]);
    assert_eq!(stage.verdict(&token).await, "ok", "in a file of our own it is one");
    let weak = short.token(&json!({"alg": "HS256", "kid": "s"}), &claims());
    assert_eq!(stage.verdict(&weak).await, "unknown_key", "too short");

    let server = JwksServer::start(&[secret.jwk(&json!({"kid": "k"}))]).await;
    let stage = Stage::new(vec![issuer(&[HS256], jwks_url(&server.url))]);
    assert_eq!(stage.verdict(&token).await, "keys_unavailable");
    assert!(stage.refreshes()[0].ends_with("is a shared secret, which must not be published at a JWKS URL"));
}
