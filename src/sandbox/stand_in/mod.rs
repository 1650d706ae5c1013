//! A stand-in for the vendor: its two methods and its recordings, as documented and with many faults.
//!
//! The call id selects the behaviour of a call (see [`Behaviour`]). [`VendorOptions`] has all other options. The stand-in keeps
//! its state in memory.

mod answers;
mod behaviour;
mod calls;
mod dialogues;
mod faults;
mod replies;
mod requests;
mod stereo;
mod talk;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::json;
use url::Url;

pub use self::behaviour::{Behaviour, Scenario};
pub use self::calls::{Ready, UnknownCallAnswer};
pub use self::requests::{Operation, VendorRequest};

use self::calls::{Calls, VendorReply};
use self::faults::audio_fault;
use self::replies::ReplyBuilder;
use self::requests::VendorRoute;
use self::stereo::Stereo;
use self::talk::Talk;
use super::availability::Availability;
use super::http::{self, Body, Handler, Reply, Request, Response, Server};
use super::log::RequestLog;
use crate::domain::clock::{Clock, SystemClock};
use crate::domain::ids::CallId;

/// Options of a [`VendorStandIn`]. The default is for tests: a free port, one token, and results that are ready after two polls.
#[derive(Clone)]
pub struct VendorOptions {
    /// The address to listen on.
    pub address: SocketAddr,
    /// The accepted tokens, one for each customer. Other tokens are answered with 401.
    pub tokens: Vec<String>,
    /// Condition under which the result of a submitted call is ready.
    pub processing: Ready,
    /// Clock for the times of requests and for processing.
    pub clock: Arc<dyn Clock>,
}

impl VendorOptions {
    /// The token of the default options.
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

/// A fixed answer in place of the one that the call id selects.
#[derive(Debug, Clone)]
pub struct FixedAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The header `Content-Type`.
    pub content_type: &'static str,
    /// Additional headers of the answer.
    pub headers: Vec<(&'static str, String)>,
    /// The body, byte for byte.
    pub body: Bytes,
}

/// A running stand-in. Dropping it closes its port.
pub struct VendorStandIn {
    vendor: Arc<Vendor>,
    server: Server,
}

impl VendorStandIn {
    /// Binds the address and starts to answer requests.
    ///
    /// # Errors
    /// Returns an error if the address cannot be bound.
    pub async fn start(options: VendorOptions) -> io::Result<Self> {
        let (listener, address) = Server::bind(options.address).await?;
        let mut other_host = http::base_url(address);
        // This is the same socket under another name. The client treats it as another host, and the stand-in records the
        // requests to it.
        if other_host.set_host(Some("localhost")).is_err() {
            unreachable!("an http URL can have a host name");
        }
        let vendor = Arc::new(Vendor {
            calls: Mutex::new(Calls::new(options.tokens)),
            fixed_answers: Mutex::default(),
            log: RequestLog::new(),
            availability: Availability::new(),
            processing: options.processing,
            clock: options.clock,
            other_host,
        });
        let server = Server::serve(listener, address, Arc::clone(&vendor));
        Ok(Self { vendor, server })
    }

    /// Returns the base URL.
    pub fn base_url(&self) -> Url {
        self.server.base_url()
    }

    /// Replaces the accepted tokens. Calls belong to the position of a token in the list, so a new token at the same position
    /// gives access to the same calls.
    pub fn set_tokens(&self, tokens: Vec<String>) {
        self.vendor.calls().set_tokens(tokens);
    }

    /// Replaces the answer for calls that a customer has not submitted. `customer` is the position of its token in the list of
    /// tokens.
    pub fn set_unknown_answer(&self, customer: usize, answer: UnknownCallAnswer) {
        self.vendor.calls().set_unknown_answer(customer, answer);
    }

    /// Sets whether the vendor is forgetful. A forgetful vendor answers requests about accepted calls like requests about
    /// unknown calls.
    pub fn set_forgetful(&self, forgetful: bool) {
        self.vendor.calls().set_forgetful(forgetful);
    }

    /// Gives a fixed answer to requests about this call, except for those with a token that is not accepted.
    pub fn set_answer(&self, operation: Operation, call_id: CallId, answer: FixedAnswer) {
        let mut answers = self.vendor.fixed_answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.insert((operation, call_id), answer);
    }

    /// Sets whether the vendor is down. While it is down, it resets the connection of each request and accepts no submit.
    pub fn set_down(&self, down: bool) {
        self.vendor.availability.set_down(down);
    }

    /// Sets whether the vendor holds its answers. It then processes requests, and answers them after the hold ends.
    pub fn set_held(&self, held: bool) {
        self.vendor.availability.set_held(held);
    }

