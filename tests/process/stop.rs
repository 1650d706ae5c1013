//! SIGTERM, and two processes that want the same store.

use reqwest::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::gateway::{Gateway, Serving, within};
use crate::stage::{SCOPES, Stage};

/// A submission of which all but the last byte is sent.
async fn begin_submission(stage: &Stage, address: &str, call_id: &str) -> (TcpStream, u8) {
    let body = stage.submission(call_id).to_string();
    let (length, token) = (body.len(), stage.token(SCOPES));
    let head = format!(
        "POST /v1/analyses HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    let mut connection = TcpStream::connect(address).await.unwrap();
    let (last, rest) = body.as_bytes().split_last().unwrap();
    connection.write_all(&[head.as_bytes(), rest].concat()).await.unwrap();
    (connection, *last)
}

/// Waits until the gateway counts so many requests that it is answering.
async fn until_in_flight(stage: &Stage, gateway: &Serving, count: usize) {
    let wanted = format!("alovoice_gateway_http_requests_in_flight {count}");
    let metrics = gateway.admin.join("metrics").unwrap();
    loop {
        let page = stage.client.get(metrics.clone()).send().await.unwrap().text().await.unwrap();
        if page.lines().any(|line| line == wanted) {
            return;
        }
    }
}

#[tokio::test]
async fn sigterm_lets_the_request_under_way_finish() {
    let stage = Stage::set_up().await;
    let gateway = stage.serve().await;
    let address = gateway.api.socket_addrs(|| None).unwrap()[0].to_string();
    let (mut connection, last_byte) = begin_submission(&stage, &address, "at-the-end").await;
    assert_eq!(stage.submit(&gateway, "never-ready~1").await.unwrap().status(), StatusCode::ACCEPTED);
    let waiter = stage.get(&gateway, "never-ready~1", "wait=60");
    let drain = async {
        within("both to be under way", until_in_flight(&stage, &gateway, 2)).await;
        gateway.process.terminate();
        gateway.process.stderr.line("the drain's begin", |line| line.contains("draining")).await;
        let readiness = stage.client.get(gateway.admin.join("readyz").unwrap()).send().await.unwrap();
        assert_eq!(readiness.status(), StatusCode::SERVICE_UNAVAILABLE);
        let liveness = stage.client.get(gateway.admin.join("livez").unwrap()).send().await.unwrap();
        assert_eq!(liveness.status(), StatusCode::OK, "a drain is no reason to be killed");

        connection.write_all(&[last_byte]).await.unwrap();
        let mut answer = String::new();
        within("the answer", connection.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 202 Accepted\r\n"), "{answer}");
    };
    let (waited, ()) = within("the drain", async { tokio::join!(waiter, drain) }).await;
    assert_eq!(waited.status(), StatusCode::OK, "long waits end early and well");
    assert_eq!(gateway.process.exit_code().await, Some(0));

    // What was answered at the last moment is there after the restart.
    let gateway = stage.serve().await;
    let analysis = stage.get(&gateway, "at-the-end", "wait=60").await.bytes().await.unwrap();
    let analysis: serde_json::Value = serde_json::from_slice(&analysis).unwrap();
    assert_eq!(analysis["status"], "completed");
    gateway.stop().await;
}

#[tokio::test]
async fn a_second_process_leaves_the_store_to_the_first() {
    let stage = Stage::set_up().await;
    let first = stage.serve().await;
    let second = Gateway::start(stage.command(&["serve"]));
    let told = second.stderr.whole().await;
    assert!(told.contains("gateway.db is in use by another process"), "{told}");
    assert_eq!(second.exit_code().await, Some(1));

    assert_eq!(stage.submit(&first, "undisturbed").await.unwrap().status(), StatusCode::ACCEPTED);
    first.kill();
    // The lock dies with its holder, however that died.
    stage.serve().await.stop().await;
}
