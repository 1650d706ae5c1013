//! Receivers whose answers have no measure.

use super::Flooded;
use super::torrent::{Flow, Torrent};
use crate::gateway::within;

const CALLS: usize = 32;

/// Every call's callback meets this answer, and the next attempt too.
async fn flooded_by(calls: usize, flow: Flow, timeout: &str) {
    let (met, mut meetings) = tokio::sync::mpsc::unbounded_channel();
    let receiver = Torrent::start(move |path, _| {
        met.send(path.to_owned()).unwrap();
        flow.clone()
    })
    .await;
    let flooded = Flooded::start(&[("CALLBACKS__TIMEOUT", timeout)]).await;
    for number in 0..calls {
        let hook = receiver.url.join(&format!("hook/{number}")).unwrap();
        let body = serde_json::json!({"call_id": format!("call-{number}"), "callback": {"url": hook}});
        let request = flooded.stage.client.post(flooded.gateway.api.join("v1/analyses").unwrap());
        let request = request.header("content-type", "application/json").body(body.to_string());
        let answer = request.bearer_auth(flooded.stage.token(crate::stage::SCOPES)).send().await.unwrap();
        assert_eq!(answer.status(), 202);
    }
    for _ in 0..calls {
        within("a callback", meetings.recv()).await.unwrap();
    }
    flooded.is_well().await;
    // However it fared, the process can end.
    flooded.gateway.stop().await;
}

#[tokio::test]
async fn answers_without_end_are_given_up() {
    let again: std::sync::Arc<[u8]> = vec![b'x'; 0x10000].into();
    let heads = [
        ("HTTP/1.1 200 OK\r\n\r\n", "15s"),
        ("HTTP/1.1 500 No\r\ncontent-encoding: gzip\r\n\r\n", "15s"),
        ("HTTP/1.1 200 OK\r\nx: ", "15s"),
    ];
    for (head, timeout) in heads {
        flooded_by(CALLS, Flow::Endless(head.as_bytes().into(), again.clone()), timeout).await;
    }
}

#[tokio::test]
async fn heads_without_end_are_given_up() {
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(0x1000);
    flooded_by(1, Flow::Endless([].into(), interim.into()), "300ms").await;
}