    /// Returns all requests so far.
    pub fn calls(&self) -> Vec<VendorRequest> {
        self.vendor.log.all()
    }

    /// Returns the number of submits of this call.
    pub fn submits(&self, call_id: &CallId) -> usize {
        self.count(Operation::Submit, call_id)
    }

    /// Returns the number of accepted submits of this call. The real vendor would bill each of them.
    pub fn accepted_submits(&self, call_id: &CallId) -> usize {
        self.vendor.calls().accepted(call_id)
    }

    /// Returns the number of polls of this call's result.
    pub fn polls(&self, call_id: &CallId) -> usize {
        self.count(Operation::Result, call_id)
    }

    /// Waits until the requests satisfy the predicate.
    pub async fn wait_for(&self, predicate: impl FnMut(&[VendorRequest]) -> bool) -> Vec<VendorRequest> {
        self.vendor.log.wait_for(predicate).await
    }

    /// Waits for the next request. Each request is returned once, in order.
    pub async fn next(&self) -> VendorRequest {
        self.vendor.log.next().await
    }

    /// Stops the stand-in: it sends held answers, accepts no more requests, and finishes pending answers except streams.
    pub async fn stop(self) {
        self.vendor.availability.set_held(false);
        self.server.stop().await;
    }

    fn count(&self, operation: Operation, call_id: &CallId) -> usize {
        self.vendor.log.count(|request| request.operation == operation && request.call_id == *call_id)
    }
}

/// The state that all connections share.
struct Vendor {
    calls: Mutex<Calls>,
    fixed_answers: Mutex<HashMap<(Operation, CallId), FixedAnswer>>,
    log: RequestLog<VendorRequest>,
    availability: Availability,
    processing: Ready,
    clock: Arc<dyn Clock>,
    /// A URL of this server that has another host name.
    other_host: Url,
}

impl Handler for Vendor {
    async fn handle(&self, request: Request) -> Reply {
        let reply = self.process(&request);
        if self.availability.wait().await { reply } else { Reply::Reset }
    }
}

impl Vendor {
    /// Records the request and processes it under one lock: a test that sees the record also sees the effect.
    fn process(&self, request: &Request) -> Reply {
        let now = self.clock.now();
        let Some(VendorRoute { operation, token, call_id }) = VendorRoute::parse(request) else {
            let behaviour = Behaviour::Documented;
            return ReplyBuilder { request, behaviour, now, redirect_to: String::new() }.page(404).into();
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
        if self.availability.is_down() {
            return Reply::Reset;
        }
        if (customer.is_some() || token.is_none())
            && let Some(answer) = self.fixed_answer(operation, &call_id)
        {
            return answer;
        }
        let redirect_to = format!("{}elsewhere{}", self.other_host, request.path());
        let behaviour = Scenario::parse(&call_id).behaviour;
        let replies = ReplyBuilder { request, behaviour, now, redirect_to };
        let foreign_audio = self.foreign_audio_url(&call_id);
        match (operation, customer) {
            (Operation::Submit, Some(customer)) => {
                replies.reply(calls.submit(customer, &call_id, now, &foreign_audio))
            }
            (Operation::Result, Some(customer)) => {
                replies.reply(calls.result(customer, &call_id, now, self.processing, &foreign_audio))
            }
            (Operation::Submit | Operation::Result, None) => {
                replies.reply(VendorReply::Json(401, json!({ "error": "invalid token" })))
            }
            // A recording exists before its analysis, so the state of the call does not matter.
            (Operation::Stereo, _) => match audio_fault(behaviour) {
                Some(fault) => replies.reply(VendorReply::Fault(fault, json!(null))),
                None => replies.recording(Stereo::of(&Talk::of(&call_id)), call_id.as_str()).into(),
            },
            (Operation::OtherHost, _) => replies.page(200).into(),
        }
    }

    fn fixed_answer(&self, operation: Operation, call_id: &CallId) -> Option<Reply> {
        let answers = self.fixed_answers.lock().unwrap_or_else(PoisonError::into_inner);
        let FixedAnswer { status, content_type, headers, body } =
            answers.get(&(operation, call_id.clone()))?.clone();
        let response = Response::empty(status).with_header("Content-Type", content_type);
        let response =
            headers.into_iter().fold(response, |response, (name, value)| response.with_header(name, value));
        Some(response.with_body(Body::Full(body)).into())
    }

    fn foreign_audio_url(&self, call_id: &CallId) -> Url {
        let mut url = self.other_host.clone();
        url.set_path(&format!("elsewhere/{}", call_id.path_segment()));
        url
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        // The counters are still usable after a panic in another task.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
