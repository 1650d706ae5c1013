//! Decodes the characters of an answer.

use std::borrow::Cow;

use encoding_rs::{Encoding, REPLACEMENT, UTF_8, UTF_16BE, UTF_16LE};

use crate::domain::answer_warnings::{AnswerWarnings, WarningCode};

const BYTE_ORDER_MARK: char = '\u{feff}';

/// UTF-16 or UTF-32 in one of the two byte orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wide {
    Utf16(&'static Encoding),
    Utf32 { is_big_endian: bool },
}

/// Decodes a body. A body is UTF-16 or UTF-32 if it begins with such a byte-order mark, or if its first characters have the zero
/// bytes of such JSON (RFC 4627, 3). Any other body is UTF-8, as JSON must be (RFC 8259, 8.1). The declared `charset` applies
/// only to a body that is invalid UTF-8. Bytes that are not characters become U+FFFD.
pub(super) fn decode<'a>(
    body: &'a [u8],
    content_type: Option<&str>,
    warnings: &mut AnswerWarnings,
) -> Cow<'a, str> {
    let text = if let Some(wide) = wide(body) {
        warnings.add(WarningCode::Encoding, 1);
        match wide {
            Wide::Utf16(encoding) => encoding.decode_without_bom_handling(body).0,
            Wide::Utf32 { is_big_endian } => Cow::Owned(utf32(body, is_big_endian)),
        }
    } else if let Ok(text) = std::str::from_utf8(body) {
        Cow::Borrowed(text)
    } else if let Some(encoding) = content_type.and_then(declared) {
        warnings.add(WarningCode::Encoding, 1);
        encoding.decode_without_bom_handling(body).0
    } else {
        String::from_utf8_lossy(body)
    };
    if text.starts_with(BYTE_ORDER_MARK) {
        warnings.add(WarningCode::ByteOrderMark, 1);
        return without_marks(text);
    }
    text
}

fn without_marks(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim_start_matches(BYTE_ORDER_MARK)),
        Cow::Owned(text) => Cow::Owned(text.trim_start_matches(BYTE_ORDER_MARK).to_owned()),
    }
}

fn wide(body: &[u8]) -> Option<Wide> {
    Some(match *body {
        [0xff, 0xfe, 0, 0, ..] => Wide::Utf32 { is_big_endian: false },
        [0, 0, 0xfe, 0xff, ..] => Wide::Utf32 { is_big_endian: true },
        [0xff, 0xfe, ..] => Wide::Utf16(UTF_16LE),
        [0xfe, 0xff, ..] => Wide::Utf16(UTF_16BE),
        [1..=255, 0, 0, 0, ..] => Wide::Utf32 { is_big_endian: false },
        [0, 0, 0, 1..=255, ..] => Wide::Utf32 { is_big_endian: true },
        [1..=255, 0, 1..=255, ..] => Wide::Utf16(UTF_16LE),
        [0, 1..=255, 0, 1..=255, ..] => Wide::Utf16(UTF_16BE),
        _ => return None,
    })
}

fn utf32(body: &[u8], is_big_endian: bool) -> String {
    let number = |unit: &[u8]| {
        let unit = unit.try_into().ok()?;
        Some(if is_big_endian { u32::from_be_bytes(unit) } else { u32::from_le_bytes(unit) })
    };
    let character = |unit| number(unit).and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
    body.chunks(4).map(character).collect()
}

/// Returns the encoding that a `Content-Type` declares; `None` if it declares UTF-8, an unknown encoding or nothing.
fn declared(content_type: &str) -> Option<&'static Encoding> {
    let mut parameters = content_type.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let (_, label) = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))?;
    let encoding = Encoding::for_label(label.trim().trim_matches(['"', '\'']).as_bytes())?;
    (encoding != UTF_8 && encoding != REPLACEMENT).then_some(encoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "{\"text\": \"ассалому 😀\"}";

    /// Returns the text and the codes of the warnings.
    fn decoded(body: &[u8], content_type: Option<&str>) -> (String, Vec<&'static str>) {
        let mut warnings = AnswerWarnings::default();
        let text = decode(body, content_type, &mut warnings).into_owned();
        (text, warnings.into_list().iter().map(|warning| warning.code.as_str()).collect())
    }

    fn encoded(mark: bool, unit: impl Fn(u16) -> [u8; 2]) -> Vec<u8> {
        let mark = mark.then_some(0xfeff);
        mark.into_iter().chain(TEXT.encode_utf16()).flat_map(unit).collect()
    }

    #[test]
    fn encodings_of_unicode_are_recognized_with_and_without_a_mark() {
        let wide = |unit: fn(u32) -> [u8; 4]| TEXT.chars().flat_map(|c| unit(c.into())).collect::<Vec<_>>();
        for body in [
            encoded(false, u16::to_le_bytes),
            encoded(false, u16::to_be_bytes),
            wide(u32::to_le_bytes),
            wide(u32::to_be_bytes),
        ] {
            assert_eq!(decoded(&body, None), (TEXT.to_owned(), vec!["encoding"]));
        }
        for body in [encoded(true, u16::to_le_bytes), encoded(true, u16::to_be_bytes)] {
            assert_eq!(decoded(&body, None), (TEXT.to_owned(), vec!["byte_order_mark", "encoding"]));
        }
        let marked = format!("\u{feff}\u{feff}{TEXT}");
        assert_eq!(decoded(marked.as_bytes(), None), (TEXT.to_owned(), vec!["byte_order_mark"]));
        assert_eq!(
            decoded(TEXT.as_bytes(), Some("application/json; charset=cp1251")),
            (TEXT.to_owned(), vec![])
        );
    }

    #[test]
    fn a_declared_charset_is_used_for_text_that_is_not_utf_8() {
        let body = b"{\"text\": \"\xe0\xf1\xf1\"}";
        let ass = "{\"text\": \"асс\"}".to_owned();
        for declared in ["application/json; charset=windows-1251", "text/plain;x=y; Charset=\"CP1251\""] {
            assert_eq!(decoded(body, Some(declared)), (ass.clone(), vec!["encoding"]), "{declared}");
        }
        let lost = "{\"text\": \"\u{fffd}\u{fffd}\u{fffd}\"}".to_owned();
        for unknown in
            [None, Some("application/json"), Some("application/json; charset=utf-8"), Some("a; charset=x")]
        {
            assert_eq!(decoded(body, unknown), (lost.clone(), vec![]), "{unknown:?}");
        }
    }

    #[test]
    fn half_of_a_character_becomes_one_replacement() {
        assert_eq!(decoded(&[0xff, 0xfe, 0x3d, 0xd8, b'a', 0], None).0, "\u{fffd}a");
        assert_eq!(decoded(&[b'a', 0, 0, 0, b'b', 0], None).0, "a\u{fffd}");
        assert_eq!(decoded(b"", None), (String::new(), vec![]));
    }
}
