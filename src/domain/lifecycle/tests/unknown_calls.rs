//! Tests that every call is submitted once and completes, whatever the vendor answers for calls that it does not know.

use proptest::prelude::*;

use super::vendor_model::{Case, Model, SubmitFate, UnknownForm};
use super::*;
use crate::domain::answer_shape::AnswerShape;
use crate::domain::vendor_token::VendorToken;

/// Earlier calls of the tenant, from which the gateway has learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum History {
    /// No call was submitted before.
    None,
    /// Twenty calls completed in about three minutes each.
    Learned,
}

impl History {
    const ALL: [Self; 2] = [Self::None, Self::Learned];

    /// Runs the earlier calls with a vendor that answers unknown calls in this form.
    fn of(self, form: UnknownForm) -> LifecycleScenario {
        let mut last = LifecycleScenario::begin();
        let calls = if self == Self::None { 0 } else { 20 };
        for call in 0..calls {
            let case =
                Case { form, fates: Vec::new(), crash: None, takes: Duration::from_secs(150 + 3 * call) };
            last = Model::new(case, &last, after(600 * call)).run().scenario;
        }
        last
    }
}

/// Runs a call of a tenant with this history, some hours later.
fn run(case: Case, history: &LifecycleScenario) -> Model {
    Model::new(case, history, after(4 * 3600)).run()
}

/// Returns the longest time from a submit without a result to the next submit of the call.
fn patience(history: &LifecycleScenario, form: UnknownForm) -> Duration {
    let twice = Pace::slowest(history.pace, &PollingPolicy::default()) * 2;
    let is_learned = history.pace.is_some();
    match form {
        UnknownForm::LikePending | UnknownForm::ServerError if is_learned => twice,
        _ if is_learned => PollingPolicy::default().first_after,
        _ => twice.min(PollingPolicy::default().not_found_grace),
    }
}

fn fate(accepted_after: Option<u64>, lost: FaultCode) -> SubmitFate {
    SubmitFate { accepted_after: accepted_after.map(Duration::from_secs), lost: Some(lost) }
}

/// Returns the cases to test: no crash, and a crash at each operation, before or after the request was sent.
fn crashes() -> Vec<Option<(usize, bool)>> {
    let mut crashes = vec![None];
    crashes.extend((0..10).flat_map(|operation| [Some((operation, false)), Some((operation, true))]));
    crashes
}

fn check_end(model: &Model, name: &str) {
    let analysis = &model.scenario.analysis;
    assert_eq!(analysis.status, Status::Completed, "{name}: {:?}", analysis.failure);
    let words = &model.scenario.held.as_ref().unwrap().transcript;
    assert_eq!(words.len(), 1, "{name}: completed as empty");
    assert!(model.probes <= 3, "{name}: {} probes", model.probes);
}

#[test]
fn every_call_is_submitted_once_and_completes() {
    let mut cases = 0;
    for form in UnknownForm::ALL {
        for history in History::ALL {
            let past = history.of(form);
            for lost in [FaultCode::VendorUnreachable, FaultCode::VendorTimeout, FaultCode::VendorError] {
                // The vendor accepts the call at once, never, or while the gateway still waits.
                for accepted_after in [Some(0), None, Some(7)] {
                    for crash in crashes() {
                        for takes in [20, 100, 180] {
                            let takes = Duration::from_secs(takes);
                            let fates = vec![fate(accepted_after, lost)];
                            let model = run(Case { form, fates, crash, takes }, &past);
                            let name = format!(
                                "{form:?} {history:?} {lost:?} {accepted_after:?} {crash:?} {takes:?}"
                            );
                            check_end(&model, &name);
                            assert_eq!(model.accepted_at.len(), 1, "{name}: accepted");
                            let submits = 1 + usize::from(accepted_after.is_none());
                            assert!(model.submits.len() <= submits, "{name}: {:?}", model.submits);
                            cases += 1;
                        }
                    }
                }
            }
        }
    }
    assert_eq!(cases, 9 * 2 * 3 * 3 * 21 * 3);
}

