//! WebVTT (W3C). The voice tag of a cue names the speaker.

use std::fmt::Write;

use super::captions::{Caption, captions};
use super::parts;
use crate::domain::transcript::Transcript;

/// Returns the transcript as a WebVTT file. A cue of an unknown speaker has no voice.
pub fn render(transcript: &Transcript) -> String {
    let mut file = "WEBVTT\n".to_owned();
    for Caption { begin_ms, end_ms, speaker, text } in captions(&transcript.turns) {
        let (begin, end, text) = (timestamp(begin_ms), timestamp(end_ms), escaped(&text));
        let cue = match speaker {
            Some(speaker) => format!("<v {}>{text}</v>", voice(&speaker)),
            None => text,
        };
        // Writing into a string does not fail.
        let _ = write!(file, "\n{begin} --> {end}\n{cue}\n");
    }
    file
}

/// Returns the time. The hours have at least two digits.
fn timestamp(ms: i64) -> String {
    let (hours, minutes, seconds, millis) = parts(ms);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{millis:03}")
}

/// Escapes a name for the voice tag. The name must not end the tag, and a final `-` must not form an arrow with the `>` of the
/// tag.
fn voice(name: &str) -> String {
    let name = escaped(name);
    match name.strip_suffix('-') {
        Some(rest) => format!("{rest}&#45;"),
        None => name,
    }
}

/// Escapes tags, character references and the arrow of a timing line.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::text::tests::transcript;
    use super::*;

    #[test]
    fn a_turn_becomes_a_cue_with_a_voice() {
        let file = render(&transcript(&[
            ("operator", 1_120, 2_960, "assalomu alaykum"),
            ("client", 2_000, 2_000, "vaalaykum\n\nassalom"),
            ("client", 3_000, 4_000, " \n "),
            ("", 359_999_999, 360_000_001, "R&D --> <b>5 < 6</b>"),
            ("a > b & c --", 360_000_002, 999_000_000_000, "&lt;"),
        ]));
        insta::assert_snapshot!(file, @r"
        WEBVTT

        00:00:01.120 --> 00:00:02.960
        <v Operator>assalomu alaykum</v>

        00:00:02.000 --> 00:00:03.000
        <v Client>vaalaykum assalom</v>

        99:59:59.999 --> 100:00:00.001
        R&amp;D --&gt; &lt;b&gt;5 &lt; 6&lt;/b&gt;

        100:00:00.002 --> 277500:00:00.000
        <v a &gt; b &amp; c -&#45;>&amp;lt;</v>
        ");
    }

    #[test]
    fn a_call_without_turns_becomes_a_file_without_cues() {
        assert_eq!(render(&transcript(&[])), "WEBVTT\n");
    }
}
