//! Shutdown by SIGTERM, and two processes with the same store.

use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::gateway::{Gateway, Serving, within};
use crate::stage::{SCOPES, Stage};

/// Sends a submission without its last byte. Returns the connection and that byte.
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

/// Waits until the gateway has `count` requests in flight.
async fn until_in_flight(stage: &Stage, gateway: &Serving, count: usize) {
    let wanted = format!("alovoice_gateway_http_requests_in_flight {count}");
    while !stage.metrics(gateway).await.lines().any(|line| line == wanted) {}
}

#[tokio::test]
async fn sigterm_finishes_requests_in_flight() {
    let stage = Stage::set_up().await;
    let gateway = stage.serve().await;
    let address = gateway.api.socket_addrs(|| None).unwrap()[0].to_string();
    let (mut connection, last_byte) = begin_submission(&stage, &address, "at-the-end").await;
    assert_eq!(stage.submit(&gateway, "never-ready~1").await.unwrap().status(), StatusCode::ACCEPTED);
    let is_draining = AtomicBool::new(false);
    // On a busy machine a wait can end before the drain begins. Then the client waits again.
    let waiter = async {
        loop {
            let waited = stage.get(&gateway, "never-ready~1", "wait=60").await;
            if is_draining.load(Ordering::Relaxed) {
                return waited;
            }
        }
    };
    let drain = async {
        within("two requests in flight", until_in_flight(&stage, &gateway, 2)).await;
        is_draining.store(true, Ordering::Relaxed);
        gateway.process.terminate();
        gateway.process.stderr.line("the start of the drain", |line| line.contains("shutdown started")).await;
        let readiness = stage.client.get(gateway.admin.join("readyz").unwrap()).send().await.unwrap();
        assert_eq!(readiness.status(), StatusCode::SERVICE_UNAVAILABLE);
        let liveness = stage.client.get(gateway.admin.join("livez").unwrap()).send().await.unwrap();
        assert_eq!(liveness.status(), StatusCode::OK, "liveness must stay on during a drain");

        connection.write_all(&[last_byte]).await.unwrap();
        let mut answer = String::new();
        within("the answer", connection.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 202 Accepted\r\n"), "{answer}");
    };
    let (waited, ()) = within("the drain", async { tokio::join!(waiter, drain) }).await;
    assert_eq!(waited.status(), StatusCode::OK, "a long wait must end early with 200");
    assert_eq!(gateway.process.exit_code().await, Some(0));

    // The call accepted during the drain is there after the restart.
    let gateway = stage.serve().await;
    stage.completed(&gateway, "at-the-end").await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_second_process_cannot_use_the_same_sqlite_store() {
    let mut stage = Stage::set_up().await;
    let first = stage.serve().await;
    stage.set("STORE__LOCK_TIMEOUT", "0s");
    let second = Gateway::start(stage.command(&["serve"]));
    let log = second.stderr.whole().await;
    assert!(log.contains("gateway.db is in use by another process"), "{log}");
    assert_eq!(second.exit_code().await, Some(1));

    assert_eq!(stage.submit(&first, "undisturbed").await.unwrap().status(), StatusCode::ACCEPTED);
    first.kill();
    // The operating system releases the lock when the process dies.
    stage.serve().await.stop().await;
}

/// Kubernetes starts the new pod while a deleted pod still answers its last requests.
#[tokio::test]
async fn a_new_process_waits_for_the_sqlite_store_of_a_process_that_drains() {
    let stage = Stage::set_up().await;
    let first = stage.serve().await;
    let address = first.api.socket_addrs(|| None).unwrap()[0].to_string();
    let (mut connection, last_byte) = begin_submission(&stage, &address, "from-the-first").await;
    within("a request in flight", until_in_flight(&stage, &first, 1)).await;
    first.process.terminate();
    first.process.stderr.line("the start of the drain", |line| line.contains("shutdown started")).await;

    let second = async {
        let second = Gateway::start(stage.command(&["serve"]));
        second.stderr.line("the wait for the store", |line| line.contains("waiting for the store")).await;
        connection.write_all(&[last_byte]).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 202 Accepted\r\n"), "{answer}");
        assert_eq!(first.process.exit_code().await, Some(0));
        Serving::of(second, &stage.client).await
    };
    let second =
        within("the second process", second).await.unwrap_or_else(|log| panic!("{}", log.join("\n")));
    stage.completed(&second, "from-the-first").await;
    second.stop().await;
}

#[tokio::test]
async fn a_process_that_waits_for_a_sqlite_store_can_be_stopped() {
    let stage = Stage::set_up().await;
    let first = stage.serve().await;
    let second = Gateway::start(stage.command(&["serve"]));
    second.stderr.line("the wait for the store", |line| line.contains("waiting for the store")).await;
    second.terminate();
    assert_eq!(second.exit_code().await, Some(0));
    first.stop().await;
}
