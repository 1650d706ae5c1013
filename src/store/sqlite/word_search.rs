//! Searches in the full-text index, within a range of rows.
//!
//! FTS5 finds a word in a range of rows without reading the complete list of the word's rows. For a prefix, FTS5 first merges
//! the complete lists of all words with that prefix, which takes seconds for `so*` in a large store. So a prefix is
//! **expanded** to its shortest words, which are often the most frequent ones. If the prefix has more words, the transcript of a
//! call decides whether the call matches.

use std::collections::{HashSet, VecDeque};
use std::ops::RangeInclusive;

use rusqlite::{Connection, OptionalExtension, params};

use super::super::StoreError;
use crate::domain::analysis::AnalysisResult;
use crate::domain::ids::TenantId;
use crate::domain::search::{SearchDocument, SearchQuery, Term};

/// Creates the table of the words in the full-text index. The table is temporary, so each connection has its own table.
pub(super) const TERMS_TABLE: &str =
    "CREATE VIRTUAL TABLE temp.search_terms USING fts5vocab (main, search, instance)";
/// Maximum number of words that a prefix is expanded to.
const MAX_EXPANDED: usize = 32;
/// Maximum number of look-ups to expand all prefixes of a search. All forms of all prefixes have equal shares of the look-ups.
const MAX_LOOKUPS: usize = 200;
/// Maximum number of terms with a prefix in a query that searches all rows. FTS5 merges the lists of a prefix before it returns the
/// first row, and does not stop in between.
const MAX_MERGED: usize = 2;

/// A search of one tenant.
pub(super) struct WordSearch<'a> {
    tenant: &'a TenantId,
    query: &'a SearchQuery,
    /// The query that searches all rows, in the query language of FTS5. If the expansions of all prefixes are complete, the query
    /// has the expansions instead of the prefixes, because FTS5 is slow for prefixes. `None` if more than [`MAX_MERGED`] prefixes
    /// remain.
    pub(super) everywhere: Option<String>,
    /// The search with expanded prefixes. Calls with these words match.
    sufficient: Option<String>,
    /// The search without the prefixes whose expansion is not complete. Calls without these words do not match.
    necessary: Option<String>,
    /// Whether the search without these prefixes has a term besides the tenant.
    is_selective: bool,
}

/// The calls in a range of rows that match or may match a search.
pub(super) struct RangeMatches {
    /// Calls that match.
    matching: HashSet<i64>,
    /// Other calls that may match. The transcript of such a call decides. `None` if there are no such calls.
    undecided: Option<HashSet<i64>>,
}

/// Whether a call matches a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WordMatch {
    Yes,
    No,
    /// The transcript decides whether the call matches.
    Undecided,
}

impl RangeMatches {
    pub(super) fn of(&self, row: i64) -> WordMatch {
        if self.matching.contains(&row) {
            WordMatch::Yes
        } else if self.undecided.as_ref().is_some_and(|undecided| undecided.contains(&row)) {
            WordMatch::Undecided
        } else {
            WordMatch::No
        }
    }
}

impl<'a> WordSearch<'a> {
    /// Prepares a search. Returns `None` if no call can match, because no word begins with one of the prefixes.
    pub(super) fn prepare(
        connection: &Connection,
        tenant: &'a TenantId,
        query: &'a SearchQuery,
    ) -> Result<Option<Self>, StoreError> {
        let terms = query.terms(tenant);
        let forms = terms.iter().filter(|term| term.prefix).map(|term| term.forms.len()).sum::<usize>();
        let max_lookups = MAX_LOOKUPS / forms.max(1);
        let (mut sufficient, mut necessary) = (Vec::new(), Vec::new());
        let (mut is_possible, mut is_expanded, mut incomplete) = (true, true, 0);
        for term in &terms {
            let (words, has_all_words) = if term.prefix {
                expand(connection, &term.forms, max_lookups)?
            } else {
                (term.clone(), true)
            };
            is_expanded &= !words.forms.is_empty();
            is_possible &= !has_all_words || !words.forms.is_empty();
            incomplete += usize::from(!has_all_words);
            if has_all_words {
                necessary.push(words.clone());
            }
            sufficient.push(words);
        }
        if !is_possible {
            return Ok(None);
        }
        Ok(Some(Self {
            tenant,
            query,
            everywhere: match incomplete {
                0 => Some(expression(&sufficient)),
                1..=MAX_MERGED => Some(expression(&terms)),
                _ => None,
            },
            sufficient: is_expanded.then(|| expression(&sufficient)),
            necessary: (incomplete > 0).then(|| expression(&necessary)),
            // The first term is the tenant.
            is_selective: necessary.len() > 1,
        }))
    }

