use proptest::prelude::*;

use super::*;

fn turn(speaker: &str, begin_ms: i64, end_ms: i64, text: &str) -> Turn {
    Turn { fragment_id: None, speaker: Speaker::from_word(speaker), begin_ms, end_ms, text: text.into() }
}

/// Returns the metrics of turns without words: `o` is the operator, `c` the client, any other character another
/// speaker.
fn talk(turns: &[(char, i64, i64)]) -> TalkMetrics {
    let word = |speaker| match speaker {
        'o' => "operator",
        'c' => "client",
        _ => "robot",
    };
    let turns: Vec<_> = turns.iter().map(|(who, begin, end)| turn(word(*who), *begin, *end, "")).collect();
    TalkMetrics::of(&turns)
}

#[test]
fn all_metrics_of_one_call() {
    let metrics = TalkMetrics::of(&[
        turn("client", 6_000, 9_000, "yoʻq, toʻgʻri emas"),
        turn("operator", 1_000, 5_000, "assalomu alaykum, sizga qanday yordam bera olaman"),
        turn("operator", 8_000, 10_000, "bir daqiqa"),
        turn("operator", 14_000, 15_000, "rahmat"),
        turn("robot", 15_500, 16_000, "beep"),
        turn("client", 3_000, 3_000, "no length, no turn"),
    ]);
    insta::assert_json_snapshot!(metrics, @r#"
    {
      "duration_ms": 16000,
      "operator": {
        "talk_ms": 7000,
        "talk_share": 0.7,
        "words_per_minute": 85.7,
        "longest_monologue_ms": 4000,
        "interruptions": 1
      },
      "client": {
        "talk_ms": 3000,
        "talk_share": 0.3,
        "words_per_minute": 60.0,
        "longest_monologue_ms": 2000,
        "interruptions": 0
      },
      "overtalk_ms": 1000,
      "silence_ms": 7000,
      "longest_silence_ms": 4000,
      "non_talk_ms": 4000,
      "speaker_switches_per_minute": 7.5,
      "median_response_ms": null,
      "thresholds": {
        "non_talk_ms": 3000,
        "monologue_pause_ms": 3000,
        "backchannel_ms": 500,
        "interruption_overlap_ms": 500
      }
    }
    "#);
}

#[test]
fn a_call_without_turns_has_zeros_and_no_response() {
    insta::assert_json_snapshot!(TalkMetrics::of(&[]), @r#"
    {
      "duration_ms": 0,
      "operator": {
        "talk_ms": 0,
        "talk_share": 0.0,
        "words_per_minute": 0.0,
        "longest_monologue_ms": 0,
        "interruptions": 0
      },
      "client": {
        "talk_ms": 0,
        "talk_share": 0.0,
        "words_per_minute": 0.0,
        "longest_monologue_ms": 0,
        "interruptions": 0
      },
      "overtalk_ms": 0,
      "silence_ms": 0,
      "longest_silence_ms": 0,
      "non_talk_ms": 0,
      "speaker_switches_per_minute": 0.0,
      "median_response_ms": null,
      "thresholds": {
        "non_talk_ms": 3000,
        "monologue_pause_ms": 3000,
        "backchannel_ms": 500,
        "interruption_overlap_ms": 500
      }
    }
    "#);
}

#[test]
fn overlapping_turns_count_once_and_a_negative_start_is_zero() {
    let metrics = talk(&[('o', -500, 2_000), ('o', 1_000, 3_000), ('c', 2_000, 4_000), ('c', -9, -1)]);
    assert_eq!(
        (metrics.operator.talk_ms, metrics.client.talk_ms, metrics.overtalk_ms),
        (3_000, 2_000, 1_000)
    );
    assert_eq!((metrics.operator.talk_share, metrics.client.talk_share), (0.6, 0.4));
}

#[test]
fn silence_counts_from_the_start_and_non_talk_over_three_seconds() {
    let metrics = talk(&[('o', 3_000, 4_000), ('c', 7_001, 8_000), ('?', 8_500, 9_000)]);
    assert_eq!(metrics.silence_ms, 3_000 + 3_001 + 1_000);
    assert_eq!((metrics.longest_silence_ms, metrics.non_talk_ms), (3_001, 3_001));
}

#[test]
fn an_interruption_starts_in_the_other_sides_speech_and_overlaps_it() {
    let interruptions = |turns: &[_]| {
        let metrics = talk(turns);
        (metrics.operator.interruptions, metrics.client.interruptions)
    };
    assert_eq!(interruptions(&[('o', 0, 5_000), ('c', 4_000, 6_000)]), (0, 1));
    assert_eq!(interruptions(&[('o', 0, 5_000), ('c', 4_499, 6_000)]), (0, 1));
    assert_eq!(interruptions(&[('o', 0, 5_000), ('c', 4_500, 6_000)]), (0, 0));
    assert_eq!(interruptions(&[('o', 0, 5_000), ('c', 1_000, 1_500)]), (0, 0));
    assert_eq!(interruptions(&[('o', 0, 5_000), ('c', 0, 5_000)]), (0, 0));
    assert_eq!(interruptions(&[('c', 0, 5_000), ('o', 5_000, 9_000), ('c', 6_000, 9_000)]), (0, 1));
}

#[test]
fn a_monologue_includes_short_pauses_and_short_remarks() {
    let longest = |turns: &[_]| talk(turns).operator.longest_monologue_ms;
    assert_eq!(longest(&[('o', 0, 2_000), ('o', 5_000, 6_000)]), 6_000);
    assert_eq!(longest(&[('o', 0, 2_000), ('o', 5_001, 6_000)]), 2_000);
    // One remark lies in a pause, and one remark overlaps the talk.
    assert_eq!(longest(&[('o', 0, 2_000), ('c', 2_200, 2_699), ('o', 3_000, 6_000)]), 6_000);
    assert_eq!(longest(&[('o', 0, 6_000), ('c', 2_000, 2_499)]), 6_000);
    // This is too long for a remark, so it ends the monologue.
    assert_eq!(longest(&[('o', 0, 2_000), ('c', 2_200, 2_700), ('o', 3_000, 6_000)]), 3_000);
    assert_eq!(longest(&[('o', 0, 6_000), ('c', 2_000, 2_500)]), 3_500);
    // The remark is short, but not wholly inside the monologue.
    assert_eq!(longest(&[('o', 0, 6_000), ('c', 5_800, 6_200)]), 5_800);
    assert_eq!(longest(&[('c', 0, 400), ('o', 200, 6_000)]), 5_600);
}

#[test]
fn a_response_is_the_silence_between_client_and_operator() {
    let median = |turns: &[_]| talk(turns).median_response_ms;
    assert_eq!(median(&[('c', 0, 1_000), ('o', 1_800, 2_000)]), Some(800));
    assert_eq!(median(&[('c', 0, 1_000), ('o', 1_000, 2_000)]), Some(0));
    assert_eq!(median(&[('o', 0, 1_000), ('c', 1_800, 2_000)]), None);
    // The client continues, so the response time starts at the client's last turn.
    assert_eq!(median(&[('c', 0, 1_000), ('c', 1_500, 2_000), ('o', 2_300, 3_000)]), Some(300));
    // The operator is already talking, so the next operator turn is not a response.
    assert_eq!(median(&[('c', 0, 1_000), ('o', 500, 2_000), ('o', 6_000, 7_000)]), None);
    assert_eq!(median(&[('c', 0, 10), ('o', 20, 30), ('c', 40, 50), ('o', 75, 80)]), Some(17));
}

#[test]
fn speaker_switches_count_per_minute() {
    let metrics = talk(&[('o', 0, 1), ('?', 2, 3), ('o', 4, 5), ('c', 6, 7), ('o', 8, 30_000)]);
    assert!((metrics.speaker_switches_per_minute - 4.0).abs() < f64::EPSILON);
}

fn turns(moments: impl Strategy<Value = i64> + Clone) -> impl Strategy<Value = Vec<Turn>> {
    let speaker = prop::sample::select(vec!["operator", "client", "robot"]);
    let one = (speaker, moments.clone(), moments, "[a-z'ʻ` ]{0,12}");
    prop::collection::vec(one.prop_map(|(who, begin, end, text)| turn(who, begin, end, &text)), 0..40)
}

fn moments() -> impl Strategy<Value = i64> + Clone {
    prop_oneof![-100..20_000_i64, any::<i64>(), Just(i64::MAX), Just(i64::MIN)]
}

proptest! {
    #[test]
    fn talk_and_silence_add_up_to_the_duration(turns in turns(moments())) {
        let metrics = TalkMetrics::of(&turns);
        let talk = i128::from(metrics.operator.talk_ms) + i128::from(metrics.client.talk_ms);
        let whole = talk - i128::from(metrics.overtalk_ms) + i128::from(metrics.silence_ms);
        prop_assert_eq!(whole, i128::from(metrics.duration_ms));
        prop_assert!(metrics.longest_silence_ms <= metrics.silence_ms);
        prop_assert!(metrics.non_talk_ms <= metrics.silence_ms);
        for side in [&metrics.operator, &metrics.client] {
            prop_assert!((0.0..=1.0).contains(&side.talk_share));
            prop_assert!(side.words_per_minute.is_finite());
            prop_assert!(side.longest_monologue_ms <= metrics.duration_ms);
        }
    }

    #[test]
    fn the_order_of_turns_does_not_matter(
        (turns, shuffled) in turns(-100..20_000_i64)
            .prop_flat_map(|turns| (Just(turns.clone()), Just(turns).prop_shuffle())),
    ) {
        prop_assert_eq!(TalkMetrics::of(&turns), TalkMetrics::of(&shuffled));
    }

    #[test]
    fn metrics_parse_their_own_json(turns in turns(-100..20_000_i64)) {
        let metrics = TalkMetrics::of(&turns);
        let json = serde_json::to_string(&metrics).unwrap();
        prop_assert_eq!(serde_json::from_str::<TalkMetrics>(&json).unwrap(), metrics);
    }
}
