//! Steps of each stage, and their outcomes.

use super::*;

/// Checks each step. The function applies each step to a new scenario, one minute after the submission.
pub(super) fn check(stage: Stage, table: &[(Step, &str)]) {
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

/// The vendor may refuse the second submit because it has the call from the first one.
#[test]
fn a_refusal_after_a_submit_of_unknown_outcome_is_confirmed_once() {
    let refused = || Step::Submitted(SubmitOutcome::Rejected("the vendor answered 409".to_owned()));
    let mut scenario = LifecycleScenario::begin();
    for second in [0, 20] {
        scenario
            .step(after(second), Step::Submitted(SubmitOutcome::Unknown(fault(FaultCode::VendorTimeout))));
        scenario.step(after(second + 5), Step::Polled(PollOutcome::NotFound(None)));
        scenario.step(after(second + 15), Step::Polled(PollOutcome::NotFound(None)));
        if second == 0 {
            let mut refused_once = scenario.clone();
            assert_eq!(refused_once.line(after(16), refused()), "queued, confirm in 5 s, last error error");
            let mut known = refused_once.clone();
            assert_eq!(known.line(after(21), not_ready()), "processing, poll in 5 s");
            refused_once.step(after(21), Step::Polled(PollOutcome::NotFound(None)));
            refused_once.step(after(31), Step::Polled(PollOutcome::NotFound(None)));
            assert_eq!(refused_once.work().stage, Stage::Submit);
            let line = refused_once.line(after(32), refused());
            assert_eq!(line, "failed, VendorRejected, last error error → analysis.failed");
        }
    }
    let line = scenario.line(after(36), refused());
    assert_eq!(line, "failed, VendorRejected, last error timeout → analysis.failed");
}

/// The tags of a silent call may arrive after its completion.
#[test]
fn a_silent_call_gets_its_late_tags() {
    let tagged = || {
        let mut obtained = obtained("");
        obtained.result.ai_call_id = Some("another".to_owned());
        Step::Polled(PollOutcome::Empty(obtained))
    };
    let mut scenario = LifecycleScenario::accepted();
    scenario.step(after(100), empty());
    scenario.step(after(700), empty());
    let mut refreshed = scenario.clone();
    assert!(refreshed.analysis.refresh(&PollingPolicy::default(), after(800)));
    for scenario in [&mut scenario, &mut refreshed] {
        let effect = scenario.step(after(820), tagged());
        assert_eq!((effect.event, scenario.analysis.revision), (Some(EventKind::AnalysisUpdated), 2));
    }
    let effect = LifecycleScenario::completed().step(after(180), tagged());
    assert!(effect.discarded.is_some(), "a result without turns never replaces a transcript");
    assert_eq!(Effect { discarded: None, ..effect }, Effect::default());
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
    let effect = scenario.adopt("salom");
    assert_eq!(effect.event, Some(EventKind::AnalysisCompleted));
    assert_eq!((scenario.analysis.status, scenario.analysis.revision), (Status::Completed, 1));
    assert_eq!((scenario.work().stage, scenario.due_in(START)), (Stage::Settle, 120));
    assert_eq!(scenario.work().etag.as_deref(), Some("\"r\""));
}
