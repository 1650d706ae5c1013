//! Tests of grace periods, backoff and deadlines.

use super::*;

const DEADLINE: u64 = 86_400;

#[test]
fn an_unknown_call_is_retried_until_the_grace_period_ends() {
    let unknown = || Step::Submitted(SubmitOutcome::NotTaken(fault(FaultCode::CallNotFound)));
    let mut scenario = LifecycleScenario::begin();
    scenario.step(START, unknown());
    assert_eq!(scenario.line(after(599), unknown()), "queued, submit in 5 s, last error not_found");
    let line = scenario.line(after(600), unknown());
    assert_eq!(line, "failed, CallNotFound, last error not_found → analysis.failed");
    assert!(scenario.analysis.failure.unwrap().retryable);
}

#[test]
fn an_unknown_call_is_submitted_again_only_after_a_wait() {
    let unknown = || Step::Submitted(SubmitOutcome::Unknown(fault(FaultCode::VendorTimeout)));
    let not_found = || Step::Polled(PollOutcome::NotFound(None));
    let mut scenario = LifecycleScenario::begin();
    scenario.step(START, unknown());
    assert_eq!(scenario.line(after(5), not_found()), "queued, confirm in 10 s, last error timeout");
    assert_eq!(scenario.line(after(15), not_found()), "queued, submit in 0 s, last error timeout");
    // After the next submit without an answer, the earlier "not found" does not count.
    scenario.step(after(16), unknown());
    assert_eq!(scenario.line(after(21), not_found()), "queued, confirm in 10 s, last error timeout");
    assert_eq!(scenario.line(after(31), not_ready()), "processing, poll in 5 s");
}

#[test]
fn the_grace_period_starts_with_the_first_not_found() {
    let mut scenario = LifecycleScenario::accepted();
    let not_found = || Step::Polled(PollOutcome::NotFound(None));
    assert_eq!(scenario.line(after(3600), not_found()), "processing, poll in 300 s");
    assert_eq!(scenario.line(after(4199), not_found()), "processing, poll in 300 s");
    assert_eq!(scenario.line(after(4200), not_found()), "failed, CallNotFound → analysis.failed");
}

#[test]
fn a_call_that_was_found_again_gets_a_new_grace_period() {
    for between in [not_ready(), empty(), Step::Polled(PollOutcome::Unchanged)] {
        let mut scenario = LifecycleScenario::accepted();
        scenario.step(after(100), Step::Polled(PollOutcome::NotFound(None)));
        scenario.step(after(600), between);
        assert_eq!(
            scenario.line(after(800), Step::Polled(PollOutcome::NotFound(None))),
            "processing, poll in 79 s"
        );
    }
}

#[test]
fn a_retry_after_of_the_vendor_is_honoured() {
    let mut scenario = LifecycleScenario::accepted();
    let later =
        PollOutcome::NotReady { etag: None, retry_after: Some(Duration::from_secs(90)), detail: None };
    assert_eq!(scenario.line(after(10), Step::Polled(later)), "processing, poll in 90 s");
}

#[test]
fn an_empty_answer_counts_after_the_grace_period() {
    let mut scenario = LifecycleScenario::accepted();
    scenario.step(after(100), empty());
    assert_eq!(scenario.work().etag, None, "the poll that ends the grace period needs the answer, not a 304");
    assert_eq!(scenario.line(after(699), empty()), "processing, poll in 69 s");
    assert_eq!(scenario.line(after(700), empty()), "completed, settle in 120 s → analysis.completed");
}

#[test]
fn an_interrupted_empty_answer_restarts_the_grace_period() {
    for between in [not_ready(), Step::Polled(PollOutcome::NotFound(None))] {
        let mut scenario = LifecycleScenario::accepted();
        scenario.step(after(100), empty());
        scenario.step(after(300), between);
        scenario.step(after(500), empty());
        assert_eq!(scenario.line(after(1000), empty()), "processing, poll in 99 s");
        assert_eq!(scenario.line(after(1100), empty()), "completed, settle in 120 s → analysis.completed");
    }
}

#[test]
fn an_error_does_not_restart_the_grace_period_of_empty_answers() {
    let mut scenario = LifecycleScenario::accepted();
    scenario.step(after(100), empty());
    scenario.step(after(500), failing(FaultCode::VendorTimeout));
    assert_eq!(scenario.line(after(700), empty()), "completed, settle in 120 s → analysis.completed");
}

