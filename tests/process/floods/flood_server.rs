//! A server with huge or endless responses.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use url::Url;

/// A response of the server.
#[derive(Clone)]
pub(super) enum FloodResponse {
    /// A complete response. The next request may follow.
    Whole(Arc<[u8]>),
    /// The first bytes once, then the second bytes without end.
    Endless(Arc<[u8]>, Arc<[u8]>),
}

/// A complete response with a JSON body.
pub(super) fn json(body: &str) -> FloodResponse {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    FloodResponse::Whole([head.as_bytes(), body.as_bytes()].concat().into())
}

/// The server listens on a free port and stops when it is dropped.
pub(super) struct FloodServer {
    pub(super) url: Url,
    task: JoinHandle<()>,
}

impl FloodServer {
    /// Starts a server. `answer` gets the path of a request and the number of earlier requests to that path.
    pub(super) async fn start(answer: impl Fn(&str, usize) -> FloodResponse + Send + Sync + 'static) -> Self {
        // All addresses of loopback reach the server.
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let url = format!("http://127.0.0.1:{}/", listener.local_addr().unwrap().port()).parse().unwrap();
        let seen: Mutex<HashMap<String, usize>> = Mutex::default();
        let answer = Arc::new(move |path: &str| {
            let mut seen = seen.lock().unwrap();
            let before = seen.entry(path.to_owned()).or_default();
            *before += 1;
            answer(path, *before - 1)
        });
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&answer)));
            }
        });
        Self { url, task }
    }
}

impl Drop for FloodServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, answer: Arc<impl Fn(&str) -> FloodResponse>) -> Option<()> {
    loop {
        let path = read(&mut stream).await?;
        match answer(&path) {
            FloodResponse::Whole(bytes) => stream.write_all(&bytes).await.ok()?,
            FloodResponse::Endless(first, again) => {
                stream.write_all(&first).await.ok()?;
                loop {
                    stream.write_all(&again).await.ok()?;
                }
            }
        }
    }
}

/// Reads a request and returns its path.
async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let end = loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let length =
        head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
    let missing = (end + length.unwrap_or(0)).saturating_sub(bytes.len());
    stream.read_exact(&mut vec![0; missing]).await.ok()?;
    Some(head.split(' ').nth(1)?.to_owned())
}
