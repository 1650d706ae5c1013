//! Receivers with endless responses.

use super::Flooded;
use super::flood_server::{FloodResponse, FloodServer};
use crate::gateway::within;
use crate::stage::{SCOPES, send};

const CALLS: usize = 32;

/// Every callback gets this response, and so does every retry.
async fn check_receiver_flood(calls: usize, flow: FloodResponse, timeout: &str) {
    let (attempt, mut attempts) = tokio::sync::mpsc::unbounded_channel();
    let receiver = FloodServer::start(move |path, _| {
        attempt.send(path.to_owned()).unwrap();
        flow.clone()
    })
    .await;
    let flooded = Flooded::start(&[("CALLBACKS__TIMEOUT", timeout)]).await;
    for number in 0..calls {
        // Each call has its own receiver, because a receiver without answers is paused.
        let mut hook = receiver.url.join(&format!("hook/{number}")).unwrap();
        hook.set_host(Some(&format!("127.0.0.{}", number + 1))).unwrap();
        let body = serde_json::json!({"call_id": format!("call-{number}"), "callback": {"url": hook}});
        let request = flooded.stage.client.post(flooded.gateway.api.join("v1/analyses").unwrap());
        let request = request.header("content-type", "application/json").body(body.to_string());
        let answer = send(request.bearer_auth(flooded.stage.token(SCOPES))).await.unwrap();
        assert_eq!(answer.status(), 202);
    }
    for _ in 0..calls {
        within("a callback", attempts.recv()).await.unwrap();
    }
    flooded.check_healthy().await;
    // The process must still be able to shut down.
    flooded.gateway.stop().await;
}

#[tokio::test]
async fn endless_responses_are_abandoned() {
    let again: std::sync::Arc<[u8]> = vec![b'x'; 0x10000].into();
    let heads = [
        ("HTTP/1.1 200 OK\r\n\r\n", "15s"),
        ("HTTP/1.1 500 No\r\ncontent-encoding: gzip\r\n\r\n", "15s"),
        ("HTTP/1.1 200 OK\r\nx: ", "15s"),
    ];
    for (head, timeout) in heads {
        check_receiver_flood(CALLS, FloodResponse::Endless(head.as_bytes().into(), again.clone()), timeout)
            .await;
    }
}

#[tokio::test]
async fn endless_interim_responses_are_abandoned() {
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(0x1000);
    check_receiver_flood(1, FloodResponse::Endless([].into(), interim.into()), "300ms").await;
}
