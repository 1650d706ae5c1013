//! Tests of the meaning of answers, and of the answers that are kept.

use super::*;
use crate::domain::vendor_token::VendorToken;

const HOUR: Duration = Duration::from_hours(1);
const START: Timestamp = Timestamp::from_millis(1_716_207_617_000);

fn at(hours: u32) -> Timestamp {
    START + HOUR * hours
}

fn shape(structure: &str, words: &str) -> AnswerShape {
    AnswerShape::new(200, structure, words, words)
}

fn probed(shapes: &[(u32, AnswerShape)]) -> LearnedAnswers {
    let mut learned = LearnedAnswers::nothing();
    for (hour, shape) in shapes {
        learned.learn_unknown(*shape, at(*hour));
    }
    learned
}

#[test]
fn a_probe_decides_only_about_calls_that_were_submitted_before() {
    let learned = probed(&[(1, shape("u", ""))]);
    let judge = |structure, hour| learned.judge(shape(structure, ""), at(hour), at(9));
    let unknown = Meaning::Unknown { is_proven: false };
    assert_eq!(judge("u", 1), Judgement::certain(unknown));
    assert_eq!(judge("u", 2), Judgement { needs_probe: Some(at(2)), ..Judgement::certain(unknown) });
    assert_eq!(judge("p", 1), Judgement::certain(Meaning::Known));
    assert_eq!(judge("p", 2), Judgement { needs_probe: Some(at(2)), ..Judgement::certain(Meaning::Known) });
    let not_found = AnswerShape::new(404, "", "", "");
    assert_eq!(learned.judge(not_found, at(2), at(9)), Judgement::certain(unknown));
    assert_eq!((learned.overdue_probe(at(24)), learned.overdue_probe(at(26))), (None, Some(at(2))));
}

#[test]
fn an_answer_that_no_call_in_progress_had_is_unexpected() {
    let mut learned = probed(&[(1, shape("u", ""))]);
    let is_unexpected =
        |learned: &LearnedAnswers, structure| learned.judge(shape(structure, ""), at(2), at(3)).is_unexpected;
    assert!(!is_unexpected(&learned, "p"), "nothing is learned of calls in progress");
    learned.learn_pending(&[shape("p", "")], at(2));
    assert!(is_unexpected(&learned, "q") && !is_unexpected(&learned, "p") && !is_unexpected(&learned, "u"));
}

#[test]
fn a_probe_in_the_future_does_not_count() {
    let learned = probed(&[(5000, shape("u", ""))]);
    assert_eq!(learned.overdue_probe(at(30)), Some(at(6)));
    assert!(learned.lacks_probe(at(1), at(30)) && !learned.lacks_probe(at(1), at(5000)));
    let judgement = learned.judge(shape("u", ""), at(29), at(30));
    assert_eq!(
        (judgement.meaning, judgement.needs_probe),
        (Meaning::Unknown { is_proven: false }, Some(at(29)))
    );
}

#[test]
fn answers_of_calls_in_progress_outlive_a_change_of_the_token() {
    let account = |token| VendorToken::parse(token).unwrap().fingerprint();
    let mut learned = LearnedAnswers::nothing().of_account(account("a"));
    learned.learn_unknown(shape("u", ""), at(1));
    learned.learn_pending(&[shape("u", "")], at(2));
    let mut rotated = learned.of_account(account("b"));
    assert!(rotated.lacks_probe(at(0), at(3)) && !rotated.is_unknown(shape("u", ""), at(3)));
    rotated.learn_unknown(shape("u", ""), at(3));
    assert_eq!(rotated.judge(shape("u", ""), at(3), at(4)).meaning, Meaning::Ambiguous);
}

#[test]
fn words_that_differ_between_probes_are_random() {
    let answer = shape("u", "ref qwerty");
    let learned = probed(&[(1, shape("u", "ref asdfgh"))]);
    let judgement = learned.judge(answer, at(0), at(2));
    assert_eq!(judgement.meaning, Meaning::Known);
    assert!(judgement.needs_probe.is_some_and(|since| since > at(1)), "one probe does not show it");
    let learned = probed(&[(1, shape("u", "ref asdfgh")), (2, shape("u", "ref zxcvbn"))]);
    assert_eq!(learned.judge(answer, at(0), at(2)).meaning, Meaning::Unknown { is_proven: false });
    // The probes got the same words twice, so an answer with other words is a different answer.
    let learned = probed(&[(1, shape("u", "no call")), (2, shape("u", "no call"))]);
    let known = Judgement::certain(Meaning::Known);
    assert_eq!(learned.judge(answer, at(0), at(2)), known);
}

