//! Key files: unusable files are refused at start-up, and changed files are read again.

use alovoice_gateway::config::{IssuerSettings, KeySource};
use jsonwebtoken::Algorithm::{
    self, ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS512, RS256, RS384, RS512,
};
use serde_json::json;

use crate::signer::{Signer, pem};
use crate::stage::{SECRET, Stage, claims, file, issuer};

/// An RSA key of 1,024 bits, which is too short. Its private part was deleted.
const SHORT_RSA_KEY: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDTYX5kgTCiiNQCQPaYNBGkXifJ
PQx+796K0cCyDaHlAMR1c+39Gnp1TRlPLRd8OTnZFIo1KpTm5ouddqtanuPKJYQk
4TZAKR5H8kD/JIVr3lIdGzUWKlzrUlULE/Pcgt0EKBTAqmOaEyKC0EvhkrqCgUCD
xzqQkjl22b8FDDUoNQIDAQAB
-----END PUBLIC KEY-----
";

/// A key on the curve secp256k1, which has the same length as a P-256 key.
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
            // Not the last character, whose low bits may not matter, and not a dot.
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
    assert!(public(&[RS256], &pem("PUBLIC KEY", b"no key")).contains("cannot be parsed as a key"));
    assert!(public(&[RS256], "").contains("must be PEM"));
}

#[tokio::test]
async fn a_byte_order_mark_is_removed_and_other_invisible_characters_are_refused() {
    let secret = "a secret of more than thirty-two characters";
    let token = Signer::Hmac(secret.as_bytes().to_vec()).token(&json!({"alg": "HS256"}), &claims());
    let (_directory, path) = file(format!("\u{feff}{secret}\r\n"));
    let stage = Stage::new(vec![issuer(&[HS256], KeySource::HmacSecretFile(path))]);
    assert_eq!(stage.verdict(&token).await, "ok");
    let rsa = Signer::rsa();
    let (_directory, path) = file(format!("\u{feff}{}", json!({"keys": [rsa.jwk(&json!({}))]})));
    let stage = Stage::new(vec![issuer(&[RS256], KeySource::JwksFile(path))]);
    let token = rsa.token(&json!({"alg": "RS256"}), &claims());
    assert_eq!(stage.verdict(&token).await, "ok");
    for invisible in ["\u{200b}", "\u{200e}", "\u{2060}", "\u{feff}\u{feff}"] {
        let (_directory, path) = file(format!("{invisible}{secret}"));
        let message = refusal(vec![issuer(&[HS256], KeySource::HmacSecretFile(path))]);
        assert!(message.contains("has an invisible character"), "{message}");
    }
}

#[test]
fn all_unusable_files_are_reported_at_once_without_their_content() {
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
        "auth.issuers[0].hmac_secret_file: the key file has 7 bytes; ".to_owned(),
        "auth.issuers[1].jwks_file: the key file is not a JWK Set (line 1, column ".to_owned(),
        "auth.issuers[2].jwks_file: the key file is a JWK Set without keys".to_owned(),
        "auth.issuers[3].jwks_file: the key file has no usable key among its 2; the first ".to_owned(),
        format!("auth.issuers[4].public_key_file: cannot read {missing:?}: No such file"),
    ];
    for part in expected {
        assert!(message.contains(&part), "{part}\n{message}");
    }
    assert!(!message.contains("hunter2"), "{message}");
}

#[tokio::test]
async fn a_changed_file_is_in_force_and_an_unusable_one_is_not() {
    let (_directory, path) = file(SECRET);
    let stage = Stage::new(vec![issuer(&[HS256], KeySource::HmacSecretFile(path.clone()))]);
    let old = Signer::Hmac(SECRET.to_vec()).token(&json!({"alg": "HS256"}), &claims());
    let new = Signer::Hmac(vec![b'n'; 32]).token(&json!({"alg": "HS256"}), &claims());
    assert_eq!(stage.verdict(&old).await, "ok");
    assert_eq!(stage.verifier.next_refresh(), None, "key files are not fetched");
    assert!(stage.reload().is_empty(), "nothing changed");

    std::fs::write(&path, "short").unwrap();
    let too_short = "failed: the key file has 5 bytes; secrets for HS256 must have at least 32";
    assert_eq!(stage.reload(), [too_short]);
    assert!(stage.reload().is_empty(), "the same reason is not reported again");
    std::fs::remove_file(&path).unwrap();
    assert!(stage.reload()[0].starts_with("failed: cannot read "));
    std::fs::write(&path, vec![b'x'; 1024 * 1024 + 1]).unwrap();
    assert_eq!(stage.reload(), [format!("failed: {path:?} is larger than 1024 KiB")]);
    assert_eq!(stage.verdict(&old).await, "ok", "the last good key stays in force");
    std::fs::write(&path, SECRET).unwrap();
    assert_eq!(stage.reload(), ["recovered"]);

    std::fs::write(&path, [b'n'; 32]).unwrap();
    assert_eq!(stage.verdict(&new).await, "signature");
    assert_eq!(stage.reload(), ["changed"]);
    assert_eq!(stage.verdict(&new).await, "ok");
    assert_eq!(stage.verdict(&old).await, "signature", "although it was cached");
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
    assert_eq!(stage.reload(), ["changed"]);
    let new = Signer::Hmac(vec![b'n'; 32]).token(&json!({"alg": "HS256"}), &claims());
    assert_eq!(stage.verdict(&new).await, "ok");
}
