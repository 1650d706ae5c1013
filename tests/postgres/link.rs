//! The network between a gateway and its database: a relay on loopback, which a test can cut.
//!
//! Each replica gets one of its own, so that one can be cut off while the others go on.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// What a link lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passage {
    /// Everything.
    Open,
    /// What the gateway sends, and no answers to it: they wait. What is committed then, nobody hears of.
    Requests,
    /// Nothing, in silence: connections stay, and new ones are taken. What is sent waits until the link opens.
    Nothing,
    /// Nothing: connections are reset, those there are and those that are tried.
    Cut,
}

/// What is on a link at a moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    /// Connections that stand.
    pub(crate) connections: usize,
    /// Directions of connections in which something waits to pass.
    pub(crate) waiting: usize,
}

/// A relay to one server. Dropping it resets what goes through.
pub(crate) struct Link {
    port: u16,
    passage: watch::Sender<Passage>,
    traffic: Arc<watch::Sender<Traffic>>,
    accepting: AbortHandle,
}

impl Link {
    /// To a port on loopback, which need not be listened on yet.
    pub(crate) async fn to(server: u16, passage: Passage) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (passage, state) = watch::channel(passage);
        let traffic = Arc::new(watch::Sender::new(Traffic::default()));
        let side = Side { state, traffic: traffic.clone() };
        let accepting = tokio::spawn(accept(listener, server, side)).abort_handle();
        Self { port, passage, traffic, accepting }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What it lets through from now on.
    pub(crate) fn set(&self, passage: Passage) {
        self.passage.send_replace(passage);
    }

    /// Waits until the traffic is so.
    pub(crate) async fn until(&self, fits: impl FnMut(&Traffic) -> bool) {
        self.traffic.subscribe().wait_for(fits).await.unwrap();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What the tasks of a link know of it. When the link is dropped, `state` says so.
#[derive(Clone)]
struct Side {
    state: watch::Receiver<Passage>,
    traffic: Arc<watch::Sender<Traffic>>,
}

impl Side {
    async fn is_cut(&mut self) {
        // An error means that the link was dropped: the same.
        let _ = self.state.wait_for(|passage| *passage == Passage::Cut).await;
    }
}

async fn accept(listener: TcpListener, server: u16, side: Side) {
    loop {
        let Ok((gateway, _)) = listener.accept().await else { continue };
        tokio::spawn(relay(gateway, server, side.clone()));
    }
}

/// One connection, to its end.
async fn relay(gateway: TcpStream, server: u16, mut side: Side) {
    // Whatever is dropped below is reset, and never closed in good order.
    gateway.set_zero_linger().unwrap();
    let _counted = Counted::new(&side, |traffic| &mut traffic.connections);
    let mut cut = side.clone();
    tokio::select! {
        biased;
        () = cut.is_cut() => {}
        () = connect_and_pass(gateway, server, &mut side) => {}
    }
}

async fn connect_and_pass(gateway: TcpStream, server: u16, side: &mut Side) {
    // A server on the other side of a silence is not reached either.
    let reachable = |passage: &Passage| !matches!(passage, Passage::Nothing);
    if side.state.wait_for(reachable).await.is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    server.set_zero_linger().unwrap();
    for socket in [&gateway, &server] {
        socket.set_nodelay(true).unwrap();
    }
    let (from_gateway, to_gateway) = gateway.into_split();
    let (from_server, to_server) = server.into_split();
    let requests = pass(from_gateway, to_server, side.clone(), |passage| {
        matches!(passage, Passage::Open | Passage::Requests)
    });
    let answers = pass(from_server, to_gateway, side.clone(), |passage| *passage == Passage::Open);
    tokio::join!(requests, answers);
}

/// One direction, to its end: also that waits while nothing may pass.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut side: Side,
    may_pass: impl Fn(&Passage) -> bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer).await.unwrap_or(0);
        if !may_pass(&side.state.borrow()) {
            let _counted = Counted::new(&side, |traffic| &mut traffic.waiting);
            if side.state.wait_for(&may_pass).await.is_err() {
                return;
            }
        }
        if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            let _ = to.shutdown().await;
            return;
        }
    }
}

/// Counts as long as it lives.
struct Counted {
    traffic: Arc<watch::Sender<Traffic>>,
    count: fn(&mut Traffic) -> &mut usize,
}

impl Counted {
    fn new(side: &Side, count: fn(&mut Traffic) -> &mut usize) -> Self {
        side.traffic.send_modify(|traffic| *count(traffic) += 1);
        Self { traffic: side.traffic.clone(), count }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.traffic.send_modify(|traffic| *(self.count)(traffic) -= 1);
    }
}