#[test]
fn a_former_answer_for_unknown_calls_counts_for_two_days() {
    let (former, present) = (shape("u", ""), shape("v", ""));
    let learned = probed(&[(1, former), (2, present)]);
    let meaning = |shape, hour| learned.judge(shape, at(2), at(hour)).meaning;
    let unknown = Meaning::Unknown { is_proven: false };
    assert_eq!((meaning(former, 48), meaning(former, 49)), (unknown, Meaning::Known));
    assert_eq!(
        meaning(present, 1000),
        Meaning::Ambiguous,
        "the vendor may give it for all calls for a while"
    );
}

#[test]
fn an_answer_that_replaces_another_one_is_trusted_after_a_ready_call_and_a_probe() {
    let (former, present) = (shape("u", ""), shape("v", ""));
    let meaning = |learned: &LearnedAnswers| learned.judge(present, at(0), at(9)).meaning;
    let unknown = Meaning::Unknown { is_proven: false };
    let mut learned = probed(&[(1, former), (2, present), (3, present)]);
    assert_eq!((meaning(&learned), learned.confirming_probe(at(4))), (Meaning::Ambiguous, Some(at(4))));
    assert!(learned.learn_pending(&[], at(4)));
    assert_eq!((meaning(&learned), learned.confirming_probe(at(4))), (Meaning::Ambiguous, Some(at(4))));
    let mut again = learned.clone();
    again.learn_unknown(present, at(5));
    assert_eq!((meaning(&again), again.confirming_probe(at(5))), (unknown, None));
    // The vendor gave the answer for all calls for a while, and does so again later.
    learned.learn_unknown(former, at(5));
    assert_eq!(learned.confirming_probe(at(5)), None);
    assert_eq!(learned.judge(former, at(0), at(9)).meaning, unknown);
    learned.learn_pending(&[], at(6));
    learned.learn_unknown(present, at(7));
    assert_eq!(meaning(&learned), Meaning::Ambiguous);
}

#[test]
fn a_server_error_is_learned_only_without_another_answer() {
    let error = |structure| AnswerShape::new(500, structure, "", "");
    let mut learned = LearnedAnswers::nothing();
    assert!(learned.may_learn_unknown(error("e")));
    learned.learn_unknown(error("e"), at(1));
    assert_eq!(learned.judge(error("e"), at(0), at(2)), Judgement::certain(Meaning::Ambiguous));
    assert!(!learned.is_trusted(error("e"), at(2)));
    learned.learn_unknown(shape("u", ""), at(3));
    assert_eq!(learned.judge(shape("u", ""), at(0), at(4)).meaning, Meaning::Unknown { is_proven: false });
    assert!(!learned.may_learn_unknown(error("e")));
    assert_eq!(learned.judge(error("e"), at(9), at(10)), Judgement::certain(Meaning::Known));
}

#[test]
fn the_answers_of_calls_in_progress_are_bounded() {
    let mut learned = probed(&[(0, shape("u", ""))]);
    assert!(learned.learn_pending(&[shape("u", "")], at(1)));
    for number in 0..100 {
        assert!(learned.learn_pending(&[shape(&format!("p{number}"), "")], at(2)));
    }
    assert_eq!(learned.pending.len(), LearnedAnswers::MAX_PENDING);
    let meaning = learned.judge(shape("u", ""), at(0), at(3)).meaning;
    assert_eq!(meaning, Meaning::Ambiguous, "the answer that matters is dropped last");
}

#[test]
fn a_known_answer_of_calls_in_progress_is_written_once_an_hour() {
    let mut learned = LearnedAnswers::nothing();
    for _ in 0..LearnedAnswers::ENOUGH_CALLS {
        assert!(learned.learn_pending(&[shape("p", "")], at(1)));
    }
    assert!(!learned.learn_pending(&[shape("p", "")], at(1)));
    assert!(learned.learn_pending(&[shape("p", "")], at(2)));
    assert!(!learned.learn_pending(&[], at(9)));
}
