//! What the vendor remembers of each call, and what it says to each request.

use std::collections::HashMap;
use std::time::Duration;

use url::Url;

use super::answers::Answers;
use super::behaviour::{Behaviour, Scenario};
use super::faults::{Fault, result_fault, submit_fault};
use crate::domain::clock::Timestamp;
use crate::domain::ids::CallId;

/// When a submitted call's result is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// After so many polls that found it unfinished.
    AfterPolls(u32),
    /// So long after the submit.
    AfterDuration(Duration),
}

/// What is said to a request, before it is put into HTTP.
pub(super) enum Verdict {
    /// JSON with this status; none is sent with 204.
    Json(u16, serde_json::Value),
    /// Something that the vendor's page does not tell of. The result that would have been given goes with it.
    Fault(Fault, serde_json::Value),
}

#[derive(Default)]
struct Call {
    submits: u32,
    accepted: usize,
    accepted_at: Option<Timestamp>,
    /// Polls since the submit was accepted.
    polls: u32,
    polls_ever: u32,
    finished_answers: u32,
}

/// The memory of the vendor. A customer is a place in the list of tokens, so a token can change and the calls stay.
pub(super) struct Calls {
    tokens: Vec<String>,
    calls: HashMap<(usize, CallId), Call>,
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

    /// How many submits of this call were taken, whoever's it is.
    pub(super) fn accepted(&self, call_id: &CallId) -> usize {
        self.calls.iter().filter(|((_, known), _)| known == call_id).map(|(_, call)| call.accepted).sum()
    }

    pub(super) fn submit(
        &mut self,
        customer: usize,
        call_id: &CallId,
        now: Timestamp,
        elsewhere: &Url,
    ) -> Verdict {
        let scenario = Scenario::parse(call_id);
        let answers = Answers { call_id, behaviour: scenario.behaviour, elsewhere };
        let call = self.calls.entry((customer, call_id.clone())).or_default();
        call.submits += 1;
        let fault = submit_fault(scenario.behaviour).filter(|_| scenario.is_faulty(call.submits));
        let is_taken = fault.as_ref().is_none_or(|(_, is_taken)| *is_taken);
        if is_taken {
            call.accepted += 1;
            call.accepted_at = Some(now);
            call.polls = 0;
            call.finished_answers = 0;
        }
        match fault {
            Some((fault, _)) => Verdict::Fault(fault, answers.submitted()),
            None => Verdict::Json(200, answers.submitted()),
        }
    }

    pub(super) fn result(
        &mut self,
        customer: usize,
        call_id: &CallId,
        now: Timestamp,
        ready: Ready,
        elsewhere: &Url,
    ) -> Verdict {
        let scenario = Scenario::parse(call_id);
        let answers = Answers { call_id, behaviour: scenario.behaviour, elsewhere };
        let unknown = || Verdict::Json(404, serde_json::json!({ "error": "call not found" }));
        let call = self.calls.entry((customer, call_id.clone())).or_default();
        if !scenario.is_known && call.accepted_at.is_none() {
            return unknown();
        }
        call.polls += 1;
        call.polls_ever += 1;
        if let Some(fault) = result_fault(scenario.behaviour).filter(|_| scenario.is_faulty(call.polls_ever))
        {
            return Verdict::Fault(fault, answers.finished(0));
        }
        let is_ready = scenario.behaviour != Behaviour::NeverReady
            && call.accepted_at.is_none_or(|accepted_at| match ready {
                Ready::AfterPolls(polls) => call.polls > polls,
                Ready::AfterDuration(duration) => now.since(accepted_at) >= duration,
            });
        if is_ready {
            call.finished_answers += 1;
            return Verdict::Json(200, answers.finished(call.finished_answers - 1));
        }
        match scenario.behaviour {
            Behaviour::NotReady202 => Verdict::Json(202, answers.unfinished()),
            Behaviour::NotReady204 => Verdict::Json(204, answers.unfinished()),
            Behaviour::NotReady404 => unknown(),
            // Silence looks the same before and after.
            Behaviour::Silent => Verdict::Json(200, answers.finished(0)),
            _ => Verdict::Json(200, answers.unfinished()),
        }
    }
}
