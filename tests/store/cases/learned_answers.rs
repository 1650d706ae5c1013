//! Learned answers of the vendor, and the lease of the probe.

use std::time::Duration;

use alovoice_gateway::domain::analysis::{FaultCode, Stage};
use alovoice_gateway::domain::answer_shape::AnswerShape;
use alovoice_gateway::domain::learned_answers::{Judgement, LearnedAnswers, Meaning, ProbeOutcome};
use alovoice_gateway::domain::lifecycle::{PollOutcome, ShapedAnswer, Step, SubmitOutcome, VendorFault};
use alovoice_gateway::domain::vendor_token::{TokenFingerprint, VendorToken};
use alovoice_gateway::store::{Queue, StoreError};

use crate::harness::{Harness, START, acme, globex, obtained, submission};

const PAUSE: Duration = Duration::from_secs(10);
const LEASE: Duration = Duration::from_secs(20);

fn account(token: &str) -> TokenFingerprint {
    VendorToken::parse(token).unwrap().fingerprint()
}

fn shape(structure: &str) -> AnswerShape {
    AnswerShape::new(200, structure, "", "")
}

/// Claims a probe that has to start now or later, and learns its answer.
async fn probe(harness: &Harness, structure: &str) -> ProbeOutcome {
    let now = harness.now();
    let claim = harness.store.claim_probe(&acme(), account("a"), now, LEASE).await.unwrap().unwrap();
    harness.store.finish_probe(&acme(), claim, Some(shape(structure)), PAUSE).await.unwrap().unwrap()
}

async fn learned(harness: &Harness) -> LearnedAnswers {
    harness.store.find_learned_answers(&acme(), account("a")).await.unwrap()
}

/// The meaning of an answer for a call that was submitted at the start.
async fn judge(harness: &Harness, structure: &str) -> Judgement {
    learned(harness).await.judge(shape(structure), START, harness.now())
}

fn answered(outcome: PollOutcome, structure: Option<&str>) -> Step {
    Step::Answered(outcome, ShapedAnswer { shape: structure.map(shape), account: account("a") })
}

fn not_ready(structure: &str) -> Step {
    answered(PollOutcome::NotReady { etag: None, retry_after: None, detail: None }, Some(structure))
}

/// Completes a call whose first poll got an answer of this shape.
async fn complete_after(harness: &Harness, call: &str, structure: &str) {
    harness.submit(submission(call)).await;
    harness.submit_queued().await;
    for step in [not_ready(structure), answered(PollOutcome::Ready(obtained("salom")), None)] {
        harness.advance(100);
        let claimed = harness.claim(Queue::Polls).await;
        let call = claimed.into_iter().find(|claimed| claimed.analysis.revision == 0).unwrap();
        harness.store.apply(call.lease, step.into()).await.unwrap();
    }
}

pub(crate) async fn one_process_probes_at_a_time(harness: Harness) {
    let tenant = acme();
    let claim = |since| harness.store.claim_probe(&tenant, account("a"), since, LEASE);
    let first = claim(START).await.unwrap().unwrap();
    assert_eq!(claim(START).await.unwrap(), None, "the probe is in progress");
    assert!(harness.store.claim_probe(&globex(), account("a"), START, LEASE).await.unwrap().is_some());
    harness.advance(1);
    let outcome = harness.store.finish_probe(&acme(), first, Some(shape("u")), PAUSE).await.unwrap();
    assert_eq!(outcome, Some(ProbeOutcome::Learned));
    let now = harness.now();
    assert_eq!(claim(now).await.unwrap(), None, "the last probe was a moment ago");
    harness.advance(10);
    assert_eq!(claim(START).await.unwrap(), None, "a probe has started since");
    assert!(claim(now).await.unwrap().is_some());
}

pub(crate) async fn a_probe_without_an_answer_is_repeated_after_a_pause(harness: Harness) {
    let claim = harness.store.claim_probe(&acme(), account("a"), START, LEASE).await.unwrap().unwrap();
    assert_eq!(harness.store.finish_probe(&acme(), claim, None, PAUSE).await.unwrap(), None);
    assert_eq!(learned(&harness).await, LearnedAnswers::nothing().of_account(account("a")));
    harness.advance(10);
    assert_eq!(probe(&harness, "u").await, ProbeOutcome::Learned);
}

/// The clock was wrong during the probe.
pub(crate) async fn a_probe_in_the_future_does_not_count(harness: Harness) {
    harness.clock.set(START + Duration::from_hours(1000));
    probe(&harness, "u").await;
    assert!(!learned(&harness).await.lacks_probe(START, harness.now()));
    harness.clock.set(START);
    assert!(learned(&harness).await.lacks_probe(START, harness.now()));
    assert_eq!(judge(&harness, "u").await.needs_probe, Some(START));
}

pub(crate) async fn a_stale_probe_cannot_write(harness: Harness) {
    let stale = harness.store.claim_probe(&acme(), account("a"), START, LEASE).await.unwrap().unwrap();
    harness.advance(20);
    assert_eq!(probe(&harness, "u").await, ProbeOutcome::Learned);
    let late = harness.store.finish_probe(&acme(), stale, Some(shape("v")), PAUSE).await;
    assert!(matches!(late, Err(StoreError::LeaseLost)), "{late:?}");
    assert_eq!(judge(&harness, "v").await.meaning, Meaning::Known);
}

