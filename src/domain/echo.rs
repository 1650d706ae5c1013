//! Finds a secret in bytes that repeat it, unchanged or in another spelling.

#[cfg(test)]
mod tests;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use secrecy::zeroize::Zeroizing;

/// Minimum length of a base64 or hexadecimal text that is replaced. Shorter texts also occur by chance.
const MIN_ENCODED: usize = 8;
/// Maximum number of nested escapes. An example is a percent-encoded entity in JSON.
const MAX_LAYERS: usize = 4;
/// Maximum number of backslashes before an escape. JSON inside of JSON doubles the backslashes.
const MAX_BACKSLASHES: usize = 8;
/// Maximum length of an entity, such as `&#00065;`.
const MAX_ENTITY: usize = 10;
/// Maximum number of digits of an escape in braces, such as `\u{000041}`.
const MAX_BRACED_DIGITS: usize = 6;

/// Characters that begin an escape.
const ESCAPES: [u8; 3] = *b"%\\&";

/// Layout of an ASCII character in an encoding. A character has `bytes` bytes. All of them are zero except the byte at the
/// index `low`.
#[derive(Clone, Copy)]
struct Width {
    bytes: usize,
    low: usize,
}

/// Width of a character in ASCII, and of an ASCII character in UTF-8.
const NARROW: Width = Width { bytes: 1, low: 0 };
/// Widths of an ASCII character in UTF-16 and UTF-32, little-endian and big-endian.
const WIDE: [Width; 4] = [
    Width { bytes: 2, low: 0 },
    Width { bytes: 2, low: 1 },
    Width { bytes: 4, low: 0 },
    Width { bytes: 4, low: 3 },
];

/// A token or another secret in all its spellings.
pub(super) struct Echo<'a> {
    token: &'a [u8],
    /// Text that replaces the token.
    replacement: &'static [u8],
    /// The parts of the base64 form that depend on the token alone. base64 encodes groups of three bytes, so each of the
    /// three positions at which the token can start in a group has its own part.
    base64: Vec<Zeroizing<String>>,
    /// The token in hexadecimal digits, if it is long enough.
    hexadecimal: Option<Zeroizing<String>>,
}

impl<'a> Echo<'a> {
    /// Creates the spellings of a token. [`Echo::erased_from`] replaces each of them by `replacement`.
    pub(super) fn of(token: &'a str, replacement: &'static str) -> Self {
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
        base64.retain(|part| part.len() >= MIN_ENCODED);
        let digits = token.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let digits = digits.filter_map(|digit| char::from_digit(digit.into(), 16));
        let hexadecimal = Zeroizing::new(digits.collect::<String>());
        let hexadecimal = Some(hexadecimal).filter(|hex| hex.len() >= MIN_ENCODED);
        Self { token, replacement: replacement.as_bytes(), base64, hexadecimal }
    }

