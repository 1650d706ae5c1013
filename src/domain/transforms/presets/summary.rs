//! The call as text: facts, tags and turns. If the text exceeds the limit of the receiver, a link replaces the last turns.

use std::borrow::Cow;

use super::call_view::CallView;
use crate::domain::renderings::{UNKNOWN_SPEAKER, clock, facts as call_facts, name, spoken};
use crate::domain::transcript::Turn;
use crate::domain::transforms::MAX_BODY_BYTES;

/// Maximum size of a piece of text that is escaped at once, in bytes.
const PIECE: usize = 64 << 10;

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
pub(super) fn turns(view: &CallView<'_>) -> impl Iterator<Item = Line> {
    let turn = |(turn, text): (&Turn, String)| {
        let speaker = name(&turn.speaker);
        let speaker = speaker.as_deref().unwrap_or(UNKNOWN_SPEAKER);
        line(&format!("{} {speaker}", clock(turn.begin_ms)), &text)
    };
    spoken(&view.turns).map(turn)
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
    /// Appends a line to a text. Stops when the text is too long for every body. A long line is escaped in pieces, because its
    /// escaped form can have several times its size.
    fn push(&self, line: &Line, text: &mut String) {
        let (begin, end) = self.emphasis;
        if !line.label.is_empty() {
            text.extend([begin, &(self.escape)(&line.label), ":", end, " "]);
        }
        let mut remaining = line.text.as_str();
        while !remaining.is_empty() && text.len() <= MAX_BODY_BYTES {
            let (piece, following) = remaining.split_at(end_of_piece(remaining));
            text.push_str(&(self.escape)(piece));
            remaining = following;
        }
        text.push_str(self.newline);
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

/// Returns the call as text. If the text is too long, a link replaces the last turns. A text that is too long for every body
/// ([`MAX_BODY_BYTES`]) may lack its end.
pub(super) fn text(view: &CallView<'_>, style: &TextStyle) -> String {
    let measure = style.length;
    // A longer text exceeds every body even without its last line break. It keeps its line break, so that it is refused.
    let longest = MAX_BODY_BYTES + style.newline.len();
    let mut text = String::new();
    // A very long line of facts, such as many tags, must leave room for the turns.
    for fact in facts(view) {
        style.push(&style.shortened(fact, style.limit / 4), &mut text);
    }
    let count = spoken(&view.turns).count();
    if count > 0 {
        text.push_str(style.newline);
    }
    let mut reserved = String::new();
    style.push(&rest(count, view.link), &mut reserved);
    let (mut length, reserve) = (measure(&text), measure(&reserved));
    // The end of the last turn that leaves room for the link, and the number of turns up to there.
    let (mut end, mut sent) = (text.len(), 0);
    for turn in turns(view) {
        let begin = text.len();
        style.push(&turn, &mut text);
        length += measure(&text[begin..]);
        if length > style.limit {
            text.truncate(end);
            style.push(&rest(count - sent, view.link), &mut text);
            break;
        }
        if text.len() > longest {
            break;
        }
        if length + reserve <= style.limit {
            (end, sent) = (text.len(), sent + 1);
        }
    }
    if text.len() <= longest {
        text.truncate(text.trim_end().len());
    }
    text
}

/// Returns the number of UTF-16 units. A text never has more characters than UTF-16 units.
pub(super) fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Returns the number of bytes.
const fn bytes(text: &str) -> usize {
    text.len()
}

/// Returns the length of the first piece of a text. If possible, a piece ends before a space, so that it contains whole URLs.
fn end_of_piece(text: &str) -> usize {
    if text.len() <= PIECE {
        return text.len();
    }
    let end = text.floor_char_boundary(PIECE);
    text[..end].rfind(' ').filter(|space| *space > 0).unwrap_or(end)
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
