//! Captions: text and times that both subtitle formats share.

use super::super::transcript::Turn;
use super::{name, spoken};

/// Duration in milliseconds for which captions show a turn that does not end after its start.
///
/// The subtitle formats require that the end is after the start. Otherwise a player would never show the text.
const LEAST_MS: i64 = 1_000;

/// A turn in the form that both subtitle formats need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caption {
    /// Start in milliseconds from the start of the call, at least 0.
    pub begin_ms: i64,
    /// End in milliseconds, after the start.
    pub end_ms: i64,
    /// Display name of the speaker on one line, if it is known.
    pub speaker: Option<String>,
    /// Text on one line, never empty and not yet escaped.
    pub text: String,
}

/// Returns the captions of these turns, sorted by start as WebVTT requires. Captions overlap where turns overlap.
pub fn captions(turns: &[Turn]) -> Vec<Caption> {
    let mut captions: Vec<_> = spoken(turns)
        .map(|(turn, text)| {
            let begin_ms = turn.begin_ms.clamp(0, i64::MAX - LEAST_MS);
            let end_ms = if turn.end_ms > begin_ms { turn.end_ms } else { begin_ms + LEAST_MS };
            Caption { begin_ms, end_ms, speaker: name(&turn.speaker), text }
        })
        .collect();
    // The sort is stable, so turns with the same start stay in the order of the transcript.
    captions.sort_by_key(|caption| caption.begin_ms);
    captions
}

#[cfg(test)]
mod tests {
    use super::super::super::transcript::Speaker;
    use super::*;

    fn times(turns: &[(i64, i64)]) -> Vec<(i64, i64)> {
        let turn = |(begin_ms, end_ms): &(i64, i64)| Turn {
            fragment_id: None,
            speaker: Speaker::Client,
            begin_ms: *begin_ms,
            end_ms: *end_ms,
            text: "a".to_owned(),
        };
        let turns: Vec<_> = turns.iter().map(turn).collect();
        captions(&turns).iter().map(|caption| (caption.begin_ms, caption.end_ms)).collect()
    }

    #[test]
    fn every_caption_ends_after_its_start() {
        assert_eq!(times(&[(10, 10)]), [(10, 1_010)]);
        assert_eq!(times(&[(10, 5)]), [(10, 1_010)]);
        assert_eq!(times(&[(-10, 0)]), [(0, 1_000)]);
        assert_eq!(times(&[(-10, 5)]), [(0, 5)]);
        assert_eq!(times(&[(i64::MAX, i64::MIN)]), [(i64::MAX - LEAST_MS, i64::MAX)]);
    }

    #[test]
    fn captions_are_sorted_and_may_overlap() {
        assert_eq!(times(&[(20, 90), (10, 50), (-5, 30)]), [(0, 30), (10, 50), (20, 90)]);
    }
}