#[test]
fn turns_after_an_empty_result_are_a_revision() {
    let mut scenario = LifecycleScenario::accepted();
    scenario.step(after(100), empty());
    scenario.step(after(700), empty());
    assert_eq!(scenario.line(after(820), ready("salom")), "completed → analysis.updated");
}

#[test]
fn errors_back_off_and_a_success_resets_them() {
    let mut scenario = LifecycleScenario::accepted();
    let mut waits = Vec::new();
    for _ in 0..9 {
        scenario.step(after(60), failing(FaultCode::VendorError));
        waits.push(scenario.due_in(after(60)));
    }
    // With a jitter of one half, the pause is half of the ceiling and at least the floor. The ceiling doubles from
    // the floor to the cap.
    assert_eq!(waits, [5, 5, 10, 20, 40, 80, 150, 150, 150]);
    assert_eq!(scenario.line(after(60), not_ready()), "processing, poll in 5 s");
    assert_eq!(scenario.work().errors, 0);
    assert_eq!(
        scenario.line(after(60), failing(FaultCode::VendorError)),
        "processing, poll in 5 s, last error error"
    );
}

#[test]
fn an_accepted_submit_resets_its_errors() {
    let mut scenario = LifecycleScenario::begin();
    scenario.step(START, Step::Submitted(SubmitOutcome::Unknown(fault(FaultCode::VendorTimeout))));
    scenario.step(after(60), Step::Polled(PollOutcome::NotFound(None)));
    assert!(scenario.analysis.last_error.is_some(), "the vendor does not have it yet");
    assert_eq!(
        scenario.line(after(60), Step::Submitted(SubmitOutcome::Accepted)),
        "processing, poll in 10 s"
    );
}

#[test]
fn retry_after_is_a_floor_with_a_cap() {
    let wait = |seconds| {
        let mut scenario = LifecycleScenario::accepted();
        scenario.step(after(60), Step::Polled(PollOutcome::Fault(busy(seconds))));
        scenario.due_in(after(60))
    };
    assert_eq!(
        [wait(0), wait(5), wait(90), wait(3600), wait(86_400), wait(u64::MAX)],
        [5, 5, 90, 3600, 3600, 3600]
    );
}

#[test]
fn the_last_poll_is_at_the_deadline() {
    let mut scenario = LifecycleScenario::accepted();
    assert_eq!(scenario.line(after(DEADLINE - 100), not_ready()), "processing, poll in 100 s");
    assert_eq!(
        scenario.line(after(DEADLINE), ready("salom")),
        "completed, settle in 120 s → analysis.completed"
    );
}

#[test]
fn every_stage_ends_at_the_deadline() {
    let ends = |stage, step: Step| LifecycleScenario::at_stage(stage).line(after(DEADLINE), step);
    let over = "failed, DeadlineExceeded → analysis.failed";
    for step in [not_ready(), empty(), Step::Polled(PollOutcome::Unchanged)] {
        assert_eq!(ends(Stage::Poll, step.clone()), over);
        assert_eq!(ends(Stage::Confirm, step), over);
    }
    let not_taken = Step::Submitted(SubmitOutcome::NotTaken(fault(FaultCode::TokenRefused)));
    let unknown = Step::Submitted(SubmitOutcome::Unknown(fault(FaultCode::VendorTimeout)));
    assert_eq!(
        ends(Stage::Submit, not_taken),
        "failed, DeadlineExceeded, last error token_refused → analysis.failed"
    );
    assert_eq!(
        ends(Stage::Submit, unknown),
        "failed, DeadlineExceeded, last error timeout → analysis.failed"
    );
    for stage in [Stage::Confirm, Stage::Poll] {
        assert_eq!(
            ends(stage, failing(FaultCode::VendorError)),
            "failed, DeadlineExceeded, last error error → analysis.failed"
        );
        assert_eq!(
            ends(stage, failing(FaultCode::AnswerUnreadable)),
            "failed, ResultUnreadable, last error unreadable → analysis.failed"
        );
    }
}

#[test]
fn a_call_that_is_unknown_after_the_deadline_is_not_submitted_again() {
    let line = LifecycleScenario::begin().line(after(DEADLINE), Step::Polled(PollOutcome::NotFound(None)));
    assert_eq!(line, "failed, DeadlineExceeded → analysis.failed");
}

