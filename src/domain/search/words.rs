//! Words: how search splits and normalizes text.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::{decompose_canonical, is_combining_mark};

use super::{APOSTROPHE, cyrillic};

/// Characters that people, keyboards and speech recognition use as an apostrophe.
const APOSTROPHES: [char; 15] = [
    APOSTROPHE, '\'', '`', '\u{00B4}', '\u{2018}', '\u{2019}', '\u{201B}', '\u{2032}', '\u{02B9}',
    '\u{02BC}', '\u{02BD}', '\u{02BE}', '\u{02BF}', '\u{FF07}', '\u{A78C}',
];

/// Invisible characters inside words: soft hyphens, joiners, byte order marks.
const UNSEEN: [char; 6] = ['\u{00AD}', '\u{200B}', '\u{200C}', '\u{200D}', '\u{2060}', '\u{FEFF}'];

/// Letters with which a final apostrophe forms another letter (`oʻ`, `gʻ`).
const OF_LETTER: [char; 2] = ['o', 'g'];

/// Maximum length of a word in characters. Documents and queries ignore the end of a longer word.
const MAX_CHARS: usize = 64;

/// The new letters of the Uzbek alphabet of 2026. Each entry has the letter, its spelling of 1995 (a digraph or a
/// letter with an apostrophe), and the letter without its diacritic. `ș` is often typed instead of `ş`.
const NEW_LETTERS: [(char, &str, char); 5] =
    [('ş', "sh", 's'), ('ș', "sh", 's'), ('ç', "ch", 'c'), ('ö', "o\u{02BB}", 'o'), ('ğ', "g\u{02BB}", 'g')];

fn new_letter(letter: char) -> Option<&'static (char, &'static str, char)> {
    NEW_LETTERS.iter().find(|(known, ..)| *known == letter)
}

/// Normalized word: lower case, without diacritics, with one form of apostrophe. A word keeps the letters of the Uzbek alphabet
/// of 2026, and `ё`, whose transliteration differs from the transliteration of `е`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word(String);

impl Word {
    /// Returns the word in the Uzbek spelling of 1995, so that the spellings of 1995 and 2026 are equal.
    pub(super) fn folded(&self) -> String {
        self.older().replace('ё', "е")
    }

    /// Returns the Uzbek Latin spelling; `None` if the word has no Cyrillic letter.
    pub(super) fn in_latin(&self) -> Option<String> {
        cyrillic::is_cyrillic(&self.0).then(|| cyrillic::in_latin(&self.older()))
    }

    /// Returns the word with `s c o g` in place of `ş ç ö ğ`; `None` if the word has none of these letters. Words of other
    /// languages need this form, because in them the letters do not stand for digraphs.
    pub(super) fn without_diacritics(&self) -> Option<String> {
        if self.0.is_ascii() {
            return None;
        }
        let bare = |letter| new_letter(letter).map_or(letter, |(.., bare)| *bare);
        self.0.contains(|letter| new_letter(letter).is_some()).then(|| self.0.chars().map(bare).collect())
    }

    fn older(&self) -> String {
        if self.0.is_ascii() {
            return self.0.clone();
        }
        let mut older = String::with_capacity(self.0.len());
        for letter in self.0.chars() {
            match new_letter(letter) {
                Some((_, letters, _)) => older.push_str(letters),
                None => older.push(letter),
            }
        }
        if let Some((end, _)) = older.char_indices().nth(MAX_CHARS) {
            older.truncate(end);
        }
        // If the end of a long word was cut off, the rest may end with an apostrophe. A query would lose this apostrophe.
        if older.strip_suffix(APOSTROPHE).is_some_and(|rest| !rest.ends_with(OF_LETTER)) {
            older.pop();
        }
        older
    }

    /// Returns the length in characters.
    pub(super) fn len(&self) -> usize {
        self.older().chars().count()
    }
}

/// Returns the folded words of a text, separated by single spaces.
pub fn fold(text: &str) -> String {
    let folded: Vec<String> = words(text).iter().map(Word::folded).collect();
    folded.join(" ")
}

/// Splits a text into words, in their order.
pub(super) fn words(text: &str) -> Vec<Word> {
    let mut builder = Builder::default();
    if text.is_ascii() {
        // NFKC changes no ASCII character. Most texts are long and in Latin letters.
        text.chars().for_each(|c| builder.character(c.to_ascii_lowercase()));
    } else {
        // Apostrophes are replaced first, because NFKC turns a standalone acute accent into a space with a mark.
        let signs = text.chars().map(|c| if APOSTROPHES.contains(&c) { APOSTROPHE } else { c });
        // Lower-casing can decompose letters, so the text is normalized again. NFKC turns more characters into
        // apostrophes (U+0374).
        signs.nfkc().flat_map(char::to_lowercase).nfkc().for_each(|c| builder.character(c));
    }
    builder.end();
    builder.words
}

/// Whether the character is a combining diacritic of Latin, Greek or Cyrillic.
const fn is_mark(c: char) -> bool {
    matches!(c, '\u{0300}'..='\u{036F}')
}

/// Passes a character to `emit`, without its diacritics. The new letters of the Uzbek alphabet stay unchanged, and so do the
/// letters of scripts in which diacritics form distinct letters.
fn bare(c: char, mut emit: impl FnMut(char)) {
    if new_letter(c).is_none() && matches!(c, '\u{00C0}'..='\u{03FF}' | '\u{1E00}'..='\u{1FFF}') {
        decompose_canonical(c, |part| {
            if !is_combining_mark(part) {
                emit(part);
            }
        });
    } else {
        emit(c);
    }
}

#[derive(Default)]
struct Builder {
    words: Vec<Word>,
    word: String,
    chars: usize,
    apostrophe: bool,
}

impl Builder {
    /// Adds a normalized character.
    fn character(&mut self, c: char) {
        if c.is_ascii_alphanumeric() {
            self.letter(c);
        } else if APOSTROPHES.contains(&c) {
            self.apostrophe();
        } else if is_mark(c) || UNSEEN.contains(&c) {
            // These are marks that NFKC could not compose with a letter, mostly stress marks.
        } else if c.is_alphanumeric() {
            bare(c, |c| self.letter(c));
        } else {
            self.end();
        }
    }

    fn letter(&mut self, c: char) {
        // The older spelling of `ö` and `ğ` ends with an apostrophe already.
        if std::mem::take(&mut self.apostrophe) && !self.word.ends_with(['ö', 'ğ']) {
            self.push(APOSTROPHE);
        }
        self.push(c);
    }

    fn push(&mut self, c: char) {
        if self.chars < MAX_CHARS {
            self.word.push(c);
            self.chars += 1;
        }
    }

    /// Handles an apostrophe. An apostrophe at the start of a word is a quotation mark and is dropped. For any other apostrophe,
    /// the next character decides whether it belongs to the word.
    fn apostrophe(&mut self) {
        self.apostrophe = !self.word.is_empty();
    }

    /// Ends the word. A final apostrophe after one of [`OF_LETTER`] belongs to the letter. A final apostrophe after any other letter
    /// is a quotation mark.
    fn end(&mut self) {
        if std::mem::take(&mut self.apostrophe) && self.word.ends_with(OF_LETTER) {
            self.push(APOSTROPHE);
        }
        if !self.word.is_empty() {
            self.words.push(Word(std::mem::take(&mut self.word)));
        }
        self.chars = 0;
    }
}