    /// Returns the search without the prefixes that FTS5 finds slowly. Every match has the remaining words. Returns `None` if no
    /// prefix is left out, or if no word remains.
    pub(super) fn selective(&self) -> Option<&str> {
        self.necessary.as_deref().filter(|_| self.is_selective)
    }

    /// Searches a range of rows.
    pub(super) fn search(
        &self,
        connection: &Connection,
        rows: &RangeInclusive<i64>,
    ) -> Result<RangeMatches, rusqlite::Error> {
        let find = |expression: &str| -> Result<HashSet<i64>, rusqlite::Error> {
            connection
                .prepare_cached("SELECT rowid FROM search WHERE search MATCH ? AND rowid BETWEEN ? AND ?")?
                .query_map(params![expression, rows.start(), rows.end()], |row| row.get(0))?
                .collect()
        };
        let matching = self.sufficient.as_deref().map(find).transpose()?.unwrap_or_default();
        let undecided = self.necessary.as_deref().map(find).transpose()?;
        Ok(RangeMatches { matching, undecided })
    }

    /// Whether the transcript of a call matches. A result that cannot be read does not match.
    pub(super) fn finds_in_result(&self, connection: &Connection, row: i64) -> Result<bool, rusqlite::Error> {
        let result: Option<String> = connection
            .prepare_cached("SELECT result FROM results WHERE analysis = ?")?
            .query_row([row], |row| row.get(0))
            .optional()?;
        let result = result.and_then(|result| serde_json::from_str::<AnalysisResult>(&result).ok());
        Ok(result.is_some_and(|result| {
            self.query.finds(self.tenant, &SearchDocument::of(self.tenant, &result.transcript))
        }))
    }
}

/// Returns terms in the query language of FTS5. The words contain no quotes.
fn expression(terms: &[Term]) -> String {
    let terms = terms.iter().map(|term| {
        let star = if term.prefix { " *" } else { "" };
        let forms: Vec<String> = term.forms.iter().map(|form| format!("\"{form}\"{star}")).collect();
        format!("({})", forms.join(" OR "))
    });
    terms.collect::<Vec<_>>().join(" AND ")
}

/// Expands a prefix, which may have several forms, to the shortest words that begin with one of the forms. Makes at most
/// `max_lookups` look-ups for each form. Returns whether the result has all words with the prefix.
fn expand(
    connection: &Connection,
    prefixes: &[String],
    max_lookups: usize,
) -> Result<(Term, bool), rusqlite::Error> {
    let (mut forms, mut has_all_words) = (Vec::new(), true);
    for prefix in prefixes {
        has_all_words &= add_words(connection, prefix, max_lookups, &mut forms)?;
    }
    Ok((Term { forms, prefix: false }, has_all_words))
}

/// Adds the shortest words with a prefix, found with at most `max_lookups` look-ups. Returns whether the added words are all
/// words with the prefix.
///
/// The words of a prefix form a tree: a branch for each next character. The function reads the tree level by level.
fn add_words(
    connection: &Connection,
    prefix: &str,
    max_lookups: usize,
    words: &mut Vec<String>,
) -> Result<bool, rusqlite::Error> {
    let mut select = connection.prepare_cached(
        "SELECT term FROM temp.search_terms WHERE term >= ? AND term < ? ORDER BY term LIMIT 1",
    )?;
    let (mut lookups, mut found) = (0, 0);
    let mut branches = VecDeque::from([prefix.to_owned()]);
    while let Some(branch) = branches.pop_front() {
        let end = format!("{branch}{}", char::MAX);
        let mut start = branch.clone();
        loop {
            if lookups == max_lookups || found == MAX_EXPANDED {
                return Ok(false);
            }
            lookups += 1;
            let term: Option<String> = select.query_row([&start, &end], |row| row.get(0)).optional()?;
            let Some(term) = term else { break };
            let Some(next) = term.strip_prefix(&branch).and_then(|rest| rest.chars().next()) else {
                words.push(term);
                found += 1;
                start.push('\u{1}');
                continue;
            };
            let mut child = branch.clone();
            child.push(next);
            start = format!("{child}{}", char::MAX);
            branches.push_back(child);
        }
    }
    Ok(true)
}
