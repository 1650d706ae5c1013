//! What of a talk is indexed, and what a search looks for: one folding for both, and for every engine of the store.
//!
//! A word is folded to lower case, without diacritics and stress marks, with one sign for all apostrophes; `ё` is `е`.
//! The letters that Uzbek Cyrillic has besides the Russian ones (`ў қ ғ ҳ`) and `й` stay letters of their own.
//!
//! A talk is found in whichever script its words are asked for: a word in Cyrillic is also indexed as Uzbek writes it in
//! Latin, behind a sign of its own, and looked for so among Latin words. Within Cyrillic nothing meets by way of
//! Latin, so that Russian words which Uzbek would write alike (`мать`, `мат`) stay apart.
//!
//! `oʻzbek` finds `o'zbek` in any spelling; `ozbek`, typed without, finds both, because a word with apostrophes is also
//! indexed without them.

mod cyrillic;
mod words;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::words::{APOSTROPHE, fold};
use self::words::{Word, words};
use super::ids::TenantId;
use super::transcript::{Speaker, Turn};

/// Before what was Cyrillic and is written in Latin letters.
const TRANSLITERATED: char = '~';
/// How much of a talk is indexed, in bytes of what is indexed: some five hours of talk in Latin letters. PostgreSQL takes
/// no more than a mebibyte.
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
    /// Before the words of this side. On its own, it is there if the side speaks at all.
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

    /// The word in queries.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Client => "client",
        }
    }
}

/// Lets a search stay among what is one tenant's, however much others have in the same index.
fn of_tenant(tenant: &TenantId) -> String {
    format!("t_{tenant}")
}

/// What is indexed of one call: letters, digits, apostrophes and `_ ~ . -`, no spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchDocument(BTreeSet<String>);

impl SearchDocument {
    /// Of a tenant's call, in which this was said.
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

    /// Each entry, once.
    pub fn entries(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

fn indexed_forms(word: &Word) -> Vec<String> {
    let mut forms = vec![word.folded()];
    forms.extend(word.in_latin().map(|latin| format!("{TRANSLITERATED}{latin}")));
    let bare = |form: &String| form.contains(APOSTROPHE).then(|| form.replace(APOSTROPHE, ""));
    let bare: Vec<String> = forms.iter().filter_map(bare).collect();
    forms.extend(bare);
    forms
}

/// Why a text cannot be searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuery {
    /// Nothing in it but signs.
    #[error("has no word")]
    NoWord,
    /// Too long.
    #[error("must have at most {max} characters", max = SearchQuery::MAX_CHARS)]
    TooLong,
    /// Too many of them.
    #[error("must have at most {max} words", max = SearchQuery::MAX_WORDS)]
    TooManyWords,
    /// `a*` would be half of all there is.
    #[error("has a \"*\" after fewer than two letters")]
    ShortPrefix,
}

/// One word of a search: any of its forms will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// As they are indexed.
    pub forms: Vec<String>,
    /// Whether they are beginnings of words.
    pub prefix: bool,
}

/// What is looked for in talks: every term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchQuery(Vec<Term>);

impl SearchQuery {
    /// The most characters of a text to search for.
    pub const MAX_CHARS: usize = 256;
    /// The most words in it.
    pub const MAX_WORDS: usize = 16;

    /// Talks in which every word of `text` is said, by `side` if one is given. `qayta*` stands for all words that begin so.
    ///
    /// # Errors
    /// [`InvalidQuery`] names the rule that the text breaks.
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

    /// Talks in which this side speaks.
    pub fn spoken_by(side: SpeakerSide) -> Self {
        Self(vec![Term { forms: vec![side.sign().to_owned()], prefix: false }])
    }

    /// What to look for among the calls of a tenant.
    pub fn terms(&self, tenant: &TenantId) -> Vec<Term> {
        let own = Term { forms: vec![of_tenant(tenant)], prefix: false };
        [own].into_iter().chain(self.0.iter().cloned()).collect()
    }

    /// Whether a document has all of it: what every index of a store must agree with.
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
