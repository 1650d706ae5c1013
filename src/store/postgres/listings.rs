//! Writes the indexes that lists of analyses use.

use deadpool_postgres::{GenericClient, Object};

use super::super::values::json;
use super::fault::Fault;
use super::rows::{from_json, parsed};
use crate::domain::analysis::AnalysisResult;
use crate::domain::ids::TenantId;
use crate::domain::search::SearchDocument;
use crate::domain::summary::ResultSummary;
use crate::domain::tags::TagKey;

/// Replaces the list and search entries of an analysis. Parameters: the row of the analysis, the tenant, the summary,
/// the keys of the tags, and the words for the search.
const INDEX: &str = "WITH summed_up AS (INSERT INTO listings (analysis, summary) VALUES ($1, $3) ON CONFLICT (analysis) \
     DO UPDATE SET summary = excluded.summary), \
     untagged AS (DELETE FROM tags WHERE analysis = $1 AND NOT name = ANY ($4::text[])), \
     tagged AS (INSERT INTO tags (tenant, name, analysis) SELECT $2, name, $1 FROM unnest($4::text[]) AS name \
     ON CONFLICT DO NOTHING) INSERT INTO search (analysis, words) VALUES ($1, array_to_tsvector($5::text[])) \
     ON CONFLICT (analysis) DO UPDATE SET words = excluded.words";

/// Replaces the list and search entries of an analysis by the entries of its new result.
pub(super) async fn index(
    client: &impl GenericClient,
    row: i64,
    tenant: &TenantId,
    result: &AnalysisResult,
) -> Result<(), Fault> {
    let index = client.prepare_cached(INDEX).await?;
    let summary = ResultSummary::of(result);
    // PostgreSQL cannot store NUL in a text column. JSON escapes NUL.
    let text = json(&summary)?;
    let document = SearchDocument::of(tenant, &result.transcript);
    let words: Vec<&str> = document.entries().collect();
    let keys: Vec<TagKey> = summary.tag_keys().collect();
    let keys: Vec<&str> = keys.iter().map(TagKey::as_str).collect();
    client.execute(&index, &[&row, &tenant.as_str(), &text, &keys, &words]).await?;
    Ok(())
}

/// Reads results that have no list and search entries yet. Parameters: the row of the analysis to continue after, and the maximum
/// number of results.
const UNLISTED: &str = "SELECT analysis, tenant, result FROM results JOIN analyses ON id = analysis \
     WHERE analysis > $1 ORDER BY analysis LIMIT $2";

/// Creates list and search entries for up to `limit` copied results of the analyses after `after`. If `after` is `None`, the
/// function continues after the last analysis that has entries. Returns the last analysis of this batch and the number of results
/// in the batch. Returns `None` if no result is left.
///
/// The function uses no transaction, because splitting a large result into words takes longer than a transaction may
/// be idle.
pub(super) async fn list_copied(
    client: &Object,
    after: Option<i64>,
    limit: i64,
) -> Result<Option<(i64, usize)>, Fault> {
    let after = match after {
        Some(after) => after,
        None => {
            let last = "SELECT coalesce(max(analysis), 0) FROM listings";
            client.query_one(last, &[]).await?.try_get(0)?
        }
    };
    let rows = client.query(UNLISTED, &[&after, &limit]).await?;
    for row in &rows {
        let (analysis, tenant) = (row.try_get("analysis")?, parsed(row, "tenant", TenantId::parse)?);
        // An unreadable result is copied but gets no entries.
        match from_json::<AnalysisResult>(row, "result") {
            Ok(Some(result)) => index(client, analysis, &tenant, &result).await?,
            Ok(None) | Err(_) => tracing::error!(analysis, %tenant, "failed to read a stored result"),
        }
    }
    rows.last().map(|row| Ok((row.try_get("analysis")?, rows.len()))).transpose()
}
