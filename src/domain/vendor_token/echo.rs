//! Finds a token in bytes that repeat it, unchanged or in another spelling.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use secrecy::zeroize::Zeroizing;

/// Text that replaces the token.
const REPLACEMENT: &[u8] = b"[token]";
/// Minimum length of a part of base64 that is replaced. Shorter parts also occur by chance.
const MIN_BASE64: usize = 8;
/// Maximum number of backslashes before an escape: JSON inside of JSON doubles them.
const MAX_BACKSLASHES: usize = 8;
/// Maximum length of an entity, such as `&#00065;`.
const MAX_ENTITY: usize = 10;

/// The bytes of an ASCII character in an encoding: `bytes` bytes, all zero except the byte at `low`.
#[derive(Clone, Copy)]
struct Width {
    bytes: usize,
    low: usize,
}

/// ASCII and UTF-8.
const NARROW: Width = Width { bytes: 1, low: 0 };
/// UTF-16 and UTF-32, little-endian and big-endian.
const WIDE: [Width; 4] = [
    Width { bytes: 2, low: 0 },
    Width { bytes: 2, low: 1 },
    Width { bytes: 4, low: 0 },
    Width { bytes: 4, low: 3 },
];

/// A token in all its spellings.
pub(super) struct Echo<'a> {
    token: &'a [u8],
    /// The part of the base64 form that depends on the token alone, for each position of the token in a group of three
    /// bytes.
    base64: Vec<Zeroizing<String>>,
}

impl<'a> Echo<'a> {
    pub(super) fn of(token: &'a str) -> Self {
        let token = token.as_bytes();
        let mut base64 = Vec::new();
        for before in 0..3_usize {
            let mut padded = Zeroizing::new(vec![0; before + token.len()]);
            padded[before..].copy_from_slice(token);
            let determined = (before * 8).div_ceil(6)..padded.len() * 8 / 6;
            for encoded in [STANDARD_NO_PAD.encode(&padded[..]), URL_SAFE_NO_PAD.encode(&padded[..])] {
                let encoded = Zeroizing::new(encoded);
                base64.push(Zeroizing::new(encoded[determined.clone()].to_owned()));
            }
        }
        base64.retain(|part| part.len() >= MIN_BASE64);
        Self { token, base64 }
    }

    /// Returns the bytes with the token replaced; `None` if it is not there.
    pub(super) fn erased_from(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut erased = self.erase(bytes, NARROW);
        if bytes.contains(&0) {
            for width in WIDE {
                erased = self.erase(erased.as_deref().unwrap_or(bytes), width).or(erased);
            }
        }
        erased
    }

    fn erase(&self, bytes: &[u8], width: Width) -> Option<Vec<u8>> {
        let mut may_begin = [false; 256];
        let begins = self.base64.iter().filter_map(|part| part.bytes().next());
        let first = self
            .token
            .first()
            .into_iter()
            .flat_map(|byte| [byte.to_ascii_lowercase(), byte.to_ascii_uppercase()]);
        for byte in begins.chain(first).chain(*b"%\\&") {
            may_begin[usize::from(byte)] = true;
        }
        let units = Units { bytes, width };
        let (mut erased, mut copied, mut at) = (Vec::new(), 0, 0);
        // Most bytes of a large answer begin no token, so they are skipped before their unit is read.
        while let Some(skipped) = bytes
            .get(at + width.low..)
            .and_then(|rest| rest.iter().position(|byte| may_begin[usize::from(*byte)]))
        {
            at += skipped;
            let Some(end) = self.end(units, at) else {
                at += 1;
                continue;
            };
            erased.extend_from_slice(&bytes[copied..at]);
            for byte in REPLACEMENT {
                let mut unit = [0; 4];
                unit[width.low] = *byte;
                erased.extend_from_slice(&unit[..width.bytes]);
            }
            (copied, at) = (end, end);
        }
        if copied == 0 {
            return None;
        }
        erased.extend_from_slice(&bytes[copied..]);
        Some(erased)
    }

    /// Returns the end of the token that begins at this byte; `None` if none does.
    fn end(&self, units: Units<'_>, begin: usize) -> Option<usize> {
        let plain = |text: &[u8], is_same: fn(u8, u8) -> bool| {
            text.iter().try_fold(begin, |at, byte| is_same(units.get(at)?, *byte).then(|| units.after(at)))
        };
        let spelled = || self.token.iter().try_fold(begin, |at, byte| units.end_of(*byte, at));
        plain(self.token, is_same_letter)
            .or_else(spelled)
            .or_else(|| self.base64.iter().find_map(|part| plain(part.as_bytes(), |one, other| one == other)))
    }
}

/// Whether both are the same letter, in upper or lower case, or the same character. A server may change the case of a URL.
const fn is_same_letter(one: u8, other: u8) -> bool {
    one.eq_ignore_ascii_case(&other)
}

/// Whether a coded character is this one, in upper or lower case.
fn is_coded(value: u32, wanted: u8) -> bool {
    u8::try_from(value).is_ok_and(|value| is_same_letter(value, wanted))
}

/// Text in an encoding with characters of one width.
#[derive(Clone, Copy)]
struct Units<'a> {
    bytes: &'a [u8],
    width: Width,
}

