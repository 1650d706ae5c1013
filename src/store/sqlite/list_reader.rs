//! Reads pages of analyses, see [`listings`](super::super::listings).

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params_from_iter};

use super::super::StoreError;
use super::super::analysis_rows::{COLUMNS, read_listed};
use super::super::listings::{ListReader, ListWindow, MAX_INDEX_TIME, MAX_MATCHES, read_page};
use super::list_statement::order_sql;
use super::readers::Interruption;
use super::rows::text;
use super::transaction::SqliteRow;
use super::word_search::{WordMatch, WordSearch};
use super::writer::lock;
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;
use crate::domain::listing::{AnalysisPage, AnalysisQuery, ListPosition, ListedRow};

/// Number of transcripts that a window may read without a time limit, so that a small store answers with full pages.
const MIN_TRANSCRIPTS: usize = 32;
/// Maximum time of a window that reads more than [`MIN_TRANSCRIPTS`] transcripts.
const MAX_READING_TIME: Duration = Duration::from_millis(15);

/// Reads one page of a tenant's analyses on a connection that no other query uses at the same time.
pub(super) fn list(
    connection: &Mutex<Connection>,
    interruption: &Interruption,
    tenant: &TenantId,
    query: &AnalysisQuery,
) -> Result<AnalysisPage, StoreError> {
    let search = match &query.filter.search {
        None => None,
        Some(search) => match WordSearch::prepare(&lock(connection), tenant, search)? {
            None => return Ok(AnalysisPage::default()),
            search => search,
        },
    };
    let mut reader = SqliteListReader { connection, interruption, tenant, query, search };
    let waits = || StoreError::Unavailable("a list waits for something besides its statements".into());
    read_page(&mut reader, query).now_or_never().ok_or_else(waits)?
}

struct SqliteListReader<'a> {
    connection: &'a Mutex<Connection>,
    interruption: &'a Interruption,
    tenant: &'a TenantId,
    query: &'a AnalysisQuery,
    search: Option<WordSearch<'a>>,
}

/// An analysis that may match the query.
struct ListCandidate {
    id: i64,
    position: ListPosition,
}

impl ListCandidate {
    fn read(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        let (submitted_at, call_id) = (Timestamp::from_millis(row.get("submitted_at")?), row.get("call_id")?);
        Ok(Self { id: row.get("id")?, position: ListPosition { submitted_at, call_id } })
    }
}

/// The candidates that match, with the number of candidates that were examined.
struct ListSelection {
    matches: Vec<ListedRow>,
    /// Number of candidates that were examined.
    examined: usize,
}

impl ListReader for SqliteListReader<'_> {
    async fn window(
        &mut self,
        after: Option<&ListPosition>,
        rows: usize,
        wanted: usize,
    ) -> Result<ListWindow, StoreError> {
        let along = self.query.filter.attributes.first();
        let (sql, values) = order_sql(self.tenant, self.query, along, after, rows);
        let candidates = self.candidates(&sql, values)?;
        let ListSelection { matches, examined } = self.select(&candidates, wanted, true)?;
        let is_end = candidates.len() < rows && examined == candidates.len();
        let last = examined.checked_sub(1).and_then(|last| candidates.into_iter().nth(last));
        let last = last.filter(|_| !is_end).map(|last| last.position);
        Ok(ListWindow { matches, examined, last })
    }

    async fn find_all(&mut self) -> Result<Option<Vec<ListedRow>>, StoreError> {
        let Some((ids, has_all_words)) = self.find_candidates()? else { return Ok(None) };
        let mut candidates = self.candidates_of(ids)?;
        candidates.sort_unstable_by(|a, b| {
            let key = |candidate: &ListCandidate| candidate.position.submitted_at;
            key(b).cmp(&key(a)).then_with(|| b.position.call_id.cmp(&a.position.call_id))
        });
        let limit = self.query.limit;
        let select = || self.select(&candidates, limit, !has_all_words);
        let Some(selection) = self.interruption.within(MAX_INDEX_TIME, select)? else { return Ok(None) };
        let is_whole = selection.examined == candidates.len() || selection.matches.len() == limit;
        Ok(is_whole.then_some(selection.matches))
    }
}

