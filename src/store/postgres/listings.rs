//! Reads lists of analyses, and writes the indexes that they use.

use deadpool_postgres::{GenericClient, Object};
use tokio_postgres::types::ToSql;

use super::super::analysis_rows::{COLUMNS, read_listed};
use super::super::values::json;
use super::connect::Session;
use super::fault::Fault;
use super::rows::{from_json, parsed};
use crate::domain::analysis::{AnalysisResult, Status};
use crate::domain::ids::TenantId;
use crate::domain::listing::{AnalysisQuery, ListedAnalysis};
use crate::domain::search::{SearchDocument, SearchQuery};
use crate::domain::summary::ResultSummary;
use crate::domain::tags::TagKey;

/// Parameters: the row, the tenant, the summary, the keys of the tags and the words. Replaces the entries of the
/// previous result.
const INDEX: &str = "WITH summed_up AS (INSERT INTO listings (analysis, summary) VALUES ($1, $3) ON CONFLICT (analysis) \
     DO UPDATE SET summary = excluded.summary), \
     untagged AS (DELETE FROM tags WHERE analysis = $1 AND NOT name = ANY ($4::text[])), \
     tagged AS (INSERT INTO tags (tenant, name, analysis) SELECT $2, name, $1 FROM unnest($4::text[]) AS name \
     ON CONFLICT DO NOTHING) INSERT INTO search (analysis, words) VALUES ($1, array_to_tsvector($5::text[])) \
     ON CONFLICT (analysis) DO UPDATE SET words = excluded.words";

/// Replaces the list and search entries of an analysis by those of its new result.
pub(super) async fn index(
    client: &impl GenericClient,
    row: i64,
    tenant: &TenantId,
    result: &AnalysisResult,
) -> Result<(), Fault> {
    let index = client.prepare_cached(INDEX).await?;
    let summary = ResultSummary::of(result);
    // PostgreSQL cannot store NUL in a text column. JSON escapes it.
    let text = json(&summary)?;
    let document = SearchDocument::of(tenant, &result.transcript);
    let words: Vec<&str> = document.entries().collect();
    let keys: Vec<TagKey> = summary.tag_keys().collect();
    let keys: Vec<&str> = keys.iter().map(TagKey::as_str).collect();
    client.execute(&index, &[&row, &tenant.as_str(), &text, &keys, &words]).await?;
    Ok(())
}

/// Parameters: the last listed analysis and the maximum number of results.
const UNLISTED: &str = "SELECT analysis, tenant, result FROM results JOIN analyses ON id = analysis \
     WHERE analysis > $1 ORDER BY analysis LIMIT $2";

/// Creates list and search entries for the next copied results, after an analysis or after the last one that has
/// entries. Returns the last of them and their number; `None` if there are no more.
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

pub(super) async fn list(
    mut session: Session,
    tenant: &TenantId,
    page: &AnalysisQuery,
) -> Result<Vec<ListedAnalysis>, Fault> {
    let client = session.client()?;
    let (sql, values) = list_sql(tenant, page);
    let select = client.prepare_cached(&sql).await?;
    let values: Vec<&(dyn ToSql + Sync)> =
        values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect();
    client.query(&select, &values).await?.iter().map(|row| Ok(read_listed(row)?)).collect()
}

type Parameter = Box<dyn ToSql + Sync + Send>;

/// Returns the statement for a page, and its parameters.
fn list_sql(tenant: &TenantId, page: &AnalysisQuery) -> (String, Vec<Parameter>) {
    let filter = &page.filter;
    let mut values: Vec<Parameter> = vec![Box::new(tenant.as_str().to_owned())];
    let mut bind = |value: Parameter| {
        values.push(value);
        values.len()
    };
    let mut conditions = vec!["tenant = $1".to_owned()];
    if let Some(status) = filter.status {
        conditions.push(format!("status = ${}", bind(Box::new(status.as_str()))));
        if status != Status::Completed {
            // PostgreSQL uses the partial index only if its condition is written in the same way.
            conditions.push("status <> 'completed'".to_owned());
        }
    }
    if let Some(after) = filter.submitted_after {
        conditions.push(format!("submitted_at > ${}", bind(Box::new(after.as_millis()))));
    }
    if let Some(before) = filter.submitted_before {
        conditions.push(format!("submitted_at < ${}", bind(Box::new(before.as_millis()))));
    }
    if let Some(position) = &page.after {
        let submitted_at = bind(Box::new(position.submitted_at.as_millis()));
        let call_id = bind(Box::new(position.call_id.as_str().to_owned()));
        conditions.push(format!("(submitted_at, call_id) < (${submitted_at}, ${call_id})"));
    }
    for key in &filter.tags {
        let name = bind(Box::new(key.as_str().to_owned()));
        conditions
            .push(format!("analyses.id IN (SELECT analysis FROM tags WHERE tenant = $1 AND name = ${name})"));
    }
    if let Some(search) = &filter.search {
        let query = bind(Box::new(expression(tenant, search)));
        conditions.push(format!(
            "analyses.id IN (SELECT analysis FROM search WHERE words @@ ${query}::text::tsquery)"
        ));
    }
    let limit = bind(Box::new(i64::try_from(page.limit).unwrap_or(i64::MAX)));
    let sql = format!(
        "SELECT {COLUMNS}, summary FROM analyses LEFT JOIN listings ON listings.analysis = analyses.id \
         WHERE {} ORDER BY submitted_at DESC, call_id DESC LIMIT ${limit}",
        conditions.join(" AND ")
    );
    (sql, values)
}

/// Returns the search as a `tsquery`. The words contain no quotes.
fn expression(tenant: &TenantId, search: &SearchQuery) -> String {
    let terms = search.terms(tenant).into_iter().map(|term| {
        let star = if term.prefix { ":*" } else { "" };
        let forms: Vec<String> = term.forms.iter().map(|form| format!("'{form}'{star}")).collect();
        format!("({})", forms.join(" | "))
    });
    terms.collect::<Vec<_>>().join(" & ")
}
