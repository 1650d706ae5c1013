//! The network between a gateway and its database: a relay on loopback that a test can interrupt.
//!
//! Each replica has its own link, so that a test can cut one replica off while the others continue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// The traffic that a link forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passage {
    /// All traffic.
    Open,
    /// Requests of the gateway only. Responses wait, so the gateway does not learn of commits.
    Requests,
    /// All traffic but the notifications of the server, like a pooler that gives the session to another client. Only for a link
    /// that [`Link::that_reads_messages`] created.
    WithoutNotifications,
    /// No traffic. Connections stay open and new ones are accepted, but all data waits until the link opens.
    Nothing,
    /// No traffic. Existing and new connections are reset.
    Cut,
}

/// The current traffic of a link.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    /// Number of open connections.
    pub(crate) connections: usize,
    /// Number of connection directions with waiting data.
    pub(crate) waiting: usize,
}

/// A relay to one server. Dropping the link resets its connections.
pub(crate) struct Link {
    port: u16,
    passage: watch::Sender<Passage>,
    traffic: Arc<watch::Sender<Traffic>>,
    accepting: AbortHandle,
}

impl Link {
    /// Creates a link to a port on loopback. The server does not have to listen yet.
    pub(crate) async fn to(server: u16, passage: Passage) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        Self::start(listener, server, passage, Handling::Bytes)
    }

    /// Creates an open link that can drop notifications. The connections must not use TLS.
    pub(crate) async fn that_reads_messages(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        Self::start(listener, server, Passage::Open, Handling::Notifications)
    }

    /// Creates an open link that makes the first `ROLLBACK` of each connection take longer than any time limit of a statement. A
    /// `ROLLBACK` in a failed transaction does not count. The connections must not use TLS.
    pub(crate) async fn that_delays_rollbacks(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        Self::start(listener, server, Passage::Open, Handling::Rollbacks)
    }

    fn start(listener: TcpListener, server: u16, passage: Passage, handling: Handling) -> Self {
        let port = listener.local_addr().unwrap().port();
        let (passage, state) = watch::channel(passage);
        let traffic = Arc::new(watch::Sender::new(Traffic::default()));
        let link_state = LinkState { passage: state, traffic: traffic.clone(), handling };
        let accepting = tokio::spawn(accept(listener, server, link_state)).abort_handle();
        Self { port, passage, traffic, accepting }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Changes the traffic that the link forwards.
    pub(crate) fn set(&self, passage: Passage) {
        self.passage.send_replace(passage);
    }

    /// Waits until the predicate holds for the traffic.
    pub(crate) async fn until(&self, fits: impl FnMut(&Traffic) -> bool) {
        self.traffic.subscribe().wait_for(fits).await.unwrap();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// State shared with the tasks of a link. `passage` reports an error when the link is dropped.
#[derive(Clone)]
struct LinkState {
    passage: watch::Receiver<Passage>,
    traffic: Arc<watch::Sender<Traffic>>,
    handling: Handling,
}

/// What a link does with the messages of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handling {
    /// The link forwards bytes and does not read messages.
    Bytes,
    /// The link can drop notifications.
    Notifications,
    /// The link delays the first `ROLLBACK` in a healthy transaction.
    Rollbacks,
}

impl LinkState {
    async fn is_cut(&mut self) {
        // An error means that the link was dropped, which also ends the connection.
        let _ = self.passage.wait_for(|passage| *passage == Passage::Cut).await;
    }
}

async fn accept(listener: TcpListener, server: u16, link_state: LinkState) {
    loop {
        let Ok((gateway, _)) = listener.accept().await else { continue };
        tokio::spawn(relay(gateway, server, link_state.clone()));
    }
}

/// Relays one connection until it ends.
async fn relay(gateway: TcpStream, server: u16, mut link_state: LinkState) {
    // Without linger, a dropped socket is reset instead of closed.
    gateway.set_zero_linger().unwrap();
    let _counted = Counted::new(&link_state, |traffic| &mut traffic.connections);
    let mut cut = link_state.clone();
    tokio::select! {
        biased;
        () = cut.is_cut() => {}
        () = connect_and_pass(gateway, server, &mut link_state) => {}
    }
}

async fn connect_and_pass(gateway: TcpStream, server: u16, link_state: &mut LinkState) {
    // No connection to the server is made during a silence.
    let reachable = |passage: &Passage| !matches!(passage, Passage::Nothing);
    if link_state.passage.wait_for(reachable).await.is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    server.set_zero_linger().unwrap();
    for socket in [&gateway, &server] {
        socket.set_nodelay(true).unwrap();
    }
    let (from_gateway, to_gateway) = gateway.into_split();
    let (from_server, to_server) = server.into_split();
    let (handling, mut is_delayed) = (link_state.handling, false);
    let has_failed = AtomicBool::new(false);
    let rewrite_request = |bytes: &[u8], _: Passage| {
        let may_delay = handling == Handling::Rollbacks && !is_delayed && !has_failed.load(Ordering::Relaxed);
        let delayed = delayed_rollback(bytes).filter(|_| may_delay);
        is_delayed |= delayed.is_some();
        delayed.unwrap_or_else(|| bytes.to_vec())
    };
    let may_request = |passage: &Passage| {
        matches!(passage, Passage::Open | Passage::Requests | Passage::WithoutNotifications)
    };
    let requests = pass(from_gateway, to_server, link_state.clone(), may_request, rewrite_request);
    let mut messages = Messages::default();
    let rewrite_answer = |bytes: &[u8], passage: Passage| match handling {
        Handling::Bytes => bytes.to_vec(),
        Handling::Notifications | Handling::Rollbacks => {
            let passed = messages.read(bytes, passage == Passage::WithoutNotifications);
            has_failed.store(messages.has_failed, Ordering::Relaxed);
            passed
        }
    };
    let may_answer = |passage: &Passage| matches!(passage, Passage::Open | Passage::WithoutNotifications);
    let answers = pass(from_server, to_gateway, link_state.clone(), may_answer, rewrite_answer);
    tokio::join!(requests, answers);
}

/// Forwards one direction until it ends, as `rewrite` returns it. The end of the stream waits too while the link is closed.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut link_state: LinkState,
    may_pass: impl Fn(&Passage) -> bool,
    mut rewrite: impl FnMut(&[u8], Passage) -> Vec<u8>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer).await.unwrap_or(0);
        if !may_pass(&link_state.passage.borrow()) {
            let _counted = Counted::new(&link_state, |traffic| &mut traffic.waiting);
            if link_state.passage.wait_for(&may_pass).await.is_err() {
                return;
            }
        }
        let passage = *link_state.passage.borrow();
        let passed = rewrite(&buffer[..count], passage);
        if count == 0 || to.write_all(&passed).await.is_err() {
            let _ = to.shutdown().await;
            return;
        }
    }
}