/// A server error may mean an outage, so it leads to one more submit at most, and never ends an accepted call.
#[test]
fn a_lost_call_is_submitted_once_more_after_server_errors() {
    let form = UnknownForm::ServerError;
    for history in History::ALL {
        let past = history.of(form);
        let takes = Duration::from_secs(100);
        for crash in crashes() {
            let lost = fate(None, FaultCode::VendorTimeout);
            let case = Case { form, fates: vec![lost], crash, takes };
            let model = run(case, &past);
            // The call may have at most two submits. A process that dies with a claimed submit uses up one of them.
            assert!(crash.is_some() || model.accepted_at.len() == 1);
            if !model.accepted_at.is_empty() {
                check_end(&model, &format!("{history:?} {crash:?}"));
            }
            let submits: Vec<_> = model.submits.iter().map(|(at, _)| *at).collect();
            assert!(submits.windows(2).all(|pair| pair[1].since(pair[0]) >= patience(&past, form)));
            assert!(submits.len() <= 2, "{history:?} {crash:?}: {submits:?}");
            let twice = Case { form, fates: vec![lost; 9], crash, takes };
            let model = run(twice, &past);
            assert_eq!(model.scenario.analysis.failure.unwrap().code, FailureCode::DeadlineExceeded);
            assert!(model.submits.len() <= 2, "{history:?} {crash:?}: {:?}", model.submits);
        }
        let forgotten = SubmitFate { accepted_after: None, lost: None };
        let model = run(Case { form, fates: vec![forgotten], crash: None, takes }, &past);
        assert_eq!(model.scenario.analysis.failure.unwrap().code, FailureCode::DeadlineExceeded);
        assert_eq!(model.submits.len(), 1);
    }
}

/// The gateway knows that the vendor gives another answer for unknown calls.
#[test]
fn server_errors_of_an_outage_lead_to_no_submit() {
    for known in UnknownForm::ALL {
        let past = History::Learned.of(known);
        let fates = vec![fate(None, FaultCode::VendorTimeout)];
        let model =
            run(Case { form: UnknownForm::ServerError, fates, crash: None, takes: Duration::ZERO }, &past);
        assert_eq!(model.submits.len(), 1, "{known:?}");
        assert_eq!(model.scenario.analysis.failure.unwrap().code, FailureCode::DeadlineExceeded);
    }
}

/// For hours, the vendor answers all polls and probes with a page. This happens twice, a week apart.
#[test]
fn calls_in_progress_survive_maintenance_of_the_vendor() {
    for form in UnknownForm::ALL {
        for history in History::ALL {
            for takes in [100, 7200, 30_000] {
                let mut scenario = history.of(form);
                for start in [4 * 3600, 7 * 24 * 3600, 14 * 24 * 3600] {
                    let takes = Duration::from_secs(takes);
                    let case = Case { form, fates: vec![SubmitFate::ANSWERED], crash: None, takes };
                    let model = Model::new(case, &scenario, after(start)).with_maintenance(20, 20_000).run();
                    let name = format!("{form:?} {history:?} {takes:?} {start}");
                    // Until such a call was ready once, the answer for a call in progress looks like the answer for an unknown
                    // call.
                    if form == UnknownForm::LikePending
                        && history == History::None
                        && takes.as_secs() > 20_600
                    {
                        continue;
                    }
                    assert_eq!(model.scenario.analysis.status, Status::Completed, "{name}");
                    assert_eq!(model.submits.len(), 1, "{name}");
                    scenario = model.scenario;
                }
            }
        }
    }
}

#[test]
fn a_lost_call_is_submitted_again_as_soon_as_the_history_allows() {
    for form in UnknownForm::ALL {
        for history in History::ALL {
            let past = history.of(form);
            let fates = vec![fate(None, FaultCode::VendorTimeout)];
            let takes = Duration::from_secs(100);
            let model = run(Case { form, fates, crash: None, takes }, &past);
            let [(first, _), (second, false)] = model.submits[..] else {
                panic!("{form:?}: {:?}", model.submits)
            };
            let (waited, patience) = (second.since(first), patience(&past, form));
            assert!(waited >= patience, "{form:?} {history:?}: after {waited:?}, before {patience:?}");
            assert!(
                waited <= patience.mul_f64(1.1) + Duration::from_secs(20),
                "{form:?} {history:?}: {waited:?}"
            );
        }
    }
}

/// The vendor accepted the call and processes it longer than any call before.
#[test]
fn a_call_in_progress_is_submitted_twice_only_after_twice_the_99th_percentile() {
    for history in History::ALL {
        let form = UnknownForm::LikePending;
        let past = history.of(form);
        let patience = patience(&past, form);
        for (takes, submits) in [(patience.mul_f64(0.8), 1), (patience * 2, 2)] {
            let fates = vec![fate(Some(0), FaultCode::VendorTimeout)];
            let model = run(Case { form, fates, crash: None, takes }, &past);
            check_end(&model, &format!("{history:?} {takes:?}"));
            assert_eq!(model.submits.len(), submits, "{history:?} {takes:?}");
        }
    }
}

