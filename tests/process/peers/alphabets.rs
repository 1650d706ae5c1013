//! The Uzbek alphabets as alifbo converts them: a search finds a word in each of them.

use alovoice_gateway::domain::ids::TenantId;
use alovoice_gateway::domain::search::{SearchDocument, SearchQuery, fold};
use alovoice_gateway::domain::transcript::{Speaker, Turn};
use proptest::prelude::*;
use serde_json::json;

use super::transcripts::samples;
use super::{python, run, text};

/// Frequent words of calls, in the alphabet of 1995.
const WORDS: &str = "assalomu alaykum vaalaykum yaxshimisiz qo'ng'iroq o'zbekiston shahar toshkent choyxona maktab shifokor \
     mashina xizmat ko'rsatish to'g'ri yo'q bo'ladi so'm g'alaba bog' qo'shiq o'g'il shoshilinch chegirma kechirasiz \
     tushunarli ishonch buyurtma manzil ko'cha uy raqam qachon keladi yetkazib berish rahmat sog' bo'ling xayr kelishuv \
     ma'lumot ma'no san'at e'lon a'lo mo'jiza o'rtoq chiroyli tong singlim ming keng G'ijduvon MASHHUR Chorsu O'sh";

async fn converted(words: &[String]) -> Vec<[String; 2]> {
    let output = run(python("convert_alphabets.py"), json!(words).to_string()).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn finds(query: &str, text: &str) -> bool {
    let tenant = TenantId::parse("acme").unwrap();
    let turn =
        Turn { fragment_id: None, speaker: Speaker::Client, begin_ms: 0, end_ms: 1, text: text.to_owned() };
    SearchQuery::parse(query, None).unwrap().finds(&tenant, &SearchDocument::of(&tenant, &[turn]))
}

#[tokio::test]
async fn words_are_found_in_every_alphabet_of_alifbo() {
    let words: Vec<_> = WORDS.split_whitespace().map(str::to_owned).collect();
    for (old, [new, cyrillic]) in words.iter().zip(converted(&words).await) {
        assert_eq!(fold(&new), fold(old), "{new}");
        let spellings = [old, &new, &cyrillic];
        for query in spellings {
            for text in spellings {
                assert!(finds(query, text), "{query} in {text}");
            }
        }
    }
}

#[tokio::test]
async fn invented_words_of_both_latin_alphabets_are_equal() {
    let syllable = "(sh|ch|g'|[bdghjklmnpqrstvxyz])(o'|[aeiou])(sh|ch|g'|ng|[lmnrst])?";
    let words: Vec<_> =
        samples(&prop::collection::vec(syllable, 1..5), 1_000).iter().map(|it| it.concat()).collect();
    let mut changed = 0;
    for (old, [new, _]) in words.iter().zip(converted(&words).await) {
        assert_eq!(fold(&new), fold(old), "{old} {new}");
        assert!(finds(&new, old) && finds(old, &new), "{old} {new}");
        changed += usize::from(new.contains(['ş', 'ç', 'ö', 'ğ']));
    }
    assert!(changed > 500, "{changed} words have a letter of 2026");
}
