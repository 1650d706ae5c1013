//! The vendor's state of each call, and its reply to each request.

use std::collections::HashMap;
use std::time::Duration;

use url::Url;

use super::answers::Answers;
use super::behaviour::{Behaviour, Scenario};
use super::faults::{InjectedFault, result_fault, submit_fault};
use crate::domain::clock::Timestamp;
use crate::domain::ids::CallId;

/// Condition for the result of a submitted call to be ready.
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
    /// A fault that the vendor's documentation does not mention, with the JSON of the regular answer.
    Fault(InjectedFault, serde_json::Value),
}

#[derive(Default)]
struct CallState {
    submits: u32,
    accepted: usize,
    accepted_at: Option<Timestamp>,
    /// Polls since the submit was accepted.
    polls: u32,
    /// Polls since the stand-in started.
    all_polls: u32,
    finished_answers: u32,
}

/// The state of all calls. A customer is a position in the list of tokens, so a customer keeps its calls when its
/// token changes.
pub(super) struct Calls {
    tokens: Vec<String>,
    calls: HashMap<(usize, CallId), CallState>,
}

impl Calls {
    pub(super) fn new(tokens: Vec<String>) -> Self {
        Self { tokens, calls: HashMap::new() }
    }

    pub(super) fn set_tokens(&mut self, tokens: Vec<String>) {
        self.tokens = tokens;
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
        let unknown = || VendorReply::Json(404, serde_json::json!({ "error": "call not found" }));
        let call = self.calls.entry((customer, call_id.clone())).or_default();
        if !scenario.is_known && call.accepted_at.is_none() {
            return unknown();
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
            Behaviour::NotReady404 => unknown(),
            // A silent call looks the same before and after its result is ready.
            Behaviour::Silent => VendorReply::Json(200, answers.finished(0)),
            _ => VendorReply::Json(200, answers.unfinished()),
        }
    }
}
