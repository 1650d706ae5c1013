//! Keys at a JWKS URL: fetched in the background, kept through an outage, withdrawn.

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use jsonwebtoken::Algorithm::ES256;
use serde_json::json;

use crate::jwks_server::JwksServer;
use crate::signer::Signer;
use crate::stage::{MAX_STALE, REFRESH, Stage, claims, claims_with, issuer, jwks_url};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn keys_are_fetched_in_the_background_and_a_removed_one_stops_working() {
    let (old, new) = (Signer::p256(), Signer::p256());
    let server = JwksServer::start(&[old.jwk(&json!({"kid": "old"}))]).await;
    let stage = Stage::new(vec![issuer(&[ES256], jwks_url(&server.url))]);
    assert_eq!((server.requests(), stage.pause()), (0, Duration::ZERO));
    assert_eq!(stage.refresh_after(Duration::ZERO).await, ["updated"]);
    assert_eq!(stage.pause(), REFRESH);

    let token = old.token(&json!({"alg": "ES256", "kid": "old"}), &claims());
    assert_eq!(stage.verdict(&token).await, "ok");
    assert!(stage.refresh_after(REFRESH - seconds(1)).await.is_empty());
    assert_eq!(stage.refresh_after(seconds(1)).await, ["unchanged"]);
    assert_eq!(stage.verdict(&token).await, "ok");

    server.publish(&[new.jwk(&json!({"kid": "new"}))]);
    assert_eq!(stage.refresh_after(REFRESH).await, ["updated"]);
    assert_eq!(stage.verdict(&token).await, "unknown_key", "although it was cached");
    let token = new.token(&json!({"alg": "ES256", "kid": "new"}), &claims());
    assert_eq!(stage.verdict(&token).await, "ok");
}

#[tokio::test]
async fn the_last_good_set_is_kept_through_an_outage_for_a_bounded_time() {
    let signer = Signer::p256();
    let keys = [signer.jwk(&json!({"kid": "k"}))];
    let server = JwksServer::start(&keys).await;
    let stage = Stage::new(vec![issuer(&[ES256], jwks_url(&server.url))]);
    stage.refresh_after(Duration::ZERO).await;
    let token = signer.token(&json!({"alg": "ES256", "kid": "k"}), &claims());
    let fresh = |number: u32| {
        let mut claims = claims();
        claims["jti"] = number.into();
        signer.token(&json!({"alg": "ES256", "kid": "k"}), &claims)
    };
    assert_eq!(stage.verdict(&token).await, "ok");

    server.answer(503, "", "");
    assert_eq!(stage.refresh_after(REFRESH).await, ["failed: the JWKS URL answered with status 503"]);
    let mut waited = REFRESH;
    for pause in [5, 10, 20, 40, 60, 60] {
        assert_eq!(stage.pause(), seconds(pause));
        assert_eq!(
            stage.refresh_after(seconds(pause)).await,
            ["failed: the JWKS URL answered with status 503"]
        );
        waited += seconds(pause);
    }
    stage.clock.advance(MAX_STALE - waited);
    assert_eq!((stage.verdict(&token).await, stage.verdict(&fresh(1)).await), ("ok", "ok"));
    stage.clock.advance(Duration::from_millis(1));
    let asked = server.requests();
    for token in [&token, &fresh(2)] {
        let rejection = stage.verifier.verify(token).await.unwrap_err().rejection;
        assert_eq!((rejection.reason(), rejection.is_unavailable()), ("keys_unavailable", true));
        assert_eq!(rejection.error(), None);
    }
    assert_eq!(server.requests(), asked, "no request is made while the issuer is known to be down");

    server.publish(&keys);
    assert_eq!(stage.refresh_after(seconds(60)).await, ["unchanged"]);
    assert_eq!(stage.verdict(&token).await, "ok");
    assert_eq!(stage.pause(), REFRESH);
}

