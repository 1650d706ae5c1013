//! Search index of transcripts. Documents and queries share one normalization, for every engine of the store.
//!
//! A word is folded: it becomes lower case and loses diacritics and stress marks. All apostrophes become one character, and `ё`
//! becomes `е`. The letters `ў қ ғ ҳ` of Uzbek Cyrillic and the letter `й` stay unchanged.
//!
//! A query finds words in either script. A Cyrillic word is also indexed in its Uzbek Latin spelling with a prefix. Only a Latin
//! word of a query is compared with the prefixed spelling. A Cyrillic word of a query is compared with Cyrillic words, and in its
//! Uzbek Latin spelling with Latin words. So two Russian words with the same Uzbek Latin spelling (`мать`, `мат`) stay distinct.
//!
//! The letters `ş ç ö ğ` of the Uzbek alphabet of 2026 equal `sh ch oʻ gʻ`. Other languages have these letters too, so a word
//! with one of them is also indexed without the diacritic. For example, `garcon` finds `garçon`.
//!
//! `oʻzbek` finds `o'zbek` with any apostrophe. `ozbek` finds both spellings, because a word with apostrophes is also indexed
//! without them.

mod cyrillic;
mod words;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::words::fold;
use self::words::{Word, words};
use super::ids::TenantId;
use super::transcript::{Speaker, Turn};

/// Modifier letter turned comma, to which every apostrophe inside a word is normalized. This character is a letter in Unicode.
pub const APOSTROPHE: char = '\u{02BB}';
/// Prefix of Cyrillic words that were transliterated to Latin.
const TRANSLITERATED: char = '~';
/// Maximum size of a document in bytes: about five hours of conversation in Latin letters. PostgreSQL accepts at most one
/// mebibyte.
const MAX_BYTES: usize = 256 * 1024;

/// A speaker: `operator` (the CRM user) or `client` (the other party).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Side)]
pub enum SpeakerSide {
    /// The CRM user.
    Operator,
    /// The other party of the call.
    Client,
}

impl SpeakerSide {
    /// Returns the prefix of words of this speaker. If the speaker has a turn, the prefix itself is also an index entry.
    const fn sign(self) -> &'static str {
        match self {
            Self::Operator => "o_",
            Self::Client => "c_",
        }
    }

    const fn of(speaker: &Speaker) -> Option<Self> {
        match speaker {
            Speaker::Operator => Some(Self::Operator),
            Speaker::Client => Some(Self::Client),
            Speaker::Other(_) => None,
        }
    }

    /// Returns the name in queries.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Client => "client",
        }
    }
}

/// Returns the entry that limits a search to one tenant's documents in a shared index.
fn of_tenant(tenant: &TenantId) -> String {
    format!("t_{tenant}")
}

/// Index entries of one call. They consist of letters, digits, apostrophes and `_ ~ . -`, without spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchDocument(BTreeSet<String>);

impl SearchDocument {
    /// Creates the document of a call with these turns.
    pub fn of(tenant: &TenantId, turns: &[Turn]) -> Self {
        let mut document = Self(BTreeSet::from([of_tenant(tenant)]));
        let mut room = MAX_BYTES;
        for turn in turns {
            let side = SpeakerSide::of(&turn.speaker).map(SpeakerSide::sign);
            if let Some(side) = side {
                document.0.insert(side.to_owned());
            }
            for form in words(&turn.text).iter().flat_map(indexed_forms) {
                let of_side = side.map(|side| format!("{side}{form}"));
                for entry in of_side.into_iter().chain([form]) {
                    let size = entry.len() + 1;
                    if size > room {
                        return document;
                    }
                    if document.0.insert(entry) {
                        room -= size;
                    }
                }
            }
        }
        document
    }

