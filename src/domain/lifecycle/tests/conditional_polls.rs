//! Polls with and without `If-None-Match`.

use super::*;

/// Applies the answer to each poll. Returns the ordinals of the conditional polls: the first poll has the ordinal 1.
fn conditional_polls(scenario: &mut LifecycleScenario, polls: u32, answer: &Step) -> Vec<u32> {
    let policy = PollingPolicy::default();
    let mut conditional = Vec::new();
    for number in 1..=polls {
        let at = scenario.work().due_at;
        conditional.extend(scenario.work().condition(&policy, at).map(|_| number));
        scenario.step(at, answer.clone());
    }
    conditional
}

#[test]
fn every_fourth_poll_and_the_last_poll_of_a_round_are_unconditional() {
    let policy = PollingPolicy::default();
    let mut scenario = LifecycleScenario::accepted();
    assert_eq!(conditional_polls(&mut scenario, 10, &not_ready()), [2, 3, 5, 6, 7, 9, 10]);
    let deadline = policy.deadline.as_secs();
    assert_eq!(scenario.work().condition(&policy, after(deadline - 1)), Some("\"n\""));
    assert_eq!(scenario.work().condition(&policy, after(deadline)), None);
}

#[test]
fn the_poll_for_late_tags_is_conditional_if_the_etag_has_changed_with_the_answer() {
    let policy = PollingPolicy::default();
    let condition = |answers: &[Step]| {
        let mut scenario = LifecycleScenario::accepted();
        answers.iter().for_each(|answer| drop(scenario.step(after(60), answer.clone())));
        let work = scenario.work();
        assert_eq!(work.stage, Stage::Settle);
        work.condition(&policy, work.due_at).map(str::to_owned)
    };
    let same = PollOutcome::NotReady { etag: Some("\"r\"".to_owned()), retry_after: None, detail: None };
    assert_eq!(condition(&[not_ready(), ready("salom")]), Some("\"r\"".to_owned()));
    assert_eq!(condition(&[Step::Polled(same), ready("salom")]), None);
    assert_eq!(condition(&[failing(FaultCode::VendorError), ready("salom")]), None);
    assert_eq!(condition(&[ready("salom")]), None);
}

#[test]
fn a_requested_poll_is_unconditional() {
    let mut scenario = LifecycleScenario::accepted();
    scenario.step(after(60), not_ready());
    scenario.step(after(60), ready("salom"));
    assert!(scenario.analysis.refresh(&PollingPolicy::default(), after(70)));
    assert_eq!(scenario.work().etag.as_deref(), Some("\"r\""));
    assert_eq!(scenario.work().condition(&PollingPolicy::default(), after(70)), None);
}