#[tokio::test]
async fn an_unusable_answer_is_a_failure_and_the_last_good_keys_stay() {
    let signer = Signer::p256();
    let server = JwksServer::start(&[signer.jwk(&json!({"kid": "k"}))]).await;
    let elsewhere = JwksServer::start(&[signer.jwk(&json!({"kid": "k"}))]).await;
    let stage = Stage::new(vec![issuer(&[ES256], jwks_url(&server.url))]);
    stage.refresh_after(Duration::ZERO).await;
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&vec![b' '; 1024 * 1024 + 1]).unwrap();
    let packed = packed.finish().unwrap();
    let encryption = json!({"keys": [signer.jwk(&json!({"use": "enc"}))]}).to_string();
    for (status, headers, body, reason) in [
        (
            200,
            String::new(),
            b"<html>".to_vec(),
            "the answer of the JWKS URL is not a JWK Set (line 1, column 1)",
        ),
        (
            200,
            String::new(),
            b"{\"keys\":[]}".to_vec(),
            "the answer of the JWKS URL is a JWK Set without keys",
        ),
        (
            200,
            String::new(),
            encryption.into_bytes(),
            "the answer of the JWKS URL has no usable key among its 1; the first is not meant for",
        ),
        (200, String::new(), vec![b' '; 1024 * 1024 + 1], "the answer of the JWKS URL is larger than 1 MiB"),
        (
            200,
            "Content-Encoding: gzip\r\n".to_owned(),
            packed,
            "the answer of the JWKS URL is larger than 1 MiB",
        ),
        (
            302,
            format!("Location: {}\r\n", elsewhere.url),
            Vec::new(),
            "the JWKS URL answered with status 302",
        ),
        (204, String::new(), Vec::new(), "the JWKS URL answered with status 204"),
    ] {
        server.answer(status, &headers, body);
        let refreshes = stage.refresh_after(stage.pause()).await;
        assert!(
            refreshes.len() == 1 && refreshes[0].starts_with(&format!("failed: {reason}")),
            "{refreshes:?}"
        );
        // ECDSA signatures differ each time, so this token is checked with the keys and not found in the cache.
        let token = signer.token(&json!({"alg": "ES256", "kid": "k"}), &claims());
        assert_eq!(stage.verdict(&token).await, "ok");
    }
    assert_eq!(elsewhere.requests(), 0);
}

#[tokio::test]
async fn a_gzip_encoded_set_is_read() {
    let signer = Signer::p256();
    let server = JwksServer::start(&[]).await;
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(json!({"keys": [signer.jwk(&json!({}))]}).to_string().as_bytes()).unwrap();
    server.answer(200, "Content-Encoding: gzip\r\n", packed.finish().unwrap());
    let stage = Stage::new(vec![issuer(&[ES256], jwks_url(&server.url))]);
    assert_eq!(stage.refresh_after(Duration::ZERO).await, ["updated"]);
}

#[tokio::test]
async fn a_refused_connection_is_reported_without_the_url() {
    // The socket reserves the port. It does not listen.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let url = format!("http://user:hunter2@{address}/keys?code=hunter2").parse().unwrap();
    let stage = Stage::new(vec![issuer(&[ES256], jwks_url(&url))]);
    let refreshes = stage.refresh_after(Duration::ZERO).await;
    assert!(
        refreshes[0].starts_with("failed: cannot fetch the JWK Set: ") && refreshes[0].contains("refused"),
        "{refreshes:?}"
    );
    assert!(!refreshes[0].contains("hunter2"), "{refreshes:?}");
}

#[tokio::test]
async fn a_slow_jwks_url_does_not_delay_the_others() {
    let signer = Signer::p256();
    let slow = JwksServer::start(&[signer.jwk(&json!({}))]).await;
    slow.hold();
    let fast = JwksServer::start(&[signer.jwk(&json!({}))]).await;
    let mut other = issuer(&[ES256], jwks_url(&fast.url));
    other.issuer = "https://other.test".to_owned();
    let stage = Stage::new(vec![issuer(&[ES256], jwks_url(&slow.url)), other]);
    let claims = claims_with(&json!({"iss": "https://other.test"}));
    let token = signer.token(&json!({"alg": "ES256"}), &claims);
    tokio::join!(stage.verifier.refresh_once(), async {
        slow.asked(1).await;
        while stage.verdict(&token).await != "ok" {
            tokio::task::yield_now().await;
        }
        slow.release();
    });
    assert_eq!(stage.refreshes(), ["updated", "updated"]);
}
