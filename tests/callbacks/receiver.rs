//! A receiver that writes HTTP byte by byte, so that it can also send invalid HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

/// Pause between two parts of [`Then::Drip`].
const DRIP_PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

/// The reaction of a receiver to a request.
#[derive(Clone)]
pub(crate) enum Then {
    /// Sends these bytes and waits for the next request.
    Answer(Vec<u8>),
    /// Sends these bytes and closes the connection.
    Close(Vec<u8>),
    /// Sends these bytes and then keeps the connection open.
    Stall(Vec<u8>),
    /// Sends the first bytes, and the second bytes after the signal.
    Later(Vec<u8>, Arc<Notify>, Vec<u8>),
    /// Sends the first bytes once, then the second bytes repeatedly with pauses.
    Drip(Vec<u8>, Vec<u8>),
    /// Sends the first bytes once, then the second bytes repeatedly until the client disconnects.
    Repeat(Vec<u8>, Vec<u8>),
}

/// A request that a receiver got.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) line: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|(header, _)| header == name)
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        &self.headers.iter().find(|(header, _)| header == name).unwrap().1
    }
}

/// A receiver on a free port of 127.0.0.1; it ends when dropped.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    requests: mpsc::UnboundedReceiver<Request>,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Receiver {
    pub(crate) async fn start(then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, requests) = mpsc::unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, then.clone(), seen.clone()));
            }
        });
        Self { address, requests, connections, task }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Waits for the next request.
    pub(crate) async fn request(&mut self) -> Request {
        self.requests.recv().await.unwrap()
    }

    /// Number of connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Whether the receiver got no connection.
    pub(crate) fn is_untouched(&mut self) -> bool {
        self.connections() == 0 && self.requests.try_recv().is_err()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves one connection until either side ends it.
async fn serve(mut stream: TcpStream, then: Then, seen: mpsc::UnboundedSender<Request>) -> Option<()> {
    loop {
        seen.send(read(&mut stream).await?).ok()?;
        match &then {
            Then::Answer(bytes) => stream.write_all(bytes).await.ok()?,
            Then::Close(bytes) => return stream.write_all(bytes).await.ok(),
            Then::Stall(bytes) => {
                stream.write_all(bytes).await.ok()?;
                // The client sends nothing more, so this returns when the client disconnects.
                stream.read_u8().await.ok()?;
            }
            Then::Later(first, signal, second) => {
                stream.write_all(first).await.ok()?;
                signal.notified().await;
                stream.write_all(second).await.ok()?;
            }
            Then::Drip(first, again) => {
                stream.write_all(first).await.ok()?;
                let mut beat = tokio::time::interval(DRIP_PAUSE);
                // A busy machine must not send the parts that it missed at once.
                beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                loop {
                    beat.tick().await;
                    stream.write_all(again).await.ok()?;
                }
            }
            Then::Repeat(first, again) => {
                stream.write_all(first).await.ok()?;
                loop {
                    stream.write_all(again).await.ok()?;
                }
            }
        }
    }
}

/// Reads one request with a `content-length`.
async fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let mut body = bytes.split_off(head_end + 4);
    let (line, headers) = head.split_once("\r\n").unwrap();
    let headers = headers.lines().map(|header| header.split_once(": ").unwrap());
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let mut request = Request { line: line.to_owned(), headers, body: Vec::new() };
    let length: usize = request.header("content-length").parse().unwrap();
    while body.len() < length {
        stream.read_buf(&mut body).await.ok()?;
    }
    request.body = body;
    Some(request)
}
