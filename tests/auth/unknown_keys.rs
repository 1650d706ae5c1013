//! Tokens with an unknown `kid`: the issuer may have published a new key.

use std::time::Duration;

use futures_util::future::join_all;
use jsonwebtoken::Algorithm::ES256;
use serde_json::{Value, json};

use crate::jwks_server::JwksServer;
use crate::signer::Signer;
use crate::stage::{REFETCH_PAUSE, REFRESH, Stage, claims, issuer, jwks_url};

fn header(kid: &str) -> Value {
    json!({"alg": "ES256", "kid": kid})
}

struct Rotation {
    old: Signer,
    new: Signer,
    server: JwksServer,
    stage: Stage,
}

impl Rotation {
    /// The old key was fetched; the new key is published but not fetched yet.
    async fn begin() -> Self {
        let (old, new) = (Signer::p256(), Signer::p256());
        let server = JwksServer::start(&[old.jwk(&json!({"kid": "old"}))]).await;
        let stage = Stage::new(vec![issuer(&[ES256], jwks_url(&server.url))]);
        assert_eq!(stage.refresh_after(Duration::ZERO).await, ["updated"]);
        server.publish(&[old.jwk(&json!({"kid": "old"})), new.jwk(&json!({"kid": "new"}))]);
        Self { old, new, server, stage }
    }
}

#[tokio::test]
async fn one_fetch_serves_a_hundred_callers() {
    let Rotation { new, server, stage, .. } = Rotation::begin().await;
    server.hold();
    let tokens = (0..100).map(|_| new.token(&header("new"), &claims())).collect::<Vec<_>>();
    let callers = join_all(tokens.iter().map(|token| stage.verdict(token)));
    let (verdicts, ()) = tokio::join!(callers, async {
        server.asked(2).await;
        server.release();
    });
    assert_eq!(verdicts, ["ok"; 100]);
    assert_eq!(server.requests(), 2);
    assert_eq!(stage.refreshes(), ["updated"]);
}

#[tokio::test]
async fn tokens_with_known_keys_do_not_wait() {
    let Rotation { old, new, server, stage } = Rotation::begin().await;
    server.hold();
    let unknown = new.token(&header("new"), &claims());
    let (verdict, ()) = tokio::join!(stage.verdict(&unknown), async {
        server.asked(2).await;
        assert_eq!(stage.verdict(&old.token(&header("old"), &claims())).await, "ok");
        server.release();
    });
    assert_eq!(verdict, "ok");
}

#[tokio::test]
async fn a_refresh_in_progress_serves_them_too() {
    let Rotation { new, server, stage, .. } = Rotation::begin().await;
    server.hold();
    stage.clock.advance(REFRESH);
    let token = new.token(&header("new"), &claims());
    let ((), (verdict, ())) = tokio::join!(stage.verifier.refresh_once(), async {
        server.asked(2).await;
        tokio::join!(stage.verdict(&token), async { server.release() })
    });
    assert_eq!((verdict, server.requests()), ("ok", 2));
}

#[tokio::test]
async fn at_most_one_fetch_within_the_pause() {
    let Rotation { new, server, stage, .. } = Rotation::begin().await;
    for number in 0..10 {
        let token = new.token(&header(&format!("invented-{number}")), &claims());
        assert_eq!(stage.verdict(&token).await, "unknown_key");
    }
    assert_eq!(server.requests(), 2);
    stage.clock.advance(REFETCH_PAUSE - Duration::from_millis(1));
    assert_eq!(stage.verdict(&new.token(&header("invented"), &claims())).await, "unknown_key");
    assert_eq!(server.requests(), 2);
    stage.clock.advance(Duration::from_millis(1));
    assert_eq!(stage.verdict(&new.token(&header("invented"), &claims())).await, "unknown_key");
    assert_eq!(server.requests(), 3);
    assert_eq!(stage.verdict(&new.token(&header("new"), &claims())).await, "ok");
}

#[tokio::test]
async fn a_failed_fetch_counts_and_keeps_the_known_keys() {
    let Rotation { old, new, server, stage } = Rotation::begin().await;
    server.answer(500, "", "");
    for _ in 0..3 {
        assert_eq!(stage.verdict(&new.token(&header("new"), &claims())).await, "unknown_key");
    }
    assert_eq!(server.requests(), 2);
    assert_eq!(stage.refreshes(), ["failed: the JWKS URL answered with status 500"]);
    assert_eq!(stage.verdict(&old.token(&header("old"), &claims())).await, "ok");
    assert_eq!(stage.pause(), Duration::from_secs(5), "the background refresh tries again soon");
}