pub(crate) async fn a_changed_answer_is_noticed(harness: Harness) {
    assert_eq!(probe(&harness, "u").await, ProbeOutcome::Learned);
    harness.advance(100);
    assert_eq!(probe(&harness, "u").await, ProbeOutcome::Unchanged);
    harness.advance(100);
    assert_eq!(probe(&harness, "v").await, ProbeOutcome::Changed);
    assert_eq!(judge(&harness, "v").await.meaning, Meaning::Ambiguous, "it may be the answer for all calls");
    // A call becomes ready and asks for a probe, which gets the same answer.
    harness.submit(submission("1")).await;
    harness.submit_queued().await;
    harness.advance(100);
    let claimed = harness.claim_one(Queue::Polls).await;
    let ready = answered(PollOutcome::Ready(obtained("salom")), None);
    let since = harness.store.apply(claimed.lease, ready.into()).await.unwrap().probe;
    assert_eq!(since, Some(harness.now()));
    assert_eq!(probe(&harness, "v").await, ProbeOutcome::Unchanged);
    assert_eq!(judge(&harness, "v").await.meaning, Meaning::Unknown { is_proven: false });
}

pub(crate) async fn a_server_error_does_not_replace_a_learned_answer(harness: Harness) {
    assert_eq!(probe(&harness, "u").await, ProbeOutcome::Learned);
    harness.advance(100);
    let now = harness.now();
    let claim = harness.store.claim_probe(&acme(), account("a"), now, LEASE).await.unwrap().unwrap();
    let error = AnswerShape::new(500, "e", "", "");
    let outcome = harness.store.finish_probe(&acme(), claim, Some(error), PAUSE).await.unwrap();
    assert_eq!(outcome, None);
    let learned = learned(&harness).await;
    assert!(learned.is_unknown(shape("u"), now) && !learned.is_unknown(error, now));
    assert!(learned.lacks_probe(now, now));
}

pub(crate) async fn another_token_starts_without_learned_answers(harness: Harness) {
    probe(&harness, "u").await;
    harness.advance(100);
    let other = account("b");
    assert_ne!(other, account("a"));
    assert!(
        harness.store.find_learned_answers(&acme(), other).await.unwrap().lacks_probe(START, harness.now())
    );
    let claim = harness.store.claim_probe(&acme(), other, START, LEASE).await.unwrap().unwrap();
    let outcome = harness.store.finish_probe(&acme(), claim, Some(shape("v")), PAUSE).await.unwrap();
    assert_eq!(outcome, Some(ProbeOutcome::Learned));
    assert!(learned(&harness).await.lacks_probe(START, harness.now()), "the former token has to learn again");
}

pub(crate) async fn a_completed_call_teaches_the_answer_of_calls_in_progress(harness: Harness) {
    probe(&harness, "u").await;
    for call in 0..LearnedAnswers::ENOUGH_CALLS {
        assert_eq!(judge(&harness, "u").await.meaning, Meaning::Unknown { is_proven: false });
        complete_after(&harness, &format!("pending-{call}"), "p").await;
    }
    assert_eq!(judge(&harness, "u").await.meaning, Meaning::Unknown { is_proven: true });
    complete_after(&harness, "ambiguous", "u").await;
    assert_eq!(judge(&harness, "u").await.meaning, Meaning::Ambiguous);
    harness.advance(31 * 24 * 3600);
    assert_eq!(judge(&harness, "u").await.meaning, Meaning::Unknown { is_proven: false }, "forgotten");
}

pub(crate) async fn a_completion_does_not_undo_a_probe(harness: Harness) {
    harness.submit(submission("1")).await;
    harness.submit_queued().await;
    harness.advance(100);
    let claimed = harness.claim_one(Queue::Polls).await;
    let applied = harness.store.apply(claimed.lease, not_ready("p").into()).await.unwrap();
    assert!(applied.probe.is_some(), "the first answer asks for a probe");
    probe(&harness, "u").await;
    harness.advance(100);
    let claimed = harness.claim_one(Queue::Polls).await;
    let ready = answered(PollOutcome::Ready(obtained("salom")), None);
    let applied = harness.store.apply(claimed.lease, ready.into()).await.unwrap();
    assert_eq!(applied.probe, None);
    let learned = learned(&harness).await;
    assert!(!learned.lacks_probe(START, harness.now()));
    assert_eq!(
        learned.judge(shape("u"), START, harness.now()).meaning,
        Meaning::Unknown { is_proven: false }
    );
}

pub(crate) async fn a_claimed_submit_starts_a_new_history_of_answers(harness: Harness) {
    let fault =
        || VendorFault { code: FaultCode::VendorTimeout, detail: "late".to_owned(), retry_after: None };
    harness.submit(submission("1")).await;
    let claimed = harness.claim_one(Queue::Submits).await;
    let work = claimed.analysis.work.unwrap();
    assert_eq!((work.sent_at, work.submits), (Some(START), 1));
    harness
        .store
        .apply(claimed.lease, Step::Submitted(SubmitOutcome::Unknown(fault())).into())
        .await
        .unwrap();
    // 404 lasts until the call is submitted again.
    loop {
        harness.advance(300);
        let confirm = harness.claim_one(Queue::Polls).await;
        let not_found = AnswerShape::new(404, "u", "", "");
        let answer = ShapedAnswer { shape: Some(not_found), account: account("a") };
        let step = Step::Answered(PollOutcome::NotFound(None), answer);
        let work = harness.store.apply(confirm.lease, step.into()).await.unwrap().analysis.work.unwrap();
        assert_eq!(harness.find("1").await.analysis.work, Some(work.clone()));
        assert_eq!((work.sent_at, &work.shapes[..]), (Some(START), &[not_found][..]));
        if work.stage == Stage::Submit {
            break;
        }
    }
    let again = harness.claim_one(Queue::Submits).await.analysis.work.unwrap();
    assert_eq!((again.sent_at, again.submits, again.shapes), (Some(harness.now()), 2, Vec::new()));
    assert_eq!(again.denied_since, None);
}