impl Units<'_> {
    /// Returns the ASCII character at this byte.
    fn get(self, at: usize) -> Option<u8> {
        let Width { bytes, low } = self.width;
        let unit = self.bytes.get(at..at + bytes)?;
        unit.iter().enumerate().all(|(index, byte)| index == low || *byte == 0).then(|| unit[low])
    }

    const fn after(self, at: usize) -> usize {
        at + self.width.bytes
    }

    /// Returns the end of one character in any spelling.
    fn end_of(self, wanted: u8, at: usize) -> Option<usize> {
        let first = self.get(at)?;
        let next = self.after(at);
        let spelled = match first {
            b'%' => self.end_of_percent(wanted, next),
            b'\\' => self.end_of_escape(wanted, next),
            b'&' => self.end_of_entity(wanted, next),
            _ => None,
        };
        spelled.or_else(|| is_same_letter(first, wanted).then_some(next))
    }

    /// Reads the part after `%`: two hexadecimal digits, encoded once or several times (`%2541`).
    fn end_of_percent(self, wanted: u8, mut at: usize) -> Option<usize> {
        loop {
            let (value, end) = self.hexadecimal(at, 2)?;
            match value {
                _ if is_coded(value, wanted) => return Some(end),
                0x25 => at = end,
                _ => return None,
            }
        }
    }

    /// Reads the part after a backslash: `u0041`, `x41` or the character itself, with or without more backslashes
    /// before it.
    fn end_of_escape(self, wanted: u8, mut at: usize) -> Option<usize> {
        for _ in 0..MAX_BACKSLASHES {
            if self.get(at)? != b'\\' {
                break;
            }
            at = self.after(at);
        }
        let kind = self.get(at)?;
        let digits = match kind {
            b'u' => self.hexadecimal(self.after(at), 4),
            b'x' => self.hexadecimal(self.after(at), 2),
            _ => None,
        };
        let coded = digits.filter(|(value, _)| is_coded(*value, wanted)).map(|(_, end)| end);
        coded.or_else(|| is_same_letter(kind, wanted).then(|| self.after(at)))
    }

    /// Reads the part after `&`: the name or number of an entity.
    fn end_of_entity(self, wanted: u8, mut at: usize) -> Option<usize> {
        let mut name = String::new();
        for _ in 0..MAX_ENTITY {
            let unit = self.get(at)?;
            at = self.after(at);
            if unit != b';' {
                name.push(unit.to_ascii_lowercase().into());
                continue;
            }
            let value = match &name[..] {
                "amp" => u32::from(b'&'),
                "lt" => u32::from(b'<'),
                "gt" => u32::from(b'>'),
                "quot" => u32::from(b'"'),
                "apos" => u32::from(b'\''),
                number => match number.strip_prefix("#x") {
                    Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                    None => number.strip_prefix('#')?.parse().ok()?,
                },
            };
            return is_coded(value, wanted).then_some(at);
        }
        None
    }

    fn hexadecimal(self, mut at: usize, digits: usize) -> Option<(u32, usize)> {
        let mut value = 0;
        for _ in 0..digits {
            value = value * 16 + char::from(self.get(at)?).to_digit(16)?;
            at = self.after(at);
        }
        Some((value, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "tok-Ac/me+7";

    fn erased(bytes: &[u8]) -> Option<Vec<u8>> {
        Echo::of(TOKEN).erased_from(bytes)
    }

    fn utf16(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_be_bytes).collect()
    }

    #[test]
    fn a_token_is_removed_in_each_spelling() {
        for spelling in [
            "tok-Ac/me+7",
            "tok%2DAc%2fme%2B7",
            "%74%6F%6b-Ac%252Fme%25252b7",
            r"tok-Ac\/me+7",
            r"tok\u002dAc\u002Fme\u002b7",
            r"tok\\u002dAc\\\/me\x2b7",
            "tok&#45;Ac&#x2F;me&#x2b;7",
            "tok-Ac/me%2B7",
            "TOK-AC/ME+7",
            "tok-ac%2Fme+7",
        ] {
            let text = format!("before {spelling} after {spelling}");
            let erased = String::from_utf8(erased(text.as_bytes()).unwrap()).unwrap();
            assert_eq!(erased, "before [token] after [token]", "{spelling}");
        }
    }

    #[test]
    fn a_token_is_removed_from_wide_encodings() {
        let text = r#"{"Ж": "tok-Ac\/me+7"}"#;
        let expected = r#"{"Ж": "[token]"}"#;
        assert_eq!(erased(&utf16(text)).unwrap(), utf16(expected));
        let little = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        assert_eq!(erased(&little(text)).unwrap(), little(expected));
        let wide = |text: &str| text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect::<Vec<_>>();
        assert_eq!(erased(&wide(text)).unwrap(), wide(expected));
        let wide = |text: &str| text.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect::<Vec<_>>();
        assert_eq!(erased(&wide(text)).unwrap(), wide(expected));
    }

    #[test]
    fn a_token_is_removed_from_base64() {
        for before in ["", "x", "xy"] {
            let encoded = STANDARD_NO_PAD.encode(format!("{before}{TOKEN} and more"));
            let erased = String::from_utf8(erased(encoded.as_bytes()).unwrap()).unwrap();
            assert!(erased.contains("[token]") && erased.len() < encoded.len(), "{erased}");
        }
    }

    #[test]
    fn other_bytes_stay_unchanged() {
        for bytes in
            [&b""[..], b"tok-Ac/me+", b"tok-Ac/me+8", b"%", b"%7", b"\\", b"\\u00", b"&#45", b"\0\0t"]
        {
            assert_eq!(erased(bytes), None, "{bytes:?}");
        }
        assert_eq!(erased(b"\xff tok-Ac/me+7 \xfe").unwrap(), b"\xff [token] \xfe");
    }
}
