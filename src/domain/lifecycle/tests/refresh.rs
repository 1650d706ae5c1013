//! Tests of refreshes of finished analyses.

use super::steps::check;
use super::*;

/// Second at which the poll for late tags is due after [`LifecycleScenario::completed`].
const SETTLE: u64 = 180;

fn refresh(scenario: &mut LifecycleScenario, second: u64) -> bool {
    scenario.analysis.refresh(&PollingPolicy::default(), after(second))
}

/// Returns a completed analysis whose poll for late tags is over. A caller refreshed the analysis at this second.
fn refreshed_at_rest(second: u64) -> LifecycleScenario {
    let mut scenario = LifecycleScenario::completed();
    scenario.step(after(SETTLE), Step::Polled(PollOutcome::Unchanged));
    assert!(refresh(&mut scenario, second));
    scenario
}

fn failed() -> LifecycleScenario {
    let mut scenario = LifecycleScenario::accepted();
    scenario.step(after(60), Step::Polled(PollOutcome::Rejected("the vendor answered 400".to_owned())));
    scenario
}

#[test]
fn a_refresh_revises_the_result_or_keeps_it() {
    check(
        Stage::Refresh,
        &[
            (ready("salom"), "completed, settle in 120 s"),
            (ready("salom yana"), "completed, settle in 120 s → analysis.updated"),
            (empty(), "completed, settle in 120 s"),
            (not_ready(), "completed, settle in 120 s"),
            (Step::Polled(PollOutcome::Unchanged), "completed, settle in 120 s"),
            (Step::Polled(PollOutcome::NotFound(None)), "completed, settle in 120 s"),
            (
                Step::Polled(PollOutcome::Rejected("the vendor answered 400".to_owned())),
                "completed, settle in 120 s",
            ),
            (failing(FaultCode::VendorTimeout), "completed, refresh in 5 s, last error timeout"),
            (Step::Polled(PollOutcome::Fault(busy(77))), "completed, refresh in 77 s, last error throttled"),
        ],
    );
    let mut at_rest = refreshed_at_rest(1000);
    assert_eq!(at_rest.due_in(after(1000)), 0);
    assert_eq!(at_rest.line(after(1001), ready("salom yana")), "completed → analysis.updated");
    assert_eq!((at_rest.analysis.revision, at_rest.analysis.finished_at), (2, Some(after(60))));
}

#[test]
fn a_refresh_that_always_fails_ends_with_the_error() {
    let mut scenario = refreshed_at_rest(1000);
    let lines = [(); 3].map(|()| scenario.line(after(1000), failing(FaultCode::VendorTimeout)));
    assert_eq!(
        lines,
        [
            "completed, refresh in 5 s, last error timeout",
            "completed, refresh in 5 s, last error timeout",
            "completed, last error timeout",
        ]
    );
    assert!(refresh(&mut scenario, 2000));
    assert_eq!(scenario.line(after(2000), Step::Polled(PollOutcome::Unchanged)), "completed");
}

#[test]
fn a_refresh_of_a_failed_analysis_completes_it_if_there_is_a_result() {
    let mut scenario = failed();
    assert!(refresh(&mut scenario, 1000));
    assert!(!scenario.analysis.is_under_way(), "the analysis stays failed until there is a result");
    for outcome in [
        PollOutcome::NotFound(None),
        PollOutcome::Unchanged,
        PollOutcome::Rejected("the vendor answered 400".to_owned()),
    ] {
        let mut scenario = scenario.clone();
        assert_eq!(scenario.line(after(1001), Step::Polled(outcome)), "failed, VendorRejected");
    }
    assert_eq!(scenario.line(after(1001), ready("salom")), "completed, settle in 120 s → analysis.completed");
    assert_eq!((scenario.analysis.revision, scenario.analysis.last_reanalysis), (1, None));
}

#[test]
fn a_refresh_changes_nothing_while_a_poll_is_planned() {
    for stage in [Stage::Submit, Stage::Poll, Stage::Refresh] {
        let mut scenario = LifecycleScenario::at_stage(stage);
        let before = scenario.analysis.clone();
        assert!(!refresh(&mut scenario, AFTER_ALL));
        assert_eq!(scenario.analysis, before, "{stage:?}");
    }
    let mut settling = LifecycleScenario::completed();
    settling.analysis.work.as_mut().unwrap().leased = true;
    let before = settling.analysis.clone();
    assert!(!refresh(&mut settling, AFTER_ALL));
    assert_eq!(settling.analysis, before);
}

const AFTER_ALL: u64 = 500;

#[test]
fn refreshes_of_a_call_are_the_minimal_interval_apart() {
    let mut scenario = refreshed_at_rest(1000);
    scenario.step(after(1001), Step::Polled(PollOutcome::Unchanged));
    assert!(refresh(&mut scenario, 1002));
    assert_eq!(scenario.due_in(after(1002)), 3);
    scenario.step(after(1005), Step::Polled(PollOutcome::Unchanged));
    assert!(refresh(&mut scenario, 1010));
    assert_eq!(scenario.due_in(after(1010)), 0);
    scenario.step(after(1010), Step::Polled(PollOutcome::Unchanged));
    // The clock was wrong at the last refresh.
    assert!(refresh(&mut scenario, 500));
    assert_eq!(scenario.due_in(after(500)), 5);
}

#[test]
fn a_new_analysis_replaces_a_refresh() {
    let mut scenario = refreshed_at_rest(1000);
    scenario.analysis.resubmitted(&submission(true), after(1001));
    assert_eq!(scenario.work().stage, Stage::Submit);
    assert!(!scenario.analysis.is_refreshing());
}

#[test]
fn a_refresh_past_its_deadline_ends() {
    let mut scenario = refreshed_at_rest(1000);
    let (policy, rested) = (PollingPolicy::default(), {
        let mut rested = scenario.analysis.clone();
        rested.work = None;
        rested
    });
    let current = scenario.held.as_ref();
    let context = Context {
        now: after(1000 + 86_400),
        policy: &policy,
        jitter: 0.0,
        current,
        pace: None,
        learned: &LearnedAnswers::nothing(),
    };
    assert_eq!(scenario.analysis.expire(&context), Effect::default());
    assert_eq!(scenario.analysis, rested);
}
