//! Comparison with call-ai-metrics, where both define a number in the same way.
//!
//! Talk time, shares, words per minute, overtalk and silence are equal for every call that begins at 0. Interruptions are equal if no
//! side pauses for less than 250 ms, since call-ai-metrics ignores shorter pauses. Monologues and responses are equal if the sides do
//! not overlap and no turn is shorter than 500 ms, since call-ai-metrics attributes overlaps differently.

use alovoice_gateway::domain::talk_metrics::TalkMetrics;
use alovoice_gateway::domain::transcript::{Speaker, Turn};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::transcripts::samples;
use super::{python, run, text};

/// The turns of a call: whether the client speaks, the pause before the turn, and its length, both in tens of milliseconds. The pause
/// is counted from the previous turn of the same side, or, without overlaps, from the previous turn.
type Beats = Vec<(bool, i64, i64)>;

fn beats() -> impl Strategy<Value = Beats> {
    prop::collection::vec((any::<bool>(), 25..600_i64, 1..800_i64), 1..40)
}

/// A call that begins at 0. With `over`, turns of both sides overlap.
fn talk(beats: &Beats, over: bool) -> Vec<Turn> {
    let mut ends = [-250_i64; 2];
    let mut turns = Vec::new();
    for (number, (is_client, pause, length)) in beats.iter().enumerate() {
        let side = usize::from(*is_client && over);
        let begin_ms = if number == 0 { 0 } else { ends[side].max(0) + pause * 10 };
        let end_ms = begin_ms + if over { length * 10 } else { 500 + length * 10 };
        ends[side] = end_ms;
        let speaker = if *is_client { Speaker::Client } else { Speaker::Operator };
        let words = vec!["soz"; usize::try_from(length / 40).unwrap() + 1].join(" ");
        turns.push(Turn { fragment_id: None, speaker, begin_ms, end_ms, text: words });
    }
    turns
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of minutes")]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

async fn measured(talks: &[Vec<Turn>]) -> Vec<Value> {
    let segment =
        |turn: &Turn| json!([seconds(turn.begin_ms), seconds(turn.end_ms), turn.speaker.as_str(), turn.text]);
    let talks: Vec<Vec<Value>> = talks.iter().map(|turns| turns.iter().map(segment).collect()).collect();
    let output = run(python("measure_talks.py"), json!(talks).to_string()).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Asserts that two numbers are equal within `tolerance`.
fn same(what: &str, ours: &Value, theirs: &Value, tolerance: f64, turns: &[Turn]) {
    let (Some(ours), Some(theirs)) = (ours.as_f64(), theirs.as_f64()) else {
        assert_eq!(ours, theirs, "{what} of {turns:?}");
        return;
    };
    assert!(
        (ours - theirs).abs() <= tolerance,
        "{what}: {ours}, call-ai-metrics has {theirs}, for {turns:?}"
    );
}

#[tokio::test]
async fn call_ai_metrics_computes_the_same_numbers() {
    for over in [true, false] {
        let talks: Vec<_> = samples(&beats(), 400).iter().map(|beats| talk(beats, over)).collect();
        let measured = measured(&talks).await;
        assert_eq!(measured.len(), talks.len());
        let mut seen = (0, 0, 0);
        for (turns, theirs) in talks.iter().zip(&measured) {
            let metrics = TalkMetrics::of(turns);
            let ours = serde_json::to_value(&metrics).unwrap();
            same("begin", &json!(0), &theirs["begin_ms"], 0.01, turns);
            same("duration", &ours["duration_ms"], &theirs["end_ms"], 0.01, turns);
            // call-ai-metrics returns shares of the call with six decimals.
            let six_decimals = seconds(metrics.duration_ms) * 1000.0 * 0.000_000_51 + 0.01;
            for number in ["overtalk_ms", "silence_ms"] {
                same(number, &ours[number], &theirs[number], six_decimals, turns);
            }
            same("longest silence", &ours["longest_silence_ms"], &theirs["longest_silence_ms"], 0.01, turns);
            for side in ["operator", "client"] {
                let (ours, theirs) = (&ours[side], &theirs[side]);
                same("talk", &ours["talk_ms"], &theirs["talk_ms"], 0.01, turns);
                same("share", &ours["talk_share"], &theirs["talk_share"], 0.000_051, turns);
                assert_eq!(ours["interruptions"], theirs["interruptions"], "{turns:?}");
                // call-ai-metrics returns no rate for a side that does not speak.
                if ours["talk_ms"] != 0 {
                    same("words", &ours["words_per_minute"], &theirs["words_per_minute"], 0.051, turns);
                }
                if !over {
                    let number = "longest_monologue_ms";
                    same(number, &ours[number], &theirs[number], 0.01, turns);
                }
            }
            if !over {
                // The mean of two values is rounded down to whole milliseconds.
                same(
                    "response",
                    &ours["median_response_ms"],
                    &theirs["operator"]["response_ms"],
                    0.51,
                    turns,
                );
            }
            seen.0 += metrics.operator.interruptions + metrics.client.interruptions;
            seen.1 += usize::from(metrics.overtalk_ms > 0);
            seen.2 += usize::from(metrics.median_response_ms.is_some());
        }
        // The generated calls cover the intended cases.
        assert_eq!((seen.0 > 400, seen.1 > 300), (over, over), "{seen:?}");
        assert!(seen.2 > 200, "{seen:?}");
    }
}
