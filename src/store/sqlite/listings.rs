//! Writes the indexes that lists of analyses use.

use rusqlite::{Connection, params};

use super::super::StoreError;
use super::super::values::json;
use crate::domain::analysis::AnalysisResult;
use crate::domain::ids::TenantId;
use crate::domain::search::SearchDocument;
use crate::domain::summary::ResultSummary;

/// Replaces the list and search entries of an analysis by the entries of its new result.
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
