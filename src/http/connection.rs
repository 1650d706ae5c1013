//! Connections of the API. They limit how much data the server buffers for a client, and for how long.
//!
//! The framework reads ahead even if it cannot handle the data yet, and it has no time-out for writing. A
//! [`Connection`] stands between the framework and the socket:
//!
//! - It passes the head of a request to the framework, and then the body. It passes the next head only after a handler has taken
//!   this request. So pipelined requests wait in the kernel and not in the memory of the process.
//! - It passes a body only after the request has memory for the body (`ConnectionState::resume`).
//! - It closes if the client reads nothing of an answer within a time-out. Until then, the unread bytes count against a
//!   budget.
//! - It closes if it is idle and the server needs room for another connection ([`super::open_connections`]).

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::rt::net::TcpStream;
use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

use super::connection_state::{BodyLength, ConnectionState};
use super::message_scan::{HeadScan, LastChunkScan};
use super::open_connections::OpenConnections;
use crate::analyses::{MemoryBudget, MemoryPermit};
use crate::telemetry::metrics::Metrics;

/// Maximum number of bytes that the framework gets at once. The framework must handle these bytes before it gets more.
const READ_AT_ONCE: usize = 16 << 10;
/// Maximum number of bytes for which a connection needs no permit. These are the bytes of a head, or written bytes that the
/// client has not read. Every connection has a buffer of this size from the start.
const SMALL: usize = 8 << 10;
/// Maximum number of written bytes of one connection that the client has not read.
const WRITE_BUFFER: usize = 64 << 10;
/// Size of the budget of written bytes that clients have not read, in bytes.
pub const WRITE_BUFFERS: usize = 256 * WRITE_BUFFER;
/// Maximum number of heads larger than [`SMALL`] that the server receives at the same time. Each can have 128 KiB and uses a
/// buffer of up to 256 KiB.
const LARGE_HEADS: usize = 32;

/// Time-out, limits and metrics that all connections of a server share.
#[derive(Clone)]
pub struct ConnectionPolicy {
    /// Time after which a client that reads nothing is disconnected.
    timeout: Duration,
    large_heads: Arc<Semaphore>,
    write_buffers: Arc<MemoryBudget>,
    metrics: Arc<Metrics>,
}

impl ConnectionPolicy {
    /// Creates the policy of a server.
    pub fn new(timeout: Duration, write_buffers: Arc<MemoryBudget>, metrics: Arc<Metrics>) -> Self {
        Self { timeout, large_heads: Arc::new(Semaphore::new(LARGE_HEADS)), write_buffers, metrics }
    }
}

/// A connection of a client.
pub struct Connection {
    stream: TcpStream,
    policy: ConnectionPolicy,
    state: Rc<ConnectionState>,
    /// Time-out of a write that makes no progress, and the permit for its bytes.
    stalled: Option<(Pin<Box<Sleep>>, Option<MemoryPermit>)>,
    /// Number of bytes passed to the framework since the connection last paused. At [`READ_AT_ONCE`] the connection
    /// pauses, so that the framework handles these bytes.
    passed_at_once: usize,
    /// Bytes that the framework must not see yet.
    held: Bytes,
    head: HeadScan,
    last_chunk: LastChunkScan,
    /// Permit for a large head.
    large_head: Option<OwnedSemaphorePermit>,
}

impl Connection {
    /// Wraps an accepted connection.
    pub fn new(stream: TcpStream, policy: ConnectionPolicy, connections: &Rc<OpenConnections>) -> Self {
        policy.metrics.connections.inc();
        Self {
            stream,
            policy,
            state: ConnectionState::new(connections.add()),
            stalled: None,
            passed_at_once: 0,
            held: Bytes::new(),
            head: HeadScan::default(),
            last_chunk: LastChunkScan::default(),
            large_head: None,
        }
    }

    /// Returns the state that the connection shares with its requests.
    pub fn state(&self) -> Rc<ConnectionState> {
        Rc::clone(&self.state)
    }

    /// Returns the number of `bytes` that may pass to the framework now: the bytes up to the end of the head or of the body.
    /// Returns an error if the head is large and the server already receives too many large heads.
    fn passed(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.state.body.get() {
            BodyLength::Bytes(left) => {
                let passed = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let left = left - passed as u64;
                self.state.body.set(if left == 0 { BodyLength::None } else { BodyLength::Bytes(left) });
                Ok(passed)
            }
            BodyLength::Chunked => Ok(self.last_chunk.end(bytes).unwrap_or(bytes.len())),
            BodyLength::None => {
                let end = self.head.end(bytes);
                self.state.has_waiting_head.set(end.is_some());
                if end.is_some() {
                    self.state.open.end_idle();
                    self.large_head = None;
                } else if self.head.bytes() > SMALL && self.large_head.is_none() {
                    let permit = Arc::clone(&self.policy.large_heads).try_acquire_owned();
                    self.large_head = Some(permit.map_err(|_| io::ErrorKind::OutOfMemory)?);
                }
                Ok(end.unwrap_or(bytes.len()))
            }
        }
    }

