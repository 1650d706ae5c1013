//! Tests of transitions: a table for each stage, then the rules of waiting.

mod pace;
mod properties;
mod reanalysis;
mod refresh;
mod unknown_calls;
mod vendor_model;
mod waiting;

use std::time::Duration;

use super::*;
use crate::domain::analysis::{AnalysisResult, Metadata};
use crate::domain::ids::{CallId, TenantId};
use crate::domain::learned_answers::LearnedAnswers;
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

    /// Applies what a claim writes before the request leaves.
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
        self.learned.learn_pending(&effect.pending, now);
        if let Some(obtained) = &effect.obtained {
            self.held = Some(obtained.result.clone());
        }
        self.pace = effect.pace.or(self.pace);
        effect
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

/// Checks each step. Each one is applied to a new scenario, one minute after the submission.
fn check(stage: Stage, table: &[(Step, &str)]) {
    for (step, expected) in table {
        let line = LifecycleScenario::at_stage(stage).line(after(60), step.clone());
        assert_eq!(line, *expected, "{stage:?}: {step:?}");
    }
}

#[test]
fn a_submit_is_accepted_repeated_confirmed_or_refused() {
    use SubmitOutcome as S;
    let table = [
        (S::Accepted, "processing, poll in 10 s"),
        (S::NotTaken(fault(FaultCode::VendorUnreachable)), "queued, submit in 5 s, last error unreachable"),
        (S::NotTaken(fault(FaultCode::CallNotFound)), "queued, submit in 5 s, last error not_found"),
        (S::NotTaken(fault(FaultCode::TokenRefused)), "queued, submit in 300 s, last error token_refused"),
        (S::NotTaken(busy(77)), "queued, submit in 77 s, last error throttled"),
        (S::Unknown(fault(FaultCode::VendorTimeout)), "queued, confirm in 5 s, last error timeout"),
        (S::Unknown(busy(77)), "queued, confirm in 77 s, last error throttled"),
        (S::Rejected("the vendor answered 400".to_owned()), "failed, VendorRejected → analysis.failed"),
    ];
    check(Stage::Submit, &table.map(|(outcome, line)| (Step::Submitted(outcome), line)));
}

#[test]
fn an_unknown_outcome_is_confirmed_before_the_call_is_submitted_again() {
    check(
        Stage::Confirm,
        &[
            (ready("salom"), "completed, settle in 120 s → analysis.completed"),
            (empty(), "processing, poll in 5 s"),
            (not_ready(), "processing, poll in 5 s"),
            (Step::Polled(PollOutcome::Unchanged), "processing, poll in 5 s"),
            (Step::Polled(PollOutcome::NotFound(None)), "queued, confirm in 10 s"),
            (
                Step::Polled(PollOutcome::Rejected("the vendor answered 410".to_owned())),
                "failed, VendorRejected → analysis.failed",
            ),
            (failing(FaultCode::VendorTimeout), "queued, confirm in 5 s, last error timeout"),
            (failing(FaultCode::AnswerUnreadable), "queued, confirm in 5 s, last error unreadable"),
        ],
    );
}

#[test]
fn a_poll_finds_a_result_or_waits() {
    check(
        Stage::Poll,
        &[
            (ready("salom"), "completed, settle in 120 s → analysis.completed"),
            (empty(), "processing, poll in 5 s"),
            (not_ready(), "processing, poll in 5 s"),
            (Step::Polled(PollOutcome::Unchanged), "processing, poll in 5 s"),
            (Step::Polled(PollOutcome::NotFound(None)), "processing, poll in 5 s"),
            (
                Step::Polled(PollOutcome::Rejected("the vendor answered 400".to_owned())),
                "failed, VendorRejected → analysis.failed",
            ),
            (Step::Polled(PollOutcome::Fault(busy(77))), "processing, poll in 77 s, last error throttled"),
            (failing(FaultCode::TokenRefused), "processing, poll in 300 s, last error token_refused"),
            (failing(FaultCode::AnswerUnreadable), "processing, poll in 5 s, last error unreadable"),
        ],
    );
}

#[test]
fn a_settle_poll_revises_the_result_or_keeps_it() {
    check(
        Stage::Settle,
        &[
            (ready("salom"), "completed"),
            (ready("salom yana"), "completed → analysis.updated"),
            (empty(), "completed"),
            (not_ready(), "completed"),
            (Step::Polled(PollOutcome::Unchanged), "completed"),
            (Step::Polled(PollOutcome::NotFound(None)), "completed"),
            (Step::Polled(PollOutcome::Rejected("the vendor answered 400".to_owned())), "completed"),
            (failing(FaultCode::VendorTimeout), "completed, settle in 5 s"),
        ],
    );
}

#[test]
fn an_analysis_without_work_ignores_steps() {
    let mut scenario = LifecycleScenario::completed();
    scenario.step(after(180), Step::Polled(PollOutcome::Unchanged));
    let rested = scenario.analysis.clone();
    assert_eq!(scenario.step(after(240), ready("boshqa")), Effect::default());
    assert_eq!(scenario.analysis, rested);
}

#[test]
fn a_completion_and_a_revision_increment_the_revision() {
    let mut scenario = LifecycleScenario::completed();
    assert_eq!((scenario.analysis.revision, scenario.analysis.finished_at), (1, Some(after(60))));
    let effect = scenario.step(after(180), ready("salom yana"));
    assert_eq!((scenario.analysis.revision, scenario.analysis.finished_at), (2, Some(after(60))));
    assert_eq!(effect.obtained, Some(obtained("salom yana")));
}

#[test]
fn an_adopted_result_completes_and_settles() {
    let mut scenario = LifecycleScenario::begin();
    let policy = PollingPolicy::default();
    let context = Context {
        now: START,
        policy: &policy,
        jitter: 0.0,
        current: None,
        pace: None,
        learned: &LearnedAnswers::nothing(),
    };
    let effect = scenario.analysis.adopt(obtained("salom"), &context);
    assert_eq!(effect.event, Some(EventKind::AnalysisCompleted));
    assert_eq!((scenario.analysis.status, scenario.analysis.revision), (Status::Completed, 1));
    assert_eq!((scenario.work().stage, scenario.due_in(START)), (Stage::Settle, 120));
    assert_eq!(scenario.work().etag.as_deref(), Some("\"r\""));
}
