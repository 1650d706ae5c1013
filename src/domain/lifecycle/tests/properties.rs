//! Tests of invariants that hold for all behaviours of the vendor, the clock and the callers.

use proptest::prelude::*;

use super::*;

const MINUTE: i64 = 60_000;

/// Random event in a scenario.
#[derive(Debug, Clone)]
enum RandomEvent {
    /// A caller submits the call again.
    Submission { reanalyze: bool },
    /// A caller refreshes the analysis.
    Refresh,
    /// A worker claims the work and its process dies.
    Crash,
    /// The work ends. The first outcome applies if the work is a submit. The second outcome applies if the work is a poll.
    Work(SubmitOutcome, PollOutcome),
}

fn faults() -> impl Strategy<Value = VendorFault> {
    let codes = prop::sample::select(vec![
        FaultCode::VendorUnreachable,
        FaultCode::VendorTimeout,
        FaultCode::VendorError,
        FaultCode::VendorThrottled,
        FaultCode::TokenRefused,
        FaultCode::CallNotFound,
        FaultCode::AnswerUnreadable,
    ]);
    (codes, prop::option::of(any::<Duration>()))
        .prop_map(|(code, retry_after)| VendorFault { retry_after, ..fault(code) })
}

fn submit_outcomes() -> impl Strategy<Value = SubmitOutcome> {
    prop_oneof![
        2 => Just(SubmitOutcome::Accepted),
        2 => faults().prop_map(SubmitOutcome::NotTaken),
        2 => faults().prop_map(SubmitOutcome::Unknown),
        1 => Just(SubmitOutcome::Rejected("the vendor answered 400".to_owned())),
    ]
}

/// Returns all poll outcomes that do not end an analysis at once.
fn unfinished_outcomes() -> impl Strategy<Value = PollOutcome> {
    prop_oneof![
        Just(PollOutcome::Empty(obtained(""))),
        Just(PollOutcome::NotReady { etag: None, retry_after: None, detail: None }),
        Just(PollOutcome::Unchanged),
        Just(PollOutcome::NotFound(None)),
        faults().prop_map(PollOutcome::Fault),
    ]
}

fn poll_outcomes() -> impl Strategy<Value = PollOutcome> {
    prop_oneof![
        6 => unfinished_outcomes(),
        2 => prop::sample::select(vec!["salom", "yana"]).prop_map(|words| PollOutcome::Ready(obtained(words))),
        1 => Just(PollOutcome::Rejected("the vendor answered 400".to_owned())),
    ]
}

fn happenings() -> impl Strategy<Value = RandomEvent> {
    prop_oneof![
        1 => any::<bool>().prop_map(|reanalyze| RandomEvent::Submission { reanalyze }),
        1 => Just(RandomEvent::Refresh),
        1 => Just(RandomEvent::Crash),
        6 => (submit_outcomes(), poll_outcomes()).prop_map(|(submit, poll)| RandomEvent::Work(submit, poll)),
    ]
}

/// Generates time steps: mostly small steps, some past the deadline, and some backwards.
fn jumps() -> impl Strategy<Value = i64> {
    prop_oneof![4 => 0..20 * MINUTE, 1 => 0..3000 * MINUTE, 1 => -3000 * MINUTE..0]
}

/// Returns the step that fits the stage.
fn step_of(stage: Stage, submit: SubmitOutcome, poll: PollOutcome) -> Step {
    if stage == Stage::Submit { Step::Submitted(submit) } else { Step::Polled(poll) }
}

/// Returns whether `step` may plan a submit at `stage`.
fn allows_submit(stage: Stage, step: &Step) -> bool {
    matches!(
        (stage, step),
        (_, Step::Submitted(SubmitOutcome::NotTaken(_)))
            | (Stage::Confirm, Step::Polled(PollOutcome::NotFound(_)))
    )
}

/// Checks the invariants of a state.
fn check_state(analysis: &Analysis) -> Result<(), TestCaseError> {
    prop_assert_eq!(analysis.status == Status::Failed, analysis.failure.is_some());
    prop_assert_eq!(analysis.status.is_finished(), analysis.finished_at.is_some());
    prop_assert_eq!(analysis.status == Status::Completed, analysis.revision > 0);
    prop_assert!(analysis.status.is_finished() || analysis.is_under_way(), "stranded");
    let is_refreshing = analysis.work.as_ref().is_some_and(|work| work.stage == Stage::Refresh);
    let rests = analysis.work.is_none() || is_refreshing;
    prop_assert!(analysis.status != Status::Failed || rests, "failed and at work");
    prop_assert!(analysis.reanalysis().is_none() || analysis.is_under_way());
    Ok(())
}

