//! A stand-in for the vendor: its two methods and its recordings, as documented and as feared.
//!
//! How a call plays out is written in its id (see [`Behaviour`]); all else is in the [`VendorOptions`]. What it remembers
//! lives as long as it does.

mod answers;
mod behaviour;
mod calls;
mod dialogues;
mod faults;
mod replies;
mod requests;
mod stereo;
mod talk;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;
use url::Url;

pub use self::behaviour::{Behaviour, FAULTY_REQUESTS, Scenario};
pub use self::calls::Ready;
pub use self::requests::{Operation, VendorRequest};

use self::calls::{Calls, Verdict};
use self::faults::audio_fault;
use self::replies::Replies;
use self::requests::Route;
use self::stereo::Stereo;
use self::talk::Talk;
use super::gate::Gate;
use super::http::{self, Handler, Reply, Request, Server};
use super::log::Log;
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::ids::CallId;

/// How a [`VendorStandIn`] is set up. The default is meant for tests: a free port, one token, ready after two polls.
#[derive(Clone)]
pub struct VendorOptions {
    /// Where to listen.
    pub address: SocketAddr,
    /// The tokens that are accepted, one for each customer. Any other is answered 401.
    pub tokens: Vec<String>,
    /// When a submitted call's result is ready.
    pub processing: Ready,
    /// Tells the time of requests and of processing.
    pub clock: Arc<dyn Clock>,
}

impl VendorOptions {
    /// The token of the default.
    pub const TOKEN: &str = "sandbox-token";
}

impl Default for VendorOptions {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tokens: vec![Self::TOKEN.to_owned()],
            processing: Ready::AfterPolls(2),
            clock: Arc::new(SystemClock),
        }
    }
}

/// A running stand-in. Dropping it closes its port.
pub struct VendorStandIn {
    desk: Arc<Desk>,
    server: Server,
}

impl VendorStandIn {
    /// Binds the address and begins to answer.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn start(options: VendorOptions) -> io::Result<Self> {
        let (listener, address) = Server::bind(options.address).await?;
        let mut elsewhere = http::base_url(address);
        // The same socket under another name: a visit is noticed, and it is another host to the client.
        if elsewhere.set_host(Some("localhost")).is_err() {
            unreachable!("an http URL can have a host name");
        }
        let desk = Arc::new(Desk {
            calls: Mutex::new(Calls::new(options.tokens)),
            log: Log::new(),
            gate: Gate::new(),
            processing: options.processing,
            clock: options.clock,
            elsewhere,
        });
        let server = Server::serve(listener, address, Arc::clone(&desk));
        Ok(Self { desk, server })
    }

    /// The root of its URLs.
    pub fn base_url(&self) -> Url {
        self.server.base_url()
    }

    /// Replaces the accepted tokens. Calls belong to a token's place in the list, so its successor finds them.
    pub fn set_tokens(&self, tokens: Vec<String>) {
        self.desk.calls().set_tokens(tokens);
    }

    /// While down, it resets every connection that asks something and takes nothing.
    pub fn set_down(&self, down: bool) {
        self.desk.gate.set_down(down);
    }

    /// While held, it takes requests and answers them only when it is let go.
    pub fn set_held(&self, held: bool) {
        self.desk.gate.set_held(held);
    }

    /// All requests so far.
    pub fn calls(&self) -> Vec<VendorRequest> {
        self.desk.log.all()
    }

    /// How many submits of this call came.
    pub fn submits(&self, call_id: &CallId) -> usize {
        self.count(Operation::Submit, call_id)
    }

    /// How many submits of this call were taken, and would be billed.
    pub fn accepted_submits(&self, call_id: &CallId) -> usize {
        self.desk.calls().accepted(call_id)
    }

    /// How many times this call's result was asked for.
    pub fn polls(&self, call_id: &CallId) -> usize {
        self.count(Operation::Result, call_id)
    }

    /// Waits until the requests satisfy the predicate, which they may do already.
    pub async fn wait_for(&self, predicate: impl FnMut(&[VendorRequest]) -> bool) -> Vec<VendorRequest> {
        self.desk.log.wait_for(predicate).await
    }

    /// Waits for the request after the one this gave last: each once, in order.
    pub async fn next(&self) -> VendorRequest {
        self.desk.log.next().await
    }

    /// Lets held answers go, takes no more requests, and finishes the answers under way; streams are cut off.
    pub async fn stop(self) {
        self.desk.gate.set_held(false);
        self.server.stop().await;
    }

    fn count(&self, operation: Operation, call_id: &CallId) -> usize {
        self.desk.log.count(|request| request.operation == operation && request.call_id == *call_id)
    }
}

/// What the connections share.
struct Desk {
    calls: Mutex<Calls>,
    log: Log<VendorRequest>,
    gate: Gate,
    processing: Ready,
    clock: Arc<dyn Clock>,
    elsewhere: Url,
}

impl Handler for Desk {
    async fn handle(&self, request: Request) -> Reply {
        let reply = self.decide(&request);
        if self.gate.pass().await { reply } else { Reply::Reset }
    }
}

impl Desk {
    /// Notes the request and decides on it in one go, so that whoever sees it noted sees its effect.
    fn decide(&self, request: &Request) -> Reply {
        let now = self.clock.now();
        let Some(Route { operation, token, call_id }) = Route::parse(request) else {
            let behaviour = Behaviour::Documented;
            return Replies { request, behaviour, now, redirect_to: String::new() }.page(404).into();
        };
        let mut calls = self.calls();
        let customer = token.as_deref().and_then(|token| calls.customer(token));
        let header = |name| request.header(name).map(str::to_owned);
        self.log.push(VendorRequest {
            operation,
            call_id: call_id.clone(),
            token_ok: token.is_none() || customer.is_some(),
            if_none_match: header("if-none-match"),
            range: header("range"),
            traceparent: header("traceparent"),
            at: now,
        });
        if self.gate.is_down() {
            return Reply::Reset;
        }
        let redirect_to = format!("{}elsewhere{}", self.elsewhere, request.path());
        let behaviour = Scenario::parse(&call_id).behaviour;
        let replies = Replies { request, behaviour, now, redirect_to };
        let foreign_audio = self.elsewhere_audio(&call_id);
        match (operation, customer) {
            (Operation::Submit, Some(customer)) => {
                replies.say(calls.submit(customer, &call_id, now, &foreign_audio))
            }
            (Operation::Result, Some(customer)) => {
                replies.say(calls.result(customer, &call_id, now, self.processing, &foreign_audio))
            }
            (Operation::Submit | Operation::Result, None) => {
                replies.say(Verdict::Json(401, json!({ "error": "invalid token" })))
            }
            // Recordings are there before any analysis, so none is asked for.
            (Operation::Stereo, _) => match audio_fault(behaviour) {
                Some(fault) => replies.say(Verdict::Fault(fault, json!(null))),
                None => replies.recording(Stereo::of(&Talk::of(&call_id)), call_id.as_str()).into(),
            },
            (Operation::Elsewhere, _) => replies.page(200).into(),
        }
    }

    fn elsewhere_audio(&self, call_id: &CallId) -> Url {
        let mut url = self.elsewhere.clone();
        url.set_path(&format!("elsewhere/{call_id}"));
        url
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        // A panic elsewhere leaves counters that are good enough.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
