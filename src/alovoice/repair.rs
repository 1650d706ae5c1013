//! Rewrites text that is almost JSON as JSON. Scripting languages and speech engines write such text.
//!
//! Only unambiguous errors are repaired:
//!
//! - superfluous commas, strings in single quotes, names without quotes, a member without a value, `=>` in place of a colon;
//! - comments of JavaScript, and `u` before a string of Python;
//! - control characters in strings, and escapes that JSON does not have;
//! - `True`, `None`, `undefined` and similar words; numbers such as `+1`, `.5`, `007` and `0x1f`;
//! - `NaN`, `-Infinity`, `1.#QNAN` and other words instead of numbers, which become `null`.
//!
//! A missing comma, quote or bracket is not repaired, because any correction would be a guess. The same applies to other words.

#[cfg(test)]
mod tests;

use crate::domain::answer_warnings::{AnswerWarnings, WarningCode};

/// Repairs the value at the beginning of `text`. Returns JSON of at most `max_bytes` and the rest of the text.
///
/// # Errors
/// Returns the number of bytes that were read, if the text does not begin with a value or if the JSON exceeds `max_bytes`.
pub(super) fn repair<'a>(
    text: &'a str,
    max_bytes: usize,
    warnings: &mut AnswerWarnings,
) -> Result<(String, &'a str), usize> {
    let mut repair = Repair { text, at: 0, json: String::new(), max_bytes, syntax: 0, numbers: 0 };
    if repair.document().is_none() {
        return Err(repair.at);
    }
    warnings.add(WarningCode::Syntax, repair.syntax);
    warnings.add(WarningCode::InvalidNumbers, repair.numbers);
    Ok((repair.json, &text[repair.at..]))
}

struct Repair<'a> {
    text: &'a str,
    at: usize,
    json: String,
    max_bytes: usize,
    /// Number of repaired errors.
    syntax: usize,
    /// Number of words, such as `NaN`, in place of numbers.
    numbers: usize,
}

