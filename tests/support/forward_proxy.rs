//! A forward proxy that sends every request to one server, whatever its host is.
//!
//! Test binaries share this source with `#[path = "../support/forward_proxy.rs"] mod forward_proxy;`.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// Treatment of requests by the proxy.
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
    address: SocketAddr,
    policy: Policy,
    seen: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut server = None;
    loop {
        let head = read_head(&mut client).await?;
        let (line, headers) = head.split_once("\r\n").unwrap();
        seen.lock().unwrap().push(line.to_owned());
        if let Some(refusal) = refusal(&policy, headers) {
            let answer = format!("HTTP/1.1 {refusal}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            return client.write_all(answer.as_bytes()).await;
        }
        if matches!(policy, Policy::Closing) {
            return Ok(());
        }
        if server.is_none() {
            server = Some(TcpStream::connect(address).await?);
        }
        let server = server.as_mut().unwrap();
        if line.starts_with("CONNECT ") {
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            return copy_bidirectional(&mut client, server).await.map(drop);
        }
        // The server gets the path only, as from a client that connects to it directly, and no credentials of the proxy.
        let (method, url) = line.split_once(' ').unwrap();
        let path = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).unwrap().1;
        let of_server = |header: &&str| !header.to_ascii_lowercase().starts_with("proxy-authorization:");
        let headers = headers.lines().filter(of_server).collect::<Vec<_>>().join("\r\n");
        server.write_all(format!("{method} /{path}\r\n{headers}\r\n").as_bytes()).await?;
        copy_body(&head, &mut client, server).await?;
        let answer = read_head(server).await?;
        client.write_all(answer.as_bytes()).await?;
        copy_body(&answer, server, &mut client).await?;
    }
}

fn refusal(policy: &Policy, headers: &str) -> Option<&'static str> {
    match policy {
        Policy::Open | Policy::Closing => None,
        Policy::Authenticated(expected) if field(headers, "proxy-authorization") == Some(expected) => None,
        Policy::Authenticated(_) => Some("407 Proxy Authentication Required\r\nproxy-authenticate: Basic"),
        Policy::Forbidding => Some("403 Forbidden"),
    }
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
}

async fn read_head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8(head).unwrap())
}

/// Copies the body of a message whose head was read.
async fn copy_body(head: &str, from: &mut TcpStream, to: &mut TcpStream) -> std::io::Result<()> {
    let length = field(head, "content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    from.read_exact(&mut body).await?;
    to.write_all(&body).await
}