#[test]
fn a_call_that_the_vendor_forgets_fails_as_not_found_unless_the_answer_is_ambiguous() {
    for form in UnknownForm::ALL {
        for history in History::ALL {
            // The vendor confirms the submit and never knows the call.
            let fates = vec![SubmitFate { accepted_after: None, lost: None }];
            let model = run(Case { form, fates, crash: None, takes: Duration::ZERO }, &history.of(form));
            let code = model.scenario.analysis.failure.unwrap().code;
            let is_ambiguous = form == UnknownForm::LikePending && history == History::Learned;
            let expected =
                if is_ambiguous { FailureCode::DeadlineExceeded } else { FailureCode::CallNotFound };
            assert_eq!((code, model.submits.len()), (expected, 1), "{form:?} {history:?}");
        }
    }
}

#[test]
fn a_vendor_that_changes_its_answer_for_unknown_calls_is_probed_again() {
    for (before, after) in UnknownForm::ALL.iter().flat_map(|one| UnknownForm::ALL.map(|other| (*one, other)))
    {
        let past = History::Learned.of(before);
        let fates = vec![fate(None, FaultCode::VendorTimeout)];
        let case = Case { form: after, fates, crash: None, takes: Duration::from_secs(100) };
        let model = run(case, &past);
        check_end(&model, &format!("{before:?} to {after:?}"));
        // 404 needs no probe. An answer that replaces another one needs a second probe after the call.
        let probes = match after {
            UnknownForm::NotFound => 0,
            _ if before == after => 1,
            _ => 2,
        };
        assert_eq!((model.submits.len(), model.probes), (2, probes), "{before:?} to {after:?}");
    }
}

/// The vendor's program fails for a moment. It sends an explanation with the status 200.
#[test]
fn an_unexpected_explanation_does_not_confirm_a_lost_submit() {
    let mut scenario = History::Learned.of(UnknownForm::Null);
    scenario.analysis = LifecycleScenario::begin().analysis;
    scenario.held = None;
    let start = 4 * 3600;
    scenario.step(after(start), Step::Submitted(SubmitOutcome::Unknown(fault(FaultCode::VendorTimeout))));
    scenario.learned.learn_unknown(AnswerShape::new(200, "Null", "", ""), after(start + 1));
    let detail = Some("the vendor answered without a result: \"try later\"".to_owned());
    let outcome = PollOutcome::NotReady { etag: None, retry_after: None, detail };
    let account = VendorToken::parse("token").unwrap().fingerprint();
    let shape = Some(AnswerShape::new(200, "try later", "", ""));
    let line = scenario.line(after(start + 5), Step::Answered(outcome, ShapedAnswer { shape, account }));
    assert!(line.starts_with("queued, confirm in"), "{line}");
    assert!(line.ends_with("last error unconfirmed"), "{line}");
}

fn fates() -> impl Strategy<Value = SubmitFate> {
    let accepted_after = prop::option::of((0..900_u64).prop_map(Duration::from_secs));
    let lost = prop::sample::select(vec![
        FaultCode::VendorUnreachable,
        FaultCode::VendorTimeout,
        FaultCode::VendorError,
        FaultCode::AnswerUnreadable,
    ]);
    (accepted_after, lost).prop_map(|(accepted_after, lost)| SubmitFate { accepted_after, lost: Some(lost) })
}

proptest! {
    #[test]
    fn a_call_is_submitted_again_only_if_it_is_lost_or_overdue(
        form in prop::sample::select(UnknownForm::ALL.to_vec()),
        history in prop::sample::select(History::ALL.to_vec()),
        fates in prop::collection::vec(fates(), 0..4),
        crash in prop::option::of((0..12_usize, any::<bool>())),
        takes in 1..550_u64,
    ) {
        let past = history.of(form);
        let case = Case { form, fates, crash, takes: Duration::from_secs(takes) };
        let model = run(case, &past);
        prop_assert_eq!(model.scenario.analysis.status, Status::Completed, "{:?}", model.scenario.analysis.failure);
        prop_assert_eq!(model.scenario.held.as_ref().unwrap().transcript.len(), 1, "completed as empty");
        let patience = patience(&past, form);
        for pair in model.submits.windows(2) {
            let ((earlier, _), (later, was_known)) = (pair[0], pair[1]);
            let waited = later.since(earlier);
            prop_assert!(waited >= PollingPolicy::default().first_after, "submitted again after {:?}", waited);
            prop_assert!(!was_known || waited >= patience, "a known call was submitted again after {:?}", waited);
        }
    }
}
