//! A receiver of callbacks. It records each request, and the path selects its answer.
//!
//! The path is `/hook/{answer}`, optionally followed by more segments. `answer` is one of `ok`, a status such as `410`,
//! `redirect`, `reset`, `hang` and `drip`. With `-twice`, as in `500-twice`, the answer applies to the first two requests to
//! the path, and later requests get 200. Answers with 429 and 503 have `Retry-After: 1`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use url::Url;

use super::availability::Availability;
use super::http::{Body, Handler, Reply, Request, Response, Server};
use super::log::RequestLog;
use crate::domain::clock::{Clock, SystemClock, Timestamp};

/// Function that is called with each request before the answer. The function can verify the signature.
pub type OnReceived = Arc<dyn Fn(&Received) + Send + Sync>;

/// Function that chooses the status and the body of an answer. If it returns `None`, the path selects the answer.
pub type ChooseAnswer = Arc<dyn Fn(&Received) -> Option<(u16, String)> + Send + Sync>;

/// Number of requests to a path with `-twice` that get the selected answer. Later requests get 200.
const FAILURES_OF_TWICE: usize = 2;
const DRIP_PAUSE: Duration = Duration::from_millis(100);

/// Options of a [`Receiver`]. By default the receiver listens on a free port of the loopback interface.
#[derive(Clone)]
pub struct ReceiverOptions {
    /// The address to listen on.
    pub address: SocketAddr,
    /// Clock for the times of requests.
    pub clock: Arc<dyn Clock>,
    /// Function that is called with each request before the answer.
    pub on_received: Option<OnReceived>,
    /// Function that chooses answers.
    pub choose_answer: Option<ChooseAnswer>,
}

impl Default for ReceiverOptions {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            clock: Arc::new(SystemClock),
            on_received: None,
            choose_answer: None,
        }
    }
}

/// A request to the receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The method, such as `POST`.
    pub method: String,
    /// The path without the query.
    pub path: String,
    /// The headers in order, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The unchanged body.
    pub body: Bytes,
    /// Time of the request.
    pub at: Timestamp,
}

impl Received {
    /// Returns the first header with this name; `name` is in lower case.
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
    /// Binds the address and starts to receive requests.
    ///
    /// # Errors
    /// Returns an error if the address cannot be bound.
    pub async fn start(options: ReceiverOptions) -> io::Result<Self> {
        let (listener, address) = Server::bind(options.address).await?;
        let inbox = Arc::new(Inbox {
            log: RequestLog::new(),
            availability: Availability::new(),
            clock: options.clock,
            on_received: options.on_received,
            choose_answer: options.choose_answer,
        });
        let server = Server::serve(listener, address, Arc::clone(&inbox));
        Ok(Self { inbox, server })
    }

    /// Returns the base URL.
    pub fn base_url(&self) -> Url {
        self.server.base_url()
    }

    /// Returns the URL for an answer: `hook("500-twice")` is `…/hook/500-twice`.
    pub fn hook(&self, answer: &str) -> Url {
        let mut url = self.base_url();
        url.set_path(&format!("hook/{answer}"));
        url
    }

    /// Sets whether the receiver is down. While it is down, it resets the connection of each request.
    pub fn set_down(&self, down: bool) {
        self.inbox.availability.set_down(down);
    }

    /// Sets whether the receiver holds its answers. It then records requests, and answers them after the hold ends.
    pub fn set_held(&self, held: bool) {
        self.inbox.availability.set_held(held);
    }

    /// Returns all requests so far, including those that arrived while the receiver was down.
    pub fn received(&self) -> Vec<Received> {
        self.inbox.log.all()
    }

    /// Waits until the requests satisfy the predicate.
    pub async fn wait_for(&self, predicate: impl FnMut(&[Received]) -> bool) -> Vec<Received> {
        self.inbox.log.wait_for(predicate).await
    }

    /// Waits for the next request. Each request is returned once, in order.
    pub async fn next(&self) -> Received {
        self.inbox.log.next().await
    }

    /// Stops the receiver: it sends held answers, accepts no more requests, and finishes pending answers except streams.
    pub async fn stop(self) {
        self.inbox.availability.set_held(false);
        self.server.stop().await;
    }
}

/// The state that all connections share.
struct Inbox {
    log: RequestLog<Received>,
    availability: Availability,
    clock: Arc<dyn Clock>,
    on_received: Option<OnReceived>,
    choose_answer: Option<ChooseAnswer>,
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
        let chosen = self.choose_answer.as_ref().and_then(|choose| choose(&received));
        let earlier = self.log.push_counting(received, |one, other| one.path == other.path);
        let reply = match chosen {
            Some((status, body)) => Response::empty(status).with_body(Body::Full(body.into())).into(),
            None => select_answer(&path, earlier),
        };
        if self.availability.wait().await { reply } else { Reply::Reset }
    }
}

/// Returns the answer that the path selects, after `earlier` requests to the same path.
fn select_answer(path: &str, earlier: usize) -> Reply {
    let answer = path.strip_prefix("/hook/").and_then(|rest| rest.split('/').next()).unwrap_or("ok");
    let (answer, failures_are_over) = answer
        .strip_suffix("-twice")
        .map_or((answer, false), |answer| (answer, earlier >= FAILURES_OF_TWICE));
    match answer {
        _ if failures_are_over => status(200),
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
