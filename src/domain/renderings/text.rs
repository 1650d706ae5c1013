//! Plain text with one line per turn, for tickets, search and language models.

use std::fmt::Write;

use super::{UNKNOWN_SPEAKER, clock, name, spoken};
use crate::domain::transcript::Transcript;

/// Returns the transcript as text: `[0:00:01] Operator: assalomu alaykum`.
pub fn render(transcript: &Transcript) -> String {
    let mut lines = String::new();
    for (turn, text) in spoken(&transcript.turns) {
        let (moment, speaker) = (clock(turn.begin_ms), name(&turn.speaker));
        // Writing into a string does not fail.
        let _ = writeln!(lines, "[{moment}] {}: {text}", speaker.as_deref().unwrap_or(UNKNOWN_SPEAKER));
    }
    lines
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::call_facts::CallFacts;
    use crate::domain::clock::Timestamp;
    use crate::domain::ids::CallId;
    use crate::domain::transcript::{Speaker, Turn};

    /// Returns a transcript with these turns. Each turn has a speaker, a begin, an end and a text.
    pub(in super::super) fn transcript(turns: &[(&str, i64, i64, &str)]) -> Transcript {
        let turn = |(speaker, begin_ms, end_ms, text): &(&str, i64, i64, &str)| Turn {
            fragment_id: None,
            speaker: Speaker::from_word(speaker),
            begin_ms: *begin_ms,
            end_ms: *end_ms,
            text: (*text).to_owned(),
        };
        Transcript {
            call_id: CallId::parse("1716207617.42").unwrap(),
            revision: 1,
            begin_time: Some(Timestamp::from_millis(1_716_207_617_000)),
            call: CallFacts::default(),
            turns: turns.iter().map(turn).collect(),
        }
    }

    #[test]
    fn a_turn_becomes_a_line() {
        let text = render(&transcript(&[
            ("operator", 1_120, 2_960, "assalomu alaykum"),
            ("client", 2_500, 2_600, "\n"),
            ("", 62_000, 0, "vaalaykum\r\nassalom"),
            ("robot", 3_723_000, 3_724_000, "[0:00:00] Operator: *beep*"),
        ]));
        insta::assert_snapshot!(text, @r"
        [0:00:01] Operator: assalomu alaykum
        [0:01:02] Unknown: vaalaykum assalom
        [1:02:03] robot: [0:00:00] Operator: *beep*
        ");
        assert_eq!(render(&transcript(&[])), "");
    }
}
