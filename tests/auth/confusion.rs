//! Key confusion: a public key used as a secret, a key of another issuer, a `kid` used as a path.

use alovoice_gateway::config::KeySource;
use aws_lc_rs::encoding::AsDer;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm::{self, ES256, HS256, HS384, HS512, PS256, RS256};
use serde_json::{Value, json};

use crate::jwks_server::JwksServer;
use crate::signer::{Signer, unsigned};
use crate::stage::{SECRET, Stage, claims, claims_with, file, issuer, jwks_url};

/// An issuer with these keys in a file.
fn stage_with_set(algorithms: &[Algorithm], keys: &[Value]) -> Stage {
    let (_directory, path) = file(json!({ "keys": keys }).to_string());
    Stage::new(vec![issuer(algorithms, KeySource::JwksFile(path))])
}

/// All forms of a public RSA key that an attacker could use as the bytes of a secret.
fn forms_of_the_public_key() -> Vec<Vec<u8>> {
    let rsa = Signer::rsa();
    let Signer::Rsa(pair) = &rsa else { panic!("it is an RSA key") };
    let der = aws_lc_rs::signature::KeyPair::public_key(*pair).as_der().unwrap().as_ref().to_vec();
    let (pem, jwk) = (rsa.public_pem(), rsa.jwk(&json!({})));
    let modulus = jwk["n"].as_str().unwrap();
    let one_line = pem.lines().filter(|line| !line.starts_with('-')).collect::<String>();
    vec![
        pem.trim_end().as_bytes().to_vec(),
        pem.replace('\n', "\r\n").into_bytes(),
        pem.clone().into_bytes(),
        one_line.into_bytes(),
        der,
        jwk.to_string().into_bytes(),
        json!({"keys": [jwk]}).to_string().into_bytes(),
        modulus.as_bytes().to_vec(),
        URL_SAFE_NO_PAD.decode(modulus).unwrap(),
        Vec::new(),
    ]
}

/// CVE-2015-9235. The issuer allows both families, although the settings would refuse that.
#[tokio::test]
async fn a_public_key_is_never_used_as_a_secret() {
    let rsa = Signer::rsa();
    let everything = [RS256, PS256, HS256, HS384, HS512];
    let (_directory, pem) = file(rsa.public_pem());
    let stages = [
        Stage::new(vec![issuer(&everything, KeySource::PublicKeyFile(pem))]),
        stage_with_set(&everything, &[rsa.jwk(&json!({"kid": "k"}))]),
        stage_with_set(&everything, &[rsa.jwk(&json!({"kid": "k", "alg": "RS256"}))]),
        stage_with_set(&everything, &[rsa.jwk(&json!({}))]),
    ];
    for stage in &stages {
        let good = rsa.token(&json!({"alg": "RS256", "kid": "k"}), &claims());
        assert_eq!(stage.verdict(&good).await, "ok");
        for form in forms_of_the_public_key() {
            let forger = Signer::Hmac(form);
            for algorithm in ["HS256", "HS384", "HS512"] {
                let named = forger.token(&json!({"alg": algorithm, "kid": "k"}), &claims());
                assert_eq!(stage.verdict(&named).await, "algorithm");
                let nameless = forger.token(&json!({"alg": algorithm}), &claims());
                assert_eq!(stage.verdict(&nameless).await, "unknown_key");
                // The reverse: an HMAC with the name of the real algorithm.
                let message = unsigned(&json!({"alg": "RS256", "kid": "k"}), &claims());
                assert_eq!(stage.verdict(&forger.sign(algorithm, &message)).await, "signature");
            }
        }
    }
}

#[tokio::test]
async fn a_secret_does_not_verify_signatures_of_a_key_pair() {
    let (_directory, path) = file(SECRET);
    let stage = Stage::new(vec![issuer(&[HS256], KeySource::HmacSecretFile(path))]);
    for (signer, name) in [(Signer::rsa(), "RS256"), (Signer::p256(), "ES256"), (Signer::ed25519(), "EdDSA")]
    {
        assert_eq!(stage.verdict(&signer.token(&json!({"alg": name}), &claims())).await, "algorithm");
        let message = unsigned(&json!({"alg": "HS256"}), &claims());
        assert_eq!(stage.verdict(&signer.sign(name, &message)).await, "signature");
    }
}