/// Checks the invariants of a step and returns its event.
fn check_step(
    scenario: &mut LifecycleScenario,
    now: Timestamp,
    step: Step,
) -> Result<Option<EventKind>, TestCaseError> {
    let before = scenario.analysis.clone();
    let began = before.work.clone().unwrap();
    // The old result of a repeated analysis does not show whether the vendor accepted the submit.
    let is_old = matches!(&step, Step::Polled(PollOutcome::Ready(obtained))
        if scenario.held.as_ref() == Some(&obtained.result));
    let may_submit = allows_submit(began.stage, &step) || (began.stage == Stage::Confirm && is_old);
    let (confirming, refreshing) = (began.stage == Stage::Confirm, began.stage == Stage::Refresh);
    let effect = scenario.step(now, step);
    let analysis = &scenario.analysis;

    prop_assert!(before.status != Status::Completed || analysis.status == Status::Completed, "a step back");
    prop_assert_eq!(analysis.revision, before.revision + u32::from(effect.obtained.is_some()));
    prop_assert!(effect.obtained.is_none() || effect.event.is_some(), "a result without an event");
    match effect.event {
        Some(EventKind::AnalysisUpdated) => prop_assert_eq!(before.status, Status::Completed),
        Some(EventKind::AnalysisCompleted) => prop_assert!(!before.status.is_finished() || refreshing),
        Some(EventKind::AnalysisFailed) => prop_assert!(!before.status.is_finished()),
        Some(EventKind::WebhookDisabled) => prop_assert!(false, "an event of a webhook"),
        None => prop_assert!(
            analysis.status == before.status || analysis.status == Status::Processing,
            "an outcome without an event"
        ),
    }
    if let Some(work) = &analysis.work {
        let at_once = work.stage == Stage::Submit && work.due_at == now;
        prop_assert!(work.stage != Stage::Submit || may_submit, "the vendor may have the call");
        prop_assert!(!at_once || confirming, "only a denied call is sent at once");
        prop_assert!(at_once || work.due_at >= now + PollingPolicy::default().min_interval, "a hot loop");
        if work.stage.is_of_round() {
            let latest = (work.started_at + PollingPolicy::default().deadline)
                .max(now + PollingPolicy::default().min_interval);
            prop_assert!(work.due_at <= latest, "due long after the deadline");
        }
        prop_assert_eq!(work.started_at, began.started_at);
    }
    let ended = before.reanalysis().filter(|_| !analysis.is_under_way());
    let expected = ended.map_or(before.last_reanalysis, |_| analysis.last_reanalysis);
    prop_assert_eq!(analysis.last_reanalysis, expected, "only the end of a reanalysis is recorded");
    if let Some(ended) = ended {
        prop_assert!(effect.event.is_some(), "a reanalysis ends without an event");
        let last = analysis.last_reanalysis.unwrap();
        prop_assert_eq!((last.since, last.ended_at), (ended.since, now));
        prop_assert_eq!(last.outcome == ReanalysisOutcome::Failed, effect.obtained.is_none());
    }
    check_state(analysis)?;
    Ok(effect.event)
}

proptest! {
    #[test]
    fn every_scenario_keeps_the_invariants(plot in prop::collection::vec((jumps(), happenings()), 1..60)) {
        let mut scenario = LifecycleScenario::begin();
        let mut now = START;
        let mut ends = 0;
        for (jump, happening) in plot {
            now = Timestamp::from_millis(now.as_millis() + jump);
            match happening {
                RandomEvent::Submission { reanalyze } => {
                    let before = scenario.analysis.clone();
                    scenario.analysis.resubmitted(&submission(reanalyze), now);
                    let restarted = reanalyze && !before.is_under_way();
                    prop_assert_eq!(scenario.analysis != before, restarted);
                    if restarted && before.status == Status::Failed {
                        ends = 0;
                    }
                    check_state(&scenario.analysis)?;
                }
                RandomEvent::Refresh => {
                    let before = scenario.analysis.clone();
                    let planned = scenario.analysis.refresh(&PollingPolicy::default(), now);
                    prop_assert_eq!(scenario.analysis != before, planned);
                    prop_assert!(!planned || before.status.is_finished());
                    if before.status == Status::Failed {
                        ends = 0;
                    }
                    check_state(&scenario.analysis)?;
                }
                RandomEvent::Crash => scenario.claim(now),
                RandomEvent::Work(submit, poll) => {
                    let Some(stage) = scenario.analysis.work.as_ref().map(|work| work.stage) else { continue };
                    let event = check_step(&mut scenario, now, step_of(stage, submit, poll))?;
                    ends += u32::from(matches!(
                        event,
                        Some(EventKind::AnalysisCompleted | EventKind::AnalysisFailed)
                    ));
                    prop_assert!(ends <= 1, "the same end twice");
                }
            }
        }
    }

    #[test]
    fn every_round_ends_soon_after_its_deadline_with_a_bounded_number_of_polls(
        answers in prop::collection::vec((submit_outcomes(), unfinished_outcomes()), 1..20),
        completed in any::<bool>(),
    ) {
        let mut scenario = if completed { LifecycleScenario::completed() } else { LifecycleScenario::begin() };
        let started = after(if completed { 1000 } else { 0 });
        scenario.analysis.resubmitted(&submission(completed), started);
        let mut now = started;
        let mut at_once = 0;
        // The vendor always gives the same answer, and all work happens when it is due.
        for (submit, poll) in answers.into_iter().cycle() {
            if !scenario.analysis.is_under_way() {
                break;
            }
            let work = scenario.work().clone();
            at_once = if work.due_at > now { 0 } else { at_once + 1 };
            prop_assert!(at_once <= 1, "asked again and again at one moment");
            now = now.max(work.due_at);
            check_step(&mut scenario, now, step_of(work.stage, submit, poll))?;
        }
        // The last poll happens at the deadline. One more poll follows if the call was accepted only at the deadline.
        prop_assert!(now.since(started) <= PollingPolicy::default().deadline + PollingPolicy::default().min_interval * 2);
    }
}
