//! SubRip (`.srt`): numbered captions. The format has no specification; all players read this subset.
//!
//! The format has no escapes. Players interpret `<…>` and `{…}` as tags, so similar characters replace these brackets.

use std::fmt::Write;

use super::captions::{Caption, captions};
use super::{UNKNOWN_SPEAKER, parts};
use crate::domain::transcript::Transcript;

/// Returns the transcript as a SubRip file.
pub fn render(transcript: &Transcript) -> String {
    let mut file = String::new();
    for (number, caption) in (1..).zip(captions(&transcript.turns)) {
        let Caption { begin_ms, end_ms, speaker, text } = caption;
        let (begin, end) = (timestamp(begin_ms), timestamp(end_ms));
        let speaker = tagless(speaker.as_deref().unwrap_or(UNKNOWN_SPEAKER));
        // Writing into a string does not fail.
        let _ = write!(file, "{number}\n{begin} --> {end}\n{speaker}: {}\n\n", tagless(&text));
    }
    file
}

/// Returns the time with a comma before the milliseconds. WebVTT uses a point there.
fn timestamp(ms: i64) -> String {
    let (hours, minutes, seconds, millis) = parts(ms);
    format!("{hours:02}:{minutes:02}:{seconds:02},{millis:03}")
}

/// Replaces characters that players would interpret as tags or as the arrow of a timing line.
fn tagless(text: &str) -> String {
    let bracket = |c| match c {
        '<' => '‹',
        '>' => '›',
        '{' => '(',
        '}' => ')',
        other => other,
    };
    text.chars().map(bracket).collect()
}

#[cfg(test)]
mod tests {
    use super::super::text::tests::transcript;
    use super::*;

    #[test]
    fn a_turn_becomes_a_numbered_caption() {
        let file = render(&transcript(&[
            ("operator", 1_120, 2_960, "assalomu alaykum"),
            ("client", 2_500, 2_500, "  "),
            ("client", 3_000, 2_000, "vaalaykum\n\n2\n00:00:01,000 --> 00:00:02,000\nassalom"),
            ("", 359_999_999, 360_000_001, r"<i>{\an8}R&D</i>"),
        ]));
        insta::assert_snapshot!(file, @r"
        1
        00:00:01,120 --> 00:00:02,960
        Operator: assalomu alaykum

        2
        00:00:03,000 --> 00:00:04,000
        Client: vaalaykum 2 00:00:01,000 --› 00:00:02,000 assalom

        3
        99:59:59,999 --> 100:00:00,001
        Unknown: ‹i›(\an8)R&D‹/i›
        ");
    }

    #[test]
    fn a_call_without_turns_becomes_an_empty_file() {
        assert_eq!(render(&transcript(&[])), "");
    }
}
