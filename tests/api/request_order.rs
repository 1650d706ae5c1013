//! The order of the checks of a request: first the caller, then path and query, then the body.

use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::contract::Operation;
use crate::issuer::Issuer;
use crate::stage::{EVERY_SCOPE, Stage, token};

const JSON: (&str, &str) = ("content-type", "application/json");
/// More than the kernel buffers for one connection.
const LARGE_BODY: usize = 64 << 20;

/// A stage that trusts an issuer whose keys are loaded and whose key set no longer answers.
async fn stage_with_hanging_key_set(changes: &[(&str, &str)]) -> (Stage, Issuer) {
    let issuer = Issuer::start().await;
    let jwks_url = issuer.url.to_string();
    let settings = [
        ("AUTH__ISSUERS__1__ISSUER", Issuer::NAME),
        ("AUTH__ISSUERS__1__AUDIENCES", "alovoice-gateway"),
        ("AUTH__ISSUERS__1__ALGORITHMS", "EdDSA"),
        ("AUTH__ISSUERS__1__JWKS_URL", jwks_url.as_str()),
    ];
    let stage = Stage::with(&[&settings, changes].concat()).await;
    let known = stage.caller_with(&issuer.token("acme", "known"));
    assert_eq!(known.analysis("known-1").await.status, 200);
    issuer.hold();
    (stage, issuer)
}

async fn connect(stage: &Stage) -> TcpStream {
    let api = stage.gateway.api();
    TcpStream::connect((api.host_str().unwrap(), api.port().unwrap())).await.unwrap()
}

fn submission_head(token: &str, length: usize) -> String {
    format!(
        "POST /v1/analyses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    )
}

#[tokio::test]
async fn without_a_token_query_path_and_body_are_not_validated() {
    let stage = Stage::start().await;
    let anonymous = stage.acme().anonymous();
    for operation in Operation::of_bearers() {
        let path = operation.path.replace("{call_id}", "a%20b").replace(['{', '}'], "");
        for (query, content_type) in [("?misspelt=1", JSON), ("", ("content-type", "text/plain"))] {
            let answer = anonymous
                .send(operation.method.clone(), &format!("{path}{query}"), &[content_type], "{")
                .await;
            answer.problem(401, "unauthorized");
        }
    }
    let key = [JSON, ("idempotency-key", "a b")];
    let answer = anonymous.send(Method::POST, "/v1/analyses", &key, "{").await;
    answer.problem(401, "unauthorized");
}

#[tokio::test]
async fn query_and_path_are_checked_before_the_body() {
    let stage = Stage::start().await;
    let acme = stage.acme();
    let query = acme.send(Method::POST, "/v1/analyses?misspelt=1", &[JSON], "{").await;
    assert_eq!(query.pointers(), ["?misspelt"]);
    let path = acme.send(Method::POST, "/v1/analyses/a%20b/audio-link", &[JSON], "{").await;
    assert_eq!(path.pointers(), ["{call_id}"]);
    let key = acme.send(Method::POST, "/v1/analyses", &[JSON, ("idempotency-key", "a b")], "{").await;
    assert_eq!(key.pointers(), ["Idempotency-Key"]);
    let body = acme.send(Method::POST, "/v1/analyses", &[JSON], "{").await;
    body.problem(400, "malformed_body");
}

/// The gateway would refuse the size of the body as soon as it read the body, so the status shows whether it did.
#[tokio::test]
async fn a_body_is_not_checked_before_the_issuers_keys_are_fetched() {
    let (stage, issuer) = stage_with_hanging_key_set(&[]).await;
    let mut socket = connect(&stage).await;
    let head = submission_head(&issuer.token_of_unknown_key(), 999_999_999);
    socket.write_all(head.as_bytes()).await.unwrap();
    issuer.asked_while_held().await;
    issuer.release();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[tokio::test]
async fn a_body_stays_in_the_callers_socket_while_the_issuers_keys_are_fetched() {
    let (stage, issuer) = stage_with_hanging_key_set(&[("SERVER__MAX_BODY_BYTES", "64MiB")]).await;
    let body = vec![b' '; LARGE_BODY];

    let (mut answers, mut unknown) = connect(&stage).await.into_split();
    let head = submission_head(&issuer.token_of_unknown_key(), LARGE_BODY);
    unknown.write_all(head.as_bytes()).await.unwrap();
    issuer.asked_while_held().await;
    let sending = unknown.write_all(&body);

    let known = async {
        let mut socket = connect(&stage).await;
        let head = submission_head(&token("acme", EVERY_SCOPE), LARGE_BODY);
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(&body).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    };
    // At the same time, the gateway reads a body of the same size from a known caller to its end. On a busy machine, the fetch of the keys
    // may reach its time limit before, and the gateway then closes the connection of the unknown caller.
    tokio::pin!(sending, known);
    let answer = tokio::select! {
        biased;
        sent = &mut sending => {
            assert!(sent.is_err(), "the gateway read the body of an unknown caller");
            known.await
        }
        answer = &mut known => answer,
    };
    assert!(answer.contains("\"malformed_body\""), "{answer}");
    issuer.release();
    let mut answer = Vec::new();
    // The gateway closes the connection on the unread body, which may reset it after the answer.
    while answers.read_buf(&mut answer).await.is_ok_and(|read| read > 0) {}
    assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 401 "));
}
