//! The vendor's state of each call, and its reply to each request. The vendor documents no reply for a call that it does not know.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;
use url::Url;

use super::answers::Answers;
use super::behaviour::{Behaviour, Scenario};
use super::faults::{InjectedFault, result_fault, submit_fault};
use crate::domain::clock::Timestamp;
use crate::domain::ids::CallId;

/// Condition under which the result of a submitted call is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// The result is ready after this number of unfinished polls.
    AfterPolls(u32),
    /// The result is ready after this time since the submit.
    AfterDuration(Duration),
}

/// The vendor's reply before it becomes an HTTP message.
pub(super) enum VendorReply {
    /// JSON with this status; 204 has no body.
    Json(u16, serde_json::Value),
    /// A text with status 200.
    Text(String),
    /// A fault that the vendor's documentation does not mention, with the JSON of the regular answer.
    Fault(InjectedFault, serde_json::Value),
}

/// The answer of `callgetairesult` for a call that the stand-in does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownCallAnswer {
    /// Status 404 with an error.
    #[default]
    NotFound,
    /// Status 400 with an error.
    BadRequest,
    /// Status 204 without a body.
    NoContent,
    /// The object `{"answer": null}`.
    Null,
    /// A text that is not JSON, with the id of the call.
    Text,
    /// An object with an error, the id of the call, the time and a number that differs each time.
    ErrorObject,
    /// A result with empty `stalk` and `tags`.
    EmptyStalk,
    /// The same answer as for a call whose result is not ready.
    LikePending,
    /// Status 302 to another page.
    Redirect,
    /// Status 500, as from a program that does not expect an unknown call.
    ServerError,
}

impl UnknownCallAnswer {
    /// All answers except for [`ServerError`](Self::ServerError), which may also mean an outage.
    pub const ALL: [Self; 9] = [
        Self::NotFound,
        Self::BadRequest,
        Self::NoContent,
        Self::Null,
        Self::Text,
        Self::ErrorObject,
        Self::EmptyStalk,
        Self::LikePending,
        Self::Redirect,
    ];

    pub(super) fn reply(self, answers: &Answers<'_>, now: Timestamp) -> VendorReply {
        let call_id = answers.call_id;
        let not_found = || json!({ "error": "call not found" });
        match self {
            Self::NotFound => VendorReply::Json(404, not_found()),
            Self::BadRequest => VendorReply::Json(400, not_found()),
            Self::NoContent => VendorReply::Json(204, json!(null)),
            Self::Null => VendorReply::Json(200, json!({ "answer": null })),
            Self::Text => VendorReply::Text(format!("There is no call {call_id}.")),
            Self::ErrorObject => VendorReply::Json(
                200,
                json!({
                    "error": { "code": 17, "message": format!("call {call_id} not found") },
                    "at": now.to_string(),
                    "request": now.as_millis(),
                }),
            ),
            Self::EmptyStalk => VendorReply::Json(200, json!({ "answer": { "stalk": [], "tags": [] } })),
            Self::LikePending => VendorReply::Json(200, answers.unfinished()),
            Self::Redirect => VendorReply::Json(302, not_found()),
            Self::ServerError => {
                VendorReply::Json(500, json!({ "error": "Cannot read properties of null (reading 'stalk')" }))
            }
        }
    }
}

#[derive(Default)]
struct CallState {
    submits: u32,
    accepted: usize,
    accepted_at: Option<Timestamp>,
    /// Number of polls since the submit was accepted.
    polls: u32,
    /// Number of polls since the stand-in started.
    all_polls: u32,
    finished_answers: u32,
}

/// The state of all calls. A customer is a position in the list of tokens, so a customer keeps its calls when its
/// token changes.
pub(super) struct Calls {
    tokens: Vec<String>,
    calls: HashMap<(usize, CallId), CallState>,
    /// The answer for unknown calls, by customer. A customer without an entry gets 404.
    unknown: HashMap<usize, UnknownCallAnswer>,
    /// Whether accepted calls are answered like unknown calls.
    is_forgetful: bool,
}

