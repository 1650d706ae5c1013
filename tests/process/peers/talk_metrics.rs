//! call-ai-metrics, and where its numbers are defined as ours are.
//!
//! Both sides' talk, its shares, words a minute, overtalk and silence are the same of every talk that begins at 0.
//! Interruptions are the same where no side pauses for less than 250 ms: it takes one for still speaking then. Monologues
//! and responses are the same where nobody speaks over the other or makes a remark under 500 ms: it asks who has the floor,
//! we who is heard.

use alovoice_gateway::domain::talk_metrics::TalkMetrics;
use alovoice_gateway::domain::transcript::{Speaker, Turn};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::transcripts::samples;
use super::{python, run, text};

/// A talk: for each turn whether it is the client's, how long after the side's last turn it begins (or, if nobody speaks over
/// the other, after anybody's), and how long it lasts, in tens of milliseconds.
type Beats = Vec<(bool, i64, i64)>;

fn beats() -> impl Strategy<Value = Beats> {
    prop::collection::vec((any::<bool>(), 25..600_i64, 1..800_i64), 1..40)
}

/// Begins at 0. With `over`, the sides speak over each other.
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

/// The same number, within what rounding leaves.
fn same(what: &str, ours: &Value, theirs: &Value, tolerance: f64, turns: &[Turn]) {
    let (Some(ours), Some(theirs)) = (ours.as_f64(), theirs.as_f64()) else {
        assert_eq!(ours, theirs, "{what} of {turns:?}");
        return;
    };
    assert!(
        (ours - theirs).abs() <= tolerance,
        "{what}: {ours}, and by call-ai-metrics {theirs}, of {turns:?}"
    );
}

#[tokio::test]
async fn call_ai_metrics_has_the_same_numbers() {
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
            // It gives them as shares of the call, to six decimals.
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
                // It has no rate for who does not speak.
                if ours["talk_ms"] != 0 {
                    same("words", &ours["words_per_minute"], &theirs["words_per_minute"], 0.051, turns);
                }
                if !over {
                    let number = "longest_monologue_ms";
                    same(number, &ours[number], &theirs[number], 0.01, turns);
                }
            }
            if !over {
                // The middle of two is rounded down to whole milliseconds.
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
        // The talks are of the kinds that they are meant to be.
        assert_eq!((seen.0 > 400, seen.1 > 300), (over, over), "{seen:?}");
        assert!(seen.2 > 200, "{seen:?}");
    }
}
