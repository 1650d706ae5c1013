//! A small HTTP/1.1 server with its hand on the socket: it can answer half a message, drip, hang or reset.
//!
//! Connections are kept alive, since the clients under test pool them. Requests need a `Content-Length` to have a body.

mod connection;
mod message;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

pub(super) use message::{Body, Reply, Request, Response};

const PAUSE_AFTER_REFUSAL: Duration = Duration::from_millis(20);

/// What answers the requests of a [`Server`].
pub(super) trait Handler: Send + Sync + 'static {
    fn handle(&self, request: Request) -> impl Future<Output = Reply> + Send;
}

/// A listening socket and its connections. Dropping it stops it, less gently than [`Server::stop`].
pub(super) struct Server {
    address: SocketAddr,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Binds, so that the address is known before there is anything to answer with.
    pub(super) async fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    }

    /// Serves what comes in at `listener`, each connection in a task of its own.
    pub(super) fn serve<H: Handler>(listener: TcpListener, address: SocketAddr, handler: Arc<H>) -> Self {
        let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
        let server = Self { address, stopping: stopping.clone(), tasks: tasks.clone() };
        server.tasks.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = stopping.cancelled() => return,
                };
                let Ok((stream, _)) = accepted else {
                    // Most likely there are too many open files; some will be closed in a moment.
                    tokio::time::sleep(PAUSE_AFTER_REFUSAL).await;
                    continue;
                };
                let (handler, stopping) = (Arc::clone(&handler), stopping.clone());
                tasks.spawn(async move {
                    // A client that goes away early is part of the play.
                    let _gone = connection::serve(stream, &*handler, &stopping).await;
                });
            }
        });
        server
    }

    /// `http://` and the address.
    pub(super) fn base_url(&self) -> Url {
        base_url(self.address)
    }

    /// Takes no more requests, finishes the answers under way but for streams, and waits for that.
    pub(super) async fn stop(&self) {
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

/// The root URL of what listens at `address`.
pub(super) fn base_url(address: SocketAddr) -> Url {
    match Url::parse(&format!("http://{address}/")) {
        Ok(url) => url,
        Err(error) => unreachable!("a socket address makes a URL: {error}"),
    }
}