impl Repair<'_> {
    /// Reads one value with everything inside it. The function does not recurse, so deep nesting cannot exhaust the call stack.
    fn document(&mut self) -> Option<()> {
        // The closing brackets that must still follow.
        let mut open = Vec::new();
        self.skip_space();
        self.peek()?;
        loop {
            self.skip_space();
            let opened = match self.peek() {
                Some(b'{') => Some(b'}'),
                Some(b'[') => Some(b']'),
                _ => None,
            };
            if let Some(close) = opened {
                self.json.push(if close == b'}' { '{' } else { '[' });
                self.at += 1;
                open.push(close);
            } else {
                self.scalar()?;
            }
            let mut is_first = opened.is_some();
            loop {
                let Some(close) = open.last().copied() else { return Some(()) };
                let commas = self.skip_commas();
                if self.peek()? == close {
                    self.syntax += commas;
                    self.json.push(close.into());
                    self.at += 1;
                    open.pop();
                    is_first = false;
                    continue;
                }
                match (is_first, commas) {
                    (true, extra) => self.syntax += extra,
                    (false, 0) => return None,
                    (false, commas) => {
                        self.syntax += commas - 1;
                        self.json.push(',');
                    }
                }
                if close == b'}' {
                    self.name()?;
                }
                break;
            }
            if self.json.len() > self.max_bytes {
                return None;
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Skips white space and comments.
    fn skip_space(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let text = rest.trim_start();
            self.at += rest.len() - text.len();
            let (start, end) = if text.starts_with("//") { (2, "\n") } else { (2, "*/") };
            if !text.starts_with("//") && !text.starts_with("/*") {
                return;
            }
            self.at += text[start..].find(end).map_or(text.len(), |at| start + at + end.len());
            self.syntax += 1;
        }
    }

    /// Skips the `u` before a string of Python.
    fn skip_prefix(&mut self) {
        if ["u'", "u\""].iter().any(|prefix| self.text[self.at..].starts_with(prefix)) {
            self.at += 1;
            self.syntax += 1;
        }
    }

    /// Skips white space and commas, and returns the number of commas.
    fn skip_commas(&mut self) -> usize {
        let mut commas = 0;
        loop {
            self.skip_space();
            if self.peek() != Some(b',') {
                return commas;
            }
            self.at += 1;
            commas += 1;
        }
    }

    /// Reads the name of a member and the colon.
    fn name(&mut self) -> Option<()> {
        self.skip_prefix();
        if matches!(self.peek()?, b'"' | b'\'') {
            self.string()?;
        } else {
            let rest = &self.text[self.at..];
            let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '-');
            let end = rest.find(|c| !is_part(c)).filter(|end| *end > 0)?;
            self.json.push('"');
            self.json.push_str(&rest[..end]);
            self.json.push('"');
            self.at += end;
            self.syntax += 1;
        }
        self.skip_space();
        let rest = &self.text[self.at..];
        let is_arrow = rest.starts_with("=>");
        if !is_arrow && !rest.starts_with(':') {
            return None;
        }
        self.at += if is_arrow { 2 } else { 1 };
        self.syntax += usize::from(is_arrow);
        self.json.push(':');
        Some(())
    }

    fn scalar(&mut self) -> Option<()> {
        self.skip_prefix();
        if matches!(self.peek(), Some(b'"' | b'\'')) {
            return self.string();
        }
        let rest = &self.text[self.at..];
        let ends =
            |c: char| c.is_whitespace() || matches!(c, ',' | ']' | '}' | ':' | '"' | '\'' | '{' | '[' | '/');
        let word = &rest[..rest.find(ends).unwrap_or(rest.len())];
        self.at += word.len();
        match classify(word)? {
            Word::Json => self.json.push_str(word),
            Word::Other(json) => {
                self.syntax += 1;
                self.json.push_str(&json);
            }
            Word::NotANumber => {
                self.numbers += 1;
                self.json.push_str("null");
            }
        }
        Some(())
    }

    /// Reads a string in double or single quotes.
    fn string(&mut self) -> Option<()> {
        let quote = self.peek()?;
        self.syntax += usize::from(quote == b'\'');
        self.json.push('"');
        self.at += 1;
        loop {
            let rest = &self.text[self.at..];
            let is_special = |byte: &u8| *byte == quote || matches!(byte, b'\\' | b'"' | 0..0x20);
            let end = rest.as_bytes().iter().position(is_special)?;
            self.json.push_str(&rest[..end]);
            self.at += end;
            let special = rest.as_bytes()[end];
            if special == quote {
                break;
            }
            if self.json.len() > self.max_bytes {
                return None;
            }
            match special {
                b'\\' => self.escape(),
                b'"' => {
                    self.json.push_str("\\\"");
                    self.at += 1;
                }
                control => {
                    self.json.push_str(&format!("\\u{control:04x}"));
                    self.at += 1;
                    self.syntax += 1;
                }
            }
        }
        self.json.push('"');
        self.at += 1;
        Some(())
    }

    /// Reads an escape. A backslash that does not begin an escape is a character of the text.
    fn escape(&mut self) {
        let rest = &self.text[self.at + 1..];
        let hexadecimal =
            |digits: usize| rest.get(1..=digits).filter(|it| it.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let first = rest.bytes().next();
        let digits = match first {
            Some(b'u') => hexadecimal(4),
            Some(b'x') => hexadecimal(2),
            _ => None,
        };
        let (json, length) = match (first, digits) {
            (_, Some(digits)) => (format!("\\u{digits:0>4}"), 1 + digits.len()),
            (Some(byte @ (b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')), None) => {
                (format!("\\{}", char::from(byte)), 1)
            }
            (Some(b'\''), None) => ("'".to_owned(), 1),
            _ => ("\\\\".to_owned(), 0),
        };
        self.syntax += usize::from(!json.starts_with('\\') || length == 0 || length == 3);
        self.json.push_str(&json);
        self.at += 1 + length;
    }
}

/// A value without quotes and brackets.
enum Word {
    /// The word is already valid JSON.
    Json,
    /// The word is not JSON. The text is the JSON value of the same meaning.
    Other(String),
    /// The word means "not a number" or an infinite number, or is a malformed number such as `1.2.3`.
    NotANumber,
}

fn classify(word: &str) -> Option<Word> {
    let lower = word.to_ascii_lowercase();
    Some(match &lower[..] {
        "true" | "false" | "null" if lower == word => Word::Json,
        "true" | "false" => Word::Other(lower),
        // An empty word is a member without a value.
        "null" | "none" | "nil" | "undef" | "undefined" | "(null)" | "" => Word::Other("null".to_owned()),
        _ if is_json_number(word) => Word::Json,
        _ => number(&lower)?,
    })
}

fn is_json_number(word: &str) -> bool {
    word.ends_with(|c: char| c.is_ascii_digit()) && serde_json::from_str::<serde_json::Number>(word).is_ok()
        // A number outside the range of `f64` is also valid JSON.
        || word.contains(['e', 'E']) && serde_json::from_str::<&serde_json::value::RawValue>(word).is_ok()
}

fn number(lower: &str) -> Option<Word> {
    let digits = lower.trim_start_matches(['+', '-']);
    if matches!(digits, "" | "nan" | "snan" | "qnan" | "inf" | "infinity")
        || digits.starts_with("nan(")
        || digits.starts_with("1.#")
    {
        return Some(Word::NotANumber);
    }
    if let Some(hexadecimal) = digits.strip_prefix("0x") {
        let value = u32::from_str_radix(hexadecimal, 16).ok().filter(|_| !hexadecimal.starts_with('+'))?;
        let sign = if lower.starts_with('-') { "-" } else { "" };
        return Some(Word::Other(format!("{sign}{value}")));
    }
    if !lower.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'+' | b'-')) {
        return None;
    }
    match lower.parse::<f64>() {
        Ok(number) if number.is_finite() => Some(Word::Other(number.to_string())),
        Ok(_) | Err(_) => Some(Word::NotANumber),
    }
}
