//! Results that have less content than the stored result.

use super::*;

const WHOLE: &str = "bir ikki uch to'rt besh olti yetti sakkiz";

fn tagged(words: &str, tags: usize) -> Step {
    let mut obtained = obtained(words);
    let tag = |number| Tag {
        name: format!("rule {number}"),
        value: serde_json::Value::Null,
        visible: serde_json::Value::Null,
        r#type: None,
        begin_ms: None,
        end_ms: None,
        match_text: None,
        fragment_id: None,
    };
    obtained.result.tags = (0..tags).map(tag).collect();
    Step::Polled(PollOutcome::Ready(obtained))
}

/// Creates an analysis that completed after a minute with eight turns and four tags.
fn whole() -> LifecycleScenario {
    let mut scenario = LifecycleScenario::accepted();
    scenario.step(after(60), tagged(WHOLE, 4));
    scenario
}

fn silent_turns() -> Step {
    let mut obtained = obtained(WHOLE);
    obtained.result.transcript.iter_mut().for_each(|turn| turn.text.clear());
    Step::Polled(PollOutcome::Ready(obtained))
}

#[test]
fn a_poll_for_late_tags_replaces_nothing_by_less() {
    for less in [
        tagged("bir", 4),
        tagged("bir ikki uch to'rt besh olti yetti", 4),
        tagged(WHOLE, 3),
        tagged(WHOLE, 0),
        silent_turns(),
    ] {
        let mut scenario = whole();
        for line in ["completed, settle in 5 s", "completed, settle in 5 s", "completed"] {
            let effect = scenario.clone().step(after(180), less.clone());
            assert!(effect.discarded.is_some() && effect.obtained.is_none(), "{effect:?}");
            assert_eq!(scenario.line(after(180), less.clone()), line);
        }
        assert_eq!(scenario.analysis.revision, 1);
    }
    let effect = whole().step(after(180), empty());
    assert!(effect.discarded.is_some() && effect.obtained.is_none(), "{effect:?}");
    // A later answer may be complete again and contain more tags.
    let mut scenario = whole();
    scenario.step(after(180), tagged("bir", 0));
    assert_eq!(scenario.line(after(190), tagged(WHOLE, 5)), "completed → analysis.updated");
}

#[test]
fn a_refresh_replaces_nothing_by_less_than_half() {
    let refreshed = || {
        let mut scenario = whole();
        scenario.step(after(180), Step::Polled(PollOutcome::Unchanged));
        assert!(scenario.analysis.refresh(&PollingPolicy::default(), after(1000)));
        scenario
    };
    for less in [tagged("bir", 4), tagged(WHOLE, 0), silent_turns()] {
        let mut scenario = refreshed();
        let lines = [(); 3].map(|()| scenario.line(after(1000), less.clone()));
        let waiting = "completed, refresh in 5 s, last error unreadable";
        assert_eq!(lines, [waiting, waiting, "completed, last error unreadable"]);
        assert_eq!(scenario.analysis.revision, 1);
    }
    let detail = {
        let mut scenario = refreshed();
        scenario.step(after(1000), tagged("bir", 0));
        scenario.analysis.last_error.unwrap().detail
    };
    let expected = "the vendor's answer has less content than the stored result: 1 of 8 turns, 0 of 4 tags, 3 of 34 bytes of text";
    assert_eq!(detail, expected);
    let somewhat_less = tagged("bir ikki uch to'rt besh olti yetti", 3);
    assert_eq!(refreshed().line(after(1000), somewhat_less), "completed → analysis.updated");
}

#[test]
fn a_new_analysis_with_less_than_half_of_the_talk_is_awaited_and_then_accepted() {
    let mut scenario = whole();
    scenario.analysis.resubmitted(&submission(true), after(1000));
    scenario.step(after(1000), Step::Submitted(SubmitOutcome::Accepted));
    for less in [tagged("bir", 4), silent_turns()] {
        let effect = scenario.clone().step(after(1060), less.clone());
        assert!(effect.discarded.is_some() && effect.obtained.is_none(), "{effect:?}");
        assert_eq!(scenario.clone().line(after(1060), less.clone()), "completed, poll in 5 s");
        let mut patient = scenario.clone();
        assert_eq!(patient.line(after(1600), less), "completed, settle in 120 s → analysis.updated");
        assert_eq!(patient.analysis.last_reanalysis.unwrap().outcome, ReanalysisOutcome::NewResult);
    }
    for whole_again in [tagged("boshqa ikki uch to'rt besh olti yetti", 2), tagged(WHOLE, 0)] {
        let line = scenario.clone().line(after(1060), whole_again);
        assert_eq!(line, "completed, settle in 120 s → analysis.updated");
    }
}
