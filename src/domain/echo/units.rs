//! Text whose characters may be escaped several times, in an encoding with characters of one width.

use std::cell::RefCell;

/// Maximum number of nested escapes. An example is a percent-encoded entity in JSON.
const MAX_LAYERS: usize = 4;
/// Maximum number of backslashes before an escape. JSON inside of JSON doubles the backslashes.
const MAX_BACKSLASHES: usize = 8;
/// Maximum length of an entity, such as `&#00065;`.
const MAX_ENTITY: usize = 10;
/// Maximum number of digits of an escape in braces, such as `\u{000041}`.
const MAX_BRACED_DIGITS: usize = 6;

/// Maximum number of bytes whose characters are remembered. Nested escapes reach about this far, because each layer of backslashes
/// reads about ten characters of the layer below.
const MAX_REMEMBERED: usize = 16 << 10;

/// Characters that begin an escape.
pub(super) const ESCAPES: [u8; 3] = *b"%\\&";

/// Layout of an ASCII character in an encoding. A character has `bytes` bytes. All of them are zero except the byte at the
/// index `low`.
#[derive(Clone, Copy)]
pub(super) struct Width {
    pub(super) bytes: usize,
    pub(super) low: usize,
}

/// Width of a character in ASCII, and of an ASCII character in UTF-8.
pub(super) const NARROW: Width = Width { bytes: 1, low: 0 };
/// Widths of an ASCII character in UTF-16 and UTF-32, little-endian and big-endian.
pub(super) const WIDE: [Width; 4] = [
    Width { bytes: 2, low: 0 },
    Width { bytes: 2, low: 1 },
    Width { bytes: 4, low: 0 },
    Width { bytes: 4, low: 3 },
];

/// A decoded character and the position after it; `None` if the text ends before the character.
type Character = Option<(u32, usize)>;

/// The decoded characters near the current position, by position and number of layers. Without them, the work for a run of escapes
/// would grow tenfold with each layer.
pub(super) struct Characters {
    /// Number of positions whose characters are remembered.
    positions: usize,
    /// Characters with their positions. The slots exist from the first escape on.
    slots: RefCell<Vec<Option<(usize, Character)>>>,
}

impl Characters {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { positions: bytes.len().clamp(1, MAX_REMEMBERED), slots: RefCell::default() }
    }

    /// Returns the character at a position, which `read` decodes if it is not known.
    fn get(&self, (at, layer): (usize, usize), read: impl FnOnce() -> Character) -> Character {
        let slot = at % self.positions * MAX_LAYERS + layer;
        if let Some(Some((known, character))) = self.slots.borrow().get(slot)
            && *known == at
        {
            return *character;
        }
        let character = read();
        let mut slots = self.slots.borrow_mut();
        if slots.is_empty() {
            slots.resize(self.positions * MAX_LAYERS, None);
        }
        slots[slot] = Some((at, character));
        character
    }
}

/// Text in an encoding with characters of one width.
#[derive(Clone, Copy)]
pub(super) struct Units<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) width: Width,
    pub(super) characters: &'a Characters,
}

impl Units<'_> {
    /// Returns the ASCII character at this byte.
    pub(super) fn get(self, at: usize) -> Option<u8> {
        let Width { bytes, low } = self.width;
        let unit = self.bytes.get(at..at + bytes)?;
        unit.iter().enumerate().all(|(index, byte)| index == low || *byte == 0).then(|| unit[low])
    }

    pub(super) const fn after(self, at: usize) -> usize {
        at + self.width.bytes
    }

    /// Returns the position after the character at `at`, in any spelling; `None` if `is_wanted` rejects the character.
    pub(super) fn end_of(self, is_wanted: impl Fn(u8) -> bool, at: usize) -> Option<usize> {
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
    fn read(self, at: usize, layers: usize) -> Character {
        let Some(inner) = layers.checked_sub(1) else {
            return Some((self.get(at)?.into(), self.after(at)));
        };
        let first = self.get(at)?;
        if !ESCAPES.contains(&first) {
            return Some((first.into(), self.after(at)));
        }
        self.characters.get((at, inner), || self.decode(at, inner))
    }

    /// Reads one character with `inner` layers of escapes, and decodes the escape that it begins.
    fn decode(self, at: usize, inner: usize) -> Character {
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
    fn read_escape(self, mut at: usize, layers: usize) -> Character {
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
    fn braced(self, at: usize, layers: usize) -> Character {
        let (_, first) = self.read(at, layers).filter(|(value, _)| *value == u32::from(b'{'))?;
        (1..=MAX_BRACED_DIGITS).find_map(|digits| {
            let (value, end) = self.hexadecimal(first, digits, layers)?;
            let (_, end) = self.read(end, layers).filter(|(value, _)| *value == u32::from(b'}'))?;
            Some((value, end))
        })
    }

    /// Reads the part after `&`: the name or number of an entity.
    fn read_entity(self, mut at: usize, layers: usize) -> Character {
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

    fn hexadecimal(self, at: usize, digits: usize, layers: usize) -> Character {
        self.number(at, digits, 16, layers)
    }

    fn number(self, mut at: usize, digits: usize, radix: u32, layers: usize) -> Character {
        let mut value = 0;
        for _ in 0..digits {
            let (digit, end) = self.read(at, layers)?;
            value = value * radix + char::from_u32(digit)?.to_digit(radix)?;
            at = end;
        }
        Some((value, at))
    }
}
