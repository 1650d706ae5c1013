//! Tests of repeated submissions of a call, and of repeated analysis.

use super::*;
use crate::domain::analysis::ReanalysisStatus;
use crate::domain::call_facts::Direction;

const AGAIN: u64 = 1000;

fn metadata(ticket: &str) -> Metadata {
    let object = serde_json::json!({ "ticket": ticket });
    Metadata::parse(object.as_object().unwrap().clone()).unwrap()
}

/// Creates an analysis that completed with the words "salom" and was then submitted with `reanalyze` at [`AGAIN`].
fn reanalyzed() -> LifecycleScenario {
    let mut scenario = LifecycleScenario::completed();
    scenario.analysis.resubmitted(&submission(true), after(AGAIN));
    scenario
}

fn reanalyzed_accepted() -> LifecycleScenario {
    let mut scenario = reanalyzed();
    scenario.step(after(AGAIN), Step::Submitted(SubmitOutcome::Accepted));
    scenario
}

#[test]
fn a_repeated_submission_changes_only_the_metadata_and_the_call_facts() {
    for stage in Stage::ALL {
        let mut scenario = LifecycleScenario::at_stage(stage);
        let before = scenario.analysis.clone();
        scenario.analysis.resubmitted(&submission(false), after(AGAIN));
        assert_eq!(scenario.analysis, before);
        let with_metadata = Submission { metadata: Some(metadata("T-2")), ..submission(false) };
        scenario.analysis.resubmitted(&with_metadata, after(AGAIN));
        let call = CallFacts { direction: Some(Direction::Inbound), ..CallFacts::default() };
        scenario.analysis.resubmitted(&Submission { call: call.clone(), ..submission(false) }, after(AGAIN));
        assert_eq!(scenario.analysis, Analysis { metadata: metadata("T-2"), call, ..before });
    }
}

#[test]
fn a_round_in_progress_is_not_restarted() {
    for stage in [Stage::Submit, Stage::Poll] {
        let mut scenario = LifecycleScenario::at_stage(stage);
        let before = scenario.analysis.clone();
        scenario.analysis.resubmitted(&submission(true), after(AGAIN));
        assert_eq!(scenario.analysis, before);
    }
    let mut scenario = reanalyzed();
    let before = scenario.analysis.clone();
    scenario.analysis.resubmitted(&submission(true), after(AGAIN + 1));
    assert_eq!(scenario.analysis, before);
}

#[test]
fn a_failed_analysis_starts_again() {
    let mut scenario = LifecycleScenario::accepted();
    scenario.step(after(60), failing(FaultCode::VendorError));
    scenario.step(after(70), Step::Polled(PollOutcome::Rejected("the vendor answered 400".to_owned())));
    scenario.analysis.resubmitted(&submission(true), after(AGAIN));
    assert_eq!(
        scenario.analysis,
        Analysis { work: Some(Work::begin(after(AGAIN))), ..LifecycleScenario::begin().analysis }
    );
    scenario.step(after(AGAIN), Step::Submitted(SubmitOutcome::Accepted));
    assert_eq!(
        scenario.line(after(AGAIN + 60), ready("salom")),
        "completed, settle in 120 s → analysis.completed"
    );
}

#[test]
fn a_completed_analysis_stays_completed_and_gets_a_revision() {
    let mut scenario = reanalyzed();
    assert_eq!((scenario.analysis.status, scenario.work().stage), (Status::Completed, Stage::Submit));
    assert_eq!(
        scenario.line(after(AGAIN), Step::Submitted(SubmitOutcome::Accepted)),
        "completed, poll in 10 s"
    );
    assert_eq!(
        scenario.line(after(AGAIN + 60), ready("salom yana")),
        "completed, settle in 120 s → analysis.updated"
    );
    assert_eq!((scenario.analysis.revision, scenario.analysis.finished_at), (2, Some(after(AGAIN + 60))));
}

#[test]
fn the_old_result_counts_as_new_only_after_the_grace_period() {
    let mut scenario = reanalyzed_accepted();
    assert_eq!(scenario.line(after(AGAIN + 599), ready("salom")), "completed, poll in 59 s");
    assert_eq!(
        scenario.line(after(AGAIN + 600), ready("salom")),
        "completed, settle in 120 s → analysis.updated"
    );
}

#[test]
fn the_old_result_does_not_confirm_a_submit_of_unknown_outcome() {
    let mut scenario = reanalyzed();
    scenario.step(after(AGAIN), Step::Submitted(SubmitOutcome::Unknown(fault(FaultCode::VendorTimeout))));
    let line = scenario.line(after(AGAIN + 5), ready("salom"));
    assert_eq!(line, "completed, confirm in 5 s, last error unconfirmed");
    // The wait is twice the 99th percentile that is assumed until the gateway has learned it.
    let line = scenario.line(after(AGAIN + 599), ready("salom"));
    assert_eq!(line, "completed, confirm in 5 s, last error unconfirmed");
    assert_eq!(
        scenario.line(after(AGAIN + 604), ready("salom")),
        "completed, submit in 0 s, last error unconfirmed"
    );
    let mut scenario = reanalyzed();
    scenario.step(after(AGAIN), Step::Submitted(SubmitOutcome::Unknown(fault(FaultCode::VendorTimeout))));
    let line = scenario.line(after(AGAIN + 60), ready("salom yana"));
    assert_eq!(line, "completed, settle in 120 s → analysis.updated");
}

#[test]
fn an_empty_result_never_replaces_a_transcript() {
    let mut scenario = reanalyzed_accepted();
    scenario.step(after(AGAIN + 60), empty());
    assert_eq!(scenario.line(after(AGAIN + 3000), empty()), "completed, poll in 299 s");
    let over = scenario.line(after(AGAIN + 86_400), empty());
    assert_eq!(over, "completed, last error timeout → analysis.updated");
}