/// Puts a long sleep before a query that ends with `ROLLBACK`. Returns `None` if the bytes are not such a query. A client sends
/// this query alone, because it has waited for the answer to the previous message.
fn delayed_rollback(bytes: &[u8]) -> Option<Vec<u8>> {
    let text = bytes.strip_prefix(b"Q")?.get(4..)?.strip_suffix(b"\0")?;
    let text =
        [b"SELECT pg_sleep(3600); ".as_slice(), text.strip_suffix(b"ROLLBACK")?, b"ROLLBACK\0"].concat();
    let length = u32::try_from(4 + text.len()).unwrap().to_be_bytes();
    Some([b"Q".as_slice(), &length, &text].concat())
}

/// The messages of a server (PostgreSQL documentation, "Message Formats").
#[derive(Default)]
struct Messages {
    has_begun: bool,
    /// Whether the transaction has failed, so that the server accepts only its end.
    has_failed: bool,
    incomplete: Vec<u8>,
}

impl Messages {
    const NOTIFICATION: u8 = b'A';
    const ERROR: u8 = b'E';
    const READY: u8 = b'Z';
    /// Status of a failed transaction in the message `ReadyForQuery`.
    const FAILED: u8 = b'E';

    /// Takes the next bytes of the server. Returns the complete messages, without notifications if they are dropped.
    fn read(&mut self, bytes: &[u8], drops_notifications: bool) -> Vec<u8> {
        self.incomplete.extend_from_slice(bytes);
        let mut passed = Vec::new();
        // The answer to the request for TLS is one letter.
        if !self.has_begun && !self.incomplete.is_empty() {
            self.has_begun = true;
            assert_ne!(self.incomplete[0], b'S', "the connection uses TLS");
            if self.incomplete[0] == b'N' {
                passed.push(self.incomplete.remove(0));
            }
        }
        while let Some(length) = self.incomplete.get(1..5) {
            let length = 1 + u32::from_be_bytes(length.try_into().unwrap()) as usize;
            if self.incomplete.len() < length {
                break;
            }
            let message: Vec<u8> = self.incomplete.drain(..length).collect();
            // The server sends an error before the new status, and the client may send the next request in between.
            match message[0] {
                Self::ERROR => self.has_failed = true,
                Self::READY => self.has_failed = message[5] == Self::FAILED,
                _ => {}
            }
            if !(drops_notifications && message[0] == Self::NOTIFICATION) {
                passed.extend(message);
            }
        }
        passed
    }
}

/// Increments a count while it exists.
struct Counted {
    traffic: Arc<watch::Sender<Traffic>>,
    count: fn(&mut Traffic) -> &mut usize,
}

impl Counted {
    fn new(link_state: &LinkState, count: fn(&mut Traffic) -> &mut usize) -> Self {
        link_state.traffic.send_modify(|traffic| *count(traffic) += 1);
        Self { traffic: link_state.traffic.clone(), count }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.traffic.send_modify(|traffic| *(self.count)(traffic) -= 1);
    }
}