impl Calls {
    pub(super) fn new(tokens: Vec<String>) -> Self {
        Self { tokens, calls: HashMap::new(), unknown: HashMap::new(), is_forgetful: false }
    }

    pub(super) fn set_tokens(&mut self, tokens: Vec<String>) {
        self.tokens = tokens;
    }

    pub(super) fn set_unknown_answer(&mut self, customer: usize, answer: UnknownCallAnswer) {
        self.unknown.insert(customer, answer);
    }

    pub(super) fn set_forgetful(&mut self, forgetful: bool) {
        self.is_forgetful = forgetful;
    }

    pub(super) fn customer(&self, token: &str) -> Option<usize> {
        self.tokens.iter().position(|known| known == token)
    }

    /// Returns the number of accepted submits of this call, for all customers.
    pub(super) fn accepted(&self, call_id: &CallId) -> usize {
        self.calls.iter().filter(|((_, known), _)| known == call_id).map(|(_, call)| call.accepted).sum()
    }

    pub(super) fn submit(
        &mut self,
        customer: usize,
        call_id: &CallId,
        now: Timestamp,
        foreign_audio: &Url,
    ) -> VendorReply {
        let scenario = Scenario::parse(call_id);
        let answers = Answers { call_id, behaviour: scenario.behaviour, foreign_audio };
        let call = self.calls.entry((customer, call_id.clone())).or_default();
        call.submits += 1;
        let fault = submit_fault(scenario.behaviour).filter(|_| scenario.is_faulty(call.submits));
        let is_accepted = fault.as_ref().is_none_or(|(_, is_accepted)| *is_accepted);
        if is_accepted {
            call.accepted += 1;
            call.accepted_at = Some(now);
            call.polls = 0;
            call.finished_answers = 0;
        }
        match fault {
            Some((fault, _)) => VendorReply::Fault(fault, answers.submitted()),
            None => VendorReply::Json(200, answers.submitted()),
        }
    }

    pub(super) fn result(
        &mut self,
        customer: usize,
        call_id: &CallId,
        now: Timestamp,
        ready: Ready,
        foreign_audio: &Url,
    ) -> VendorReply {
        let scenario = Scenario::parse(call_id);
        let answers = Answers { call_id, behaviour: scenario.behaviour, foreign_audio };
        let unknown = self.unknown.get(&customer).copied().unwrap_or_default();
        let call = self.calls.entry((customer, call_id.clone())).or_default();
        if !scenario.is_known && (call.accepted_at.is_none() || self.is_forgetful) {
            return unknown.reply(&answers, now);
        }
        call.polls += 1;
        call.all_polls += 1;
        if let Some(fault) = result_fault(scenario.behaviour).filter(|_| scenario.is_faulty(call.all_polls)) {
            return VendorReply::Fault(fault, answers.finished(0));
        }
        let is_ready = scenario.behaviour != Behaviour::NeverReady
            && call.accepted_at.is_none_or(|accepted_at| match ready {
                Ready::AfterPolls(polls) => call.polls > polls,
                Ready::AfterDuration(duration) => now.since(accepted_at) >= duration,
            });
        if is_ready {
            call.finished_answers += 1;
            return VendorReply::Json(200, answers.finished(call.finished_answers - 1));
        }
        match scenario.behaviour {
            Behaviour::NotReady202 => VendorReply::Json(202, answers.unfinished()),
            Behaviour::NotReady204 => VendorReply::Json(204, answers.unfinished()),
            Behaviour::NotReady404 => UnknownCallAnswer::NotFound.reply(&answers, now),
            // A silent call looks the same before and after its result is ready.
            Behaviour::Silent => VendorReply::Json(200, answers.finished(0)),
            _ => VendorReply::Json(200, answers.unfinished()),
        }
    }
}