    /// Waits until a request allows the connection to read.
    fn wait<T>(&mut self, context: &Context<'_>) -> Poll<T> {
        self.state.reader.set(Some(context.waker().clone()));
        self.passed_at_once = 0;
        Poll::Pending
    }

    /// Holds back the bytes that follow a head until a handler has taken the request of this head. Most clients send no such
    /// bytes. Until such bytes arrive, the connection waits for the socket, and so detects that the client disconnects.
    fn poll_ahead(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
            self.held = Bytes::copy_from_slice(&buffer.filled()[before..]);
            buffer.set_filled(before);
            if self.held.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        self.wait(context)
    }

    /// Passes bytes to the framework: first the bytes that were held back, then the bytes of the socket.
    fn poll_pass(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.held.is_empty() {
            let readable = self.held.slice(..self.held.len().min(buffer.remaining()));
            let passed = self.passed(&readable)?;
            buffer.put_slice(&readable[..passed]);
            self.held.advance(passed);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let read = &buffer.filled()[before..];
        let passed = self.passed(read)?;
        if passed < read.len() {
            self.held = Bytes::copy_from_slice(&read[passed..]);
            buffer.set_filled(before + passed);
        }
        Poll::Ready(Ok(()))
    }

    /// Returns an error if the client reads nothing within the time-out, or if there is no memory for the unread bytes.
    fn poll_stalled<T>(&mut self, context: &mut Context<'_>, unread: usize) -> Poll<io::Result<T>> {
        if self.state.place.borrow().is_none() {
            self.state.open.begin_idle(context.waker());
        }
        if self.stalled.is_none() {
            let memory = (unread > SMALL).then(|| self.write_buffer()).transpose()?;
            self.stalled = Some((Box::pin(sleep(self.policy.timeout)), memory));
        }
        if let Some((timeout, _)) = &mut self.stalled {
            ready!(timeout.as_mut().poll(context));
        }
        self.policy.metrics.write_timeouts.inc();
        Poll::Ready(Err(self.abort(io::ErrorKind::TimedOut)))
    }

    fn write_buffer(&self) -> io::Result<MemoryPermit> {
        let tenant = self.state.place.borrow().as_ref().map(|place| place.tenant.clone());
        self.policy.write_buffers.try_take(tenant.as_ref(), WRITE_BUFFER).map_err(|_| {
            self.policy.write_buffers.refuse(tenant.as_ref());
            self.abort(io::ErrorKind::OutOfMemory)
        })
    }

    /// Whether the kernel has bytes that the connection has not read. If the runtime has not noticed these bytes yet, it will
    /// wake the connection later.
    fn has_unread_bytes(&self) -> bool {
        SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()]).is_ok_and(|bytes| bytes > 0)
    }

    /// Counts an eviction. Returns the error that makes the framework close the connection.
    fn evicted(&self) -> io::Error {
        self.policy.metrics.connections_evicted.inc();
        if self.stalled.is_some() {
            self.abort(io::ErrorKind::ConnectionAborted)
        } else {
            io::ErrorKind::ConnectionAborted.into()
        }
    }

    /// Makes the kernel discard the bytes that the client has not read, and returns the error. Otherwise the kernel would
    /// continue to send these bytes.
    fn abort(&self, reason: io::ErrorKind) -> io::Error {
        let _ = self.stream.set_zero_linger();
        reason.into()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.policy.metrics.connections.dec();
        self.state.open.close();
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Without a request, no handler resumes a paused connection.
        if self.state.open.is_evicted() && (self.state.has_request() || self.state.is_paused.get()) {
            return Poll::Ready(Err(self.evicted()));
        }
        if self.state.is_paused.get() {
            return self.wait(context);
        }
        if self.state.has_waiting_head.get() {
            return self.poll_ahead(context, buffer);
        }
        if self.passed_at_once >= READ_AT_ONCE {
            self.passed_at_once = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let outcome = self.poll_pass(context, buffer);
        self.passed_at_once += buffer.filled().len() - before;
        if outcome.is_pending() {
            if self.state.open.is_evicted() && !self.has_unread_bytes() {
                return Poll::Ready(Err(self.evicted()));
            }
            self.passed_at_once = 0;
        } else if !self.held.is_empty() {
            // The framework must handle the end of the body before it sees the next head.
            self.passed_at_once = READ_AT_ONCE;
        }
        outcome
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.state.open.is_evicted() {
            return Poll::Ready(Err(self.evicted()));
        }
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Pending => self.poll_stalled(context, bytes.len()),
            written @ Poll::Ready(_) => {
                self.stalled = None;
                if self.state.has_request() {
                    self.state.open.end_idle();
                }
                written
            }
        }
    }

    /// Flushes the socket. The framework flushes after it has written all bytes. So if no request is in progress now, the last
    /// answer is complete, and the connection is idle.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.state.has_request() {
            self.state.open.begin_idle(context.waker());
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
