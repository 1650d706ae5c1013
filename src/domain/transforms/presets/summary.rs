//! The call as text: facts, tags and turns. If the text exceeds the limit of the receiver, a link replaces the last turns.

use std::borrow::Cow;

use super::call_view::CallView;
use crate::domain::renderings::{UNKNOWN_SPEAKER, clock, facts as call_facts, name, spoken};
use crate::domain::transcript::Turn;

/// A line of text for a receiver.
pub(super) struct Line {
    /// Beginning of the line, emphasized if the receiver supports emphasis. The label may be empty.
    pub(super) label: String,
    /// The rest of the line.
    pub(super) text: String,
}

/// Returns the facts of the call: one line each.
pub(super) fn facts(view: &CallView<'_>) -> Vec<Line> {
    let mut lines = vec![line("Call", view.call_id())];
    if let Some(begin_time) = view.begin_time() {
        lines.push(line("Begin", &begin_time.to_string()));
    }
    lines.extend(call_facts(&view.call).map(|(name, fact)| line(name, &fact)));
    if let Some(code) = view.string("/error/code") {
        lines.push(line("Analysis failed", code));
        return lines;
    }
    lines.push(line("Duration", &clock(view.duration_ms())));
    let tags = view.tags();
    if !tags.is_empty() {
        lines.push(line("Tags", &tags.join(", ")));
    }
    lines
}

/// Returns one line for each turn.
pub(super) fn turns(view: &CallView<'_>) -> Vec<Line> {
    let turn = |(turn, text): (&Turn, String)| {
        let speaker = name(&turn.speaker);
        let speaker = speaker.as_deref().unwrap_or(UNKNOWN_SPEAKER);
        line(&format!("{} {speaker}", clock(turn.begin_ms)), &text)
    };
    spoken(&view.turns).map(turn).collect()
}

/// Returns the line that replaces `left_out` turns for which there is no space.
pub(super) fn rest(left_out: usize, link: &str) -> Line {
    Line { label: String::new(), text: format!("… {left_out} more turns: {link}") }
}

fn line(label: &str, text: &str) -> Line {
    Line { label: label.to_owned(), text: text.to_owned() }
}

/// The rules of a receiver for texts: the maximum length, the markup and the line breaks.
pub(super) struct TextStyle {
    /// Maximum length of a text, as `length` measures it.
    pub(super) limit: usize,
    /// Measures a text for the limit: [`units`] if the receiver counts characters, or [`bytes`] if it counts bytes.
    pub(super) length: fn(&str) -> usize,
    /// Escapes text for the receiver's markup.
    pub(super) escape: fn(&str) -> Cow<'_, str>,
    /// Markup before and after a label.
    pub(super) emphasis: (&'static str, &'static str),
    /// Text that ends a line.
    pub(super) newline: &'static str,
}

/// Returns the style of plain text with a limit in characters.
pub(super) const fn plain(limit: usize) -> TextStyle {
    TextStyle { limit, length: units, escape: unescaped, emphasis: ("", ""), newline: "\n" }
}

/// Returns the style of plain text with a limit in bytes.
pub(super) const fn plain_bytes(limit: usize) -> TextStyle {
    TextStyle { length: bytes, ..plain(limit) }
}

impl TextStyle {
    fn render(&self, line: &Line) -> String {
        let (begin, end) = self.emphasis;
        let text = (self.escape)(&line.text);
        if line.label.is_empty() {
            return format!("{text}{}", self.newline);
        }
        format!("{begin}{}:{end} {text}{}", (self.escape)(&line.label), self.newline)
    }

    /// Cuts the text of a line that is longer than `limit`.
    fn shortened(&self, line: Line, limit: usize) -> Line {
        if (self.length)(&line.text) <= limit {
            return line;
        }
        let mut left = limit.saturating_sub((self.length)("…"));
        let fits = |c: &char| {
            let length = (self.length)(c.encode_utf8(&mut [0; 4]));
            let fits = left >= length;
            left = left.saturating_sub(length);
            fits
        };
        let cut: String = line.text.chars().take_while(fits).collect();
        Line { text: format!("{cut}…"), ..line }
    }
}

/// Returns the call as text. If the text is too long, a link replaces the last turns.
pub(super) fn text(view: &CallView<'_>, style: &TextStyle) -> String {
    let measure = style.length;
    let mut text = String::new();
    let mut length = 0;
    // A very long line of facts, such as many tags, must leave room for the turns.
    for fact in facts(view) {
        let line = style.render(&style.shortened(fact, style.limit / 4));
        length += measure(&line);
        text.push_str(&line);
    }
    let turns = turns(view);
    if !turns.is_empty() {
        text.push_str(style.newline);
        length += measure(style.newline);
    }
    let lines: Vec<String> = turns.iter().map(|turn| style.render(turn)).collect();
    let total: usize = lines.iter().map(|line| measure(line)).sum();
    if length + total <= style.limit {
        text.push_str(&lines.concat());
        return text.trim_end().to_owned();
    }
    let reserve = measure(&style.render(&rest(lines.len(), view.link)));
    let mut sent = 0;
    for line in &lines {
        length += measure(line);
        if length + reserve > style.limit {
            break;
        }
        text.push_str(line);
        sent += 1;
    }
    text.push_str(&style.render(&rest(lines.len() - sent, view.link)));
    text.trim_end().to_owned()
}

/// Returns the number of UTF-16 units. A text never has more characters than UTF-16 units.
pub(super) fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Returns the number of bytes.
const fn bytes(text: &str) -> usize {
    text.len()
}

fn unescaped(text: &str) -> Cow<'_, str> {
    Cow::Borrowed(text)
}

/// Escapes `&`, `<` and `>`.
pub(super) fn escape_markup(text: &str) -> Cow<'_, str> {
    if text.contains(['&', '<', '>']) {
        Cow::Owned(text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"))
    } else {
        Cow::Borrowed(text)
    }
}
