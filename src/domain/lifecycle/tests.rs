//! Tests of transitions: a table for each stage, then the rules of waiting.

mod conditional_polls;
mod missing_content;
mod pace;
mod properties;
mod reanalysis;
mod refresh;
mod steps;
mod unknown_calls;
mod vendor_model;
mod waiting;

use std::time::Duration;

use super::*;
use crate::domain::analysis::{AnalysisResult, Metadata};
use crate::domain::call_facts::CallFacts;
use crate::domain::ids::{CallId, TenantId};
use crate::domain::learned_answers::LearnedAnswers;
use crate::domain::tags::Tag;
use crate::domain::trace::TraceContext;
use crate::domain::transcript::{Speaker, Turn};

const START: Timestamp = Timestamp::from_millis(1_716_207_617_000); // 2024-05-20T12:20:17Z
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn after(seconds: u64) -> Timestamp {
    START + Duration::from_secs(seconds)
}

fn submission(reanalyze: bool) -> Submission {
    Submission {
        call_id: CallId::parse("1716207617.42").unwrap(),
        callback: None,
        metadata: None,
        call: CallFacts::default(),
        reanalyze,
        trace: TraceContext::parse(TRACEPARENT).unwrap(),
    }
}

/// Returns a result with one turn per word.
fn obtained(words: &str) -> Box<VendorResult> {
    let turn = |text: &str| Turn {
        fragment_id: None,
        speaker: Speaker::Client,
        begin_ms: 0,
        end_ms: 1000,
        text: text.to_owned(),
    };
    let result = AnalysisResult {
        ai_call_id: None,
        begin_time: None,
        transcript: words.split_whitespace().map(turn).collect(),
        tags: Vec::new(),
        audio_path: None,
        warnings: Vec::new(),
    };
    Box::new(VendorResult { result, vendor_answer: words.to_owned().into(), etag: Some("\"r\"".to_owned()) })
}

fn fault(code: FaultCode) -> VendorFault {
    VendorFault { code, detail: "it did not help".to_owned(), retry_after: None }
}

fn busy(seconds: u64) -> VendorFault {
    VendorFault { retry_after: Some(Duration::from_secs(seconds)), ..fault(FaultCode::VendorThrottled) }
}

fn ready(words: &str) -> Step {
    Step::Polled(PollOutcome::Ready(obtained(words)))
}

fn empty() -> Step {
    Step::Polled(PollOutcome::Empty(obtained("")))
}

fn not_ready() -> Step {
    Step::Polled(PollOutcome::NotReady { etag: Some("\"n\"".to_owned()), retry_after: None, detail: None })
}

fn failing(code: FaultCode) -> Step {
    Step::Polled(PollOutcome::Fault(fault(code)))
}

/// An analysis together with the data that the store would hold.
#[derive(Clone)]
struct LifecycleScenario {
    analysis: Analysis,
    held: Option<AnalysisResult>,
    /// Estimate that the store would hold for the tenant.
    pace: Option<Pace>,
    /// Answers that the store would hold for the tenant.
    learned: LearnedAnswers,
}

impl LifecycleScenario {
    /// Creates an analysis that was submitted at [`START`].
    fn begin() -> Self {
        let tenant = TenantId::parse("acme").unwrap();
        let analysis = Analysis::begin(tenant, submission(false), START);
        Self { analysis, held: None, pace: None, learned: LearnedAnswers::nothing() }
    }

    /// Creates an analysis that the vendor accepted at once.
    fn accepted() -> Self {
        let mut scenario = Self::begin();
        scenario.step(START, Step::Submitted(SubmitOutcome::Accepted));
        scenario
    }

    /// Creates an analysis that completed after a minute with the words "salom".
    fn completed() -> Self {
        let mut scenario = Self::accepted();
        scenario.step(after(60), ready("salom"));
        scenario
    }

    fn at_stage(stage: Stage) -> Self {
        match stage {
            Stage::Submit | Stage::Confirm => Self::begin(),
            Stage::Poll => Self::accepted(),
            Stage::Settle => Self::completed(),
            Stage::Refresh => {
                let mut scenario = Self::completed();
                scenario.analysis.refresh(&PollingPolicy::default(), after(60));
                scenario
            }
        }
    }

    /// Applies the changes that a claim writes before the request is sent.
    fn claim(&mut self, now: Timestamp) {
        if let Some(work) = &mut self.analysis.work
            && work.stage == Stage::Submit
        {
            work.stage = Stage::Confirm;
            work.sent_at = Some(now);
            work.submits += 1;
            work.denied_since = None;
            work.shapes.clear();
        }
    }

    fn step(&mut self, now: Timestamp, step: Step) -> Effect {
        self.claim(now);
        let policy = PollingPolicy::default();
        let current = self.held.as_ref();
        let (pace, learned) = (self.pace, &self.learned);
        let context = Context { now, policy: &policy, jitter: 0.5, current, pace, learned };
        let effect = self.analysis.apply(step, &context);
        if let Some(obtained) = &effect.obtained {
            self.learned.learn_pending(&effect.pending, now);
            self.held = Some(obtained.result.clone());
        }
        self.pace = effect.pace.or(self.pace);
        effect
    }

    /// Adopts a result at [`START`]. The result has one turn for each of these words.
    fn adopt(&mut self, words: &str) -> Effect {
        let (policy, learned) = (PollingPolicy::default(), LearnedAnswers::nothing());
        let context = Context {
            now: START,
            policy: &policy,
            jitter: 0.0,
            current: None,
            pace: None,
            learned: &learned,
        };
        self.analysis.adopt(obtained(words), &context)
    }

    /// Applies the step and describes the new state in one line.
    fn line(&mut self, now: Timestamp, step: Step) -> String {
        let effect = self.step(now, step);
        let mut line = self.analysis.status.as_str().to_owned();
        if let Some(work) = &self.analysis.work {
            let wait = work.due_at.since(now).as_secs();
            line.push_str(&format!(", {} in {wait} s", work.stage.as_str()));
        }
        if let Some(failure) = &self.analysis.failure {
            line.push_str(&format!(", {:?}", failure.code));
        }
        if let Some(last) = &self.analysis.last_error {
            line.push_str(&format!(", last error {}", last.code.as_str()));
        }
        if let Some(event) = effect.event {
            line.push_str(&format!(" → {}", event.as_str()));
        }
        line
    }

    fn work(&self) -> &Work {
        self.analysis.work.as_ref().unwrap()
    }

    fn due_in(&self, now: Timestamp) -> u64 {
        self.work().due_at.since(now).as_secs()
    }
}
