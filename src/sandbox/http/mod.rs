//! A small HTTP/1.1 server on plain sockets. It can send half a message, send slowly, never answer, or reset a connection.
//!
//! Connections are kept alive, because clients pool them. A request with a body needs a `Content-Length`.

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

/// Answers the requests of a [`Server`].
pub(super) trait Handler: Send + Sync + 'static {
    fn handle(&self, request: Request) -> impl Future<Output = Reply> + Send;
}

/// A listening socket and its connections. Dropping the server closes them without waiting; [`Server::stop`] waits.
pub(super) struct Server {
    address: SocketAddr,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Binds the address. Binding is separate from serving, because handlers may need the address.
    pub(super) async fn bind(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    }

    /// Serves the connections of `listener`, each in its own task.
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
                    // The usual cause of the error is too many open files, and some of them will be closed soon.
                    tokio::time::sleep(PAUSE_AFTER_REFUSAL).await;
                    continue;
                };
                let (handler, stopping) = (Arc::clone(&handler), stopping.clone());
                tasks.spawn(async move {
                    // A client that disconnects early is expected.
                    let _gone = connection::serve(stream, &*handler, &stopping).await;
                });
            }
        });
        server
    }

    /// Returns the base URL of the server.
    pub(super) fn base_url(&self) -> Url {
        base_url(self.address)
    }

    /// Accepts no more requests, and waits for pending answers except streams.
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

/// Returns the base URL of a server at `address`.
pub(super) fn base_url(address: SocketAddr) -> Url {
    match Url::parse(&format!("http://{address}/")) {
        Ok(url) => url,
        Err(error) => unreachable!("a socket address makes a URL: {error}"),
    }
}
