//! Serves the requests of one connection, one after the other.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::Handler;
use super::message::{Body, Chunks, Reply, Request, Response};

const MAX_HEAD_BYTES: usize = 64 << 10;
const MAX_HEADERS: usize = 100;
const MAX_BODY_BYTES: usize = 16 << 20;

/// Serves requests until the client disconnects, a reply ends the connection, or the server stops.
pub(super) async fn serve(
    mut stream: TcpStream,
    handler: &impl Handler,
    stopping: &CancellationToken,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::new();
    loop {
        let request = tokio::select! {
            request = read_request(&mut stream, &mut buffer) => request?,
            () = stopping.cancelled() => None,
        };
        let Some(request) = request else { return Ok(()) };
        let is_head = request.method == "HEAD";
        match handler.handle(request).await {
            Reply::Answer(response) => {
                if !send(&mut stream, response, is_head, stopping).await? {
                    return stream.shutdown().await;
                }
            }
            // Closing with zero linger sends RST instead of FIN.
            Reply::Reset => return stream.set_zero_linger(),
            Reply::Hang => return wait_for_disconnect(&mut stream, stopping).await,
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut BytesMut) -> io::Result<Option<Request>> {
    let (head_length, mut request) = loop {
        if let Some(parsed) = parse_head(buffer)? {
            break parsed;
        }
        if buffer.len() > MAX_HEAD_BYTES {
            return Err(invalid("the head is too long"));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    buffer.advance(head_length);
    let body_length = match request.header("content-length") {
        Some(length) => length.parse().map_err(|_| invalid("Content-Length is not a number"))?,
        None if request.header("transfer-encoding").is_some() => {
            return Err(invalid("a body needs a Content-Length"));
        }
        None => 0,
    };
    if body_length > MAX_BODY_BYTES {
        return Err(invalid("the body is too long"));
    }
    while buffer.len() < body_length {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    request.body = buffer.split_to(body_length).freeze();
    Ok(Some(request))
}

/// Parses the head of a request. Returns the length of the head and the request; `None` if the head is not complete yet.
fn parse_head(buffer: &[u8]) -> io::Result<Option<(usize, Request)>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let status = head.parse(buffer).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let httparse::Status::Complete(length) = status else { return Ok(None) };
    let request = Request {
        method: head.method.unwrap_or_default().to_owned(),
        target: head.path.unwrap_or_default().to_owned(),
        headers: head
            .headers
            .iter()
            .map(|header| {
                (header.name.to_ascii_lowercase(), String::from_utf8_lossy(header.value).into_owned())
            })
            .collect(),
        body: Bytes::new(),
    };
    Ok(Some((length, request)))
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Sends an answer. Returns whether the connection can be used again.
async fn send(
    stream: &mut TcpStream,
    response: Response,
    is_head: bool,
    stopping: &CancellationToken,
) -> io::Result<bool> {
    let keeps_alive = !stopping.is_cancelled();
    let sends_body = response.may_have_body() && !is_head;
    let mut message = head_of(&response, keeps_alive).into_bytes();
    match response.body {
        _ if !sends_body => stream.write_all(&message).await?,
        Body::Full(bytes) => {
            // The answer is sent with one write, so that a small answer is one packet.
            message.extend_from_slice(&bytes);
            stream.write_all(&message).await?;
        }
        // A stop does not wait for a stream: it may be endless, or its reader may have stopped reading.
        Body::Sized { length, chunks } => {
            stream.write_all(&message).await?;
            let sent = tokio::select! {
                sent = send_plain(stream, chunks) => sent?,
                () = stopping.cancelled() => return Ok(false),
            };
            return Ok(keeps_alive && sent == length);
        }
        Body::Chunked { chunks, pause } => {
            stream.write_all(&message).await?;
            tokio::select! {
                sent = send_chunked(stream, chunks, pause) => sent?,
                () = stopping.cancelled() => return Ok(false),
            }
        }
    }
    Ok(keeps_alive)
}

/// Sends the pieces of a body unchanged, and returns the number of bytes.
async fn send_plain(stream: &mut TcpStream, chunks: Chunks) -> io::Result<u64> {
    let mut sent = 0;
    for chunk in chunks {
        stream.write_all(&chunk).await?;
        sent += chunk.len() as u64;
    }
    Ok(sent)
}

/// Sends the pieces of a body in chunked transfer coding, with a pause after each piece.
async fn send_chunked(stream: &mut TcpStream, chunks: Chunks, pause: Duration) -> io::Result<()> {
    for chunk in chunks {
        stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await?;
        stream.write_all(&chunk).await?;
        stream.write_all(b"\r\n").await?;
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    stream.write_all(b"0\r\n\r\n").await
}

fn head_of(response: &Response, keeps_alive: bool) -> String {
    let mut head = format!("HTTP/1.1 {} {}\r\n", response.status, reason_of(response.status));
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        // Writing to a String cannot fail.
        let _ok = write!(head, "{name}: {value}\r\n");
    };
    for (name, value) in &response.headers {
        line(name, value);
    }
    if response.may_have_body() {
        match &response.body {
            Body::Full(bytes) => line("Content-Length", &bytes.len()),
            Body::Sized { length, .. } => line("Content-Length", length),
            Body::Chunked { .. } => line("Transfer-Encoding", &"chunked"),
        }
    }
    line("Connection", &if keeps_alive { "keep-alive" } else { "close" });
    head.push_str("\r\n");
    head
}

fn reason_of(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 | 302 | 307 | 308 => "Redirect",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        410 => "Gone",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Other",
    }
}

async fn wait_for_disconnect(stream: &mut TcpStream, stopping: &CancellationToken) -> io::Result<()> {
    let mut ignored = [0; 1024];
    loop {
        let read = tokio::select! {
            read = stream.read(&mut ignored) => read?,
            () = stopping.cancelled() => 0,
        };
        if read == 0 {
            return Ok(());
        }
    }
}
