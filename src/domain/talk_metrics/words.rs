//! Counting words.

use unicode_segmentation::UnicodeSegmentation;

/// The modifier letter turned comma: what the apostrophe of oʻ and gʻ should be.
///
/// To Unicode it is a letter, so a word does not end at it.
const TURNED_COMMA: char = '\u{02BB}';

/// What people and recognisers write for it: some of these end a word by Unicode's rules.
const APOSTROPHES: [char; 6] = [TURNED_COMMA, '\'', '\u{2019}', '\u{2018}', '\u{02BC}', '`'];

/// The number of words (Unicode Standard Annex 29), an apostrophe of any spelling being part of its word.
pub(super) fn count(text: &str) -> usize {
    let spelled: String =
        text.chars().map(|c| if APOSTROPHES.contains(&c) { TURNED_COMMA } else { c }).collect();
    // An apostrophe that stands alone is no word.
    spelled.unicode_words().filter(|word| word.chars().any(|c| c != TURNED_COMMA)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_apostrophe_stays_inside_its_word() {
        for apostrophe in APOSTROPHES {
            let text = format!("To{apostrophe}g{apostrophe}ri, bog{apostrophe} yo{apostrophe}q!");
            assert_eq!(count(&text), 3, "{text}");
        }
    }

    #[test]
    fn counts_words_and_nothing_else() {
        assert_eq!(count(""), 0);
        assert_eq!(count(" … — ' ` ʻ "), 0);
        assert_eq!(count("assalomu alaykum, 24 soat"), 4);
        assert_eq!(count("Здравствуйте,как дела?"), 3);
    }
}
