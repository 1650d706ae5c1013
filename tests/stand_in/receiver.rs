//! Tests of the callback receiver.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use alovoice_gateway::sandbox::receiver::{Receiver, ReceiverOptions};
use reqwest::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn client() -> Client {
    Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap()
}

#[tokio::test]
async fn the_path_selects_the_answer() {
    let receiver = Receiver::start(ReceiverOptions::default()).await.unwrap();
    let client = client();
    for (answer, expected) in [
        ("ok", "200 200 200"),
        ("410/more", "410 410 410"),
        ("429", "429+ 429+ 429+"),
        ("503-twice", "503+ 503+ 200"),
        ("500-twice", "500 500 200"),
        ("redirect", "307 307 307"),
        ("reset-twice", "reset reset 200"),
    ] {
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(match client.post(receiver.hook(answer)).body("{}").send().await {
                Ok(answer) if answer.headers().contains_key("retry-after") => {
                    format!("{}+", answer.status().as_u16())
                }
                Ok(answer) => answer.status().as_u16().to_string(),
                Err(_) => "reset".to_owned(),
            });
        }
        assert_eq!(seen.join(" "), expected, "{answer}");
    }
    assert!(receiver.received().iter().all(|received| received.path != "/hook/ok/redirected"));
}

#[tokio::test]
async fn requests_are_recorded_completely_before_they_are_answered() {
    let shown = Arc::new(AtomicUsize::new(0));
    let on_received = {
        let shown = Arc::clone(&shown);
        Arc::new(move |received: &alovoice_gateway::sandbox::receiver::Received| {
            shown.fetch_add(received.body.len(), Ordering::Relaxed);
        })
    };
    let options = ReceiverOptions { on_received: Some(on_received), ..ReceiverOptions::default() };
    let receiver = Receiver::start(options).await.unwrap();
    let body = "оʻ".repeat(100_000);
    let request = client().post(receiver.hook("ok")).header("Webhook-Id", "evt_1").body(body.clone());
    request.send().await.unwrap();
    let received = receiver.next().await;
    assert_eq!((received.method.as_str(), received.path.as_str()), ("POST", "/hook/ok"));
    assert_eq!(received.header("webhook-id"), Some("evt_1"));
    assert!(received.body == body);
    assert_eq!(shown.load(Ordering::Relaxed), body.len());
    assert_eq!(receiver.wait_for(|all| all.len() == 1).await, [received]);
}

#[tokio::test]
async fn held_and_slow_answers_wait() {
    let receiver = Receiver::start(ReceiverOptions::default()).await.unwrap();
    receiver.set_held(true);
    let (answer, ()) = tokio::join!(client().post(receiver.hook("ok")).send(), async {
        receiver.next().await;
        receiver.set_held(false);
    });
    assert_eq!(answer.unwrap().status(), 200);
    receiver.set_down(true);
    assert!(client().post(receiver.hook("ok")).send().await.is_err());
    receiver.set_down(false);

    let mut dripping = client().post(receiver.hook("drip")).send().await.unwrap();
    assert_eq!(dripping.chunk().await.unwrap().unwrap(), ".");
    drop(dripping);

    let address = receiver.base_url().socket_addrs(|| None).unwrap()[0];
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(b"POST /hook/hang HTTP/1.1\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    receiver.wait_for(|all| all.last().is_some_and(|last| last.path == "/hook/hang")).await;
    receiver.stop().await;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.is_empty());
}
