//! Tests with words that match and words that do not.

use proptest::prelude::*;

use super::*;

fn acme() -> TenantId {
    TenantId::parse("acme").unwrap()
}

fn turn(speaker: &str, text: &str) -> Turn {
    Turn {
        fragment_id: None,
        speaker: Speaker::from_word(speaker),
        begin_ms: 0,
        end_ms: 1,
        text: text.to_owned(),
    }
}

fn finds(query: &str, text: &str) -> bool {
    let document = SearchDocument::of(&acme(), &[turn("operator", text)]);
    SearchQuery::parse(query, None).unwrap().finds(&acme(), &document)
}

#[test]
fn case_diacritics_and_stress_marks_do_not_matter() {
    for (query, text) in [
        ("SALOM", "salom"),
        ("привет", "ПРИВЕТ, Мир!"),
        ("cafe", "Café"),
        ("café", "cafe"),
        ("замок", "за\u{301}мок"),
        ("istanbul", "İSTANBUL"),
        ("еще", "ещё"),
        ("ЕЩЁ", "еще"),
        ("ещё", "еще\u{308}"),
        ("мой", "МОИ\u{306}"),
        ("１２", "12"),
        ("qabulxona", "qabul\u{ad}xona"),
    ] {
        assert!(finds(query, text), "{query} in {text}");
    }
}

#[test]
fn all_apostrophes_are_equal_and_optional() {
    for sign in ["ʻ", "'", "‘", "ʼ", "`", "’", "´", "′", "\u{0374}", "''"] {
        let text = format!("O{sign}zbekiston bog{sign}, ma{sign}no");
        for query in
            ["oʻzbekiston", "o'zbekiston", "OZBEKISTON", "bog`", "bog", "ma’no", "mano", "ўзбекистон"]
        {
            assert!(finds(query, &text), "{query} in {text}");
        }
        assert!(!finds(&format!("o{sign}n"), "on"), "an apostrophe in the query is required");
        assert!(finds(&format!("{sign}salom{sign}"), "salom"), "quotation marks are not apostrophes");
    }
}

#[test]
fn an_uzbek_word_is_found_in_either_script() {
    for (latin, cyrillic) in [
        ("salom", "салом"),
        ("oʻzbek", "ўзбек"),
        ("gʻalaba", "ғалаба"),
        ("qaror", "қарор"),
        ("hayot", "ҳаёт"),
        ("xabar", "хабар"),
        ("yordam", "ёрдам"),
        ("yer", "ер"),
        ("poyezd", "поезд"),
        ("sherigʻi", "шериғи"),
        ("choy", "чой"),
        ("maʼno", "маъно"),
        ("obyekt", "объект"),
        ("albom", "альбом"),
        ("konstitutsiya", "конституция"),
        ("sirk", "цирк"),
        ("yaxshi", "яхши"),
    ] {
        assert!(finds(latin, cyrillic), "{latin} in {cyrillic}");
        assert!(finds(cyrillic, latin), "{cyrillic} in {latin}");
    }
}