    /// Returns the bytes with the token replaced; `None` if they do not contain the token.
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
        let base64 = self.base64.iter().filter_map(|part| part.bytes().next());
        let of_any_case =
            self.token.first().copied().into_iter().chain(self.hexadecimal_digits().first().copied());
        let of_any_case = of_any_case.flat_map(|byte| [byte.to_ascii_lowercase(), byte.to_ascii_uppercase()]);
        for byte in base64.chain(of_any_case).chain(ESCAPES) {
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
            for byte in self.replacement {
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

    /// Returns the position after the token that begins at the position `begin`; `None` if no token begins there.
    fn end(&self, units: Units<'_>, begin: usize) -> Option<usize> {
        let plain = |text: &[u8], is_same: fn(u8, u8) -> bool| {
            text.iter().try_fold(begin, |at, byte| is_same(units.get(at)?, *byte).then(|| units.after(at)))
        };
        let spelled = |text: &[u8], is_same: fn(u8, u8) -> bool| {
            text.iter().try_fold(begin, |at, byte| units.end_of(|found| is_same(found, *byte), at))
        };
        plain(self.token, is_same_letter)
            .or_else(|| spelled(self.token, is_same_letter))
            .or_else(|| {
                self.base64.iter().find_map(|part| spelled(part.as_bytes(), |one, other| one == other))
            })
            .or_else(|| spelled(self.hexadecimal_digits(), is_same_letter).filter(|end| *end > begin))
    }

    fn hexadecimal_digits(&self) -> &[u8] {
        self.hexadecimal.as_ref().map_or(&[], |digits| digits.as_bytes())
    }
}

/// Whether both are the same character, without regard to upper and lower case. A server may change the case of a URL.
const fn is_same_letter(one: u8, other: u8) -> bool {
    one.eq_ignore_ascii_case(&other)
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

    /// Returns the position after the character at `at`, in any spelling; `None` if `is_wanted` rejects the character.
    fn end_of(self, is_wanted: impl Fn(u8) -> bool, at: usize) -> Option<usize> {
        let first = self.get(at)?;
        if !ESCAPES.contains(&first) {
            return is_wanted(first).then(|| self.after(at));
        }
        (0..=MAX_LAYERS).rev().find_map(|layers| {
            let (value, end) = self.read(at, layers)?;
            u8::try_from(value).is_ok_and(&is_wanted).then_some(end)
        })
    }

    /// Reads one character and decodes up to `layers` nested escapes. Returns the character and the position after it.
    fn read(self, at: usize, layers: usize) -> Option<(u32, usize)> {
        let Some(inner) = layers.checked_sub(1) else {
            return Some((self.get(at)?.into(), self.after(at)));
        };
        let (value, end) = self.read(at, inner)?;
        let decoded = match u8::try_from(value) {
            Ok(b'%') => self.hexadecimal(end, 2, inner),
            Ok(b'\\') => self.read_escape(end, inner),
            Ok(b'&') => self.read_entity(end, inner),
            _ => None,
        };
        Some(decoded.unwrap_or((value, end)))
    }

    /// Reads the part after a backslash: `u0041`, `u{41}`, `x41`, `101` or the character itself, with or without more backslashes
    /// before it.
    fn read_escape(self, mut at: usize, layers: usize) -> Option<(u32, usize)> {
        const BACKSLASH: u32 = b'\\' as u32;
        let (mut kind, mut end) = self.read(at, layers)?;
        for _ in 0..MAX_BACKSLASHES {
            if kind != BACKSLASH {
                break;
            }
            at = end;
            (kind, end) = self.read(at, layers)?;
        }
        let digits = match u8::try_from(kind).ok()? {
            b'u' => self.hexadecimal(end, 4, layers).or_else(|| self.braced(end, layers)),
            b'x' => self.hexadecimal(end, 2, layers),
            b'0'..=b'3' => self.number(at, 3, 8, layers),
            _ => None,
        };
        Some(digits.unwrap_or((kind, end)))
    }

    /// Reads hexadecimal digits in braces.
    fn braced(self, at: usize, layers: usize) -> Option<(u32, usize)> {
        let (_, first) = self.read(at, layers).filter(|(value, _)| *value == u32::from(b'{'))?;
        (1..=MAX_BRACED_DIGITS).find_map(|digits| {
            let (value, end) = self.hexadecimal(first, digits, layers)?;
            let (_, end) = self.read(end, layers).filter(|(value, _)| *value == u32::from(b'}'))?;
            Some((value, end))
        })
    }

    /// Reads the part after `&`: the name or number of an entity.
    fn read_entity(self, mut at: usize, layers: usize) -> Option<(u32, usize)> {
        let mut name = String::new();
        for _ in 0..MAX_ENTITY {
            let (value, end) = self.read(at, layers)?;
            at = end;
            let unit = u8::try_from(value).ok()?;
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
            return Some((value, at));
        }
        None
    }

    fn hexadecimal(self, at: usize, digits: usize, layers: usize) -> Option<(u32, usize)> {
        self.number(at, digits, 16, layers)
    }

    fn number(self, mut at: usize, digits: usize, radix: u32, layers: usize) -> Option<(u32, usize)> {
        let mut value = 0;
        for _ in 0..digits {
            let (digit, end) = self.read(at, layers)?;
            value = value * radix + char::from_u32(digit)?.to_digit(radix)?;
            at = end;
        }
        Some((value, at))
    }
}
