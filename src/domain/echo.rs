//! Finds a secret in bytes that repeat it, unchanged or in another spelling.

#[cfg(test)]
mod tests;
mod units;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use secrecy::zeroize::Zeroizing;

use self::units::{Characters, ESCAPES, NARROW, Units, WIDE, Width};

/// Minimum length of a base64 or hexadecimal text that is replaced. Shorter texts also occur by chance.
const MIN_ENCODED: usize = 8;
/// A token or another secret in all its spellings.
pub(super) struct Echo<'a> {
    token: &'a [u8],
    /// Text that replaces the token.
    replacement: &'static [u8],
    /// The parts of the base64 form that depend on the token alone. base64 encodes groups of three bytes. The
    /// token can start at each of the three positions in a group, so there are three parts.
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
        let mut begins = [false; 256];
        let base64 = self.base64.iter().filter_map(|part| part.bytes().next());
        let of_any_case =
            self.token.first().copied().into_iter().chain(self.hexadecimal_digits().first().copied());
        let of_any_case = of_any_case.flat_map(|byte| [byte.to_ascii_lowercase(), byte.to_ascii_uppercase()]);
        for byte in base64.chain(of_any_case) {
            begins[usize::from(byte)] = true;
        }
        let mut may_begin = begins;
        for byte in ESCAPES {
            may_begin[usize::from(byte)] = true;
        }
        let characters = Characters::of(bytes);
        let units = Units { bytes, width, characters: &characters };
        let (mut erased, mut copied, mut at) = (Vec::new(), 0, 0);
        // Most bytes of a large answer begin no token, so they are skipped before their unit is read.
        while let Some(skipped) = bytes
            .get(at + width.low..)
            .and_then(|rest| rest.iter().position(|byte| may_begin[usize::from(*byte)]))
        {
            at += skipped;
            // Most escapes are of other characters, so the first character is checked before the spellings.
            let first = units.end_of(|found| begins[usize::from(found)], at);
            let Some(end) = first.and_then(|_| self.end(units, at)) else {
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