#[test]
fn the_letters_of_the_alphabet_of_2026_equal_the_older_spelling() {
    for (new, old, cyrillic) in [
        ("özbekiston", "oʻzbekiston", "ўзбекистон"),
        ("töğri", "toʻgʻri", "тўғри"),
        ("şahar", "shahar", "шаҳар"),
        ("çoy", "choy", "чой"),
        ("qoşiq", "qoshiq", "қошиқ"),
        ("bog", "bog", "бог"),
        ("boğ", "bogʻ", "боғ"),
        ("kö", "koʻ", "кў"),
        ("Öğiloy", "Oʻgʻiloy", "Ўғилой"),
        ("ŞAHAR ÇOY", "shahar choy", "шаҳар чой"),
        ("s\u{327}ahar c\u{327}oy o\u{308}g\u{306}il", "shahar choy oʻgʻil", "шаҳар чой ўғил"),
        ("S\u{327}ahar O\u{308}zbek", "Shahar Oʻzbek", "Шаҳар Ўзбек"),
        ("șahar", "shahar", "шаҳар"),
    ] {
        for (query, text) in [(new, old), (old, new), (new, cyrillic), (cyrillic, new), (new, new)] {
            assert!(finds(query, text), "{query} in {text}");
        }
        assert_eq!(fold(new), fold(old));
    }
    for (query, text) in [
        ("şah*", "shaharda"),
        ("sha*", "şaharda"),
        ("ша*", "şaharda"),
        ("ş*", "shaharda"),
        ("öz*", "o'zbek"),
        ("o'z*", "özbek"),
        ("ozb*", "özbek"),
        ("ö*", "oʻzbek"),
        ("bogi", "boği"),
        ("ö'g'il", "oʻgʻil"),
    ] {
        assert!(finds(query, text), "{query} in {text}");
    }
    for (query, text) in
        [("şox", "sox"), ("sox", "shox"), ("ön", "on"), ("çek", "cek"), ("ğam", "gam"), ("toğri", "toʻgʻri")]
    {
        assert!(!finds(query, text), "{query} in {text}");
    }
}

#[test]
fn words_of_other_languages_are_found_without_their_diacritics() {
    for (query, text) in [
        ("garcon", "garçon"),
        ("garçon", "garçon"),
        ("GARÇON", "garçon"),
        ("schon", "schön"),
        ("schön", "Schön"),
        ("agac", "ağaç"),
        ("ağaç", "AĞAÇ"),
        ("istanbul gorusme", "İstanbul görüşme"),
        ("gor*", "görüşme"),
        ("muller", "Müller"),
        ("Müller", "muller"),
        ("resume", "résumé"),
    ] {
        assert!(finds(query, text), "{query} in {text}");
    }
    for (query, text) in [("muller", "mueller"), ("schoen", "schön")] {
        assert!(!finds(query, text), "{query} in {text}");
    }
}

#[test]
fn long_words_of_both_alphabets_are_cut_at_the_same_letter() {
    for letters in 60..70 {
        let (new, old) = (format!("{}şş", "a".repeat(letters)), format!("{}shsh", "a".repeat(letters)));
        assert_eq!(fold(&new), fold(&old), "{letters}");
        assert!(finds(&new, &old) && finds(&old, &new), "{letters}");
    }
}

#[test]
fn different_words_do_not_match() {
    for (query, text) in [
        // These Russian words have the same Uzbek Latin spelling.
        ("мат", "мать"),
        ("мать", "мат"),
        ("был", "бил"),
        ("цена", "сена"),
        // Uzbek distinguishes these letters.
        ("қол", "кол"),
        ("кол", "қол"),
        ("ҳам", "хам"),
        ("ўн", "он"),
        ("ғам", "гам"),
        ("мои", "мой"),
        ("salo", "salom"),
    ] {
        assert!(!finds(query, text), "{query} in {text}");
    }
}

#[test]
fn all_words_must_occur_and_a_star_matches_any_ending() {
    assert!(finds("klinika qabul*", "oilaviy klinika qabulxonasi"));
    assert!(finds("қабул*", "oilaviy klinika qabulxonasi"));
    assert!(!finds("klinika xayr", "oilaviy klinika"));
    assert!(finds("24", "24 soat"));
    assert!(finds("ha-ha", "ha ha"));
}

#[test]
fn a_search_by_speaker_finds_only_words_of_this_speaker() {
    let document = SearchDocument::of(&acme(), &[turn("operator", "salom"), turn("client", "rahmat")]);
    let finds = |text, side| SearchQuery::parse(text, Some(side)).unwrap().finds(&acme(), &document);
    assert!(
        finds("salom", SpeakerSide::Operator)
            && finds("rahmat", SpeakerSide::Client)
            && finds("раҳм*", SpeakerSide::Client)
    );
    assert!(!finds("salom", SpeakerSide::Client) && !finds("rahmat", SpeakerSide::Operator));
    assert!(SearchQuery::parse("salom rahmat", None).unwrap().finds(&acme(), &document));
    let alone = SearchDocument::of(&acme(), &[turn("operator", ""), turn("robot", "o_salom c_")]);
    assert!(SearchQuery::spoken_by(SpeakerSide::Operator).finds(&acme(), &alone));
    assert!(!SearchQuery::spoken_by(SpeakerSide::Client).finds(&acme(), &alone));
}