impl SqliteListReader<'_> {
    fn connection(&self) -> MutexGuard<'_, Connection> {
        lock(self.connection)
    }

    fn candidates(&self, sql: &str, values: Vec<Value>) -> Result<Vec<ListCandidate>, StoreError> {
        let connection = self.connection();
        let mut select = connection.prepare_cached(sql)?;
        let rows = select.query_map(params_from_iter(values), ListCandidate::read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Reads the analyses that have one of these ids and meet the conditions of the order.
    fn candidates_of(&self, ids: Vec<i64>) -> Result<Vec<ListCandidate>, StoreError> {
        let (sql, mut values) = order_sql(self.tenant, self.query, None, self.query.after.as_ref(), 1);
        values.insert(0, Value::Null);
        let connection = self.connection();
        let mut select = connection.prepare_cached(&sql.replacen("WHERE ", "WHERE id = ? AND ", 1))?;
        let mut candidates = Vec::with_capacity(ids.len());
        for id in ids {
            values[0] = Value::from(id);
            candidates.extend(select.query_row(params_from_iter(&values), ListCandidate::read).optional()?);
        }
        Ok(candidates)
    }

    /// Examines candidates in their order until `wanted` of them match. The function also stops when it has read
    /// [`MIN_TRANSCRIPTS`] transcripts and [`MAX_READING_TIME`] has passed. With `check_words`, a match must also have the words
    /// of the search.
    fn select(
        &self,
        candidates: &[ListCandidate],
        wanted: usize,
        check_words: bool,
    ) -> Result<ListSelection, StoreError> {
        let connection = self.connection();
        let ids = || candidates.iter().map(|candidate| candidate.id);
        let (Some(first), Some(last)) = (ids().min(), ids().max()) else {
            return Ok(ListSelection { matches: Vec::new(), examined: 0 });
        };
        let search = self.search.as_ref().filter(|_| check_words);
        let words = search.map(|search| search.search(&connection, &(first..=last))).transpose()?;
        let (mut selection, mut transcripts) = (ListSelection { matches: Vec::new(), examined: 0 }, 0);
        let began = Instant::now();
        for ListCandidate { id, .. } in candidates {
            selection.examined += 1;
            let of_words = words.as_ref().map_or(WordMatch::Yes, |words| words.of(*id));
            if of_words == WordMatch::No || !self.has_indexed_parts(&connection, *id)? {
                continue;
            }
            let is_match = match (of_words, search) {
                (WordMatch::Undecided, Some(search)) => search.finds_in_result(&connection, *id)?,
                _ => true,
            };
            if is_match {
                selection.matches.extend(self.read(&connection, *id)?);
            }
            transcripts += usize::from(of_words == WordMatch::Undecided);
            let is_slow = transcripts >= MIN_TRANSCRIPTS && began.elapsed() >= MAX_READING_TIME;
            if selection.matches.len() == wanted || is_slow {
                break;
            }
        }
        Ok(selection)
    }

    /// Whether an analysis has the attributes and the tags of the filter. If there are attributes, also checks the status,
    /// because a statement that reads along the index of an attribute does not check the status.
    fn has_indexed_parts(&self, connection: &Connection, id: i64) -> Result<bool, StoreError> {
        let filter = &self.query.filter;
        let exists = |sql: &str, values: &[&dyn ToSql]| -> Result<bool, rusqlite::Error> {
            connection.prepare_cached(&format!("SELECT EXISTS ({sql})"))?.query_row(values, |row| row.get(0))
        };
        if let (Some(status), false) = (filter.status, filter.attributes.is_empty())
            && !exists("SELECT 1 FROM analyses WHERE id = ? AND status = ?", &[&id, &status.as_str()])?
        {
            return Ok(false);
        }
        for attribute in &filter.attributes {
            let sql = "SELECT 1 FROM attributes WHERE analysis = ? AND name = ? AND value = ?";
            if !exists(sql, &[&id, &attribute.name(), &attribute.value()])? {
                return Ok(false);
            }
        }
        for key in &filter.tags {
            let sql = "SELECT 1 FROM tags WHERE tenant = ? AND name = ? AND analysis = ?";
            if !exists(sql, &[&self.tenant.as_str(), &key.as_str(), &id])? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads an analysis. Returns `None` if its status differs from the status in the filter.
    fn read(&self, connection: &Connection, id: i64) -> Result<Option<ListedRow>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS}, summary FROM analyses LEFT JOIN listings ON listings.analysis = analyses.id WHERE id = ?"
        );
        let mut select = connection.prepare_cached(&sql)?;
        let mut rows = select.query([id])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let listed = read_listed(&SqliteRow::new(row))?;
        let status: String = row.get("status")?;
        let has_status = self.query.filter.status.is_none_or(|wanted| wanted.as_str() == status);
        Ok(has_status.then_some(listed))
    }

    /// Finds candidates, a superset of the matches. The function tries several searches: one for each attribute, one for each
    /// tag, and two for the words, first without the prefixes that have too many words, and then with all of them. The first
    /// search that is selective enough and fast enough supplies the candidates. Also returns whether the candidates have all
    /// words. Returns `None` if no search is selective and fast enough.
    fn find_candidates(&self) -> Result<Option<(Vec<i64>, bool)>, StoreError> {
        let (tenant, limit) = (self.tenant.as_str(), MAX_MATCHES as i64 + 1);
        let expressions = self.search.iter().flat_map(|search| {
            let selective = search.selective().map(|expression| (expression, false));
            let everywhere = search.everywhere.as_deref().map(|expression| (expression, true));
            selective.into_iter().chain(everywhere)
        });
        let by_words = expressions.map(|(expression, has_all_words)| {
            let values = vec![text(expression), Value::from(limit)];
            ("SELECT rowid FROM search WHERE search MATCH ? LIMIT ?", values, has_all_words)
        });
        let by_tags = self.query.filter.tags.iter().map(|key| {
            let values = vec![text(tenant), text(key.as_str()), Value::from(limit)];
            ("SELECT analysis FROM tags WHERE tenant = ? AND name = ? LIMIT ?", values, false)
        });
        let by_attributes = self.query.filter.attributes.iter().map(|attribute| {
            let values =
                vec![text(tenant), text(attribute.name()), text(attribute.value()), Value::from(limit)];
            (
                "SELECT analysis FROM attributes WHERE tenant = ? AND name = ? AND value = ? LIMIT ?",
                values,
                false,
            )
        });
        for (sql, values, has_all_words) in by_attributes.chain(by_tags).chain(by_words) {
            let connection = self.connection();
            let find = || -> Result<Vec<i64>, StoreError> {
                let mut select = connection.prepare_cached(sql)?;
                let ids = select.query_map(params_from_iter(values), |row| row.get(0))?;
                Ok(ids.collect::<Result<_, _>>()?)
            };
            if let Some(ids) = self.interruption.within(MAX_INDEX_TIME, find)?
                && ids.len() <= MAX_MATCHES
            {
                return Ok(Some((ids, has_all_words)));
            }
        }
        Ok(None)
    }
}
