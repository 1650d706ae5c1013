//! The network between a gateway and its database: a relay on loopback that a test can interrupt.
//!
//! Each replica has its own link, so that a test can cut one replica off while the others continue.

use std::sync::Arc;

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
        let port = listener.local_addr().unwrap().port();
        let (passage, state) = watch::channel(passage);
        let traffic = Arc::new(watch::Sender::new(Traffic::default()));
        let link_state = LinkState { passage: state, traffic: traffic.clone() };
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
    let requests = pass(from_gateway, to_server, link_state.clone(), |passage| {
        matches!(passage, Passage::Open | Passage::Requests)
    });
    let answers = pass(from_server, to_gateway, link_state.clone(), |passage| *passage == Passage::Open);
    tokio::join!(requests, answers);
}

/// Forwards one direction until it ends. The end of the stream waits too while the link is closed.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut link_state: LinkState,
    may_pass: impl Fn(&Passage) -> bool,
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
        if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            let _ = to.shutdown().await;
            return;
        }
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
