//! Tests of the time of the first poll, and of learning from results.

use super::*;

fn learned(first_poll_after: u64) -> Option<Pace> {
    let first_poll_after = Duration::from_secs(first_poll_after);
    let learned_at = Timestamp::from_millis(0);
    Some(Pace { first_poll_after, slowest: first_poll_after * 3, samples: Pace::ENOUGH_SAMPLES, learned_at })
}

fn accepted() -> Step {
    Step::Submitted(SubmitOutcome::Accepted)
}

/// Returns the estimate after all `steps` and a result that is found at second `found`. The number in a step is the second
/// at which the step happens. There is no estimate before the first step.
fn taught(steps: &[(u64, Step)], found: u64) -> Option<Duration> {
    let mut scenario = LifecycleScenario::begin();
    for (second, step) in steps {
        scenario.step(after(*second), step.clone());
    }
    scenario.pace = None;
    scenario.step(after(found), ready("salom")).pace.map(|pace| pace.first_poll_after)
}

#[test]
fn the_first_poll_comes_when_results_tend_to_be_ready() {
    let mut scenario = LifecycleScenario { pace: learned(120), ..LifecycleScenario::begin() };
    assert_eq!(scenario.line(START, accepted()), "processing, poll in 120 s");
    assert_eq!(scenario.line(after(120), not_ready()), "processing, poll in 11 s");
}

#[test]
fn an_estimate_from_few_samples_is_not_used() {
    let few = learned(120).map(|pace| Pace { samples: Pace::ENOUGH_SAMPLES - 1, ..pace });
    let mut scenario = LifecycleScenario { pace: few, ..LifecycleScenario::begin() };
    assert_eq!(scenario.line(START, accepted()), "processing, poll in 10 s");
}

#[test]
fn a_completion_teaches_a_time_between_the_last_two_polls() {
    let seconds = taught(&[(0, accepted()), (100, not_ready())], 110).unwrap().as_secs_f64();
    assert!((100.0..110.0).contains(&seconds), "{seconds}");
}

#[test]
fn a_result_at_the_first_poll_teaches_slightly_less_than_its_age() {
    let seconds = taught(&[(0, accepted())], 10).unwrap().as_secs_f64();
    assert!((8.0..10.0).contains(&seconds), "{seconds}");
}

#[test]
fn the_processing_time_starts_at_the_acceptance() {
    let steps = [(5000, accepted()), (5100, not_ready())];
    assert!(taught(&steps, 5110).unwrap() < Duration::from_secs(110));
}

#[test]
fn a_result_of_unknown_processing_time_teaches_nothing() {
    // Errors delayed the poll.
    assert_eq!(taught(&[(0, accepted()), (10, failing(FaultCode::VendorTimeout))], 300), None);
    // The gateway was down when the poll was due.
    assert_eq!(taught(&[(0, accepted())], 3600), None);
    // The time of the acceptance is unknown.
    let unknown = SubmitOutcome::Unknown(fault(FaultCode::VendorTimeout));
    assert_eq!(taught(&[(0, Step::Submitted(unknown))], 300), None);
    // The result was adopted without a poll.
    let mut scenario = LifecycleScenario::begin();
    assert_eq!(scenario.adopt("salom").pace, None);
}

#[test]
fn settle_polls_and_empty_results_teach_nothing() {
    assert_eq!(LifecycleScenario::completed().step(after(180), ready("salom yana")).pace, None);
    let mut scenario = LifecycleScenario::accepted();
    scenario.step(after(100), empty());
    assert_eq!(scenario.step(after(700), empty()).pace, None);
}