#[tokio::test]
async fn a_caller_that_disconnects_does_not_cancel_the_fetch_of_the_others() {
    let Rotation { new, server, stage, .. } = Rotation::begin().await;
    server.hold();
    let token = new.token(&header("new"), &claims());
    {
        let mut pending = std::pin::pin!(stage.verdict(&token));
        tokio::select! {
            biased;
            _ = &mut pending => panic!("it cannot have an answer yet"),
            () = server.asked(2) => {}
        }
    }
    let (verdict, ()) = tokio::join!(stage.verdict(&token), async { server.release() });
    assert_eq!((verdict, server.requests()), ("ok", 2));
}

#[tokio::test]
async fn the_first_callers_wait_for_the_first_fetch() {
    let signer = Signer::p256();
    let server = JwksServer::start(&[signer.jwk(&json!({"kid": "k"}))]).await;
    let stage = Stage::new(vec![issuer(&[ES256], jwks_url(&server.url))]);
    let tokens = (0..10).map(|_| signer.token(&header("k"), &claims())).collect::<Vec<_>>();
    let callers = join_all(tokens.iter().map(|token| stage.verdict(token)));
    let (verdicts, ()) = tokio::join!(callers, stage.verifier.refresh_once());
    assert_eq!(verdicts, ["ok"; 10]);
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn without_any_keys_the_answer_is_unavailable_and_not_invalid() {
    let server = JwksServer::start(&[]).await;
    server.answer(500, "", "");
    let stage = Stage::new(vec![issuer(&[ES256], jwks_url(&server.url))]);
    let token = Signer::p256().token(&header("k"), &claims());
    for _ in 0..5 {
        assert_eq!(stage.verdict(&token).await, "keys_unavailable");
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_flood_of_invented_ids_causes_one_fetch() {
    let Rotation { old, new, server, stage } = Rotation::begin().await;
    server.hold();
    let name = |number: u32| new.token(&header(&format!("invented-{number}")), &claims());
    let tokens = (0..300).map(name).collect::<Vec<_>>();
    let flood = join_all(tokens.iter().map(|token| stage.verdict(token)));
    let (verdicts, ()) = tokio::join!(flood, async {
        server.asked(2).await;
        server.release();
    });
    assert_eq!(verdicts, ["unknown_key"; 300]);
    assert_eq!(server.requests(), 2);
    for (signer, kid) in [(&old, "old"), (&new, "new")] {
        assert_eq!(stage.verdict(&signer.token(&header(kid), &claims())).await, "ok", "{kid}");
    }
    assert_eq!(server.requests(), 2);
}

/// Each key is published beside the previous one, then alone.
#[tokio::test]
async fn keys_are_rotated_repeatedly() {
    let signers = (0..5).map(|number| (format!("key-{number}"), Signer::p256())).collect::<Vec<_>>();
    let jwk = |(kid, signer): &(String, Signer)| signer.jwk(&json!({"kid": kid}));
    let token = |(kid, signer): &(String, Signer)| signer.token(&header(kid), &claims());
    let server = JwksServer::start(&[jwk(&signers[0])]).await;
    let stage = Stage::new(vec![issuer(&[ES256], jwks_url(&server.url))]);
    assert_eq!(stage.refresh_after(Duration::ZERO).await, ["updated"]);
    for pair in signers.windows(2) {
        let [before, next] = pair else { panic!("there are two") };
        let remembered = token(before);
        assert_eq!(stage.verdict(&remembered).await, "ok");
        server.publish(&[jwk(before), jwk(next)]);
        stage.clock.advance(REFETCH_PAUSE);
        assert_eq!(stage.verdict(&token(next)).await, "ok", "the first token causes a fetch");
        assert_eq!(stage.verdict(&remembered).await, "ok");
        server.publish(&[jwk(next)]);
        assert!(stage.refresh_after(REFRESH).await.contains(&"updated".to_owned()));
        assert_eq!(stage.verdict(&remembered).await, "unknown_key");
        assert_eq!(stage.verdict(&token(next)).await, "ok");
    }
}
