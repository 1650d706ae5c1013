//! Keys in files: what is refused at the start, and what happens when a file changes.

use std::time::Duration;

use alovoice_gateway::config::{IssuerSettings, KeySource};
use jsonwebtoken::Algorithm::{
    self, ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS512, RS256, RS384, RS512,
};
use serde_json::json;

use crate::signer::{Signer, pem};
use crate::stage::{SECRET, Stage, claims, file, issuer};

const POLL: Duration = Duration::from_secs(5);

/// 1,024 bits: a key that must not be used. Its private part was thrown away.
const SHORT_RSA_KEY: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDTYX5kgTCiiNQCQPaYNBGkXifJ
PQx+796K0cCyDaHlAMR1c+39Gnp1TRlPLRd8OTnZFIo1KpTm5ouddqtanuPKJYQk
4TZAKR5H8kD/JIVr3lIdGzUWKlzrUlULE/Pcgt0EKBTAqmOaEyKC0EvhkrqCgUCD
xzqQkjl22b8FDDUoNQIDAQAB
-----END PUBLIC KEY-----
";

/// On secp256k1: as long as a P-256 key, but on another curve.
const OTHER_CURVE_KEY: &str = "-----BEGIN PUBLIC KEY-----
MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEg5JuXLUuRrMwAvRhcP0EIk1cMnO0+RYN
zgAVBp262m7IFEQ6LTfZrxQGCogB9oZj+pO0Wwp9Ctac8yF5YSzcDQ==
-----END PUBLIC KEY-----
";

fn refusal(issuers: Vec<IssuerSettings>) -> String {
    Stage::try_new(issuers).err().expect("refused").to_string()
}

#[tokio::test]
async fn every_algorithm_with_its_key() {
    let every =
        [HS256, HS384, HS512, RS256, RS384, RS512, PS256, Algorithm::PS384, PS512, ES256, ES384, EdDSA];
    for algorithm in every {
        let name = format!("{algorithm:?}");
        let signer = match &name[..2] {
            "HS" => Signer::Hmac(SECRET.to_vec()),
            "RS" | "PS" => Signer::rsa(),
            "Ed" => Signer::ed25519(),
            _ if algorithm == ES256 => Signer::p256(),
            _ => Signer::p384(),
        };
        let token = signer.token(&json!({"alg": name}), &claims());
        let jwks = file(json!({"keys": [signer.jwk(&json!({}))]}).to_string());
        let mut sources = vec![(jwks.0, KeySource::JwksFile(jwks.1))];
        if let Signer::Hmac(secret) = &signer {
            let (directory, path) = file(secret);
            sources.push((directory, KeySource::HmacSecretFile(path)));
        } else {
            let (directory, path) = file(signer.public_pem());
            sources.push((directory, KeySource::PublicKeyFile(path)));
        }
        for (_directory, source) in sources {
            let stage = Stage::new(vec![issuer(&[algorithm], source.clone())]);
            assert_eq!(stage.verdict(&token).await, "ok", "{name} {source:?}");
            let mut forged = token.clone().into_bytes();
            // Neither the last character, whose low bits may be of no account, nor a dot.
            let place = forged.len() - 10;
            forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
            assert_eq!(stage.verdict(std::str::from_utf8(&forged).unwrap()).await, "signature", "{name}");
        }
    }
}

#[tokio::test]
async fn a_trailing_line_break_is_not_part_of_the_secret() {
    let token = Signer::Hmac(SECRET.to_vec()).token(&json!({"alg": "HS256"}), &claims());
    for (end, verdict) in
        [("", "ok"), ("\n", "ok"), ("\r\n", "ok"), (" ", "signature"), ("\n\n", "signature")]
    {
        let (_directory, path) = file([SECRET, end.as_bytes()].concat());
        let stage = Stage::new(vec![issuer(&[HS256], KeySource::HmacSecretFile(path))]);
        assert_eq!(stage.verdict(&token).await, verdict, "{end:?}");
    }
}

#[test]
fn unfit_keys_are_refused_at_the_start() {
    let secret = |length: usize| vec![b'x'; length];
    let hmac = |algorithms: &[Algorithm], content: &[u8]| {
        let (_directory, path) = file(content);
        refusal(vec![issuer(algorithms, KeySource::HmacSecretFile(path))])
    };
    for (algorithm, least) in [(HS256, 32), (HS384, 48), (HS512, 64)] {
        let message = hmac(&[algorithm], &secret(least - 1));
        let expected =
            format!("has {} bytes; secrets for {algorithm:?} must have at least {least}", least - 1);
        assert!(message.ends_with(&expected), "{message}");
        let (_directory, path) = file(secret(least));
        Stage::new(vec![issuer(&[algorithm], KeySource::HmacSecretFile(path))]);
    }
    assert!(hmac(&[HS256, HS512], &secret(40)).contains("secrets for HS512"));
    assert!(hmac(&[HS256], &[secret(31), b"\n".to_vec()].concat()).contains("has 31 bytes"));
    assert!(hmac(&[HS256], b"").contains("has 0 bytes"));
    assert!(hmac(&[RS256], SECRET).contains("fits none of the issuer's algorithms"));

    let public = |algorithms: &[Algorithm], content: &str| {
        let (_directory, path) = file(content);
        refusal(vec![issuer(algorithms, KeySource::PublicKeyFile(path))])
    };
    let rsa = Signer::rsa().public_pem();
    assert!(public(&[RS256], SHORT_RSA_KEY).contains("has 1024 bits; RSA keys must have 2048"));
    assert!(public(&[ES256], OTHER_CURVE_KEY).contains("is not a valid key of its type"));
    assert!(public(&[HS256], &rsa).contains("fits none of the issuer's algorithms"));
    assert!(public(&[ES384], &Signer::p256().public_pem()).contains("fits none of the issuer's algorithms"));
    for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "CERTIFICATE"] {
        let message = public(&[RS256], &rsa.replace("PUBLIC KEY", label));
        assert!(message.contains("not a private key or a certificate"), "{message}");
    }
    assert!(public(&[RS256], &pem("PUBLIC KEY", b"no key")).contains("is not a key that can be read"));
    assert!(public(&[RS256], "").contains("must be a PEM file"));
}

