//! Further submissions of a call, and analysing it anew.

use super::*;

const AGAIN: u64 = 1000;

fn metadata(ticket: &str) -> Metadata {
    let object = serde_json::json!({ "ticket": ticket });
    Metadata::parse(object.as_object().unwrap().clone()).unwrap()
}

/// Completed with the words "salom", and to be analysed anew from [`AGAIN`] on.
fn anew() -> Scenario {
    let mut scenario = Scenario::completed();
    scenario.analysis.resubmitted(&submission(true), after(AGAIN));
    scenario
}

fn anew_accepted() -> Scenario {
    let mut scenario = anew();
    scenario.step(after(AGAIN), Step::Submitted(SubmitOutcome::Accepted));
    scenario
}

#[test]
fn a_further_submission_changes_nothing_but_metadata() {
    for stage in Stage::ALL {
        let mut scenario = Scenario::at_stage(stage);
        let before = scenario.analysis.clone();
        scenario.analysis.resubmitted(&submission(false), after(AGAIN));
        assert_eq!(scenario.analysis, before);
        let with_metadata = Submission { metadata: Some(metadata("T-2")), ..submission(false) };
        scenario.analysis.resubmitted(&with_metadata, after(AGAIN));
        assert_eq!(scenario.analysis, Analysis { metadata: metadata("T-2"), ..before });
    }
}

#[test]
fn what_is_under_way_is_not_begun_anew() {
    for stage in [Stage::Submit, Stage::Poll] {
        let mut scenario = Scenario::at_stage(stage);
        let before = scenario.analysis.clone();
        scenario.analysis.resubmitted(&submission(true), after(AGAIN));
        assert_eq!(scenario.analysis, before);
    }
    let mut scenario = anew();
    let before = scenario.analysis.clone();
    scenario.analysis.resubmitted(&submission(true), after(AGAIN + 1));
    assert_eq!(scenario.analysis, before);
}

#[test]
fn a_failed_one_begins_again() {
    let mut scenario = Scenario::accepted();
    scenario.step(after(60), failing(FaultCode::VendorError));
    scenario.step(after(70), Step::Polled(PollOutcome::Rejected(400)));
    scenario.analysis.resubmitted(&submission(true), after(AGAIN));
    assert_eq!(
        scenario.analysis,
        Analysis { work: Some(Work::begin(after(AGAIN))), ..Scenario::begin().analysis }
    );
    scenario.step(after(AGAIN), Step::Submitted(SubmitOutcome::Accepted));
    assert_eq!(
        scenario.line(after(AGAIN + 60), ready("salom")),
        "completed, settle in 120 s → analysis.completed"
    );
}

#[test]
fn a_completed_one_stays_completed_and_gets_a_revision() {
    let mut scenario = anew();
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
fn the_old_result_is_taken_for_a_new_one_only_if_it_stays() {
    let mut scenario = anew_accepted();
    assert_eq!(scenario.line(after(AGAIN + 599), ready("salom")), "completed, poll in 59 s");
    assert_eq!(
        scenario.line(after(AGAIN + 600), ready("salom")),
        "completed, settle in 120 s → analysis.updated"
    );
}

#[test]
fn silence_never_takes_the_place_of_talk() {
    let mut scenario = anew_accepted();
    scenario.step(after(AGAIN + 60), empty());
    assert_eq!(scenario.line(after(AGAIN + 3000), empty()), "completed, poll in 299 s");
    let over = scenario.line(after(AGAIN + 86_400), empty());
    assert_eq!(over, "completed, last error timeout → analysis.updated");
}

#[test]
fn a_round_that_brings_nothing_is_announced_with_the_result_that_stands() {
    let over = after(AGAIN + 86_400);
    let ends = [
        (over, not_ready(), "completed, last error timeout → analysis.updated"),
        (over, failing(FaultCode::TokenRefused), "completed, last error token_refused → analysis.updated"),
        (over, failing(FaultCode::AnswerUnreadable), "completed, last error unreadable → analysis.updated"),
        (
            after(AGAIN + 60),
            Step::Polled(PollOutcome::Rejected(400)),
            "completed, last error error → analysis.updated",
        ),
    ];
    for (now, step, line) in ends {
        let mut scenario = anew_accepted();
        assert_eq!(scenario.line(now, step.clone()), line, "{step:?}");
        assert_eq!((scenario.analysis.revision, scenario.analysis.failure), (1, None));
    }
}

#[test]
fn a_round_whose_call_goes_missing_ends_with_the_result_that_stands() {
    let mut scenario = anew_accepted();
    scenario.step(after(AGAIN + 60), Step::Polled(PollOutcome::NotFound));
    let line = scenario.line(after(AGAIN + 660), Step::Polled(PollOutcome::NotFound));
    assert_eq!(line, "completed, last error not_found → analysis.updated");
}

#[test]
fn what_went_wrong_is_forgotten_when_it_begins_anew() {
    let mut scenario = anew_accepted();
    scenario.step(after(AGAIN + 60), Step::Polled(PollOutcome::Rejected(400)));
    assert!(scenario.analysis.last_error.is_some());
    scenario.analysis.resubmitted(&submission(true), after(AGAIN + 100));
    assert_eq!(scenario.analysis.last_error, None);
}
