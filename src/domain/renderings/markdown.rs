//! Markdown (CommonMark with the extensions of GitHub and GitLab): a heading, the facts of the call, a paragraph per turn.

use std::borrow::Cow;
use std::fmt::Write;

use super::{UNKNOWN_SPEAKER, clock, facts, name, spoken};
use crate::domain::talk_metrics::TalkMetrics;
use crate::domain::transcript::Transcript;

/// Returns the transcript as a Markdown page.
pub fn render(transcript: &Transcript) -> String {
    let Transcript { call_id, begin_time, call, turns, .. } = transcript;
    let metrics = TalkMetrics::of(turns);
    let mut page = format!("# Call {}\n\n", escaped(call_id.as_str()));
    // Writing into a string does not fail.
    if let Some(begin_time) = begin_time {
        let _ = writeln!(page, "- Begin: {begin_time}");
    }
    for (name, fact) in facts(call) {
        let _ = writeln!(page, "- {name}: {}", escaped(&fact));
    }
    let _ = writeln!(page, "- Duration: {}", clock(metrics.duration_ms));
    for (side, metrics) in [("Operator", &metrics.operator), ("Client", &metrics.client)] {
        let share = metrics.talk_share * 100.0;
        let _ = writeln!(page, "- {side}: {} of talk, {share:.0} %", clock(metrics.talk_ms));
    }
    page.push_str("\n## Transcript\n");
    for (turn, text) in spoken(turns) {
        let speaker = name(&turn.speaker);
        let speaker = escaped(speaker.as_deref().unwrap_or(UNKNOWN_SPEAKER));
        let _ = write!(page, "\n{} **{speaker}:** {}\n", clock(turn.begin_ms), escaped(&text));
    }
    page
}

/// Characters that start or end markup inside a line. Characters that make a heading or a list at the start of a line
/// need no escape, because no line starts with the text of a turn.
const MARKS: &str = r"\`*_[]<>&~|$#@";

/// Escapes markup with backslashes. This includes URLs, which would become links automatically.
pub(in super::super) fn escaped(text: &str) -> Cow<'_, str> {
    let mut escaped = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        let (before, rest) = text.as_bytes().split_at(at);
        let after_www = before.len() >= 3 && before[before.len() - 3..].eq_ignore_ascii_case(b"www");
        let is_link = rest.starts_with(b"://") || rest.starts_with(b".") && after_www;
        if MARKS.contains(c) || is_link {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::super::text::tests::transcript;
    use super::*;

    #[test]
    fn a_call_becomes_a_page() {
        let page = render(&transcript(&[
            ("operator", 1_000, 4_000, "assalomu alaykum"),
            ("client", 4_000, 5_000, "# vaalaykum\n- *assalom*"),
            ("", 62_000, 62_000, "a"),
        ]));
        insta::assert_snapshot!(page, @r"
        # Call 1716207617.42

        - Begin: 2024-05-20T12:20:17Z
        - Duration: 0:00:05
        - Operator: 0:00:03 of talk, 75 %
        - Client: 0:00:01 of talk, 25 %

        ## Transcript

        0:00:01 **Operator:** assalomu alaykum

        0:00:04 **Client:** \# vaalaykum - \*assalom\*

        0:01:02 **Unknown:** a
        ");
    }

    #[test]
    fn call_facts_are_listed_before_the_talk() {
        let call = serde_json::json!({
            "direction": "inbound", "agent": {"id": "17", "name": "*Dilnoza*"}, "phone": "+998901234567", "queue": "a_b",
        });
        let page = render(&Transcript { call: serde_json::from_value(call).unwrap(), ..transcript(&[]) });
        let facts = "- Direction: inbound\n- Phone: +998901234567\n- Agent: \\*Dilnoza\\* (17)\n- Queue: a\\_b\n- Duration";
        assert!(page.contains(facts), "{page}");
        let call = serde_json::from_value(serde_json::json!({"agent": {"id": "17", "name": null}})).unwrap();
        assert!(render(&Transcript { call, ..transcript(&[]) }).contains("\n- Agent: 17\n- Duration"));
    }

    #[test]
    fn a_call_without_turns_becomes_a_page_without_turns() {
        let page = render(&transcript(&[]));
        assert!(page.ends_with("- Duration: 0:00:00\n- Operator: 0:00:00 of talk, 0 %\n- Client: 0:00:00 of talk, 0 %\n\n## Transcript\n"), "{page}");
    }

    #[test]
    fn markup_in_the_text_is_escaped() {
        for (text, wanted) in [
            ("yoʻq, 5-6 - (ha)!", "yoʻq, 5-6 - (ha)!"),
            (r"a\", r"a\\"),
            (
                "![x](y) <b> &lt; `c` ~~d~~ | $e$ #1 @f",
                r"!\[x\](y) \<b\> \&lt; \`c\` \~\~d\~\~ \| \$e\$ \#1 \@f",
            ),
            ("https://x.uz www.x.uz WWW.x", r"https\://x.uz www\.x.uz WWW\.x"),
        ] {
            assert_eq!(escaped(text), wanted);
        }
    }
}