#[test]
fn a_call_that_is_never_accepted_fails_with_the_vendors_words() {
    let mut scenario = LifecycleScenario::begin();
    let answer = PollOutcome::NotFound(Some("the vendor does not know the call (404): \"who?\"".to_owned()));
    scenario.step(after(DEADLINE), Step::Polled(answer));
    let detail = "the vendor did not accept the call before the deadline; its last answer: \
                  the vendor does not know the call (404): \"who?\"";
    assert_eq!(scenario.analysis.failure.unwrap().detail, detail);
}

#[test]
fn a_call_accepted_after_the_deadline_gets_one_poll() {
    let mut scenario = LifecycleScenario::begin();
    let accepted = scenario.line(after(DEADLINE + 60), Step::Submitted(SubmitOutcome::Accepted));
    assert_eq!(accepted, "processing, poll in 5 s");
    let line = scenario.line(after(DEADLINE + 65), not_ready());
    assert_eq!(line, "failed, DeadlineExceeded → analysis.failed");
}

#[test]
fn the_etag_of_an_unfinished_result_is_kept_while_it_is_valid() {
    let mut scenario = LifecycleScenario::accepted();
    for step in [not_ready(), Step::Polled(PollOutcome::Unchanged), failing(FaultCode::VendorError)] {
        scenario.step(after(60), step);
        assert_eq!(scenario.work().etag.as_deref(), Some("\"n\""));
    }
    scenario.step(after(60), Step::Polled(PollOutcome::NotFound(None)));
    assert_eq!(scenario.work().etag, None);
}

#[test]
fn an_answer_that_differs_only_in_its_warnings_is_no_revision() {
    let mut scenario = LifecycleScenario::completed();
    let mut again = obtained("salom");
    let code = crate::domain::answer_warnings::WarningCode::ByteOrderMark;
    again.result.warnings.push(crate::domain::answer_warnings::AnswerWarning { code, count: 1 });
    let effect = scenario.step(after(180), Step::Polled(PollOutcome::Ready(again)));
    assert_eq!((effect, scenario.analysis.revision), (Effect::default(), 1));
}

#[test]
fn a_settle_poll_that_always_fails_ends() {
    let mut scenario = LifecycleScenario::completed();
    let lines = [(); 3].map(|()| scenario.line(after(180), failing(FaultCode::VendorTimeout)));
    assert_eq!(lines, ["completed, settle in 5 s", "completed, settle in 5 s", "completed"]);
}

#[test]
fn a_settle_may_come_after_the_deadline() {
    let mut scenario = LifecycleScenario::accepted();
    scenario.step(after(DEADLINE - 1), ready("salom"));
    assert_eq!(scenario.due_in(after(DEADLINE - 1)), 120);
    assert_eq!(scenario.line(after(DEADLINE + 119), ready("salom yana")), "completed → analysis.updated");
}

#[test]
fn a_round_past_its_deadline_expires_without_a_poll() {
    let expire = |mut scenario: LifecycleScenario, second| {
        let policy = PollingPolicy::default();
        let current = scenario.held.as_ref();
        let context = Context {
            now: after(second),
            policy: &policy,
            jitter: 0.0,
            current,
            pace: None,
            learned: &LearnedAnswers::nothing(),
        };
        let effect = scenario.analysis.expire(&context);
        (effect.event, scenario.analysis)
    };
    for stage in [Stage::Submit, Stage::Poll] {
        let (event, analysis) = expire(LifecycleScenario::at_stage(stage), DEADLINE);
        assert_eq!(event, Some(EventKind::AnalysisFailed));
        let failure = analysis.failure.unwrap();
        assert_eq!((failure.code, failure.retryable), (FailureCode::DeadlineExceeded, true));
        let (event, analysis) = expire(LifecycleScenario::at_stage(stage), DEADLINE - 1);
        assert_eq!((event, analysis), (None, LifecycleScenario::at_stage(stage).analysis));
    }
    let mut unreadable = LifecycleScenario::accepted();
    unreadable.step(after(60), failing(FaultCode::AnswerUnreadable));
    let failure = expire(unreadable, DEADLINE).1.failure.unwrap();
    assert_eq!(failure.code, FailureCode::ResultUnreadable);
    assert_eq!(failure.detail, "no result before the deadline; last error: it did not help");
    // A completed analysis still waits for its settle poll.
    assert_eq!(
        expire(LifecycleScenario::completed(), DEADLINE * 2),
        (None, LifecycleScenario::completed().analysis)
    );
}