#[test]
fn a_long_word_is_found_wherever_its_end_is_cut_off() {
    for letters in ["a'", "o'", "sh", "ç", "ö'", "ё'", "ғʻ", "aÖ'a"] {
        for shift in 0..4 {
            let text = format!("{}{}", &"xyz"[..shift], letters.repeat(60));
            let folded = fold(&text);
            assert!(finds(&text, &text) && finds(&folded, &text), "{text}: {folded}");
            assert_eq!(fold(&folded), folded);
        }
    }
}

#[test]
fn invalid_queries_are_refused() {
    for (text, error) in [
        ("", InvalidQuery::NoWord),
        (" ' … * ", InvalidQuery::NoWord),
        ("a*", InvalidQuery::ShortPrefix),
        (&"x".repeat(257), InvalidQuery::TooLong),
        (&"a ".repeat(17), InvalidQuery::TooManyWords),
    ] {
        assert_eq!(SearchQuery::parse(text, None), Err(error), "{text}");
    }
}

#[test]
fn a_very_long_transcript_is_indexed_up_to_the_maximum_size() {
    let endless: String = (0..200_000).map(|n| format!("so'z{n} ")).collect();
    let document = SearchDocument::of(&acme(), &[turn("client", &endless)]);
    let bytes: usize = document.entries().map(|entry| entry.len() + 1).sum();
    assert!((MAX_BYTES - 100..MAX_BYTES + 100).contains(&bytes), "{bytes}");
}

proptest! {
    #[test]
    fn folding_is_idempotent(text in "[aoşçöğșŞÖ'ʻ\u{308}\u{327} ]{0,24}|\\PC{0,40}") {
        let folded = fold(&text);
        prop_assert_eq!(fold(&folded), folded.clone());
    }

    #[test]
    fn ascii_text_folds_as_it_does_beside_other_text(text in "[ -~]{0,60}") {
        let beside = fold(&format!("{text} салом"));
        let alone = format!("{} салом", fold(&text));
        prop_assert_eq!(alone.trim_start(), beside);
    }

    #[test]
    fn a_text_is_found_by_each_of_its_words(text in "[a-zA-Zа-яА-ЯёЁўқғҳşçöğŞÇÖĞʻ'’ ,.\\-]{0,60}|\\PC{0,40}") {
        for word in fold(&text).split(' ').filter(|word| !word.is_empty()) {
            prop_assert!(finds(word, &text), "{} in {}", word, text);
        }
    }

    #[test]
    fn both_alphabets_have_the_same_folding(text in "[abcghostu şçöğŞÇÖĞʻ]{0,60}") {
        let older = text.to_lowercase().replace('ş', "sh").replace('ç', "ch").replace('ö', "oʻ").replace('ğ', "gʻ");
        prop_assert_eq!(fold(&text), fold(&older));
    }

    #[test]
    fn case_and_apostrophes_do_not_change_the_folding(text in "[a-zA-Zа-яА-ЯёЁўқғҳ ]{0,20}'[a-z ]{0,10}") {
        prop_assert_eq!(fold(&text.to_uppercase()), fold(&text.to_lowercase()));
        prop_assert_eq!(fold(&text.replace('\'', "‘")), fold(&text));
    }

    #[test]
    fn index_entries_have_no_spaces_and_no_query_syntax(text in "\\PC{0,60}") {
        let document = SearchDocument::of(&acme(), &[turn("operator", &text)]);
        for entry in document.entries() {
            prop_assert!(entry.chars().all(|c| c.is_alphanumeric() || "_~".contains(c)), "{}", entry);
        }
    }
}