#[test]
fn a_round_without_a_result_is_announced_with_the_current_result() {
    let over = after(AGAIN + 86_400);
    let ends = [
        (over, not_ready(), "completed, last error timeout → analysis.updated"),
        (over, failing(FaultCode::TokenRefused), "completed, last error token_refused → analysis.updated"),
        (over, failing(FaultCode::AnswerUnreadable), "completed, last error unreadable → analysis.updated"),
        (
            after(AGAIN + 60),
            Step::Polled(PollOutcome::Rejected("the vendor answered 400".to_owned())),
            "completed, last error error → analysis.updated",
        ),
    ];
    for (now, step, line) in ends {
        let mut scenario = reanalyzed_accepted();
        assert_eq!(scenario.line(now, step.clone()), line, "{step:?}");
        assert_eq!((scenario.analysis.revision, scenario.analysis.failure), (1, None));
    }
}

#[test]
fn a_round_whose_call_goes_missing_keeps_the_current_result() {
    let mut scenario = reanalyzed_accepted();
    scenario.step(after(AGAIN + 60), Step::Polled(PollOutcome::NotFound(None)));
    let line = scenario.line(after(AGAIN + 660), Step::Polled(PollOutcome::NotFound(None)));
    assert_eq!(line, "completed, last error not_found → analysis.updated");
}

#[test]
fn a_new_round_clears_the_last_error() {
    let mut scenario = reanalyzed_accepted();
    scenario
        .step(after(AGAIN + 60), Step::Polled(PollOutcome::Rejected("the vendor answered 400".to_owned())));
    assert!(scenario.analysis.last_error.is_some());
    scenario.analysis.resubmitted(&submission(true), after(AGAIN + 100));
    assert_eq!(scenario.analysis.last_error, None);
}

/// Returns the status and the start of the reanalysis in progress.
fn reanalysis_of(scenario: &LifecycleScenario) -> Option<(ReanalysisStatus, Timestamp)> {
    scenario.analysis.reanalysis().map(|reanalysis| (reanalysis.status, reanalysis.since))
}

#[test]
fn a_first_analysis_is_not_a_reanalysis() {
    for stage in Stage::ALL {
        assert_eq!(reanalysis_of(&LifecycleScenario::at_stage(stage)), None, "{stage:?}");
        assert_eq!(LifecycleScenario::at_stage(stage).analysis.last_reanalysis, None, "{stage:?}");
    }
}

#[test]
fn a_reanalysis_shows_its_progress_and_its_end() {
    let since = after(AGAIN);
    let ends = [
        (60, ready("salom yana"), ReanalysisOutcome::NewResult),
        (600, ready("salom"), ReanalysisOutcome::SameResult),
        (
            60,
            Step::Polled(PollOutcome::Rejected("the vendor answered 400".to_owned())),
            ReanalysisOutcome::Failed,
        ),
        (86_400, not_ready(), ReanalysisOutcome::Failed),
    ];
    for (seconds, step, outcome) in ends {
        let mut scenario = reanalyzed();
        assert_eq!(reanalysis_of(&scenario), Some((ReanalysisStatus::Queued, since)));
        scenario.step(since, Step::Submitted(SubmitOutcome::Unknown(fault(FaultCode::VendorTimeout))));
        assert_eq!(reanalysis_of(&scenario), Some((ReanalysisStatus::Queued, since)));
        scenario.step(after(AGAIN + 10), not_ready());
        assert_eq!(reanalysis_of(&scenario), Some((ReanalysisStatus::Processing, since)));
        // The grace period of the previous result begins with the acceptance.
        let now = after(AGAIN + 10 + seconds);
        let effect = scenario.step(now, step);
        assert_eq!((effect.event, reanalysis_of(&scenario)), (Some(EventKind::AnalysisUpdated), None));
        assert_eq!(scenario.analysis.last_reanalysis, Some(LastReanalysis { outcome, since, ended_at: now }));
    }
}

#[test]
fn a_reanalysis_of_a_failed_call_shows_its_progress_and_its_end() {
    let mut scenario = LifecycleScenario::accepted();
    scenario.step(after(60), Step::Polled(PollOutcome::Rejected("the vendor answered 400".to_owned())));
    assert_eq!((reanalysis_of(&scenario), scenario.analysis.last_reanalysis), (None, None));
    scenario.analysis.resubmitted(&submission(true), after(AGAIN));
    assert_eq!(reanalysis_of(&scenario), Some((ReanalysisStatus::Queued, after(AGAIN))));
    scenario.step(after(AGAIN), Step::Submitted(SubmitOutcome::Accepted));
    assert_eq!(reanalysis_of(&scenario), Some((ReanalysisStatus::Processing, after(AGAIN))));
    scenario.step(after(AGAIN + 60), ready("salom"));
    let last = scenario.analysis.last_reanalysis.unwrap();
    assert_eq!((last.outcome, last.ended_at), (ReanalysisOutcome::NewResult, after(AGAIN + 60)));
}

#[test]
fn a_reanalysis_that_expires_has_failed() {
    let mut scenario = reanalyzed();
    let policy = PollingPolicy::default();
    let now = after(AGAIN + 86_400);
    let context = Context {
        now,
        policy: &policy,
        jitter: 0.0,
        current: scenario.held.as_ref(),
        pace: None,
        learned: &LearnedAnswers::nothing(),
    };
    assert_eq!(scenario.analysis.expire(&context).event, Some(EventKind::AnalysisUpdated));
    let last = scenario.analysis.last_reanalysis.unwrap();
    assert_eq!((last.outcome, last.since, last.ended_at), (ReanalysisOutcome::Failed, after(AGAIN), now));
}
