//! Words, as the search sees them.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::{decompose_canonical, is_combining_mark};

use super::{APOSTROPHE, cyrillic};

/// What people, keyboards and recognisers write for [`APOSTROPHE`].
const APOSTROPHES: [char; 15] = [
    APOSTROPHE, '\'', '`', '\u{00B4}', '\u{2018}', '\u{2019}', '\u{201B}', '\u{2032}', '\u{02B9}',
    '\u{02BC}', '\u{02BD}', '\u{02BE}', '\u{02BF}', '\u{FF07}', '\u{A78C}',
];

/// What stands in a word and is not seen: soft hyphens, joiners, marks of the byte order.
const UNSEEN: [char; 6] = ['\u{00AD}', '\u{200B}', '\u{200C}', '\u{200D}', '\u{2060}', '\u{FEFF}'];

/// No word is longer; the rest of what is goes unseen, here as there.
const MAX_CHARS: usize = 64;

/// A word in lower case, without diacritics, with one sign for apostrophes. `ё` is still itself: Latin tells it from `е`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word(String);

impl Word {
    pub(super) fn folded(&self) -> String {
        self.0.replace('ё', "е")
    }

    /// As Uzbek writes it in Latin letters; `None` if there is nothing Cyrillic in it.
    pub(super) fn in_latin(&self) -> Option<String> {
        cyrillic::is_cyrillic(&self.0).then(|| cyrillic::in_latin(&self.0))
    }

    /// In characters.
    pub(super) fn len(&self) -> usize {
        self.0.chars().count()
    }
}

/// A text as it is compared: its words, folded, parted by single spaces.
pub fn fold(text: &str) -> String {
    let folded: Vec<String> = words(text).iter().map(Word::folded).collect();
    folded.join(" ")
}

/// The words of a text, in their order.
pub(super) fn words(text: &str) -> Vec<Word> {
    // Apostrophes first: to the normal form, an acute accent of its own is a space with a mark.
    let signs = text.chars().map(|c| if APOSTROPHES.contains(&c) { APOSTROPHE } else { c });
    let mut builder = Builder::default();
    // Once more after lower case, which may take letters apart.
    for c in signs.nfkc().flat_map(char::to_lowercase).nfkc() {
        if c == APOSTROPHE {
            builder.apostrophe();
        } else if is_mark(c) || UNSEEN.contains(&c) {
            // Marks that the normal form could not join with their letter: stress, mostly.
        } else if c.is_alphanumeric() {
            bare(c, |c| builder.letter(c));
        } else {
            builder.end();
        }
    }
    builder.end();
    builder.words
}

/// The diacritics of Latin, Greek and Cyrillic.
const fn is_mark(c: char) -> bool {
    matches!(c, '\u{0300}'..='\u{036F}')
}

/// The letter without its diacritics, in scripts whose diacritics do not make other letters.
fn bare(c: char, mut emit: impl FnMut(char)) {
    if matches!(c, '\u{00C0}'..='\u{03FF}' | '\u{1E00}'..='\u{1FFF}') {
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
    fn letter(&mut self, c: char) {
        if std::mem::take(&mut self.apostrophe) {
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

    /// At a word's begin it is a quotation mark; else what follows tells.
    fn apostrophe(&mut self) {
        self.apostrophe = !self.word.is_empty();
    }

    /// At a word's end an apostrophe belongs to `oʻ` and `gʻ`, and else is a quotation mark.
    fn end(&mut self) {
        if std::mem::take(&mut self.apostrophe) && self.word.ends_with(['o', 'g']) {
            self.push(APOSTROPHE);
        }
        if !self.word.is_empty() {
            self.words.push(Word(std::mem::take(&mut self.word)));
        }
        self.chars = 0;
    }
}