/// CVE-2022-21449 and similar attacks.
#[tokio::test]
async fn an_ecdsa_signature_of_zeros_or_in_another_form_is_invalid() {
    let signer = Signer::p256();
    let stage = stage_with_set(&[ES256], &[signer.jwk(&json!({"kid": "k"}))]);
    let message = unsigned(&json!({"alg": "ES256", "kid": "k"}), &claims());
    let good = signer.sign("ES256", &message);
    assert_eq!(stage.verdict(&good).await, "ok");
    let good = URL_SAFE_NO_PAD.decode(good.rsplit('.').next().unwrap()).unwrap();
    let der = [&[0x30, 0x44, 0x02, 0x20][..], &good[..32], &[0x02, 0x20], &good[32..]].concat();
    let negated = [&good[..32], &[0xff; 32]].concat();
    let zeros = [vec![], vec![0; 1], vec![0; 64], [vec![0; 32], good[32..].to_vec()].concat()];
    for forged in zeros.into_iter().chain([der, negated, [&good[..], &[0]].concat(), good[..63].to_vec()]) {
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(&forged));
        assert_eq!(stage.verdict(&token).await, "signature", "{forged:?}");
    }
}

#[tokio::test]
async fn a_key_of_one_issuer_is_not_used_for_another() {
    let (ours, theirs) = (Signer::p256(), Signer::p256());
    let set =
        |signer: &Signer, kid: &str| file(json!({"keys": [signer.jwk(&json!({"kid": kid}))]}).to_string());
    let other = |path| {
        let mut settings = issuer(&[ES256], KeySource::JwksFile(path));
        settings.issuer = "https://other.test".to_owned();
        settings
    };
    let as_other = claims_with(&json!({"iss": "https://other.test"}));
    // With different ids, and with the same id.
    for (our_name, their_name, by_their_name) in [("ours", "theirs", "unknown_key"), ("k", "k", "signature")]
    {
        let ((_first, first), (_second, second)) = (set(&ours, our_name), set(&theirs, their_name));
        let stage = Stage::new(vec![issuer(&[ES256], KeySource::JwksFile(first)), other(second)]);
        for (signer, kid, claims, verdict) in [
            (&ours, our_name, &claims(), "ok"),
            (&theirs, their_name, &as_other, "ok"),
            (&theirs, their_name, &claims(), by_their_name),
            (&theirs, our_name, &claims(), "signature"),
            (&ours, our_name, &as_other, by_their_name),
        ] {
            let token = signer.token(&json!({"alg": "ES256", "kid": kid}), claims);
            assert_eq!(stage.verdict(&token).await, verdict, "{kid} {claims}");
            // An `iss` in the header is ignored.
            let token =
                signer.token(&json!({"alg": "ES256", "kid": kid, "iss": "https://issuer.test"}), claims);
            assert_eq!(stage.verdict(&token).await, verdict, "{kid} {claims}");
        }
    }
}

