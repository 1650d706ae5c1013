//! A receiver of callbacks that keeps what it gets and answers as its path says.
//!
//! The path is `/hook/{answer}`, and anything may follow: `ok`, a status such as `410`, a status for the first two requests
//! of that path such as `500-twice`, `redirect`, `reset`, `hang`, `drip`. 429 and 503 come with `Retry-After: 1`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use url::Url;

use super::gate::Gate;
use super::http::{Body, Handler, Reply, Request, Response, Server};
use super::log::Log;
use crate::domain::clock::{Clock, SystemClock, Timestamp};

/// What is called with every request, before it is answered: the place to check a signature.
pub type OnReceived = Arc<dyn Fn(&Received) + Send + Sync>;

/// How many requests `{status}-twice` spoils.
const TWICE: usize = 2;
const DRIP_PAUSE: Duration = Duration::from_millis(100);

/// How a [`Receiver`] is set up. The default listens on a free port of the loopback interface.
#[derive(Clone)]
pub struct ReceiverOptions {
    /// Where to listen.
    pub address: SocketAddr,
    /// Tells when requests came.
    pub clock: Arc<dyn Clock>,
    /// Called with every request, before it is answered.
    pub on_received: Option<OnReceived>,
}

impl Default for ReceiverOptions {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            clock: Arc::new(SystemClock),
            on_received: None,
        }
    }
}

/// A request that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Its method, such as `POST`.
    pub method: String,
    /// Its path, without a query.
    pub path: String,
    /// Its headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body, byte for byte.
    pub body: Bytes,
    /// When it came.
    pub at: Timestamp,
}

impl Received {
    /// The first header of this name, which is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A running receiver. Dropping it closes its port.
pub struct Receiver {
    inbox: Arc<Inbox>,
    server: Server,
}

impl Receiver {
    /// Binds the address and begins to receive.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn start(options: ReceiverOptions) -> io::Result<Self> {
        let (listener, address) = Server::bind(options.address).await?;
        let inbox = Arc::new(Inbox {
            log: Log::new(),
            gate: Gate::new(),
            clock: options.clock,
            on_received: options.on_received,
        });
        let server = Server::serve(listener, address, Arc::clone(&inbox));
        Ok(Self { inbox, server })
    }

    /// The root of its URLs.
    pub fn base_url(&self) -> Url {
        self.server.base_url()
    }

    /// The URL of a hook: `hook("500-twice")` is `…/hook/500-twice`.
    pub fn hook(&self, answer: &str) -> Url {
        let mut url = self.base_url();
        url.set_path(&format!("hook/{answer}"));
        url
    }

    /// While down, it resets every connection that asks something.
    pub fn set_down(&self, down: bool) {
        self.inbox.gate.set_down(down);
    }

    /// While held, it receives requests and answers them only when it is let go.
    pub fn set_held(&self, held: bool) {
        self.inbox.gate.set_held(held);
    }

    /// All requests so far, those while down included.
    pub fn received(&self) -> Vec<Received> {
        self.inbox.log.all()
    }

    /// Waits until the requests satisfy the predicate, which they may do already.
    pub async fn wait_for(&self, predicate: impl FnMut(&[Received]) -> bool) -> Vec<Received> {
        self.inbox.log.wait_for(predicate).await
    }

    /// Waits for the request after the one this gave last: each once, in order.
    pub async fn next(&self) -> Received {
        self.inbox.log.next().await
    }

    /// Lets held answers go, takes no more requests, and finishes the answers under way; streams are cut off.
    pub async fn stop(self) {
        self.inbox.gate.set_held(false);
        self.server.stop().await;
    }
}

/// What the connections share.
struct Inbox {
    log: Log<Received>,
    gate: Gate,
    clock: Arc<dyn Clock>,
    on_received: Option<OnReceived>,
}

impl Handler for Inbox {
    async fn handle(&self, request: Request) -> Reply {
        let path = request.path().to_owned();
        let received = Received {
            method: request.method,
            path: path.clone(),
            headers: request.headers,
            body: request.body,
            at: self.clock.now(),
        };
        if let Some(on_received) = &self.on_received {
            on_received(&received);
        }
        let earlier = self.log.push_counting(received, |one, other| one.path == other.path);
        let reply = answer_of(&path, earlier);
        if self.gate.pass().await { reply } else { Reply::Reset }
    }
}

/// What this path asks for, when so many requests to it went before.
fn answer_of(path: &str, earlier: usize) -> Reply {
    let answer = path.strip_prefix("/hook/").and_then(|rest| rest.split('/').next()).unwrap_or("ok");
    let (answer, is_over) =
        answer.strip_suffix("-twice").map_or((answer, false), |answer| (answer, earlier >= TWICE));
    match answer {
        _ if is_over => status(200),
        "redirect" => Response::empty(307).with_header("Location", "/hook/ok/redirected").into(),
        "reset" => Reply::Reset,
        "hang" => Reply::Hang,
        "drip" => {
            let chunks = std::iter::repeat(Bytes::from_static(b"."));
            Response::empty(200)
                .with_body(Body::Chunked { chunks: Box::new(chunks), pause: DRIP_PAUSE })
                .into()
        }
        number => status(number.parse().ok().filter(|status| (200..=599).contains(status)).unwrap_or(200)),
    }
}

fn status(status: u16) -> Reply {
    let response = Response::empty(status).with_body(Body::Full(format!("{status}\n").into()));
    match status {
        429 | 503 => response.with_header("Retry-After", "1").into(),
        _ => response.into(),
    }
}
