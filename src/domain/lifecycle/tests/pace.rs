//! When the first look comes, and what is learned from a result that is found.

use super::*;

fn learned(first_look: u64) -> Option<Pace> {
    let first_look = Duration::from_secs(first_look);
    Some(Pace { first_look, samples: Pace::ENOUGH_SAMPLES, learned_at: Timestamp::from_millis(0) })
}

fn accepted() -> Step {
    Step::Submitted(SubmitOutcome::Accepted)
}

/// What a scenario that goes so, each step at its second, and ends with a result teaches one who knows nothing.
fn taught(steps: &[(u64, Step)], found: u64) -> Option<Duration> {
    let mut scenario = Scenario::begin();
    for (second, step) in steps {
        scenario.step(after(*second), step.clone());
    }
    scenario.pace = None;
    scenario.step(after(found), ready("salom")).pace.map(|pace| pace.first_look)
}

#[test]
fn the_first_look_comes_when_results_tend_to_come() {
    let mut scenario = Scenario { pace: learned(120), ..Scenario::begin() };
    assert_eq!(scenario.line(START, accepted()), "processing, poll in 120 s");
    assert_eq!(scenario.line(after(120), not_ready()), "processing, poll in 11 s");
}

#[test]
fn what_was_learned_from_few_is_not_yet_used() {
    let few = learned(120).map(|pace| Pace { samples: Pace::ENOUGH_SAMPLES - 1, ..pace });
    let mut scenario = Scenario { pace: few, ..Scenario::begin() };
    assert_eq!(scenario.line(START, accepted()), "processing, poll in 10 s");
}

#[test]
fn a_completion_teaches_between_the_look_before_and_its_own() {
    let seconds = taught(&[(0, accepted()), (100, not_ready())], 110).unwrap().as_secs_f64();
    assert!((100.0..110.0).contains(&seconds), "{seconds}");
}

#[test]
fn a_first_look_that_finds_it_teaches_somewhat_less_than_its_age() {
    let seconds = taught(&[(0, accepted())], 10).unwrap().as_secs_f64();
    assert!((8.0..10.0).contains(&seconds), "{seconds}");
}

#[test]
fn the_time_counts_from_the_acceptance_and_not_from_the_submission() {
    let steps = [(5000, accepted()), (5100, not_ready())];
    assert!(taught(&steps, 5110).unwrap() < Duration::from_secs(110));
}

#[test]
fn what_does_not_tell_how_long_it_took_teaches_nothing() {
    // Faults kept the look from coming in time.
    assert_eq!(taught(&[(0, accepted()), (10, failing(FaultCode::VendorTimeout))], 300), None);
    // The gateway was down when it was due.
    assert_eq!(taught(&[(0, accepted())], 3600), None);
    // Nobody knows when the vendor took it.
    let unknown = SubmitOutcome::Unknown(fault(FaultCode::VendorTimeout));
    assert_eq!(taught(&[(0, Step::Submitted(unknown))], 300), None);
    // It was not waited for.
    let mut scenario = Scenario::begin();
    let policy = policy();
    let context = Context { now: START, policy: &policy, jitter: 0.0, current: None, pace: None };
    assert_eq!(scenario.analysis.adopt(obtained("salom"), &context).pace, None);
}

#[test]
fn a_settle_look_and_silence_teach_nothing() {
    assert_eq!(Scenario::completed().step(after(180), ready("salom yana")).pace, None);
    let mut scenario = Scenario::accepted();
    scenario.step(after(100), empty());
    assert_eq!(scenario.step(after(700), empty()).pace, None);
}
