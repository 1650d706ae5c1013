//! A forward proxy that sends every request to one server, whatever its host is.
//!
//! Test binaries share this source with `#[path = "../support/forward_proxy.rs"] mod forward_proxy;`.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// How the proxy treats requests.
#[derive(Debug, Clone)]
pub(crate) enum Policy {
    /// Forwards all requests.
    Open,
    /// Forwards requests with this value of `Proxy-Authorization`, and answers 407 to others.
    Authenticated(&'static str),
    /// Answers 403.
    Forbidding,
    /// Closes the connection without an answer.
    Closing,
}

/// A forward proxy on a free port of 127.0.0.1.
pub(crate) struct ForwardProxy {
    pub(crate) address: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
    policy: Arc<Mutex<Policy>>,
}

impl ForwardProxy {
    /// Starts the proxy in front of `server`.
    pub(crate) async fn start(policy: Policy, server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (lines, policy) = (Arc::default(), Arc::new(Mutex::new(policy)));
        let (seen, current) = (Arc::clone(&lines), Arc::clone(&policy));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (seen, policy) = (Arc::clone(&seen), current.lock().unwrap().clone());
                // A client may disconnect at any time.
                tokio::spawn(async move { forward(client, server, policy, &seen).await });
            }
        });
        Self { address, lines, policy }
    }

    /// The request lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Changes the treatment of later requests.
    pub(crate) fn set(&self, policy: Policy) {
        *self.policy.lock().unwrap() = policy;
    }
}

async fn forward(
    mut client: TcpStream,
    server: SocketAddr,
    policy: Policy,
    seen: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).await?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let (line, headers) = head.split_once("\r\n").unwrap();
    seen.lock().unwrap().push(line.to_owned());
    let authorization = headers.lines().find_map(|header| {
        let (name, value) = header.split_once(": ")?;
        name.eq_ignore_ascii_case("proxy-authorization").then_some(value)
    });
    let refusal = match policy {
        Policy::Open => None,
        Policy::Authenticated(expected) if authorization == Some(expected) => None,
        Policy::Authenticated(_) => Some("407 Proxy Authentication Required\r\nproxy-authenticate: Basic"),
        Policy::Forbidding => Some("403 Forbidden"),
        Policy::Closing => return Ok(()),
    };
    if let Some(refusal) = refusal {
        let answer = format!("HTTP/1.1 {refusal}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        return client.write_all(answer.as_bytes()).await;
    }
    let mut server = TcpStream::connect(server).await?;
    if line.starts_with("CONNECT ") {
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    } else {
        // The server gets the path only, as from a client that connects to it directly.
        let (method, url) = line.split_once(' ').unwrap();
        let path = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).unwrap().1;
        // A proxy keeps the credentials that are meant for it.
        let of_server = |header: &&str| !header.to_ascii_lowercase().starts_with("proxy-authorization:");
        let headers = headers.lines().filter(of_server).collect::<Vec<_>>().join("\r\n");
        let request = format!("{method} /{path}\r\n{headers}\r\n");
        server.write_all(request.as_bytes()).await?;
    }
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}