#[test]
fn everything_wrong_is_told_at_once_and_no_secret_with_it() {
    let (_short, short) = file("hunter2");
    let (_set, set) = file(r#"{"keys": "hunter2"}"#);
    let (_empty, empty) = file(r#"{"keys": []}"#);
    let (_odd, odd) = file(r#"{"keys": [{"kty": "oct", "k": "hunter2"}, {"kty": 7}]}"#);
    let missing = short.with_file_name("missing");
    let sources = [
        KeySource::HmacSecretFile(short.clone()),
        KeySource::JwksFile(set.clone()),
        KeySource::JwksFile(empty.clone()),
        KeySource::JwksFile(odd.clone()),
        KeySource::PublicKeyFile(missing.clone()),
    ];
    let issuers = sources.into_iter().enumerate().map(|(number, source)| {
        let mut settings = issuer(&[HS256, RS256], source);
        settings.issuer = format!("https://{number}.test");
        settings
    });
    let message = refusal(issuers.collect());
    let expected = [
        format!(r#"issuer "https://0.test": {} has 7 bytes; "#, short.display()),
        format!(r#"issuer "https://1.test": {} is not a JWK Set (line 1, column "#, set.display()),
        format!(r#"issuer "https://2.test": {} is a JWK Set without keys"#, empty.display()),
        format!(r#"issuer "https://3.test": {} has no usable key among its 2; the first "#, odd.display()),
        format!(r#"issuer "https://4.test": {} cannot be read: No such file"#, missing.display()),
    ];
    for part in expected {
        assert!(message.contains(&part), "{part}\n{message}");
    }
    assert!(!message.contains("hunter2"), "{message}");
}

#[tokio::test]
async fn a_changed_file_counts_and_an_unreadable_one_does_not() {
    let (_directory, path) = file(SECRET);
    let stage = Stage::new(vec![issuer(&[HS256], KeySource::HmacSecretFile(path.clone()))]);
    let old = Signer::Hmac(SECRET.to_vec()).token(&json!({"alg": "HS256"}), &claims());
    let new = Signer::Hmac(vec![b'n'; 32]).token(&json!({"alg": "HS256"}), &claims());
    assert_eq!(stage.verdict(&old).await, "ok");
    assert_eq!(stage.pause(), POLL);
    assert!(stage.refresh_after(Duration::from_secs(4)).await.is_empty(), "not due yet");
    assert_eq!(stage.refresh_after(Duration::from_secs(1)).await, ["unchanged"]);

    std::fs::write(&path, "short").unwrap();
    let heard = stage.refresh_after(POLL).await;
    assert_eq!(heard, ["failed: has 5 bytes; secrets for HS256 must have at least 32"]);
    std::fs::remove_file(&path).unwrap();
    assert!(stage.refresh_after(POLL).await[0].starts_with("failed: cannot be read: "));
    std::fs::write(&path, vec![b'x'; 1024 * 1024 + 1]).unwrap();
    assert_eq!(stage.refresh_after(POLL).await, ["failed: is larger than 1 MiB"]);
    assert_eq!(stage.verdict(&old).await, "ok", "the last good one stays");

    std::fs::write(&path, [b'n'; 32]).unwrap();
    assert_eq!(stage.verdict(&new).await, "signature");
    assert_eq!(stage.refresh_after(POLL).await, ["updated"]);
    assert_eq!(stage.verdict(&new).await, "ok");
    assert_eq!(stage.verdict(&old).await, "signature", "although it was remembered");
}

#[cfg(unix)]
#[tokio::test]
async fn a_swapped_symlink_is_a_change() {
    let (directory, first) = file(SECRET);
    let second = first.with_file_name("second");
    std::fs::write(&second, [b'n'; 32]).unwrap();
    let link = directory.path().join("mounted");
    std::os::unix::fs::symlink(&first, &link).unwrap();
    let stage = Stage::new(vec![issuer(&[HS256], KeySource::HmacSecretFile(link.clone()))]);
    std::os::unix::fs::symlink(&second, directory.path().join("swap")).unwrap();
    std::fs::rename(directory.path().join("swap"), &link).unwrap();
    assert_eq!(stage.refresh_after(POLL).await, ["updated"]);
    let new = Signer::Hmac(vec![b'n'; 32]).token(&json!({"alg": "HS256"}), &claims());
    assert_eq!(stage.verdict(&new).await, "ok");
}
