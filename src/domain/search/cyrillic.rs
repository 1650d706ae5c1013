//! Transliteration of Cyrillic to Uzbek Latin by the orthography of 1995.

use super::APOSTROPHE;

/// Whether the word has a Cyrillic letter.
pub(super) fn is_cyrillic(word: &str) -> bool {
    word.chars().any(|c| matches!(c, '\u{0400}'..='\u{052F}'))
}

/// Transliterates the word. Characters without a Latin form stay unchanged.
pub(super) fn in_latin(word: &str) -> String {
    let mut latin = String::with_capacity(word.len() + 8);
    let letters: Vec<char> = word.chars().collect();
    for (index, letter) in letters.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|before| letters.get(before)).copied();
        let after = letters.get(index + 1).copied();
        match letter {
            'е' if before.is_none_or(|before| is_vowel(before) || is_sign(before)) => latin.push_str("ye"),
            'ц' if before.is_some_and(is_vowel) => latin.push_str("ts"),
            // The next letter becomes `ye`, `yo`, `yu` or `ya`, which already includes the hard sign.
            'ъ' if after.is_some_and(|after| "еёюя".contains(after)) => {}
            'ъ' => latin.push(APOSTROPHE),
            'ў' => latin.extend(['o', APOSTROPHE]),
            'ғ' => latin.extend(['g', APOSTROPHE]),
            other => match simple(*other) {
                Some(letters) => latin.push_str(letters),
                None => latin.push(*other),
            },
        }
    }
    latin
}

fn is_vowel(c: char) -> bool {
    "аеёиоуўыэюя".contains(c)
}

fn is_sign(c: char) -> bool {
    matches!(c, 'ъ' | 'ь')
}

/// Transliterates letters that do not depend on their neighbours.
fn simple(letter: char) -> Option<&'static str> {
    Some(match letter {
        'а' => "a",
        'б' => "b",
        'в' => "v",
        'г' | 'ґ' => "g",
        'д' => "d",
        'е' | 'э' => "e",
        'ё' => "yo",
        'ж' => "j",
        'з' => "z",
        'и' | 'ы' | 'і' => "i",
        'й' => "y",
        'к' => "k",
        'л' => "l",
        'м' => "m",
        'н' => "n",
        'о' => "o",
        'п' => "p",
        'р' => "r",
        'с' | 'ц' => "s",
        'т' => "t",
        'у' => "u",
        'ф' => "f",
        'х' => "x",
        'ч' => "ch",
        'ш' => "sh",
        'щ' => "shch",
        'ь' => "",
        'ю' => "yu",
        'я' => "ya",
        'қ' => "q",
        'ҳ' => "h",
        _ => return None,
    })
}
