//! An HTTP server that publishes a key set, counts requests, and answers as the test sets it.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use url::Url;

/// The answer to each request.
#[derive(Clone)]
struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

struct Shared {
    answer: Mutex<Answer>,
    requests: watch::Sender<usize>,
    open: watch::Sender<bool>,
}

pub(crate) struct JwksServer {
    pub(crate) url: Url,
    shared: Arc<Shared>,
}

impl JwksServer {
    /// Starts a server that publishes these keys.
    pub(crate) async fn start(keys: &[Value]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap()).parse().unwrap();
        let shared = Arc::new(Shared {
            answer: Mutex::new(Answer { status: 200, headers: String::new(), body: Vec::new() }),
            requests: watch::Sender::new(0),
            open: watch::Sender::new(true),
        });
        let server = Self { url, shared: Arc::clone(&shared) };
        server.publish(keys);
        tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(connection, Arc::clone(&shared)));
            }
        });
        server
    }

    pub(crate) fn publish(&self, keys: &[Value]) {
        self.answer(200, "", json!({ "keys": keys }).to_string());
    }

    pub(crate) fn answer(&self, status: u16, headers: &str, body: impl Into<Vec<u8>>) {
        let answer = Answer { status, headers: headers.to_owned(), body: body.into() };
        *self.shared.answer.lock().unwrap() = answer;
    }

    /// Number of requests.
    pub(crate) fn requests(&self) -> usize {
        *self.shared.requests.borrow()
    }

    /// Waits for this number of requests.
    pub(crate) async fn asked(&self, times: usize) {
        self.shared.requests.subscribe().wait_for(|requests| *requests >= times).await.unwrap();
    }

    /// Holds answers back.
    pub(crate) fn hold(&self) {
        self.shared.open.send_replace(false);
    }

    /// Sends the held answers.
    pub(crate) fn release(&self) {
        self.shared.open.send_replace(true);
    }
}

async fn serve(mut connection: TcpStream, shared: Arc<Shared>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if connection.read_buf(&mut request).await.unwrap() == 0 {
            return;
        }
    }
    shared.requests.send_modify(|requests| *requests += 1);
    shared.open.subscribe().wait_for(|open| *open).await.unwrap();
    let Answer { status, headers, body } = shared.answer.lock().unwrap().clone();
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} Told\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n");
    // The client may close the connection if the answer is too large.
    let _ = connection.write_all(&[head.as_bytes(), &body].concat()).await;
}
