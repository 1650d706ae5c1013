//! Reads lists of analyses, and writes the indexes that they use.

use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};

use super::super::StoreError;
use super::super::analysis_rows::{COLUMNS, read_listed};
use super::super::values::json;
use super::rows::text;
use super::transaction::SqliteRow;
use crate::domain::analysis::{AnalysisResult, Status};
use crate::domain::clock::Timestamp;
use crate::domain::ids::TenantId;
use crate::domain::listing::{AnalysisQuery, ListedAnalysis};
use crate::domain::search::{SearchDocument, SearchQuery};
use crate::domain::summary::ResultSummary;

/// Replaces the list and search entries of an analysis by those of its new result.
pub(super) fn index(
    connection: &Connection,
    row: i64,
    tenant: &TenantId,
    result: &AnalysisResult,
) -> Result<(), StoreError> {
    let summary = ResultSummary::of(result);
    connection
        .prepare_cached("INSERT OR REPLACE INTO listings (analysis, summary) VALUES (?, ?)")?
        .execute(params![row, json(&summary)?])?;
    connection.prepare_cached("DELETE FROM tags WHERE analysis = ?")?.execute([row])?;
    let mut tag = connection.prepare_cached("INSERT INTO tags (tenant, name, analysis) VALUES (?, ?, ?)")?;
    for key in summary.tag_keys() {
        tag.execute(params![tenant.as_str(), key.as_str(), row])?;
    }
    let document = SearchDocument::of(tenant, &result.transcript);
    let words = document.entries().collect::<Vec<_>>().join(" ");
    connection
        .prepare_cached("INSERT OR REPLACE INTO search (rowid, words) VALUES (?, ?)")?
        .execute(params![row, words])?;
    Ok(())
}

pub(super) fn list(
    connection: &Connection,
    tenant: &TenantId,
    page: &AnalysisQuery,
) -> Result<Vec<ListedAnalysis>, StoreError> {
    let (sql, values) = list_sql(tenant, page);
    let mut select = connection.prepare_cached(&sql)?;
    let mut rows = select.query(params_from_iter(values))?;
    let mut page = Vec::new();
    while let Some(row) = rows.next()? {
        page.push(read_listed(&SqliteRow::new(row))?);
    }
    Ok(page)
}

/// Returns the statement for a page, and its parameters.
pub(super) fn list_sql(tenant: &TenantId, page: &AnalysisQuery) -> (String, Vec<Value>) {
    let filter = &page.filter;
    let at = |at: Timestamp| Value::from(at.as_millis());
    let (mut conditions, mut values) = (vec!["tenant = ?"], vec![text(tenant.as_str())]);
    if let Some(status) = filter.status {
        conditions.push("status = ?");
        values.push(text(status.as_str()));
        if status != Status::Completed {
            // `SQLite` uses the partial index only if its condition is written in the same way.
            conditions.push("status <> 'completed'");
        }
    }
    if let Some(after) = filter.submitted_after {
        conditions.push("submitted_at > ?");
        values.push(at(after));
    }
    if let Some(before) = filter.submitted_before {
        conditions.push("submitted_at < ?");
        values.push(at(before));
    }
    if let Some(position) = &page.after {
        conditions.push("(submitted_at, call_id) < (?, ?)");
        values.extend([at(position.submitted_at), text(position.call_id.as_str())]);
    }
    for key in &filter.tags {
        conditions.push("id IN (SELECT analysis FROM tags WHERE tenant = ? AND name = ?)");
        values.extend([text(tenant.as_str()), text(key.as_str())]);
    }
    if let Some(search) = &filter.search {
        conditions.push("id IN (SELECT rowid FROM search WHERE search MATCH ?)");
        values.push(Value::from(expression(tenant, search)));
    }
    values.push(Value::from(i64::try_from(page.limit).unwrap_or(i64::MAX)));
    let conditions = conditions.join(" AND ");
    let sql = format!(
        "SELECT {COLUMNS}, summary FROM analyses LEFT JOIN listings ON listings.analysis = analyses.id \
         WHERE {conditions} ORDER BY submitted_at DESC, call_id DESC LIMIT ?"
    );
    (sql, values)
}

/// Returns the search in the query language of FTS5. The words contain no quotes.
fn expression(tenant: &TenantId, search: &SearchQuery) -> String {
    let terms = search.terms(tenant).into_iter().map(|term| {
        let star = if term.prefix { " *" } else { "" };
        let forms: Vec<String> = term.forms.iter().map(|form| format!("\"{form}\"{star}")).collect();
        format!("({})", forms.join(" OR "))
    });
    terms.collect::<Vec<_>>().join(" AND ")
}
