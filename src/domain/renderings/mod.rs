//! Transcripts in formats for other programs: subtitles, plain text and Markdown.
//!
//! The text of a turn is data and never markup. Each format escapes it, or replaces characters if the format has no
//! escapes. A turn is one line, even if the vendor's text has line breaks. A turn without words is omitted.

pub mod captions;
pub mod markdown;
pub mod subrip;
pub mod text;
pub mod webvtt;

use super::call_facts::{CallFacts, FactText};
use super::phone::PhoneNumber;
use super::transcript::{Speaker, Turn};

/// Display name of a speaker for whom the vendor sends no name.
pub(super) const UNKNOWN_SPEAKER: &str = "Unknown";

/// Returns the display name of the speaker: `Operator`, `Client`, or the vendor's word; `None` if the vendor sent no word.
pub(super) fn name(speaker: &Speaker) -> Option<String> {
    match speaker {
        Speaker::Operator => Some("Operator".to_owned()),
        Speaker::Client => Some("Client".to_owned()),
        Speaker::Other(word) => Some(one_line(word)).filter(|word| !word.is_empty()),
    }
}

/// Returns those facts of the call that are useful to people, each as a name and a value. A value has one line.
pub(super) fn facts(call: &CallFacts) -> impl Iterator<Item = (&'static str, String)> {
    let CallFacts { direction, agent, phone, queue, .. } = call;
    let text = |text: &FactText| text.as_str().to_owned();
    let agent = agent.as_ref().and_then(|agent| match (&agent.name, &agent.id) {
        (Some(name), Some(id)) => Some(format!("{} ({})", name.as_str(), id.as_str())),
        (name, id) => name.as_ref().or(id.as_ref()).map(text),
    });
    let facts = [
        ("Direction", direction.map(|direction| direction.as_str().to_owned())),
        ("Phone", phone.as_ref().map(PhoneNumber::to_string)),
        ("Agent", agent),
        ("Queue", queue.as_ref().map(text)),
    ];
    facts.into_iter().filter_map(|(name, fact)| Some((name, one_line(&fact?))))
}

/// Puts the text on one line. Each run of white space and control characters becomes one space. A run at the start or
/// at the end is removed.
pub(super) fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// Returns the turns with words, each text on one line.
pub(super) fn spoken(turns: &[Turn]) -> impl Iterator<Item = (&Turn, String)> {
    turns.iter().map(|turn| (turn, one_line(&turn.text))).filter(|(_, text)| !text.is_empty())
}

/// Returns hours, minutes, seconds and milliseconds. A negative time counts as zero.
fn parts(ms: i64) -> (i64, i64, i64, i64) {
    let ms = ms.max(0);
    (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000)
}

/// Formats a time in milliseconds from the start of the call, such as `0:03:55`.
pub(super) fn clock(ms: i64) -> String {
    let (hours, minutes, seconds, _) = parts(ms);
    format!("{hours}:{minutes:02}:{seconds:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_as_many_hour_digits_as_needed() {
        let moments = [-1, 0, 999, 61_000, 3_599_999, 360_000_000].map(clock);
        assert_eq!(moments, ["0:00:00", "0:00:00", "0:00:00", "0:01:01", "0:59:59", "100:00:00"]);
    }

    #[test]
    fn line_breaks_and_control_characters_become_spaces() {
        assert_eq!(one_line(" a\r\n\r\nb\tc\u{2028}d\u{0}e\u{85}f\u{7} "), "a b c d e f");
        assert_eq!(one_line(" \n\u{a0} "), "");
    }

    #[test]
    fn a_speaker_has_a_display_name_or_none() {
        let named = ["operator", "client", "robot\n1", " ", ""].map(|word| name(&Speaker::from_word(word)));
        let wanted = [Some("Operator"), Some("Client"), Some("robot 1"), None, None];
        assert_eq!(named, wanted.map(|name| name.map(str::to_owned)));
    }
}