#[tokio::test]
async fn an_id_of_two_keys_selects_neither() {
    let (one, other, rsa) = (Signer::p256(), Signer::p256(), Signer::rsa());
    let k = json!({"kid": "k"});
    let token =
        |signer: &Signer, algorithm: &str| signer.token(&json!({"alg": algorithm, "kid": "k"}), &claims());
    let neighbour = Signer::p256().jwk(&json!({"kid": "neighbour"}));
    let two = stage_with_set(&[ES256], &[one.jwk(&k), other.jwk(&k), neighbour.clone()]);
    for signer in [&one, &other] {
        assert_eq!(two.verdict(&token(signer, "ES256")).await, "unknown_key");
    }
    let mut broken = other.jwk(&k);
    broken["x"] = json!("not base64!");
    let beside_a_broken_one = stage_with_set(&[ES256], &[one.jwk(&k), broken, neighbour]);
    assert_eq!(beside_a_broken_one.verdict(&token(&one, "ES256")).await, "unknown_key");

    // Alternatives (RFC 7517, 4.5): the algorithm selects the key.
    let kinds = stage_with_set(&[ES256, RS256], &[one.jwk(&k), rsa.jwk(&k)]);
    assert_eq!(kinds.verdict(&token(&one, "ES256")).await, "ok");
    assert_eq!(kinds.verdict(&token(&rsa, "RS256")).await, "ok");
    let pinned =
        [rsa.jwk(&json!({"kid": "k", "alg": "RS256"})), rsa.jwk(&json!({"kid": "k", "alg": "PS256"}))];
    let pinned = stage_with_set(&[RS256, PS256], &pinned);
    assert_eq!(pinned.verdict(&token(&rsa, "RS256")).await, "ok");
    assert_eq!(pinned.verdict(&token(&rsa, "PS256")).await, "ok");
    // The same key twice, and a key with another purpose.
    let twice = stage_with_set(&[ES256], &[one.jwk(&k), one.jwk(&k)]);
    assert_eq!(twice.verdict(&token(&one, "ES256")).await, "ok");
    let encryption = other.jwk(&json!({"kid": "k", "use": "enc"}));
    let both_uses = stage_with_set(&[ES256], &[encryption, one.jwk(&k)]);
    assert_eq!(both_uses.verdict(&token(&one, "ES256")).await, "ok");
    assert_eq!(both_uses.verdict(&token(&other, "ES256")).await, "signature");
}

#[tokio::test]
async fn a_file_with_secrets_and_public_keys_is_refused() {
    let set =
        [Signer::Hmac(SECRET.to_vec()).jwk(&json!({"kid": "s"})), Signer::p256().jwk(&json!({"kid": "p"}))];
    let (_directory, path) = file(json!({ "keys": set }).to_string());
    let refused = Stage::try_new(vec![issuer(&[HS256, ES256], KeySource::JwksFile(path))]).err().unwrap();
    assert!(refused.to_string().ends_with("has shared secrets and public keys in one set"), "{refused}");
}

/// Ids that are dangerous as a path, a query, a line, a URL, a pattern, or because of their length.
fn odd_names() -> Vec<String> {
    let odd = [
        "../../../../dev/null",
        "/dev/null",
        "/proc/self/environ",
        "file:///etc/passwd",
        "k' OR '1'='1",
        "k\"; DROP TABLE keys; --",
        "k' UNION SELECT 'secret",
        "k\0",
        "\0",
        "k\r\nSet-Cookie: a=b",
        "| cat /etc/passwd",
        "$(id)",
        "${jndi:ldap://127.0.0.1/a}",
        "{{7*7}}",
        "%00",
        "*",
        ".*",
        "",
        " k",
        "k ",
        "K",
        "\u{202e}k",
        "k\u{301}",
        "\u{ff4b}",
        "__proto__",
        "0",
    ];
    odd.iter().map(|odd| (*odd).to_owned()).chain(["k".repeat(2), "k".repeat(5000)]).collect()
}

#[tokio::test]
async fn a_kid_is_only_compared() {
    let signer = Signer::p256();
    let server = JwksServer::start(&[signer.jwk(&json!({"kid": "k"}))]).await;
    let elsewhere = JwksServer::start(&[Signer::p256().jwk(&json!({"kid": "k"}))]).await;
    let stage = Stage::new(vec![issuer(&[ES256, HS256], jwks_url(&server.url))]);
    assert_eq!(stage.refresh_after(std::time::Duration::ZERO).await, ["updated"]);
    for kid in odd_names().into_iter().chain([elsewhere.url.to_string()]) {
        let token = signer.token(&json!({"alg": "ES256", "kid": kid}), &claims());
        assert_eq!(stage.verdict(&token).await, "unknown_key", "{kid:?}");
        // The content of `/dev/null`, of a missing file, and of an injected row.
        for secret in [&b""[..], b"\0", b"secret", b"1"] {
            let forged = Signer::Hmac(secret.to_vec()).token(&json!({"alg": "HS256", "kid": kid}), &claims());
            assert_eq!(stage.verdict(&forged).await, "unknown_key", "{kid:?}");
        }
    }
    assert_eq!(server.requests(), 2, "one at the start, one for the first unknown id");
    assert_eq!(elsewhere.requests(), 0);
    assert_eq!(stage.verdict(&signer.token(&json!({"alg": "ES256", "kid": "k"}), &claims())).await, "ok");
}
