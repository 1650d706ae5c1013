//! Counts the words of a text.

use unicode_segmentation::UnicodeSegmentation;

/// Modifier letter turned comma, the correct apostrophe of oʻ and gʻ.
///
/// In Unicode, this character is a letter, so a word does not end at it.
const TURNED_COMMA: char = '\u{02BB}';

/// Characters that people and speech recognition use as apostrophes. By Unicode's rules, some of them end a word.
const APOSTROPHES: [char; 6] = [TURNED_COMMA, '\'', '\u{2019}', '\u{2018}', '\u{02BC}', '`'];

/// Returns the number of words (Unicode Standard Annex 29). Every apostrophe inside a word belongs to the word.
pub(super) fn count(text: &str) -> usize {
    let spelled: String =
        text.chars().map(|c| if APOSTROPHES.contains(&c) { TURNED_COMMA } else { c }).collect();
    // A standalone apostrophe is not a word.
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
    fn only_words_count() {
        assert_eq!(count(""), 0);
        assert_eq!(count(" … — ' ` ʻ "), 0);
        assert_eq!(count("assalomu alaykum, 24 soat"), 4);
        assert_eq!(count("Здравствуйте,как дела?"), 3);
    }
}