    /// Returns all entries, each once.
    pub fn entries(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

fn indexed_forms(word: &Word) -> Vec<String> {
    let mut forms = vec![word.folded()];
    forms.extend(word.in_latin().map(|latin| format!("{TRANSLITERATED}{latin}")));
    forms.extend(word.without_diacritics());
    let bare = |form: &String| form.contains(APOSTROPHE).then(|| form.replace(APOSTROPHE, ""));
    let bare: Vec<String> = forms.iter().filter_map(bare).collect();
    forms.extend(bare);
    forms
}

/// Reason why a search query is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuery {
    /// The query has no word.
    #[error("has no word")]
    NoWord,
    /// The query is too long.
    #[error("must have at most {max} characters", max = SearchQuery::MAX_CHARS)]
    TooLong,
    /// The query has too many words.
    #[error("must have at most {max} words", max = SearchQuery::MAX_WORDS)]
    TooManyWords,
    /// A prefix is too short: `a*` would match most calls.
    #[error("has a \"*\" after fewer than two letters")]
    ShortPrefix,
}

/// Word of a query. A document matches if it contains one of the forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// Forms of the word, as they are indexed.
    pub forms: Vec<String>,
    /// Whether the forms are prefixes of words.
    pub prefix: bool,
}

/// Search query. A call must match every term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchQuery(Vec<Term>);

impl SearchQuery {
    /// Maximum length of a query in characters.
    pub const MAX_CHARS: usize = 256;
    /// Maximum number of words in a query.
    const MAX_WORDS: usize = 16;

    /// Parses a query. Every word of the query must occur in the call. If `side` is given, every word must occur in turns of this
    /// speaker. `qayta*` matches every word with this prefix.
    ///
    /// # Errors
    /// [`InvalidQuery`] names the broken rule.
    pub fn parse(text: &str, side: Option<SpeakerSide>) -> Result<Self, InvalidQuery> {
        if text.chars().nth(Self::MAX_CHARS).is_some() {
            return Err(InvalidQuery::TooLong);
        }
        let mut terms = Vec::new();
        for part in text.split_whitespace() {
            let found = words(part);
            let last = found.len().saturating_sub(1);
            for (index, word) in found.iter().enumerate() {
                let prefix = index == last && part.ends_with('*');
                if prefix && word.len() < 2 {
                    return Err(InvalidQuery::ShortPrefix);
                }
                terms.push(Term { forms: wanted_forms(word, side), prefix });
            }
        }
        match terms.len() {
            0 => Err(InvalidQuery::NoWord),
            count if count > Self::MAX_WORDS => Err(InvalidQuery::TooManyWords),
            _ => Ok(Self(terms)),
        }
    }

    /// Creates a query for calls in which this speaker has a turn.
    pub fn spoken_by(side: SpeakerSide) -> Self {
        Self(vec![Term { forms: vec![side.sign().to_owned()], prefix: false }])
    }

    /// Returns the terms of the query for a tenant's calls.
    pub fn terms(&self, tenant: &TenantId) -> Vec<Term> {
        let own = Term { forms: vec![of_tenant(tenant)], prefix: false };
        [own].into_iter().chain(self.0.iter().cloned()).collect()
    }

    /// Returns whether a document matches. The index of every store must agree with this function.
    pub fn finds(&self, tenant: &TenantId, document: &SearchDocument) -> bool {
        self.terms(tenant).iter().all(|term| {
            term.forms.iter().any(|form| {
                if term.prefix {
                    document.0.range(form.clone()..).next().is_some_and(|entry| entry.starts_with(form))
                } else {
                    document.0.contains(form)
                }
            })
        })
    }
}

fn wanted_forms(word: &Word, side: Option<SpeakerSide>) -> Vec<String> {
    let folded = word.folded();
    let other = word.in_latin().unwrap_or_else(|| format!("{TRANSLITERATED}{folded}"));
    let side = side.map_or("", SpeakerSide::sign);
    [folded, other].map(|form| format!("{side}{form}")).into()
}

#[cfg(test)]
mod tests;
