//! What subtitles of either form show, and when.

use super::super::transcript::Turn;
use super::{name, spoken};

/// How long a turn is shown that has no length of its own, in milliseconds.
///
/// The forms ask for an end after the begin, and a player would never show the words.
pub const LEAST_MS: i64 = 1_000;

/// A turn as subtitles show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caption {
    /// When it appears, in milliseconds from the start of the call, 0 at least.
    pub begin_ms: i64,
    /// When it disappears; after the begin.
    pub end_ms: i64,
    /// Who speaks, on one line, if that is known.
    pub speaker: Option<String>,
    /// What is said, on one line and never empty. Not yet escaped.
    pub text: String,
}

/// The captions of these turns in the order of their begins, as WebVTT asks. They overlap where people did.
pub fn captions(turns: &[Turn]) -> Vec<Caption> {
    let mut captions: Vec<_> = spoken(turns)
        .map(|(turn, text)| {
            let begin_ms = turn.begin_ms.clamp(0, i64::MAX - LEAST_MS);
            let end_ms = if turn.end_ms > begin_ms { turn.end_ms } else { begin_ms + LEAST_MS };
            Caption { begin_ms, end_ms, speaker: name(&turn.speaker), text }
        })
        .collect();
    // Stable: those that begin together stay in the order of the transcript.
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
    fn every_caption_ends_after_it_begins() {
        assert_eq!(times(&[(10, 10)]), [(10, 1_010)]);
        assert_eq!(times(&[(10, 5)]), [(10, 1_010)]);
        assert_eq!(times(&[(-10, 0)]), [(0, 1_000)]);
        assert_eq!(times(&[(-10, 5)]), [(0, 5)]);
        assert_eq!(times(&[(i64::MAX, i64::MIN)]), [(i64::MAX - LEAST_MS, i64::MAX)]);
    }

    #[test]
    fn captions_come_in_order_and_may_overlap() {
        assert_eq!(times(&[(20, 90), (10, 50), (-5, 30)]), [(0, 30), (10, 50), (20, 90)]);
    }
}
